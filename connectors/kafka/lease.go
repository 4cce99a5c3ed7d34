package kafka

import (
	"github.com/millrace/millrace/core"
)

// lease is a run of events in a sink's hands. Its state is under stash.mu.
type lease struct {
	s     *stash
	batch *core.Batch // nil when it has ended
	spans []part
	acked []bool // by event; nil: none
	left  int
	lost  chan struct{}
	gone  bool // lost is closed
	dead  bool // the channel was closed
}

// part is what a lease has of a parcel.
type part struct {
	span
	start int // in the lease
	left  int // events of it that are not acked
}

// lease makes one of what is in front. There is something.
func (s *stash) lease(want core.Take) *lease {
	l := &lease{s: s, lost: make(chan struct{})}
	var bytes int64
	n := 0
	for n < len(s.queue) && l.left < want.Events {
		one := s.queue[n]
		to := one.from
		for to < one.to && l.left < want.Events {
			size := int64(len(one.batch.Events[to].Body))
			if want.Bytes > 0 && l.left > 0 && bytes+size > want.Bytes {
				break
			}
			bytes += size
			l.left++
			to++
		}
		if to == one.from {
			break
		}
		taken := span{one.parcel, one.from, to}
		l.spans = append(l.spans, part{taken, l.left - (to - one.from), to - one.from})
		s.ready = s.ready.Sub(taken.size())
		if to < one.to {
			s.queue[n].from = to
			break
		}
		n++
	}
	clear(s.queue[:n])
	s.queue = append(s.queue[:0], s.queue[n:]...)
	l.batch = l.build()
	s.leases[l] = struct{}{}
	return l
}

// build gives the batch that was read where the lease is exactly that, else one that holds it.
func (l *lease) build() *core.Batch {
	first := l.spans[0].batch
	if len(l.spans) == 1 && l.left == len(first.Events) {
		return first.Hold()
	}
	b := core.NewBatch()
	b.Born = first.Born
	for i := range l.spans {
		b.Events = append(b.Events, l.spans[i].events()...)
		b.Share(l.spans[i].batch)
	}
	b.Resize()
	return b
}

// Batch implements core.Lease.
func (l *lease) Batch() *core.Batch { return l.batch }

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Ack implements core.Lease. Marks are not kept: there is no place for them in
// a topic. What is acked is delivered, and committed soon.
func (l *lease) Ack(pick []int32, _ ...core.Mark) <-chan struct{} {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.batch == nil || l.dead || l.gone {
		l.finish(pick == nil)
		return closedChan
	}
	if pick == nil {
		for i := range l.spans {
			l.runs(i, func(one span) { s.ack(one) })
		}
		l.left = 0
	} else {
		l.some(pick)
	}
	for i := range l.spans {
		s.advance(l.spans[i].r)
	}
	s.makeRoom()
	l.finish(l.left == 0)
	return closedChan
}

// some acks single events.
func (l *lease) some(pick []int32) {
	if l.acked == nil {
		l.acked = make([]bool, len(l.batch.Events))
	}
	for _, i := range pick {
		if l.acked[i] {
			continue
		}
		l.acked[i] = true
		l.left--
		n := 0
		for n+1 < len(l.spans) && l.spans[n+1].start <= int(i) {
			n++
		}
		x := &l.spans[n]
		x.left--
		at := x.from + int(i) - x.start
		l.s.ack(span{x.parcel, at, at + 1})
	}
}

// ack notes events as delivered.
func (s *stash) ack(one span) {
	s.held = s.held.Sub(one.size())
	n := len(one.batch.Events)
	if one.settle(one.to - one.from); one.left == 0 {
		return
	}
	if one.acked == nil {
		one.acked = make([]bool, n)
	}
	for i := one.from; i < one.to; i++ {
		one.acked[i] = true
	}
}

// runs calls f for each longest run of events of part n that are not acked.
func (l *lease) runs(n int, f func(span)) {
	x := &l.spans[n]
	if l.acked == nil {
		f(x.span)
		return
	}
	for from := x.from; from < x.to; from++ {
		to := from
		for to < x.to && !l.acked[x.start+to-x.from] {
			to++
		}
		if to > from {
			f(span{x.parcel, from, to})
		}
		from = to
	}
}

// finish gives the lease's memory back, if it is over.
func (l *lease) finish(over bool) {
	if !over || l.batch == nil {
		return
	}
	delete(l.s.leases, l)
	l.batch.Release()
	l.batch = nil
}

// giveBack puts what is not acked back into the queue, unless its partition is another's.
func (l *lease) giveBack() {
	for i := range l.spans {
		l.runs(i, func(one span) {
			if one.gone {
				l.s.drop(one)
			} else {
				l.s.insert(one)
			}
		})
	}
	l.s.wakeTakers()
	l.s.makeRoom()
}

// lose takes the lease away. The sink has its memory until it ends it.
func (l *lease) lose() {
	l.giveBack()
	delete(l.s.leases, l)
	l.gone = true
	close(l.lost)
}

// Rollback implements core.Lease.
func (l *lease) Rollback(error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.batch != nil && !l.dead && !l.gone {
		s.rollback.Add(int64(l.left))
		l.giveBack()
	}
	l.finish(true)
}

// Unpin implements core.Lease: what was read stays in memory until it is delivered.
func (l *lease) Unpin() bool { return false }

// Lost implements core.Lease.
func (l *lease) Lost() <-chan struct{} { return l.lost }
