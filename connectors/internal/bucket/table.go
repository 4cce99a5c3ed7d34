package bucket

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/connectors/internal/turn"
	"github.com/millrace/millrace/core"
)

// Table is what a sink has open. The first fields are its to set, once.
type Table[O Output] struct {
	Target *roll.Target
	Limits *roll.Limits
	Wake   turn.Wake // told when a file is begun, and when one begins to hold something
	Most   int       // buckets
	Chunk  int64     // bytes of bodies that are encoded at once, and the event that brings it to that; 0: any

	// Name sets the base of a new bucket. After an error its events are refused.
	Name func(b *Bucket[O], dir, prefix string) error
	// Ready makes b.Out an output that takes events, of l next.
	Ready func(ctx context.Context, b *Bucket[O], l *Lease) error
	// Grown sees to an output that has got events: it may end it, or write what is buffered.
	Grown func(O) error

	Buckets  map[string]*Bucket[O]
	Live     map[O]struct{} // what the sink has begun, until it takes it out
	Buffered int            // bytes in the buffers of those that have not ended

	leases    []*Lease // with events that are not acked, in order
	forgotten []string // streams whose marks the next ack drops
}

// Lease makes a lease of tx. One without events ends here.
func (t *Table[O]) Lease(tx core.TakeTx) *Lease {
	l := &Lease{tx, len(tx.Batch().Events)}
	if l.Left == 0 {
		tx.Ack(nil)
		return l
	}
	t.leases = append(t.leases, l)
	return l
}

// Put puts the events of l, in order, into their files. It returns the outputs
// that got some and go on: each may be cut where l ends. After an error l is among
// the leases, unless nothing of it is left.
func (t *Table[O]) Put(ctx context.Context, l *Lease, prepared *format.Prepared, now time.Time) ([]O, error) {
	events := l.Tx.Batch().Events
	var touched []O
	for from := 0; from < len(events); {
		if why := prepared.Refused(from); why != nil {
			t.refuse(l, from, from+1, why)
			from++
			continue
		}
		h := events[from].Headers
		to := from + 1
		for to < len(events) && events[to].Headers == h && prepared.Refused(to) == nil {
			to++
		}
		b, err := t.bucket(h, now, to-from, prepared.Schema(from))
		if err != nil {
			t.refuse(l, from, to, err)
			from = to
			continue
		}
		for from < to {
			b.Used = time.Now()
			if err := t.Ready(ctx, b, l); err != nil {
				return nil, err
			}
			f := b.Out.self()
			n := t.fit(f, events[from:to])
			if !f.has(l) {
				touched = append(touched, b.Out)
			}
			t.add(f, l, from, events[from:from+n])
			from += n
			if err := t.Grown(b.Out); err != nil {
				return nil, err
			}
		}
	}
	touched = slices.DeleteFunc(touched, func(o O) bool { return o.self().Ended })
	for _, o := range touched {
		t.EndPart(o.self())
	}
	return touched, nil
}

// refuse says that the events of l from, up to to, can never be stored.
func (t *Table[O]) refuse(l *Lease, from, to int, why error) {
	for i := from; i < to; i++ {
		l.Left--
		if l.Left == 0 { // l ends with this
			t.leases = slices.DeleteFunc(t.leases, func(other *Lease) bool { return other == l })
		}
		l.Tx.Refuse(i, why)
	}
}

// bucket returns where n events with these headers go. An error: nowhere.
func (t *Table[O]) bucket(h core.Headers, now time.Time, n int, schema *format.BodySchema) (*Bucket[O], error) {
	target, split := t.Target.Of(h, now, n)
	end := len(target)
	if schema != nil {
		target = append(append(target, 0), schema.ID...)
	}
	if b := t.Buckets[string(target)]; b != nil {
		b.Schema = schema
		return b, nil
	}
	if len(t.Buckets) >= t.Most {
		t.forgetBucket()
	}
	b := &Bucket[O]{Target: string(target), Schema: schema}
	if err := t.Name(b, b.Target[:split], b.Target[split+1:end]); err != nil {
		return nil, err
	}
	t.Buckets[b.Target] = b
	return b, nil
}

// forgetBucket drops the oldest bucket without a file.
func (t *Table[O]) forgetBucket() {
	var oldest *Bucket[O]
	var none O
	for _, b := range t.Buckets {
		if b.Out == none && (oldest == nil || b.Used.Before(oldest.Used)) {
			oldest = b
		}
	}
	if oldest != nil {
		delete(t.Buckets, oldest.Target)
	}
}

// fit returns how many of events f takes at once, at least one.
func (t *Table[O]) fit(f *File, events []core.Event) int {
	size := int64(0)
	for i := range events {
		size += int64(len(events[i].Body))
		if t.Limits.Full(f.Total+int64(i+1), f.InBodies+size) || t.Chunk > 0 && size >= t.Chunk {
			return i + 1
		}
	}
	return len(events)
}

// add puts events, which begin at index from of l's batch, into f.
func (t *Table[O]) add(f *File, l *Lease, from int, events []core.Event) {
	if len(f.Held) == 0 {
		f.Since = time.Now()
		t.Wake.Nudge()
	}
	if !f.has(l) {
		f.Held = append(f.Held, Part{Lease: l})
	}
	p := &f.Held[len(f.Held)-1]
	for i := range events {
		p.Pick = append(p.Pick, int32(from+i))
		f.InBodies += int64(len(events[i].Body))
	}
	f.Total += int64(len(events))
	f.Used = time.Now()
	before := len(f.Buf)
	f.Buf = f.Enc.Append(f.Buf, events)
	t.grown(f, before)
}

func (t *Table[O]) grown(f *File, before int) {
	n := len(f.Buf) - before
	f.Written += int64(n)
	t.Buffered += n
}

// EndPart ends what f has of the lease that it got last: the file may be cut there.
func (t *Table[O]) EndPart(f *File) {
	if len(f.Held) == 0 {
		return
	}
	before := len(f.Buf)
	f.Buf = f.Enc.Flush(f.Buf)
	t.grown(f, before)
	p := &f.Held[len(f.Held)-1]
	p.Length, p.Events, p.Bodies = f.Written, f.Total, f.InBodies
}

// Begin makes o, which has an encoder, the file of b.
func (t *Table[O]) Begin(b *Bucket[O], o O) {
	t.Head(o.self())
	b.Out, t.Live[o] = o, struct{}{}
	t.Wake.Nudge()
}

// Head encodes what f, which is empty, begins with.
func (t *Table[O]) Head(f *File) {
	before := len(f.Buf)
	f.Buf = f.Enc.Begin(f.Buf)
	t.grown(f, before)
}

// Ack acks what f holds, which is durable, part by part with the mark that mark
// gives for it.
func (t *Table[O]) Ack(f *File, mark func(p *Part) core.Mark) {
	for i := range f.Held {
		p := &f.Held[i]
		m := mark(p)
		p.Left -= len(p.Pick)
		f.Stored = p.Tx.Ack(p.Pick, t.Marks(m)...)
	}
	f.LetGo()
	t.leases = slices.DeleteFunc(t.leases, func(l *Lease) bool { return l.Left == 0 })
}

// RollBack gives back what is not acked, wherever it is.
func (t *Table[O]) RollBack(cause error) {
	for _, l := range t.leases {
		l.Tx.Rollback(cause)
	}
	t.leases = nil
}

// Forget has the next ack drop a mark.
func (t *Table[O]) Forget(stream string) { t.forgotten = append(t.forgotten, stream) }

// Marks are those to store with an ack: m, and that files are done with.
func (t *Table[O]) Marks(m core.Mark) []core.Mark {
	list := []core.Mark{m}
	for _, stream := range t.forgotten {
		list = append(list, core.Mark{Stream: stream, Pos: -1})
	}
	t.forgotten = t.forgotten[:0]
	return list
}

// Holding returns the outputs with events that have waited for at least age.
func (t *Table[O]) Holding(now time.Time, age time.Duration) (list []O) {
	for o := range t.Live {
		if f := o.self(); !f.Ended && len(f.Held) > 0 && now.Sub(f.Since) >= age {
			list = append(list, o)
		}
	}
	return list
}

// Oldest returns the output that has got no event for the longest time.
func (t *Table[O]) Oldest() (oldest O, ok bool) {
	for o := range t.Live {
		if f := o.self(); !f.Ended && (!ok || f.Used.Before(oldest.self().Used)) {
			oldest, ok = o, true
		}
	}
	return oldest, ok
}

// Due returns the outputs whose limits in time have come, and in how long the
// next of the others' do, or events will have waited for commit; 0: they may wait.
func (t *Table[O]) Due(now time.Time, commit time.Duration) (due []O, wait time.Duration) {
	wait = turn.Idle
	for o := range t.Live {
		f := o.self()
		if f.Ended {
			continue
		}
		if in, ok := t.Limits.Due(f.Begun, f.Used, now); ok {
			if in <= 0 {
				due = append(due, o)
				continue
			}
			wait = min(wait, in)
		}
		if len(f.Held) > 0 && commit > 0 {
			if in := f.Since.Add(commit).Sub(now); in > 0 {
				wait = min(wait, in)
			}
		}
	}
	return due, wait
}
