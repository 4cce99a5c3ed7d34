package core

import (
	"context"
	"fmt"
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

// configured is the configuration that the channel has.
func (n *ChannelNode) configured() *conf.Component {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conf
}

// fixed tells why the channel cannot take the configuration c while it works, and
// which key is in the way, "" for none in particular.
func (n *ChannelNode) fixed(c *conf.Component) (key string, err error) {
	const advice = "give the channel another name, or start the agent anew"
	if n.typ != c.Type {
		return "type", fmt.Errorf("a channel cannot change its type (%s) while it works: %s", n.typ, advice)
	}
	adjuster, ok := n.Channel.(Adjuster)
	if !ok {
		return "", fmt.Errorf("a channel of type %s takes no new settings while it works: %s", n.typ, advice)
	}
	if key := adjuster.Fixed(c.Bound.(Channel)); key != "" {
		return key, fmt.Errorf("cannot change while the channel works: %s", advice)
	}
	return "", nil
}

// adjust gives the channel the configuration c, of which fixed said that it can be.
func (n *ChannelNode) adjust(c *conf.Component) {
	n.Channel.(Adjuster).Adjust(c.Bound.(Channel))
	n.configure(c)
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
