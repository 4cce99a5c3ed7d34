package queue

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/millrace/millrace/core"
)

// Take implements core.Channel.
func (c *Channel) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	var lingered, retry <-chan time.Time
	over := want.Linger <= 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		limit, bytes := c.limits(want)
		ready := c.ready()
		short := len(c.putters) > 0 || c.starved // of room: no more can come before this is taken
		switch {
		case c.closed:
			return nil, core.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case c.loading, retry != nil: // somebody reads, or is about to try again
		case ready.Events > 0 && (ready.Events >= limit || ready.Bytes >= bytes || over || short):
			i := c.toLoad(limit, bytes)
			if i < 0 {
				return c.lease(limit, bytes), nil
			}
			if err := c.load(i); err != nil && !errors.Is(err, core.ErrClosed) {
				c.o.Log.Error("cannot read the log; trying again", "error", err)
				retry = time.After(retryPause)
			}
			continue
		case ready.Events == 0 && want.NoWait:
			return nil, core.ErrEmpty
		case ready.Events == 0 && want.Stall && c.storing == 0 && short:
			c.starved = false
			return nil, core.ErrStalled
		}
		if ready.Events > 0 && lingered == nil && !over {
			linger := time.NewTimer(want.Linger)
			defer linger.Stop()
			lingered = linger.C
		}
		wake := make(chan struct{})
		c.takers = append(c.takers, wake)
		c.mu.Unlock()
		select {
		case <-wake:
		case <-lingered:
			over = true
		case <-retry:
			retry = nil
		case <-ctx.Done():
		}
		c.mu.Lock()
		if i := slices.Index(c.takers, wake); i >= 0 {
			c.takers = slices.Delete(c.takers, i, i+1)
		}
	}
}

// limits are those of one lease.
func (c *Channel) limits(want core.Take) (events int, bytes int64) {
	events, bytes = c.o.Transaction, math.MaxInt64
	if want.Events > 0 {
		events = min(events, want.Events)
	}
	if want.Bytes > 0 {
		bytes = want.Bytes
	}
	if c.log != nil {
		bytes = min(bytes, c.o.Disk.MemoryBytes) // one lease must not read a whole backlog into memory
	}
	return events, bytes
}

// lease cuts up to limit events and bytes from the front, all of it in memory.
func (c *Channel) lease(limit int, bytes int64) *lease {
	l := &lease{c: c}
	l.spans = l.first[:0]
	if n := c.reach(limit, bytes); n > 1 {
		l.spans = make([]span, 0, n)
	}
	for c.head < len(c.queue) && l.left.Events < limit {
		s := &c.queue[c.head]
		if s.mem == nil {
			break
		}
		n := min(s.size.Events, limit-l.left.Events)
		if s.size.Bytes > bytes-l.left.Bytes {
			if n = within(s.events()[:n], bytes-l.left.Bytes); n == 0 && l.left.Events > 0 {
				break
			}
		}
		l.spans = append(l.spans, span{})
		part := &l.spans[len(l.spans)-1]
		s.cut(max(n, 1), part)
		part.start = l.left.Events
		l.left = l.left.Add(part.size)
		p := part.place()
		c.free[p] = c.free[p].Sub(part.size)
		if s.mem == nil {
			c.pop()
		}
	}
	c.starved = false
	l.batch = l.build()
	c.taken = l.batch.Born
	c.leases[l] = struct{}{}
	return l
}

// reach is how many spans at the front make up that much, at least.
func (c *Channel) reach(limit int, bytes int64) int {
	n, got := c.head, core.Size{}
	for n < len(c.queue) && c.queue[n].mem != nil && got.Events < limit && got.Bytes < bytes {
		got = got.Add(c.queue[n].size)
		n++
	}
	return n - c.head
}

// within returns how many of the events fit into that many bytes.
func within(events []core.Event, bytes int64) int {
	for i := range events {
		if bytes -= int64(len(events[i].Body)); bytes < 0 {
			return i
		}
	}
	return len(events)
}

// build gives the put's own batch where the lease is exactly that, else a batch that holds it.
func (l *lease) build() *core.Batch {
	first := &l.spans[0]
	if len(l.spans) == 1 && len(first.mem.batch.Events) == first.size.Events {
		return first.mem.batch.Hold()
	}
	b := core.NewBatch()
	b.Born = first.mem.batch.Born
	b.Events = slices.Grow(b.Events, l.left.Events)
	var last *core.Batch
	for i := range l.spans {
		s := &l.spans[i]
		b.Events = append(b.Events, s.events()...)
		if s.mem.batch != last {
			last = s.mem.batch
			b.Share(last)
		}
	}
	return b
}
