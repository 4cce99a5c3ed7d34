package core

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// ChannelNode is a channel in an agent: shared by the sources that put into
// it and the sink that takes from it.
type ChannelNode struct {
	Channel
	Name  string
	Cells *metric.Group

	typ         string
	transaction atomic.Int64 // transactionCapacity; 0: no limit
	open        atomic.Bool

	mu     sync.Mutex
	conf   *conf.Component
	stored <-chan struct{} // of the newest ack with a mark
}

func newChannelNode(c *conf.Component) *ChannelNode {
	n := &ChannelNode{
		Channel: c.Bound.(Channel), Name: c.Name, typ: c.Type,
		Cells: &metric.Group{Kind: metric.Channel, Name: c.Name},
	}
	n.Cells.Fill = n.fill
	n.configure(c)
	return n
}

// configure notes the configuration that the channel has from now on.
func (n *ChannelNode) configure(c *conf.Component) {
	n.mu.Lock()
	n.conf = c
	n.mu.Unlock()
	n.transaction.Store(int64(or0(c.Keys.TransactionCapacity())))
}

// fill reads what the channel holds, for whoever looks from outside: nothing while it is not open.
func (n *ChannelNode) fill() (events, capacity int64) {
	if !n.open.Load() {
		return 0, 0
	}
	return int64(n.Len().Events), int64(n.Capacity())
}

// acked notes an ack that stores marks.
func (n *ChannelNode) acked(stored <-chan struct{}) {
	n.mu.Lock()
	n.stored = stored
	n.mu.Unlock()
}

// recorded waits until the marks of all acks are stored: before that Marks
// would give a new sink those of an earlier time.
func (n *ChannelNode) recorded(ctx context.Context) error {
	n.mu.Lock()
	stored := n.stored
	n.mu.Unlock()
	if stored == nil {
		return nil
	}
	select {
	case <-stored:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Adjuster is a channel that takes new settings while it works.
type Adjuster interface {
	// Fixed returns the key with a new value that can not be taken while the
	// channel works, "" if there is none. next is of the channel's own type,
	// bound and not open.
	Fixed(next Channel) (key string)
	// Adjust takes the settings of next, of which Fixed said that it can. What
	// is held and leased stays, also where it is more than the new capacity; whoever
	// waits for room is woken, to try again under the new settings.
	Adjust(next Channel)
}
