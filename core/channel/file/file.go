package file

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

const (
	ackDelay   = 20 * time.Millisecond
	retryPause = 100 * time.Millisecond
	spaceEvery = time.Second
	maxPut     = 512 << 20 // bytes of one transaction: half of what a frame can hold
)

type channel struct {
	settings
	fs      vfs.FS
	slog    *slog.Logger
	now     func() time.Time
	log     *wal.Log
	locks   []io.Closer
	dropped *metric.Extra
	lost    *metric.Extra

	mu       sync.Mutex
	queue    []span // queue[head:], by sequence
	head     int
	used     core.Size // held and claimed
	held     core.Size // committed, queued and leased
	free     core.Size // in queue: can be taken now
	storing  int       // puts under way to the disk
	waiting  int64     // bytes claimed or under way to the disk
	memory   int64     // cost of the batches referred to
	accepted map[string]int64
	putters  []*waiter
	takers   []chan struct{}
	leases   map[*lease]struct{}
	loading  bool // a disk span is being read, without the lock
	closed   bool
	low      bool // the volume is nearly full
	checked  time.Time
}

// waiter is a Room call.
type waiter struct {
	room core.Size
	wake chan struct{}
}

// begin takes over what the log has recovered.
func (c *channel) begin() {
	c.leases = map[*lease]struct{}{}
	c.accepted = c.log.Positions()
	for _, b := range c.log.Backlog() {
		c.queue = append(c.queue, span{seqs: b.Seqs, at: b.Extent, size: core.Size{Events: b.Events, Bytes: b.Bytes}, skip: b.Acked})
		c.free = c.free.Add(core.Size{Events: b.Events, Bytes: b.Bytes})
	}
	c.held, c.used = c.free, c.free
}

// fits says whether a claim can be granted now.
func (c *channel) fits(used core.Size, waiting int64, room core.Size) bool {
	return room.Events == 0 ||
		!c.low && used.Events+room.Events <= c.capacity && (waiting == 0 || waiting+room.Bytes <= c.memoryBytes)
}

// checkSpace looks at the volumes, not more often than once a second.
func (c *channel) checkSpace() {
	now := c.now()
	if now.Sub(c.checked) < spaceEvery && now.After(c.checked) {
		return
	}
	c.checked = now
	low := false
	for _, dir := range c.dataDirs {
		free, _, err := c.fs.Space(dir)
		if err != nil {
			c.slog.Warn("cannot tell the free space", "dir", dir, "error", err)
			continue
		}
		if free < c.minSpace {
			low = true
			if !c.low {
				c.slog.Error("the volume is nearly full: the channel takes no more events until there is space",
					"dir", dir, "free", free, "minimumRequiredSpace", c.minSpace)
			}
		}
	}
	if c.low && !low {
		c.slog.Info("the volume has space again")
	}
	c.low = low
}

// isOpen is 1 while the channel is open, else 0.
func (c *channel) isOpen() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	return 1
}

// Health implements core.Health: a nearly full volume takes no events.
func (c *channel) Health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkSpace()
	if c.low {
		return fmt.Errorf("less than minimumRequiredSpace = %d is free on its volume", c.minSpace)
	}
	return nil
}

// TryClaim implements core.Channel.
func (c *channel) TryClaim(room core.Size) (core.PutTx, error) {
	if room.Events > c.transaction {
		return nil, fmt.Errorf("%w: %d events, transactionCapacity is %d", core.ErrTooLarge, room.Events, c.transaction)
	}
	if room.Bytes > maxPut {
		return nil, fmt.Errorf("%w: %d bytes, the limit of one transaction is %d", core.ErrTooLarge, room.Bytes, maxPut)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, core.ErrClosed
	}
	c.checkSpace()
	if !c.fits(c.used, c.waiting, room) {
		if c.low {
			return nil, fmt.Errorf("%w: less than minimumRequiredSpace = %d is free on its volume", core.ErrChannelFull, c.minSpace)
		}
		return nil, core.ErrChannelFull
	}
	c.used = c.used.Add(room)
	c.waiting += room.Bytes
	return &putTx{c, room}, nil
}

// Room implements core.Channel.
func (c *channel) Room(ctx context.Context, room core.Size) error {
	timer := time.NewTimer(c.keepAlive)
	defer timer.Stop()
	poll := time.NewTicker(spaceEvery) // nobody tells when a volume has space again
	defer poll.Stop()
	w := &waiter{room: room}
	for {
		c.mu.Lock()
		c.checkSpace()
		if c.closed || c.fits(c.used, c.waiting, room) {
			c.mu.Unlock()
			return nil // where it is closed, TryClaim says so
		}
		w.wake = make(chan struct{})
		c.putters = append(c.putters, w)
		if c.free.Events == 0 {
			c.wakeTakers() // all is leased: they may want to flush
		}
		c.mu.Unlock()
		var err error
		select {
		case <-w.wake:
			return nil
		case <-poll.C:
		case <-timer.C:
			err = core.ErrChannelFull
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		i := slices.Index(c.putters, w)
		if i < 0 {
			c.mu.Unlock()
			return nil // woken meanwhile: the room must be tried, or the wake-up is lost
		}
		c.putters = slices.Delete(c.putters, i, i+1)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// freed takes room away from used, and wakes those who now fit, in order.
func (c *channel) freed(room core.Size, waiting int64) {
	c.used = c.used.Sub(room)
	c.waiting -= waiting
	would, wait := c.used, c.waiting
	i := 0
	for ; i < len(c.putters) && c.fits(would, wait, c.putters[i].room); i++ {
		would, wait = would.Add(c.putters[i].room), wait+c.putters[i].room.Bytes
		close(c.putters[i].wake)
	}
	c.putters = slices.Delete(c.putters, 0, i)
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

// Rollback implements core.PutTx.
func (t *putTx) Rollback() {
	t.c.mu.Lock()
	t.c.freed(t.room, t.room.Bytes)
	t.c.mu.Unlock()
}

// Commit implements core.PutTx. The put joins the next group; its events can
// be taken once they are stored.
func (t *putTx) Commit(b *core.Batch, pick []int32, stored func(error)) {
	c := t.c
	born := b.Born
	if born.IsZero() {
		born = c.now()
	}
	p := &wal.Put{Batch: b.Hold(), Pick: slices.Clone(pick), Time: born.UnixNano()}
	if pick != nil && p.Pick == nil {
		p.Pick = []int32{}
	}
	c.mu.Lock()
	room := t.room
	if stream, pos, ok := b.Marked(); ok {
		if held, known := c.accepted[stream]; known {
			room = c.withoutRepeats(p, held, room)
			ok = pos > held // a position never goes back
		}
		if ok {
			p.Marked, p.Stream, p.Pos = true, stream, pos
		}
	}
	cost := cost(room)
	p.Done = func(p *wal.Put, err error) { c.stored(p, room, cost, stored, err) }
	c.held = c.held.Add(room)
	c.memory += cost
	c.storing++
	if c.closed || !c.log.Put(p) {
		c.mu.Unlock()
		c.stored(p, room, cost, stored, core.ErrClosed)
		return
	}
	if p.Marked {
		c.accepted[p.Stream] = p.Pos
	}
	c.freed(t.room.Sub(room), t.room.Bytes-room.Bytes)
	c.mu.Unlock()
}

// withoutRepeats takes the events out of p that the channel holds already.
func (c *channel) withoutRepeats(p *wal.Put, held int64, room core.Size) core.Size {
	repeated := func(e *core.Event) bool { return e.Pos > 0 && e.Pos <= held }
	if p.Pick == nil {
		if !slices.ContainsFunc(p.Batch.Events, func(e core.Event) bool { return repeated(&e) }) {
			return room
		}
		p.Pick = make([]int32, len(p.Batch.Events))
		for i := range p.Pick {
			p.Pick[i] = int32(i)
		}
	}
	n := len(p.Pick)
	p.Pick = slices.DeleteFunc(p.Pick, func(i int32) bool { return repeated(&p.Batch.Events[i]) })
	if c.dropped != nil {
		c.dropped.Add(int64(n - len(p.Pick)))
	}
	return p.Batch.SizeOf(p.Pick)
}

// cost is what keeping a put in memory comes to, about.
func cost(s core.Size) int64 { return s.Bytes + 64*int64(s.Events) + 256 }

// stored is the log's answer to one put, in order.
func (c *channel) stored(p *wal.Put, room core.Size, cost int64, stored func(error), err error) {
	c.mu.Lock()
	c.storing--
	switch {
	case err != nil || room.Events == 0 || c.closed:
		c.memory -= cost
		p.Batch.Release()
		if err != nil {
			c.held = c.held.Sub(room)
			c.freed(room, room.Bytes)
		}
	default:
		s := span{seqs: p.At.Seqs, at: p.At, size: room}
		if c.memory <= c.memoryBytes {
			s.mem = &memory{c: c, batch: p.Batch, events: p.Batch.Events, cost: cost, refs: 1}
			if p.Pick != nil {
				s.mem.events = make([]core.Event, len(p.Pick))
				for i, at := range p.Pick {
					s.mem.events[i] = p.Batch.Events[at]
				}
			}
		} else {
			c.memory -= cost
			p.Batch.Release()
		}
		c.insert(s)
		c.freed(core.Size{}, room.Bytes)
		c.wakeTakers()
	}
	c.mu.Unlock()
	stored(err)
}

// Len implements core.Channel.
func (c *channel) Len() core.Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Capacity implements core.Channel.
func (c *channel) Capacity() int { return c.capacity }

// Position implements core.Channel.
func (c *channel) Position(stream string) (int64, bool) { return c.log.Position(stream) }

// Forget implements core.Channel. It joins the next group that is written.
func (c *channel) Forget(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.accepted[stream]; !ok || c.closed {
		return
	}
	delete(c.accepted, stream)
	c.log.Put(&wal.Put{Marked: true, Stream: stream, Pos: -1, Time: c.now().UnixNano(), Done: func(*wal.Put, error) {}})
}

// Marks implements core.Channel.
func (c *channel) Marks() map[string]core.Mark { return c.log.Marks() }

// Durable implements core.Channel.
func (c *channel) Durable() bool { return true }

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
	c.leases = nil
	for _, w := range c.putters {
		close(w.wake)
	}
	c.putters = nil
	c.wakeTakers()
	c.mu.Unlock()
	err := c.log.Close()
	c.mu.Lock()
	for _, s := range c.queue[c.head:] {
		s.drop()
	}
	c.queue, c.head = nil, 0
	c.mu.Unlock()
	c.unlock()
	return err
}
