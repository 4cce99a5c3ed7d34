package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "memory", Doc: "Keeps events in memory: fast, and lost with the process unless the source can read them again.",
	Aliases: []string{"org.apache.flume.channel.MemoryChannel"},
	New:     func() core.Channel { return new(channel) },
}

type channel struct {
	capacity, transaction int
	keepAlive             time.Duration
	byteCapacity          int64
	bufferPercent         int

	maxBytes int64

	mu      sync.Mutex
	queue   []span // queue[head:], oldest first
	head    int
	seq     int64     // of the next put
	used    core.Size // stored, leased and claimed
	stored  core.Size // stored and leased
	free    core.Size // in queue: can be taken now
	putters []*waiter
	takers  []chan struct{}
	closed  bool
	leases  map[*lease]struct{}
	entries map[*entry]struct{} // marked puts that are not delivered: told at Close
}

// waiter is a Room call.
type waiter struct {
	room core.Size
	wake chan struct{}
}

// entry is one put.
type entry struct {
	b      *core.Batch
	events []core.Event
	seq    int64
	left   int         // events not delivered
	stored func(error) // for marked batches: called when left is 0
}

// span is the events [from, to) of a put.
type span struct {
	*entry
	from, to int
}

func (s span) size() core.Size {
	var n int64
	for i := s.from; i < s.to; i++ {
		n += int64(len(s.events[i].Body))
	}
	return core.Size{Events: s.to - s.from, Bytes: n}
}

const defaultByteCapacity = 128 << 20

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	k.Int(&c.capacity, "capacity", 100, "Events the channel holds at most.").Must(conf.Min(1)).OrDefault()
	k.Transaction(&c.transaction, "transactionCapacity", 100, "Events put or taken in one transaction at most.").Must(conf.Min(1)).OrDefault()
	k.Seconds(&c.keepAlive, "keep-alive", 3*time.Second, "How long a put waits for room.").OrDefault()
	k.Int64(&c.byteCapacity, "byteCapacity", defaultByteCapacity, "Bytes of memory for events; bodies are counted. 0: no limit.").OrDefault()
	k.Int(&c.bufferPercent, "byteCapacityBufferPercentage", 20, "Part of byteCapacity, in percent, set aside for headers.").OrDefault()
	k.Check(func(r *conf.Report) {
		if c.transaction > c.capacity {
			r.Error("transactionCapacity", "transactionCapacity %d is more than capacity %d: raise capacity or lower transactionCapacity", c.transaction, c.capacity)
		}
	})
}

// Open implements core.Component.
func (c *channel) Open(context.Context, core.Env) error {
	c.maxBytes = c.bytes()
	c.leases = make(map[*lease]struct{})
	c.entries = make(map[*entry]struct{})
	return nil
}

// bytes is the limit of bodies that the keys give.
func (c *channel) bytes() int64 {
	return int64(float64(c.byteCapacity) * (1 - float64(c.bufferPercent)/100))
}

// Fixed implements core.Adjuster: every key can change.
func (c *channel) Fixed(core.Channel) string { return "" }

// Adjust implements core.Adjuster.
func (c *channel) Adjust(next core.Channel) {
	n := next.(*channel)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity, c.transaction, c.keepAlive = n.capacity, n.transaction, n.keepAlive
	c.byteCapacity, c.bufferPercent, c.maxBytes = n.byteCapacity, n.bufferPercent, n.bytes()
	for _, w := range c.putters { // what never fits now is to be told so
		close(w.wake)
	}
	c.putters = c.putters[:0]
	c.wakeTakers()
}

func (c *channel) fits(used, room core.Size) bool {
	return used.Events+room.Events <= c.capacity && (c.maxBytes <= 0 || used.Bytes+room.Bytes <= c.maxBytes)
}

// TryClaim implements core.Channel.
func (c *channel) TryClaim(room core.Size) (core.PutTx, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if room.Events > c.transaction {
		return nil, fmt.Errorf("%w: %d events, transactionCapacity is %d", core.ErrTooLarge, room.Events, c.transaction)
	}
	if !c.fits(core.Size{}, room) {
		return nil, fmt.Errorf("%w: %d events of %d bytes, capacity is %d events and %d bytes", core.ErrTooLarge, room.Events, room.Bytes, c.capacity, c.maxBytes)
	}
	if c.closed {
		return nil, core.ErrClosed
	}
	if room.Events > 0 && !c.fits(c.used, room) {
		return nil, core.ErrChannelFull
	}
	c.used = c.used.Add(room)
	return &putTx{c, room}, nil
}

// Room implements core.Channel.
func (c *channel) Room(ctx context.Context, room core.Size) error {
	c.mu.Lock()
	if c.closed || c.fits(c.used, room) {
		c.mu.Unlock()
		return nil
	}
	w, keepAlive := &waiter{room, make(chan struct{})}, c.keepAlive
	c.putters = append(c.putters, w)
	if c.free.Events == 0 {
		c.wakeTakers() // all is leased: they may want to flush
	}
	c.mu.Unlock()
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	var err error
	select {
	case <-w.wake:
		return nil
	case <-timer.C:
		err = core.ErrChannelFull
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.putters {
		if x == w {
			c.putters = append(c.putters[:i], c.putters[i+1:]...)
			return err
		}
	}
	return nil // woken meanwhile: the room must be tried, or the wake-up is lost
}

// freed takes room away from used and wakes those who now fit, in order.
func (c *channel) freed(room core.Size) {
	c.used = c.used.Sub(room)
	would := c.used
	i := 0
	for ; i < len(c.putters) && c.fits(would, c.putters[i].room); i++ {
		would = would.Add(c.putters[i].room)
		close(c.putters[i].wake)
	}
	c.putters = append(c.putters[:0], c.putters[i:]...)
}

func (c *channel) wakeTakers() {
	for _, t := range c.takers {
		close(t)
	}
	c.takers = c.takers[:0]
}

type putTx struct {
	c    *channel
	room core.Size
}

// Commit implements core.PutTx.
func (t *putTx) Commit(b *core.Batch, pick []int32, stored func(error)) {
	c := t.c
	e := &entry{}
	if pick == nil {
		e.events = b.Events
	} else {
		e.events = make([]core.Event, len(pick))
		for i, p := range pick {
			e.events[i] = b.Events[p]
		}
	}
	e.left = len(e.events)
	_, _, marked := b.Marked()
	later := marked && e.left > 0
	if later {
		e.stored = stored
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		stored(core.ErrClosed)
		return
	}
	if e.left > 0 {
		e.b = b.Hold()
		e.seq = c.seq
		c.seq++
		c.queue = append(c.queue, span{e, 0, e.left})
		c.free = c.free.Add(t.room)
		c.stored = c.stored.Add(t.room)
		if later {
			c.entries[e] = struct{}{}
		}
		c.wakeTakers()
	}
	c.mu.Unlock()
	if !later {
		stored(nil)
	}
}

// Rollback implements core.PutTx.
func (t *putTx) Rollback() {
	t.c.mu.Lock()
	t.c.freed(t.room)
	t.c.mu.Unlock()
}

// Len implements core.Channel.
func (c *channel) Len() core.Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored
}

// Capacity implements core.Channel.
func (c *channel) Capacity() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.capacity
}

// Position implements core.Channel: memory remembers nothing.
func (c *channel) Position(string) (int64, bool) { return 0, false }

// Forget implements core.Channel.
func (c *channel) Forget(string) {}

// Marks implements core.Channel: sinks begin anew with the process.
func (c *channel) Marks() map[string]core.Mark { return nil }

// Durable implements core.Channel.
func (c *channel) Durable() bool { return false }

// Close implements core.Channel.
func (c *channel) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for l := range c.leases {
		l.dead = true
	}
	for _, w := range c.putters {
		close(w.wake)
	}
	c.putters = nil
	c.wakeTakers()
	lost := c.entries
	c.entries, c.queue, c.leases = nil, nil, nil
	c.mu.Unlock()
	for e := range lost {
		e.stored(core.ErrClosed)
	}
	return nil
}
