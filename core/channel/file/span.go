package file

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

// span is a run of events with consecutive sequences, in memory or on disk.
type span struct {
	seqs wal.Range
	at   wal.Extent // where they can be read; its Seqs mean nothing here
	size core.Size
	mem  *memory // nil: on disk
	from int     // index of the first event in mem
	skip wal.Ranges
}

// memory is a batch that spans and leases refer to. Its fields belong to the channel's lock.
type memory struct {
	c      *channel
	batch  *core.Batch
	events []core.Event
	cost   int64
	refs   int
}

// drop gives up the span's memory, if it has any.
func (s *span) drop() {
	m := s.mem
	if m == nil {
		return
	}
	s.mem = nil
	if m.refs--; m.refs == 0 {
		m.c.memory -= m.cost
		m.batch.Release()
		m.batch, m.events = nil, nil
	}
}

// events returns the events of a span in memory.
func (s *span) events() []core.Event { return s.mem.events[s.from : s.from+s.size.Events] }

// cut takes the first events off a span in memory, as a span of its own.
func (s *span) cut(n int) span {
	if n == s.size.Events {
		first := *s
		s.mem = nil
		return first
	}
	first := *s
	first.size = core.Size{Events: n}
	for _, e := range s.events()[:n] {
		first.size.Bytes += int64(len(e.Body))
	}
	first.seqs.To = first.seqs.From + uint64(n)
	s.seqs.From = first.seqs.To
	s.size = s.size.Sub(first.size)
	s.from += n
	s.mem.refs++
	return first
}

// insert puts s where it belongs by sequence, and makes it free to take.
func (c *channel) insert(s span) {
	c.free = c.free.Add(s.size)
	live := c.queue[c.head:]
	at := len(live)
	if at > 0 && live[at-1].seqs.From > s.seqs.From { // not simply the newest
		at, _ = slices.BinarySearchFunc(live, s.seqs.From, func(x span, from uint64) int { return cmp.Compare(x.seqs.From, from) })
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

// join makes next part of s if both are on disk and side by side.
func (s *span) join(next *span) bool {
	if s.mem != nil || next.mem != nil || s.skip != nil || next.skip != nil ||
		s.at.Segment != next.at.Segment || s.seqs.To != next.seqs.From || s.at.Off > next.at.Off {
		return false
	}
	s.seqs.To = next.seqs.To
	s.at.End = max(s.at.End, next.at.End)
	s.size = s.size.Add(next.size)
	return true
}

// pop drops the first span of the queue.
func (c *channel) pop() {
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
func (c *channel) toLoad(limit int, bytes int64) int {
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
func (c *channel) load(i int) error {
	s := c.queue[i]
	c.queue = slices.Delete(c.queue, i, i+1)
	c.loading = true
	c.mu.Unlock()
	at := s.at
	at.Seqs = s.seqs
	chunk, err := c.log.Read(at, s.skip)
	c.mu.Lock()
	c.loading = false
	defer c.wakeTakers()
	c.free = c.free.Sub(s.size)
	if c.closed {
		if err == nil {
			chunk.Batch.Release()
		}
		return core.ErrClosed
	}
	if err != nil {
		c.insert(s)
		return err
	}
	c.loaded(&s, &chunk)
	return nil
}

// loaded puts what was read in the place of s.
func (c *channel) loaded(s *span, chunk *wal.Chunk) {
	rest := span{seqs: chunk.Rest.Seqs, at: chunk.Rest, skip: s.skip, size: s.size}
	size := chunk.Batch.Size()
	rest.size = rest.size.Sub(size)
	lost := 0
	for _, r := range chunk.Lost {
		if left := s.skip.Without(r); len(left) > 0 {
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
	if c.lost != nil {
		c.lost.Add(int64(lost))
	}
	if size.Events > 0 {
		m := &memory{c: c, batch: chunk.Batch, events: chunk.Batch.Events, cost: cost(size), refs: len(chunk.Pieces)}
		c.memory += m.cost
		for _, p := range chunk.Pieces {
			n := int(p.Seqs.Len())
			c.insert(span{seqs: p.Seqs, at: p.Extent, mem: m, from: p.At, size: sizeOf(m.events[p.At : p.At+n])})
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
	c.held = c.held.Sub(gone)
	c.freed(gone, 0)
}

func sizeOf(events []core.Event) core.Size {
	s := core.Size{Events: len(events)}
	for i := range events {
		s.Bytes += int64(len(events[i].Body))
	}
	return s
}
