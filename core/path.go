package core

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// path is the way of a batch through a processor: interceptors, selector,
// channels. A reload gives the processor another one, at the border between two
// batches; the streams and their outstanding dones stay with the processor.
type path struct {
	interceptors []Interceptor
	selector     Selector
	channels     []*ChannelNode
	routes       sync.Pool

	over    context.Context // ends when the path is replaced
	replace context.CancelFunc
	puts    atomic.Int64  // under way
	idle    chan struct{} // closed when the path is replaced and nobody is on it
	once    sync.Once
}

// errReplaced says that the path of a put was replaced while it waited.
var errReplaced = errors.New("path replaced")

func newPath(chain []Interceptor, sel Selector, channels []*ChannelNode) *path {
	t := &path{
		interceptors: chain, selector: sel, channels: channels,
		routes: sync.Pool{New: func() any { return new(Routes) }}, idle: make(chan struct{}),
	}
	t.over, t.replace = context.WithCancel(context.Background())
	return t
}

// enter returns the present path, on which the caller now is.
func (p *ChannelProcessor) enter() *path {
	for {
		t := p.path.Load()
		t.puts.Add(1)
		if p.path.Load() == t {
			return t
		}
		t.leave()
	}
}

func (t *path) leave() {
	if t.puts.Add(-1) == 0 && t.over.Err() != nil {
		t.once.Do(func() { close(t.idle) })
	}
}

// reroute gives p another path. What waits for room on the old one goes over;
// the channel returned is closed when nobody is on the old one any more.
func (p *ChannelProcessor) reroute(next *path) <-chan struct{} {
	old := p.path.Swap(next)
	old.puts.Add(1)
	old.replace()
	old.leave()
	return old.idle
}

// positions returns up to where each stream was sent; where something failed to
// be stored, up to where it was.
func (p *ChannelProcessor) positions() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]int64, len(p.streams))
	for name, s := range p.streams {
		switch {
		case p.failed == nil:
			all[name] = s.sent
		case s.known:
			all[name] = s.stored
		}
	}
	return all
}

// inherit makes p go on where another processor of the same source has ended.
func (p *ChannelProcessor) inherit(positions map[string]int64) {
	for name, pos := range positions {
		p.streams[name] = &sendStream{sent: pos, stored: pos, known: true}
	}
}

// marked tells whether what p was given can be read again.
func (p *ChannelProcessor) marked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams) > 0
}
