package queue

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

// span is a run of events with consecutive orders, and, of those in the log,
// with consecutive sequences.
type span struct {
	order uint64 // of the first event
	seqs  wal.Range
	at    *stretch // where they can be read; nil: the events are in memory alone
	size  core.Size
	mem   *content // nil: only on disk
	from  int      // index of the first event in mem
	start int      // in a lease: index in its batch of the first event
}

// stretch is a part of a segment. It belongs to many spans, and never changes.
type stretch struct {
	segment  uint64
	off, end int64
	skip     wal.Ranges // sequences that are acked
}

func placed(e *wal.Extent, skip wal.Ranges) *stretch { return &stretch{e.Segment, e.Off, e.End, skip} }

// content is a batch that spans and leases refer to. Its fields belong to the channel's lock.
type content struct {
	c      *Channel
	batch  *core.Batch
	events []core.Event
	cost   int64 // counted in cached; 0 for events in memory alone
	refs   int

	// Of events in memory alone:
	left   int         // not delivered, nor dropped
	stored func(error) // called when left is 0; nil if it was answered on acceptance
}

func (s *span) logged() bool { return s.at != nil }

func (s *span) place() place {
	if s.logged() {
		return onDisk
	}
	return inMemory
}

// drop gives up the span's memory, if it has any.
func (s *span) drop() {
	m := s.mem
	if m == nil {
		return
	}
	s.mem = nil
	if m.refs--; m.refs == 0 {
		m.c.cached -= m.cost
		m.batch.Release()
		m.batch, m.events = nil, nil
	}
}

// events returns the events of a span in memory.
func (s *span) events() []core.Event { return s.mem.events[s.from : s.from+s.size.Events] }

// cut takes the first events off a span in memory, as first, a span of its own.
func (s *span) cut(n int, first *span) {
	*first = *s
	if n == s.size.Events {
		s.mem = nil
		return
	}
	first.size = core.Size{Events: n}
	for _, e := range s.events()[:n] {
		first.size.Bytes += int64(len(e.Body))
	}
	if s.logged() {
		first.seqs.To = first.seqs.From + uint64(n)
		s.seqs.From = first.seqs.To
	}
	s.order += uint64(n)
	s.size = s.size.Sub(first.size)
	s.from += n
	s.mem.refs++
}

// part is the events [from, to) of s, in memory or not, with that many bytes.
func (s *span) part(from, to int, bytes int64) span {
	p := *s
	p.order += uint64(from)
	if s.logged() {
		p.seqs = wal.Range{From: s.seqs.From + uint64(from), To: s.seqs.From + uint64(to)}
	}
	p.size = core.Size{Events: to - from, Bytes: bytes}
	p.from += from
	if p.mem != nil {
		p.mem.refs++
	}
	return p
}

// insert puts s where it belongs by order, and makes it free to take.
func (c *Channel) insert(s span) {
	p := s.place()
	c.free[p] = c.free[p].Add(s.size)
	live := c.queue[c.head:]
	at := len(live)
	if at > 0 && live[at-1].order > s.order { // not simply the newest
		at, _ = slices.BinarySearchFunc(live, s.order, func(x span, order uint64) int { return cmp.Compare(x.order, order) })
	}
	at += c.head
	if at > c.head && c.queue[at-1].join(&s) {
		return
	}
	if at == c.head && c.head > 0 {
		c.head--
		c.queue[c.head] = s
		return
	}
	c.queue = slices.Insert(c.queue, at, s)
}

// join makes next part of s if both are only on disk, and side by side.
func (s *span) join(next *span) bool {
	if s.mem != nil || next.mem != nil || s.at.skip != nil || next.at.skip != nil ||
		s.at.segment != next.at.segment || s.seqs.To != next.seqs.From || s.order+s.seqs.Len() != next.order || s.at.off > next.at.off {
		return false
	}
	s.seqs.To = next.seqs.To
	s.at = &stretch{segment: s.at.segment, off: s.at.off, end: max(s.at.end, next.at.end)}
	s.size = s.size.Add(next.size)
	return true
}

// pop drops the first span of the queue.
func (c *Channel) pop() {
	c.queue[c.head] = span{}
	c.head++
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	} else if c.head > 1024 && c.head > len(c.queue)/2 {
		c.queue = slices.Delete(c.queue, 0, c.head)
		c.head = 0
	}
}

// toLoad returns the index of a disk span that a lease of that size would
// reach, or -1 if memory suffices.
func (c *Channel) toLoad(limit int, bytes int64) int {
	var got core.Size
	for i := c.head; i < len(c.queue); i++ {
		if c.queue[i].mem == nil {
			return i
		}
		if got = got.Add(c.queue[i].size); got.Events >= limit || got.Bytes >= bytes {
			break
		}
	}
	return -1
}

// load reads the beginning of the disk span at index i into memory. It is
// called with the lock, and gives it up while it reads.
func (c *Channel) load(i int) error {
	s := c.queue[i]
	c.queue = slices.Delete(c.queue, i, i+1)
	c.loading, c.reading = true, s.size
	c.mu.Unlock()
	at := wal.Extent{Segment: s.at.segment, Off: s.at.off, End: s.at.end, Seqs: s.seqs}
	chunk, err := c.log.Read(at, s.at.skip)
	c.mu.Lock()
	c.loading, c.reading = false, core.Size{}
	defer c.wakeTakers()
	c.free[onDisk] = c.free[onDisk].Sub(s.size)
	if c.closed {
		if err == nil {
			chunk.Batch.Release()
		}
		return core.ErrClosed
	}
	if err != nil {
		c.insert(s)
	} else {
		c.loaded(&s, &chunk)
	}
	if c.o.WhenFull == DropOldest {
		c.wakePutters()
	}
	return err
}

// loaded puts what was read in the place of s.
func (c *Channel) loaded(s *span, chunk *wal.Chunk) {
	orderOf := func(seq uint64) uint64 { return s.order + seq - s.seqs.From }
	rest := span{order: orderOf(chunk.Rest.Seqs.From), seqs: chunk.Rest.Seqs, at: placed(&chunk.Rest, s.at.skip), size: s.size}
	size := chunk.Batch.Size()
	rest.size = rest.size.Sub(size)
	lost := 0
	for _, r := range chunk.Lost {
		if left := s.at.skip.Without(r); len(left) > 0 {
			lost += int(left.Len())
			c.log.Ack(left, nil)
		}
	}
	rest.size.Events -= lost
	rest.size.Bytes = max(0, rest.size.Bytes)
	if rest.seqs.Len() > 0 {
		c.insert(rest)
	} else {
		rest.size.Events = 0
	}
	c.lost.Add(int64(lost))
	if size.Events > 0 {
		m := &content{c: c, batch: chunk.Batch, events: chunk.Batch.Events, cost: cost(size), refs: len(chunk.Pieces)}
		c.cached += m.cost
		for _, p := range chunk.Pieces {
			n := int(p.Seqs.Len())
			c.insert(span{order: orderOf(p.Seqs.From), seqs: p.Seqs, at: placed(&p.Extent, nil), mem: m, from: p.At, size: sizeOf(m.events[p.At : p.At+n])})
		}
	} else {
		chunk.Batch.Release()
	}
	// The bytes of a recovered span are an estimate, and lost events are gone:
	// what is held is what there is now.
	now := size
	if rest.seqs.Len() > 0 {
		now = now.Add(rest.size)
	}
	gone := s.size.Sub(now)
	c.held[onDisk] = c.held[onDisk].Sub(gone)
	c.freed(onDisk, gone, 0)
}

func sizeOf(events []core.Event) core.Size {
	s := core.Size{Events: len(events)}
	for i := range events {
		s.Bytes += int64(len(events[i].Body))
	}
	return s
}

// cost is what keeping a put in memory comes to, about.
func cost(s core.Size) int64 { return s.Bytes + 64*int64(s.Events) + 256 }
