package sourcetest

import (
	"context"
	"sync"

	"github.com/millrace/millrace/core"
)

// Outlet stands for the channels of a source under test. It records what comes
// and answers as it is told.
type Outlet struct {
	mu       sync.Mutex
	events   []core.Event // copies, in order of arrival, without what was held already
	held     map[string]int64
	undone   []func()
	hold     bool // dones wait for Release
	fullEach int  // every nth Put answers ErrChannelFull
	puts     int
	gate     chan struct{} // Send and Put wait for it; nil: open
	closed   error         // every done and Put gets it
	biggest  int
}

// NewOutlet returns an outlet that stores everything at once.
func NewOutlet() *Outlet { return &Outlet{held: make(map[string]int64)} }

func (o *Outlet) wait(ctx context.Context) error {
	o.mu.Lock()
	gate := o.gate
	o.mu.Unlock()
	if gate == nil {
		return ctx.Err()
	}
	select {
	case <-gate:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put implements core.Outlet.
func (o *Outlet) Put(ctx context.Context, b *core.Batch) error {
	defer b.Release()
	if err := o.wait(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed != nil {
		return o.closed
	}
	o.puts++
	if o.fullEach > 0 && o.puts%o.fullEach == 0 {
		return core.ErrChannelFull
	}
	o.store(b)
	return nil
}

// Send implements core.Outlet.
func (o *Outlet) Send(ctx context.Context, b *core.Batch, done func(error)) error {
	defer b.Release()
	if err := o.wait(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed != nil {
		return o.closed
	}
	if done == nil {
		done = func(error) {}
	}
	if o.hold {
		b.Hold()
		o.undone = append(o.undone, func() {
			o.store(b)
			b.Release()
			done(nil)
		})
		return nil
	}
	o.store(b)
	done(nil)
	return nil
}

// store copies the events of b, dropping those at positions that are held.
func (o *Outlet) store(b *core.Batch) {
	stream, pos, marked := b.Marked()
	o.biggest = max(o.biggest, len(b.Events))
	for _, e := range b.Events {
		if marked && e.Pos <= o.held[stream] {
			continue
		}
		e.Body = append([]byte(nil), e.Body...)
		o.events = append(o.events, e)
	}
	if marked {
		o.held[stream] = max(o.held[stream], pos)
	}
}

// Position implements core.Outlet.
func (o *Outlet) Position(stream string) (int64, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	pos, ok := o.held[stream]
	return pos, ok
}

// Forget implements core.Outlet.
func (o *Outlet) Forget(stream string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, stream)
}

// Hold makes dones wait until Release: nothing sent is stored meanwhile.
func (o *Outlet) Hold() {
	o.mu.Lock()
	o.hold = true
	o.mu.Unlock()
}

// Release stores what Hold kept waiting, in order, and goes on without holding.
func (o *Outlet) Release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hold = false
	for _, f := range o.undone {
		f()
	}
	o.undone = nil
}

// Crash forgets what was sent and not stored; its dones never come.
func (o *Outlet) Crash() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hold, o.undone = false, nil
}

// Shut makes Put and Send wait until Open.
func (o *Outlet) Shut() {
	o.mu.Lock()
	o.gate = make(chan struct{})
	o.mu.Unlock()
}

// Open ends Shut.
func (o *Outlet) Open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate != nil {
		close(o.gate)
		o.gate = nil
	}
}

// FullEach makes every nth Put answer ErrChannelFull; 0: none.
func (o *Outlet) FullEach(n int) {
	o.mu.Lock()
	o.fullEach = n
	o.mu.Unlock()
}

// Close makes every later Put and Send fail with err.
func (o *Outlet) Close(err error) {
	o.mu.Lock()
	o.closed = err
	o.mu.Unlock()
}

// Events returns copies of what is stored, in order.
func (o *Outlet) Events() []core.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]core.Event(nil), o.events...)
}

// Bodies returns the bodies of what is stored, in order.
func (o *Outlet) Bodies() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := make([]string, len(o.events))
	for i, e := range o.events {
		s[i] = string(e.Body)
	}
	return s
}

// Len returns how many events are stored.
func (o *Outlet) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.events)
}

// Biggest returns the number of events in the largest batch so far.
func (o *Outlet) Biggest() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.biggest
}
