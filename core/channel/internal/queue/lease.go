package queue

import (
	"sort"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

type lease struct {
	c        *Channel
	batch    *core.Batch // nil once unpinned
	spans    []span
	first    [1]span // most leases are of one put
	*details         // nil until one of them is needed
	left     core.Size
	ended    bool
	dead     bool // the channel closed under it
}

// details are what most leases never have.
type details struct {
	acked   []bool    // by index; nil until the first partial ack
	lengths []uint32  // of bodies; only once unpinned
	born    time.Time // of the oldest event; only once unpinned
}

func (l *lease) detail() *details {
	if l.details == nil {
		l.details = new(details)
	}
	return l.details
}

// settled is what an ack comes to.
type settled struct {
	seqs []wal.Range
	room [places]core.Size
	done []*content
}

// add takes the events [from, to) of s as delivered, or dropped.
func (x *settled) add(s *span, from, to int, bytes int64) {
	p := s.place()
	x.room[p] = x.room[p].Add(core.Size{Events: to - from, Bytes: bytes})
	if p == inMemory {
		m := s.mem
		if m.left -= to - from; m.left == 0 && m.stored != nil {
			x.done = append(x.done, m)
		}
		return
	}
	r := wal.Range{From: s.seqs.From + uint64(from), To: s.seqs.From + uint64(to)}
	if last := len(x.seqs) - 1; last >= 0 && x.seqs[last].To == r.From {
		x.seqs[last].To = r.To
	} else {
		x.seqs = append(x.seqs, r)
	}
}

// settle gives the room back.
func (c *Channel) settle(x *settled) {
	for p, room := range x.room {
		if room.Events > 0 {
			c.held[p] = c.held[p].Sub(room)
			c.freed(place(p), room, 0)
		}
	}
}

// finish tells the sources, without the lock.
func finish(done []*content) {
	for _, m := range done {
		m.stored(nil)
	}
}

// Batch implements core.Lease.
func (l *lease) Batch() *core.Batch { return l.batch }

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Ack implements core.Lease.
func (l *lease) Ack(pick []int32, marks ...core.Mark) <-chan struct{} {
	stored, done := l.ack(pick, marks)
	finish(done)
	return stored
}

func (l *lease) ack(pick []int32, marks []core.Mark) (stored <-chan struct{}, done []*content) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead {
		if c.log != nil {
			return make(chan struct{}), nil // never stored
		}
		return closedChan, nil
	}
	var x settled
	if !l.ended { // else by acks of single events; marks are welcome still
		if pick == nil {
			l.runs(func(n, from, to int) { x.add(&l.spans[n], from, to, l.bytes(n, from, to)) })
		} else {
			l.mark(pick, &x)
		}
		for _, room := range x.room {
			l.left = l.left.Sub(room)
		}
		if l.left.Events == 0 {
			l.end()
		}
		c.settle(&x)
	}
	switch {
	case c.durable:
		return c.log.Ack(x.seqs, marks), x.done
	case len(x.seqs) > 0:
		return c.log.Ack(x.seqs, nil), x.done
	}
	return closedChan, x.done
}

// mark notes the events at pick as acked.
func (l *lease) mark(pick []int32, x *settled) {
	if l.detail().acked == nil {
		l.acked = make([]bool, l.count())
	}
	for _, i := range pick {
		if l.acked[i] {
			continue
		}
		l.acked[i] = true
		n := sort.Search(len(l.spans), func(n int) bool { return l.spans[n].start > int(i) }) - 1
		at := int(i) - l.spans[n].start
		x.add(&l.spans[n], at, at+1, l.length(int(i)))
	}
}

func (l *lease) count() int {
	last := &l.spans[len(l.spans)-1]
	return last.start + last.size.Events
}

func (l *lease) length(i int) int64 {
	if l.batch == nil {
		return int64(l.lengths[i])
	}
	return int64(len(l.batch.Events[i].Body))
}

// bytes is the size of the events [from, to) of span n.
func (l *lease) bytes(n, from, to int) (bytes int64) {
	if to-from == l.spans[n].size.Events {
		return l.spans[n].size.Bytes
	}
	for i := from; i < to; i++ {
		bytes += l.length(l.spans[n].start + i)
	}
	return bytes
}

// runs calls yield for each longest run of events of one span that are not acked.
func (l *lease) runs(yield func(span, from, to int)) {
	for n := range l.spans {
		s := &l.spans[n]
		if l.details == nil || l.acked == nil {
			yield(n, 0, s.size.Events)
			continue
		}
		for from := 0; from < s.size.Events; from++ {
			to := from
			for to < s.size.Events && !l.acked[s.start+to] {
				to++
			}
			if to > from {
				yield(n, from, to)
			}
			from = to
		}
	}
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
	l.runs(func(n, from, to int) { c.insert(l.spans[n].part(from, to, l.bytes(n, from, to))) })
	l.end()
	c.wakeTakers()
}

// Unpin implements core.Lease: what is in the log can be read again.
func (l *lease) Unpin() bool {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range l.spans {
		if !l.spans[i].logged() {
			return false
		}
	}
	if l.dead || l.ended || l.batch == nil {
		return true
	}
	l.detail().lengths = make([]uint32, len(l.batch.Events))
	l.born = l.batch.Born
	for i := range l.lengths {
		l.lengths[i] = uint32(len(l.batch.Events[i].Body))
	}
	l.unpin()
	return true
}

// Lost implements core.Lease: nobody takes a lease away.
func (l *lease) Lost() <-chan struct{} { return nil }
