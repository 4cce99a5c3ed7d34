package core

import (
	"sync"
	"sync/atomic"
	"time"
)

// Batch is a run of events that travels as one: read once into memory it
// holds, changed by interceptors, put into channels by pointer, delivered by
// pointer.
//
// Ownership: NewBatch gives one reference. Outlet.Put and Outlet.Send take it
// over, on success and failure alike. Until then the holder may change
// anything; after it events, bodies and headers are read-only for ever. Hold
// keeps a batch, Release gives it back; a batch is dead after its last Release.
type Batch struct {
	Events []Event
	Born   time.Time // when its oldest event was taken in; the end-to-end lag counts from here

	stream  string
	pos     int64
	marked  bool
	refs    atomic.Int32
	blocks  []*Block
	parents []*Batch
	fill    []byte // unused rest of the newest block that Append made
	bytes   int64  // cached Size; -1 unknown
}

// Size counts events and their bytes. Bytes are those of bodies; what a
// channel adds for headers or framing is its own affair.
type Size struct {
	Events int
	Bytes  int64
}

// Add returns s + o.
func (s Size) Add(o Size) Size { return Size{s.Events + o.Events, s.Bytes + o.Bytes} }

// Sub returns s - o.
func (s Size) Sub(o Size) Size { return Size{s.Events - o.Events, s.Bytes - o.Bytes} }

var batches = sync.Pool{New: func() any { return new(Batch) }}

// NewBatch returns an empty batch with one reference.
func NewBatch() *Batch {
	b := batches.Get().(*Batch)
	b.refs.Store(1)
	b.bytes = -1
	return b
}

// Hold adds a reference and returns b.
func (b *Batch) Hold() *Batch {
	b.refs.Add(1)
	return b
}

// Release gives a reference back; the last one frees the blocks.
func (b *Batch) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("core: batch released more often than held")
	case n > 0:
		return
	}
	for i, blk := range b.blocks {
		blk.Release()
		b.blocks[i] = nil
	}
	for i, p := range b.parents {
		p.Release()
		b.parents[i] = nil
	}
	poisonEvents(b.Events[:cap(b.Events)])
	events, blocks, parents := b.Events[:0], b.blocks[:0], b.parents[:0]
	b.Events, b.blocks, b.parents, b.fill = events, blocks, parents, nil
	b.stream, b.pos, b.marked, b.Born = "", 0, false, time.Time{}
	batches.Put(b)
}

// Use makes b hold blk until its end. It takes a reference of its own.
func (b *Batch) Use(blk *Block) { b.blocks = append(b.blocks, blk.Hold()) }

// Block returns n bytes of memory that b holds until its end.
func (b *Batch) Block(n int) []byte {
	blk := NewBlock(n)
	b.blocks = append(b.blocks, blk)
	return blk.Buf[:n:n]
}

// Append adds an event whose body is already memory of b, or is never changed
// by anybody (a literal).
func (b *Batch) Append(h Headers, body []byte) {
	b.Events = append(b.Events, Event{Headers: h, Body: body})
	b.bytes = -1
}

// Copy adds an event with a copy of body, in memory of b.
func (b *Batch) Copy(h Headers, body []byte) {
	if len(body) > len(b.fill) {
		b.fill = b.Block(max(smallBlock, len(body)))
		if len(body) <= midBlock/4 && len(b.blocks) > 1 {
			b.fill = b.Block(midBlock)
		}
	}
	n := copy(b.fill, body)
	b.Append(h, b.fill[:n:n])
	b.fill = b.fill[n:]
}

// Mark says that b is read from stream, and that everything of the stream
// before pos is in b or in a batch put earlier. A stream is one generation of
// one thing that can be read again (a file's content, a partition): after a
// truncation or the reuse of a name it must be another stream. Marked batches
// are stored in order, and a channel drops their events whose Pos it already
// holds.
func (b *Batch) Mark(stream string, pos int64) { b.stream, b.pos, b.marked = stream, pos, true }

// Marked returns what Mark set.
func (b *Batch) Marked() (stream string, pos int64, ok bool) { return b.stream, b.pos, b.marked }

// Size returns the number of events and of body bytes. After a change of
// Events by hand it must not be trusted: use Append, Filter, SetBody.
func (b *Batch) Size() Size {
	if b.bytes < 0 {
		b.bytes = 0
		for i := range b.Events {
			b.bytes += int64(len(b.Events[i].Body))
		}
	}
	return Size{len(b.Events), b.bytes}
}

// SizeOf returns the size of the events at pick; nil means all.
func (b *Batch) SizeOf(pick []int32) Size {
	if pick == nil {
		return b.Size()
	}
	s := Size{Events: len(pick)}
	for _, i := range pick {
		s.Bytes += int64(len(b.Events[i].Body))
	}
	return s
}

// SetBody replaces the body of event i by memory of b.
func (b *Batch) SetBody(i int, body []byte) {
	b.Events[i].Body = body
	b.bytes = -1
}

// MapHeaders replaces the headers of every event, calling f once per run of
// events that share one set.
func (b *Batch) MapHeaders(f func(Headers) Headers) {
	for i := 0; i < len(b.Events); {
		from := b.Events[i].Headers
		to := f(from)
		for ; i < len(b.Events) && b.Events[i].Headers == from; i++ {
			b.Events[i].Headers = to
		}
	}
}

// Filter keeps the events for which keep is true, in order.
func (b *Batch) Filter(keep func(e *Event) bool) {
	kept := b.Events[:0]
	for i := range b.Events {
		if keep(&b.Events[i]) {
			kept = append(kept, b.Events[i])
		}
	}
	clear(b.Events[len(kept):])
	b.Events = kept
	b.bytes = -1
}

// Slice returns a batch of the events [from, to) that holds b for its memory.
// If b is marked the slice is too: at b's own position where it reaches b's
// end, else at that of its last event.
func (b *Batch) Slice(from, to int) *Batch {
	s := NewBatch()
	s.Events = append(s.Events, b.Events[from:to]...)
	s.Born = b.Born
	s.parents = append(s.parents, b.Hold())
	if b.marked {
		pos := b.pos
		if to < len(b.Events) {
			pos = b.Events[to-1].Pos
		}
		s.Mark(b.stream, pos)
	}
	return s
}

// Share makes b hold other for its memory, so that b's events may point into it.
func (b *Batch) Share(other *Batch) { b.parents = append(b.parents, other.Hold()) }

// Resize tells b that its Events were changed by hand.
func (b *Batch) Resize() { b.bytes = -1 }
