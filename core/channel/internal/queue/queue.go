package queue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/wal"
)

const (
	retryPause = time.Second // after a failed read of the log
	spaceEvery = time.Second
	maxPut     = 512 << 20 // bytes of one transaction to disk: half of what a frame can hold
)

// Options are a channel's settings. Log, Now and Transaction are required, and
// room in Memory or in Disk.
type Options struct {
	Log         *slog.Logger
	Now         func() time.Time
	Metrics     *metric.Group // nil: none
	Transaction int           // events put or taken in one transaction at most
	KeepAlive   time.Duration // how long a put waits for room in memory, and then for room on disk
	WhenFull    Policy
	Memory      core.Size // what is kept in memory alone; no events: nothing; no bytes: no limit in bytes
	Disk        Disk
	// Resume is the part of Memory, in percent, that must be free before puts go
	// there again once it was full and they went to disk.
	Resume int
}

// Disk is where events are kept for good. The channel takes over Log and Release.
type Disk struct {
	Log         *wal.Log // nil: there is none
	Events      int
	MemoryBytes int64        // for events that are in memory as well; also the limit of what waits to be written
	Space       func() error // why nothing more may be written now; asked once a second at most
	Release     func()       // called when the log is closed
}

// Channel is a core.Channel but for its keys and Open; Start comes first.
type Channel struct {
	o       Options
	log     *wal.Log
	durable bool // all is on disk: marks are kept
	drops   drops

	repeated *metric.Extra
	lost     *metric.Extra

	mu        sync.Mutex
	rooms     rooms
	held      [places]core.Size // committed: queued, leased, or on their way to the disk
	free      [places]core.Size // in queue: can be taken now
	order     uint64            // of the next event
	queue     []span            // queue[head:], by order
	head      int
	arriving  []*arrival // puts that wait for the disk, or behind one that does, in order
	storing   int        // puts under way to the disk
	cached    int64      // cost of the batches in memory whose events are on disk, or on their way
	accepted  map[string]int64
	putters   []*waiter
	takers    []chan struct{}
	leases    map[*lease]struct{}
	loading   bool      // a disk span is being read, without the lock
	reading   core.Size // of that span; counted in free
	starved   bool      // puts found no room and were dropped: a take should not wait for more
	closed    bool
	low       error // why the volume takes nothing
	checked   time.Time
	fullSince time.Time // when a claim first found memory full
	taken     time.Time // when the oldest event of the newest lease was taken in
}

// waiter is a Room call.
type waiter struct {
	room core.Size
	wake chan struct{}
}

// Start opens the channel, and takes over what the log has recovered.
func (c *Channel) Start(o Options) {
	c.o, c.log = o, o.Disk.Log
	c.durable = c.log != nil && o.Memory.Events == 0
	c.leases = make(map[*lease]struct{})
	c.measure(o.Metrics)
	if c.log == nil {
		return
	}
	if c.durable {
		c.accepted = c.log.Positions()
	} else {
		c.forgetMarks()
	}
	for _, b := range c.log.Backlog() {
		size := core.Size{Events: b.Events, Bytes: b.Bytes}
		c.queue = append(c.queue, span{order: c.order, seqs: b.Seqs, at: placed(&b.Extent, b.Acked), size: size})
		c.order += b.Seqs.Len()
		c.free[onDisk] = c.free[onDisk].Add(size)
	}
	c.held, c.rooms.used = c.free, c.free
}

// forgetMarks removes what a channel on the same directory, that kept marks, has
// left: it is stale from the first event that passes through memory.
func (c *Channel) forgetMarks() {
	for stream := range c.log.Positions() {
		c.log.Put(&wal.Put{Marked: true, Stream: stream, Pos: -1, Time: c.o.Now().UnixNano(), Done: func(*wal.Put, error) {}})
	}
	var gone []core.Mark
	for stream := range c.log.Marks() {
		gone = append(gone, core.Mark{Stream: stream, Pos: -1})
	}
	if len(gone) > 0 {
		c.log.Ack(nil, gone)
	}
}

// Adjust takes new limits while the channel works: all of o but what it was
// started with (Log, Now, Metrics, Disk.Log, Disk.Release). Memory and disk stay
// in use, or out of use. What is held stays, also where it is more than fits.
func (c *Channel) Adjust(o Options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	o.Log, o.Now, o.Metrics, o.Disk.Log, o.Disk.Release = c.o.Log, c.o.Now, c.o.Metrics, c.o.Disk.Log, c.o.Disk.Release
	c.o = o
	c.checked = time.Time{}
	c.checkSpace()
	c.relax()
	for _, w := range c.putters { // whoever waits asks again
		close(w.wake)
	}
	clear(c.putters)
	c.putters = c.putters[:0]
	c.wakeTakers()
}

// measure registers what every channel counts.
func (c *Channel) measure(m *metric.Group) {
	if m == nil {
		m = new(metric.Group) // counted, and seen by nobody
	}
	m.GaugeFunc("oldest_event_age_seconds", "Age of the oldest event in the channel, from when it was taken in; 0: it is empty.", func() int64 {
		if oldest := c.Oldest(); !oldest.IsZero() {
			return int64(max(0, c.o.Now().Sub(oldest).Seconds()))
		}
		return 0
	})
	c.drops.count = m.Counter("events_dropped_total", "Events dropped because the channel was full (whenFull).")
	if c.log == nil {
		return
	}
	c.repeated = m.Counter("events_repeated_total", "Events dropped because the channel held them already (marks).")
	c.lost = m.Counter("events_damaged_total", "Events that could not be read back: their place in the log is damaged. The file is kept.")
	m.GaugeFunc("low_space", "1 while the volume has less than minimumRequiredSpace free.", func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.low != nil {
			return 1
		}
		return 0
	})
	m.GaugeFunc("memory_bytes", "Memory in events kept or waiting to be written.", func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cached + c.held[inMemory].Bytes
	})
}

// checkSpace looks at the volumes, not more often than once a second.
func (c *Channel) checkSpace() {
	if c.o.Disk.Space == nil {
		return
	}
	now := c.o.Now()
	if now.Sub(c.checked) < spaceEvery && now.After(c.checked) {
		return
	}
	c.checked = now
	low := c.o.Disk.Space()
	switch {
	case low != nil && c.low == nil:
		c.o.Log.Error("the volume is nearly full: the channel takes no more events until there is space", "error", low)
	case low == nil && c.low != nil:
		c.o.Log.Info("the volume has space again")
	}
	c.low = low
}

// Health implements core.Health: a nearly full volume takes no events.
func (c *Channel) Health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkSpace()
	return c.low
}

// TryClaim implements core.Channel.
func (c *Channel) TryClaim(room core.Size) (core.PutTx, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, core.ErrClosed
	}
	if err := c.possible(room); err != nil {
		return nil, err
	}
	c.checkSpace()
	at, ok := c.grant(&c.rooms, room)
	if at == nowhere && c.mayOverflow() {
		c.overflow()
		at, ok = c.grant(&c.rooms, room)
	}
	switch {
	case ok:
		if at == inMemory {
			c.fullSince = time.Time{}
		}
		return &putTx{c, room, at}, nil
	case c.low != nil:
		return nil, fmt.Errorf("%w: %w", core.ErrChannelFull, c.low)
	}
	return nil, core.ErrChannelFull
}

// possible says why a claim can never be granted.
func (c *Channel) possible(room core.Size) error {
	switch {
	case room.Events > c.o.Transaction:
		return fmt.Errorf("%w: %d events, transactionCapacity is %d", core.ErrTooLarge, room.Events, c.o.Transaction)
	case c.log != nil && room.Bytes > maxPut:
		return fmt.Errorf("%w: %d bytes, the limit of one transaction is %d", core.ErrTooLarge, room.Bytes, maxPut)
	case room.Events > 0 && !c.memoryHas(core.Size{}, room) && (c.log == nil || room.Events > c.o.Disk.Events):
		return fmt.Errorf("%w: %d events of %d bytes, capacity is %d events and %d bytes", core.ErrTooLarge,
			room.Events, room.Bytes, max(c.o.Memory.Events, c.o.Disk.Events), c.o.Memory.Bytes)
	}
	return nil
}

// Room implements core.Channel. When memory is full for the whole of KeepAlive
// and there is a disk, puts go there from then on, and as long again is waited
// for room on it.
func (c *Channel) Room(ctx context.Context, room core.Size) error {
	c.mu.Lock()
	keepAlive := c.o.KeepAlive
	c.mu.Unlock()
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	var poll <-chan time.Time // nobody tells when a volume has space again
	if c.log != nil {
		ticker := time.NewTicker(spaceEvery)
		defer ticker.Stop()
		poll = ticker.C
	}
	w := &waiter{room: room}
	for {
		c.mu.Lock()
		c.checkSpace()
		r := c.rooms
		if _, ok := c.grant(&r, room); ok || c.closed || c.possible(room) != nil {
			c.mu.Unlock()
			return nil // TryClaim says what is wrong, if anything is
		}
		w.wake = make(chan struct{})
		c.putters = append(c.putters, w)
		if c.ready().Events == 0 {
			c.wakeTakers() // all is leased: they may want to flush
		}
		c.mu.Unlock()
		var err error
		select {
		case <-w.wake:
			return nil
		case <-poll:
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
		if ctx.Err() == nil && err != nil && c.overflow() {
			timer.Reset(keepAlive)
			err = nil
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (c *Channel) wakeTakers() {
	for _, t := range c.takers {
		close(t)
	}
	c.takers = c.takers[:0]
}

// Len implements core.Channel.
func (c *Channel) Len() core.Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[inMemory].Add(c.held[onDisk])
}

// Oldest implements core.Aged. The times of events that are on disk only are not
// known here: they count as that of the events that were taken last, which were in front of them.
func (c *Channel) Oldest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oldest time.Time
	note := func(t time.Time) {
		if !t.IsZero() && (oldest.IsZero() || t.Before(oldest)) {
			oldest = t
		}
	}
	for l := range c.leases {
		if l.batch != nil {
			note(l.batch.Born)
		} else {
			note(l.born)
		}
	}
	if c.head < len(c.queue) {
		if m := c.queue[c.head].mem; m != nil {
			note(m.batch.Born)
		} else {
			note(c.taken)
		}
	}
	return oldest
}

// InMemory returns what is held in memory alone, and whether puts go to disk
// because memory was full.
func (c *Channel) InMemory() (held core.Size, overflows bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[inMemory], c.rooms.overflows
}

// Capacity implements core.Channel.
func (c *Channel) Capacity() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.o.Memory.Events + c.o.Disk.Events
}

// Position implements core.Channel.
func (c *Channel) Position(stream string) (int64, bool) {
	if !c.durable {
		return 0, false
	}
	return c.log.Position(stream)
}

// Forget implements core.Channel. It joins the next group that is written.
func (c *Channel) Forget(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.accepted[stream]; !ok || c.closed {
		return
	}
	delete(c.accepted, stream)
	c.log.Put(&wal.Put{Marked: true, Stream: stream, Pos: -1, Time: c.o.Now().UnixNano(), Done: func(*wal.Put, error) {}})
}

// Marks implements core.Channel.
func (c *Channel) Marks() map[string]core.Mark {
	if !c.durable {
		return nil
	}
	return c.log.Marks()
}

// Durable implements core.Channel.
func (c *Channel) Durable() bool { return c.durable }

// Lost returns how many events could not be read back.
func (c *Channel) Lost() int64 {
	if c.lost == nil {
		return 0
	}
	return c.lost.Load()
}

// IsOpen is 1 while the channel is open, else 0.
func (c *Channel) IsOpen() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	return 1
}
