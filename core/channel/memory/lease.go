package memory

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/millrace/core"
)

type lease struct {
	c     *channel
	batch *core.Batch
	spans []span
	acked []bool // by index in batch; nil until the first partial ack
	left  int
	dead  bool // the channel closed under it
}

// Take implements core.Channel.
func (c *channel) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	c.mu.Lock()
	limit := min(want.Events, c.transaction)
	if limit <= 0 {
		limit = c.transaction
	}
	var linger *time.Timer
	var lingered <-chan time.Time
	if want.Linger > 0 {
		defer func() {
			if linger != nil {
				linger.Stop()
			}
		}()
	}
	over := want.Linger <= 0
	for {
		switch {
		case c.closed:
			c.mu.Unlock()
			return nil, core.ErrClosed
		case c.free.Events >= limit, c.free.Events > 0 && (over || want.Bytes > 0 && c.free.Bytes >= want.Bytes):
			l := c.lease(limit, want.Bytes)
			c.mu.Unlock()
			return l, nil
		case c.free.Events == 0 && want.NoWait:
			c.mu.Unlock()
			return nil, core.ErrEmpty
		case c.free.Events == 0 && want.Stall && len(c.putters) > 0:
			c.mu.Unlock()
			return nil, core.ErrStalled
		case c.free.Events > 0 && len(c.putters) > 0:
			over = true // no more can come before this is taken
			continue
		}
		wake := make(chan struct{})
		c.takers = append(c.takers, wake)
		if c.free.Events > 0 && linger == nil {
			linger = time.NewTimer(want.Linger)
			lingered = linger.C
		}
		c.mu.Unlock()
		select {
		case <-wake:
		case <-lingered:
			over = true
		case <-ctx.Done():
		}
		c.mu.Lock()
		if i := slices.Index(c.takers, wake); i >= 0 {
			c.takers = slices.Delete(c.takers, i, i+1)
		}
		if err := ctx.Err(); err != nil && !c.closed {
			c.mu.Unlock()
			return nil, err
		}
	}
}

// lease cuts up to limit events and bytes from the front.
func (c *channel) lease(limit int, bytes int64) *lease {
	l := &lease{c: c}
	var got core.Size
	for c.head < len(c.queue) && got.Events < limit {
		s := &c.queue[c.head]
		n := min(s.to-s.from, limit-got.Events)
		part := span{s.entry, s.from, s.from + n}
		size := part.size()
		if bytes > 0 && got.Bytes+size.Bytes > bytes {
			part, size = part.within(bytes-got.Bytes, got.Events == 0)
			if size.Events == 0 {
				break
			}
		}
		l.spans = append(l.spans, part)
		got = got.Add(size)
		if s.from = part.to; s.from == s.to {
			c.queue[c.head] = span{}
			c.head++
		} else if bytes > 0 {
			break
		}
	}
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	} else if c.head > 1024 && c.head > len(c.queue)/2 {
		c.queue = slices.Delete(c.queue, 0, c.head)
		c.head = 0
	}
	c.free = c.free.Sub(got)
	l.left = got.Events
	l.batch = l.build()
	c.leases[l] = struct{}{}
	return l
}

// within is the longest part of s of at most that many bytes; with one, at least one event.
func (s span) within(bytes int64, one bool) (span, core.Size) {
	var got core.Size
	for i := s.from; i < s.to; i++ {
		n := int64(len(s.events[i].Body))
		if got.Bytes+n > bytes && !(one && i == s.from) {
			break
		}
		got = got.Add(core.Size{Events: 1, Bytes: n})
	}
	s.to = s.from + got.Events
	return s, got
}

// build gives the put's own batch where the lease is exactly that, else a batch that holds it.
func (l *lease) build() *core.Batch {
	first := l.spans[0]
	if len(l.spans) == 1 && first.from == 0 && first.to == len(first.b.Events) && len(first.events) == first.to {
		return first.b.Hold()
	}
	b := core.NewBatch()
	b.Born = first.b.Born
	for _, s := range l.spans {
		b.Events = append(b.Events, s.events[s.from:s.to]...)
		b.Share(s.b)
	}
	return b
}

func (l *lease) Batch() *core.Batch { return l.batch }

var stored = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Ack implements core.Lease.
func (l *lease) Ack(pick []int32, _ ...core.Mark) <-chan struct{} {
	c := l.c
	c.mu.Lock()
	if l.dead {
		c.mu.Unlock()
		return stored
	}
	var done []*entry
	if pick == nil && l.acked == nil {
		var room core.Size
		for _, s := range l.spans {
			room = room.Add(s.size())
			done = c.delivered(s.entry, s.to-s.from, done)
		}
		c.release(room)
		l.left = 0
	} else {
		done = l.ackSome(pick)
	}
	if l.left == 0 {
		l.end()
	}
	c.mu.Unlock()
	for _, e := range done {
		e.finish()
	}
	return stored
}

func (l *lease) ackSome(pick []int32) (done []*entry) {
	if l.acked == nil {
		l.acked = make([]bool, len(l.batch.Events))
	}
	var room core.Size
	ack := func(i int32) {
		if l.acked[i] {
			return
		}
		l.acked[i] = true
		l.left--
		e := l.at(int(i))
		room = room.Add(core.Size{Events: 1, Bytes: int64(len(l.batch.Events[i].Body))})
		done = l.c.delivered(e, 1, done)
	}
	if pick == nil {
		for i := range l.acked {
			ack(int32(i))
		}
	}
	for _, i := range pick {
		ack(i)
	}
	l.c.release(room)
	return done
}

// at returns the put that event i of the lease came with.
func (l *lease) at(i int) *entry {
	for _, s := range l.spans {
		if n := s.to - s.from; i < n {
			return s.entry
		} else {
			i -= n
		}
	}
	panic("memory: index beyond the lease")
}

func (c *channel) delivered(e *entry, n int, done []*entry) []*entry {
	if e.left -= n; e.left == 0 {
		delete(c.entries, e)
		done = append(done, e)
	}
	return done
}

// finish tells the source, without the lock, and lets the memory go.
func (e *entry) finish() {
	if e.stored != nil {
		e.stored(nil)
	}
	e.b.Release()
}

func (c *channel) release(room core.Size) {
	c.stored = c.stored.Sub(room)
	c.freed(room)
}

func (l *lease) end() {
	delete(l.c.leases, l)
	l.batch.Release()
	l.batch = nil
}

// Rollback implements core.Lease.
func (l *lease) Rollback(error) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead || l.left == 0 {
		return
	}
	i := 0
	for _, s := range l.spans {
		for from := s.from; from < s.to; {
			to := from
			for to < s.to && (l.acked == nil || !l.acked[i+to-s.from]) {
				to++
			}
			if to > from {
				c.putBack(span{s.entry, from, to})
			}
			for from = to; from < s.to && l.acked != nil && l.acked[i+from-s.from]; {
				from++
			}
		}
		i += s.to - s.from
	}
	l.end()
	c.wakeTakers()
}

// putBack inserts s where it belongs by sequence.
func (c *channel) putBack(s span) {
	c.free = c.free.Add(s.size())
	at := c.head
	for at < len(c.queue) && (c.queue[at].seq < s.seq || c.queue[at].seq == s.seq && c.queue[at].from < s.from) {
		at++
	}
	if at == c.head && c.head > 0 {
		c.head--
		c.queue[c.head] = s
		return
	}
	c.queue = slices.Insert(c.queue, at, s)
}

// Unpin implements core.Lease: memory has nothing to read again from.
func (l *lease) Unpin() bool { return false }

// Lost implements core.Lease.
func (l *lease) Lost() <-chan struct{} { return nil }
