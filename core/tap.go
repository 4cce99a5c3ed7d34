package core

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Tap sees events on their way from one component to another: from a source
// into a channel, from a channel to a sink, and from a sink into its dead letter
// channel. pick are the indices of those that pass here, nil: all. It is called
// on the goroutines that do the work, by several at once, so it must be quick;
// batch and headers are only lent to it, for the call.
type Tap func(from, to string, b *Batch, pick []int32)

// taps are those who look. With nobody there a batch pays for one load.
type taps struct {
	list atomic.Pointer[[]*Tap]
	mu   sync.Mutex // held while the list is replaced
}

func (t *taps) see(from, to string, b *Batch, pick []int32) {
	if t == nil {
		return
	}
	list := t.list.Load()
	if list == nil || pick != nil && len(pick) == 0 {
		return
	}
	for _, f := range *list {
		(*f)(from, to, b, pick)
	}
}

func (t *taps) add(f Tap) (remove func()) {
	change := func(by func(list []*Tap) []*Tap) {
		t.mu.Lock()
		defer t.mu.Unlock()
		var list []*Tap
		if old := t.list.Load(); old != nil {
			list = slices.Clone(*old)
		}
		if list = by(list); len(list) == 0 {
			t.list.Store(nil)
			return
		}
		t.list.Store(&list)
	}
	change(func(list []*Tap) []*Tap { return append(list, &f) })
	return func() {
		change(func(list []*Tap) []*Tap {
			return slices.DeleteFunc(list, func(one *Tap) bool { return one == &f })
		})
	}
}

// Tap has f see all events from now on, until stop. A call of f that is under
// way when stop returns may still end later.
func (a *Agent) Tap(f Tap) (stop func()) { return a.taps.add(f) }
