package kafka

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// stash is what the channel has read and not delivered: a queue of spans in the
// order in which they came, and the leases made of it. It is the keeper of the
// channel's consumer.
type stash struct {
	c        *consumer
	limit    int64 // bytes of events; beyond it nothing is read
	rollback *metric.Extra

	mu      sync.Mutex
	order   uint64               // of the next event
	held    core.Size            // not delivered
	ready   core.Size            // in queue
	queue   []span               // by order
	parcels map[*reading]*parcel // the first that is not delivered, of each partition
	last    map[*reading]*parcel
	leases  map[*lease]struct{}
	paused  bool            // the group comes together: nothing is given out
	flushed bool            // a sink was told so
	waiting int             // calls of hold that wait for room
	resting bool            // what is there is delivered, and nothing more is taken in
	room    chan struct{}   // closed when there may be some
	err     error           // why nothing is read, for the next take
	takers  []chan struct{} // closed when there may be something to take
	closed  bool
}

// parcel is a batch that was read from one partition.
type parcel struct {
	r     *reading
	batch *core.Batch // nil when left is 0
	order uint64      // of its first event
	end   int64       // offset after it
	acked []bool      // by event; nil: none
	left  int         // events not acked
	gone  bool        // the partition is another's
	next  *parcel
}

// span is the events [from, to) of a parcel. None of them is acked.
type span struct {
	*parcel
	from, to int
}

func (s span) events() []core.Event { return s.batch.Events[s.from:s.to] }

func (s span) size() core.Size {
	n := core.Size{Events: s.to - s.from}
	for _, e := range s.events() {
		n.Bytes += int64(len(e.Body))
	}
	return n
}

func newStash(c *consumer, limit int64, rollback *metric.Extra) *stash {
	return &stash{
		c: c, limit: limit, rollback: rollback, room: make(chan struct{}),
		parcels: make(map[*reading]*parcel), last: make(map[*reading]*parcel), leases: make(map[*lease]struct{}),
	}
}

// hold implements keeper.
func (s *stash) hold(ctx context.Context, r *reading, b *core.Batch) error {
	for {
		s.mu.Lock()
		switch {
		case s.closed:
			s.mu.Unlock()
			b.Release()
			return core.ErrClosed
		case !s.resting && (s.held.Bytes == 0 || s.held.Bytes+b.Size().Bytes <= s.limit):
			s.add(r, b)
			s.mu.Unlock()
			return nil
		}
		s.waiting++
		if s.ready.Events == 0 && !s.resting {
			s.wakeTakers() // all is leased: they may want to flush
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
		if ctx.Err() != nil {
			b.Release()
			return ctx.Err()
		}
	}
}

func (s *stash) add(r *reading, b *core.Batch) {
	_, end, _ := b.Marked()
	p := &parcel{r: r, batch: b, order: s.order, end: end, left: len(b.Events)}
	s.order += uint64(p.left)
	if s.last[r] == nil {
		s.parcels[r] = p
	} else {
		s.last[r].next = p
	}
	s.last[r] = p
	if p.left == 0 { // all of it was left out
		p.settle(0)
		s.advance(r)
		return
	}
	one := span{p, 0, p.left}
	s.held = s.held.Add(one.size())
	s.ready = s.ready.Add(one.size())
	s.queue = append(s.queue, one)
	s.wakeTakers()
}

// advance tells the consumer up to where all of r is delivered.
func (s *stash) advance(r *reading) {
	pos := int64(-1)
	p := s.parcels[r]
	for ; p != nil && p.left == 0; p = p.next {
		pos = p.end
	}
	s.parcels[r] = p
	if p == nil {
		delete(s.parcels, r)
		delete(s.last, r)
	} else if p.acked != nil {
		if n := slices.Index(p.acked, false); n > 0 {
			pos = p.batch.Events[n-1].Pos
		}
	}
	if pos >= 0 {
		s.c.delivered(r, pos)
	}
}

// pause implements keeper.
func (s *stash) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused, s.flushed = true, false
	s.wakeTakers() // a sink that holds leases may still deliver them
}

// busy implements keeper: what is leased may be delivered before the partition goes.
func (s *stash) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leases) > 0
}

// keep implements keeper. A lease with events of a partition that is lost is
// lost; what it has of others can be taken again.
func (s *stash) keep(parts map[topicPartition]*reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, p := range s.parcels {
		if owned(r, parts) {
			continue
		}
		for ; p != nil; p = p.next {
			p.gone = true
		}
		delete(s.parcels, r)
		delete(s.last, r)
	}
	s.queue = slices.DeleteFunc(s.queue, func(one span) bool {
		if !one.gone {
			return false
		}
		s.ready = s.ready.Sub(one.size())
		s.drop(one)
		return true
	})
	for l := range s.leases {
		if slices.ContainsFunc(l.spans, func(x part) bool { return x.gone && x.left > 0 }) {
			l.lose()
		}
	}
	s.paused = false
	s.wakeTakers()
	s.makeRoom()
}

// owned tells whether r, or what took its place when its offset was not there, is in parts.
func owned(r *reading, parts map[topicPartition]*reading) bool {
	for x := parts[r.topicPartition]; x != nil; x = x.before {
		if x == r {
			return true
		}
	}
	return false
}

// drop gives up events of a parcel that is gone.
func (s *stash) drop(one span) {
	s.held = s.held.Sub(one.size())
	one.settle(one.to - one.from)
}

// settle notes that n events are delivered or given up.
func (p *parcel) settle(n int) {
	if p.left -= n; p.left == 0 {
		p.batch.Release()
		p.batch = nil
	}
}

func (s *stash) wakeTakers() {
	for _, t := range s.takers {
		close(t)
	}
	s.takers = s.takers[:0]
}

func (s *stash) makeRoom() {
	if s.waiting == 0 {
		return
	}
	close(s.room)
	s.room = make(chan struct{})
}

// insert puts a span back into its place.
func (s *stash) insert(one span) {
	at, _ := slices.BinarySearchFunc(s.queue, one.order+uint64(one.from), func(x span, order uint64) int {
		return cmp.Compare(x.order+uint64(x.from), order)
	})
	s.queue = slices.Insert(s.queue, at, one)
	s.ready = s.ready.Add(one.size())
}

// take is core.Channel's Take.
func (s *stash) take(ctx context.Context, want core.Take, most int) (core.Lease, error) {
	if want.Events <= 0 {
		want.Events = most
	}
	var linger <-chan time.Time
	over := want.Linger <= 0
	for {
		s.mu.Lock()
		if s.resting = want.NoWait; !s.resting {
			s.makeRoom()
		}
		some := !s.paused && s.ready.Events > 0
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, core.ErrClosed
		case s.err != nil:
			err := s.err
			s.err = nil
			s.mu.Unlock()
			return nil, err
		case some && (over || want.NoWait || s.ready.Events >= want.Events || want.Bytes > 0 && s.ready.Bytes >= want.Bytes || s.waiting > 0):
			l := s.lease(want)
			s.mu.Unlock()
			return l, nil
		case want.NoWait && !some:
			s.mu.Unlock()
			return nil, core.ErrEmpty
		case want.Stall && !some && s.stalled():
			s.mu.Unlock()
			return nil, core.ErrStalled
		}
		wake := make(chan struct{})
		s.takers = append(s.takers, wake)
		s.mu.Unlock()
		if some && linger == nil {
			timer := time.NewTimer(want.Linger)
			defer timer.Stop()
			linger = timer.C
		}
		var err error
		select {
		case <-wake:
			continue
		case <-linger:
			over = true
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
		s.takers = slices.DeleteFunc(s.takers, func(t chan struct{}) bool { return t == wake })
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// stalled tells whether a sink should deliver what it holds: there is no room
// to read on, or the group comes together and may give the partitions to others.
func (s *stash) stalled() bool {
	if s.waiting > 0 && !s.resting {
		return true
	}
	told := s.flushed
	s.flushed = true
	return s.paused && !told && len(s.leases) > 0
}

// fail makes the next take fail.
func (s *stash) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.wakeTakers()
}

// size is what is not delivered.
func (s *stash) size() core.Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// close gives everything up.
func (s *stash) close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.leases {
		l.dead = true
	}
	clear(s.leases)
	s.wakeTakers()
	s.makeRoom()
	s.mu.Unlock()
	s.keep(nil)
}
