package file

import (
	"context"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

type lease struct {
	c       *channel
	batch   *core.Batch // nil once unpinned
	spans   []span
	starts  []int    // index in the batch of each span's first event
	acked   []bool   // by index; nil until the first partial ack
	lengths []uint32 // of bodies; only once unpinned
	left    core.Size
	ended   bool
	dead    bool // the channel closed under it
}

// Take implements core.Channel.
func (c *channel) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	limit := min(want.Events, c.transaction)
	if limit <= 0 {
		limit = c.transaction
	}
	bytes := want.Bytes
	if bytes <= 0 || bytes > c.memoryBytes {
		bytes = c.memoryBytes // one lease must not read a whole backlog into memory
	}
	var lingered, retry <-chan time.Time
	over := want.Linger <= 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		enough := c.free.Events >= limit || c.free.Bytes >= bytes
		switch {
		case c.closed:
			return nil, core.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case c.loading, retry != nil: // somebody reads, or is about to try again
		case c.free.Events > 0 && (enough || over || len(c.putters) > 0):
			i := c.toLoad(limit, bytes)
			if i < 0 {
				return c.lease(limit, bytes), nil
			}
			if err := c.load(i); err != nil && !errors.Is(err, core.ErrClosed) {
				c.slog.Error("cannot read the log; trying again", "error", err)
				retry = time.After(10 * retryPause)
			}
			continue
		case c.free.Events == 0 && want.NoWait:
			return nil, core.ErrEmpty
		case c.free.Events == 0 && want.Stall && c.storing == 0 && len(c.putters) > 0:
			return nil, core.ErrStalled
		}
		if c.free.Events > 0 && lingered == nil && !over {
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

// lease cuts up to limit events and bytes from the front, all of it memory.
func (c *channel) lease(limit int, bytes int64) *lease {
	l := &lease{c: c}
	for c.head < len(c.queue) && l.left.Events < limit {
		s := &c.queue[c.head]
		if s.mem == nil {
			break
		}
		n := within(s.events()[:min(s.size.Events, limit-l.left.Events)], bytes-l.left.Bytes)
		if n == 0 && l.left.Events > 0 {
			break
		}
		part := s.cut(max(n, 1))
		l.starts = append(l.starts, l.left.Events)
		l.spans = append(l.spans, part)
		l.left = l.left.Add(part.size)
		if s.mem == nil {
			c.pop()
		}
	}
	c.free = c.free.Sub(l.left)
	l.batch = l.build()
	c.leases[l] = struct{}{}
	return l
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

// Batch implements core.Lease.
func (l *lease) Batch() *core.Batch { return l.batch }

// Ack implements core.Lease.
func (l *lease) Ack(pick []int32, marks ...core.Mark) <-chan struct{} {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.dead:
		return make(chan struct{}) // never stored
	case l.ended: // by acks of single events; marks are welcome still
		return c.log.Ack(nil, marks)
	}
	var seqs []wal.Range
	var room core.Size
	if pick == nil {
		seqs, room = l.remaining(), l.left
	} else {
		seqs, room = l.mark(pick)
	}
	l.left = l.left.Sub(room)
	c.held = c.held.Sub(room)
	c.freed(room, 0)
	if l.left.Events == 0 {
		l.end()
	}
	return c.log.Ack(seqs, marks)
}

// mark notes the events at pick as acked.
func (l *lease) mark(pick []int32) (seqs []wal.Range, room core.Size) {
	if l.acked == nil {
		l.acked = make([]bool, l.count())
	}
	for _, i := range pick {
		if l.acked[i] {
			continue
		}
		l.acked[i] = true
		room = room.Add(core.Size{Events: 1, Bytes: l.length(int(i))})
		n := sort.SearchInts(l.starts, int(i)+1) - 1
		seq := l.spans[n].seqs.From + uint64(int(i)-l.starts[n])
		if last := len(seqs) - 1; last >= 0 && seqs[last].To == seq {
			seqs[last].To++
		} else {
			seqs = append(seqs, wal.Range{From: seq, To: seq + 1})
		}
	}
	return seqs, room
}

func (l *lease) count() int {
	n := len(l.spans) - 1
	return l.starts[n] + l.spans[n].size.Events
}

func (l *lease) length(i int) int64 {
	if l.batch == nil {
		return int64(l.lengths[i])
	}
	return int64(len(l.batch.Events[i].Body))
}

// runs calls yield for each longest run of events of one span that are not acked.
func (l *lease) runs(yield func(span, from, to int)) {
	for n := range l.spans {
		s, start := &l.spans[n], l.starts[n]
		if l.acked == nil {
			yield(n, 0, s.size.Events)
			continue
		}
		for from := 0; from < s.size.Events; from++ {
			to := from
			for to < s.size.Events && !l.acked[start+to] {
				to++
			}
			if to > from {
				yield(n, from, to)
			}
			from = to
		}
	}
}

// remaining returns the sequences that are not acked.
func (l *lease) remaining() (seqs []wal.Range) {
	l.runs(func(n, from, to int) {
		first := l.spans[n].seqs.From
		r := wal.Range{From: first + uint64(from), To: first + uint64(to)}
		if last := len(seqs) - 1; last >= 0 && seqs[last].To == r.From {
			seqs[last].To = r.To
		} else {
			seqs = append(seqs, r)
		}
	})
	return seqs
}

// end gives up the lease's memory.
func (l *lease) end() {
	l.ended = true
	delete(l.c.leases, l)
	l.unpin()
}

func (l *lease) unpin() {
	if l.batch == nil {
		return
	}
	for i := range l.spans {
		l.spans[i].drop()
	}
	l.batch.Release()
	l.batch = nil
}

// Rollback implements core.Lease.
func (l *lease) Rollback(error) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead || l.ended {
		return
	}
	l.runs(func(n, from, to int) {
		s := &l.spans[n]
		part := *s
		part.seqs = wal.Range{From: s.seqs.From + uint64(from), To: s.seqs.From + uint64(to)}
		part.size = core.Size{Events: to - from}
		part.from += from
		for i := from; i < to; i++ {
			part.size.Bytes += l.length(l.starts[n] + i)
		}
		if part.mem != nil {
			part.mem.refs++
		}
		c.insert(part)
	})
	l.end()
	c.wakeTakers()
}

// Unpin implements core.Lease: the events are in the log.
func (l *lease) Unpin() bool {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead || l.ended || l.batch == nil {
		return true
	}
	l.lengths = make([]uint32, len(l.batch.Events))
	for i := range l.lengths {
		l.lengths[i] = uint32(len(l.batch.Events[i].Body))
	}
	l.unpin()
	return true
}

// Lost implements core.Lease: nobody takes a lease away.
func (l *lease) Lost() <-chan struct{} { return nil }
