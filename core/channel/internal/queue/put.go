package queue

import (
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

// putTx is room that was granted; nowhere: Commit settles what is dropped.
type putTx struct {
	c    *Channel
	room core.Size
	at   place
}

// arrival is a put that is not in the queue yet.
type arrival struct {
	span  span
	at    place
	ready bool
}

// Rollback implements core.PutTx.
func (t *putTx) Rollback() {
	if t.at == nowhere {
		return
	}
	t.c.mu.Lock()
	t.c.freed(t.at, t.room, t.waiting())
	t.c.mu.Unlock()
}

func (t *putTx) waiting() int64 {
	if t.at == onDisk {
		return t.room.Bytes
	}
	return 0
}

// Commit implements core.PutTx.
func (t *putTx) Commit(b *core.Batch, pick []int32, stored func(error)) {
	c := t.c
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		stored(core.ErrClosed)
		return
	}
	at, room := t.at, t.room
	var done []*content
	if at == nowhere {
		if at, done = c.makeRoom(room); at == nowhere { // the newest are dropped: only the mark is left
			c.drop(room.Events)
			at, room, pick = c.home(), core.Size{}, []int32{}
		}
	}
	answered := false
	if at == onDisk {
		c.toDisk(b, pick, room, stored)
	} else {
		answered = c.toMemory(b, pick, room, stored)
	}
	c.mu.Unlock()
	finish(done)
	if answered {
		stored(nil)
	}
}

// toMemory puts into memory. It reports whether that is the answer: for a marked
// batch it comes with the delivery.
func (c *Channel) toMemory(b *core.Batch, pick []int32, room core.Size, stored func(error)) bool {
	if room.Events == 0 {
		return true
	}
	_, _, marked := b.Marked()
	m := &content{c: c, batch: b.Hold(), events: picked(b, pick), refs: 1, left: room.Events}
	if marked {
		m.stored = stored
	}
	s := span{order: c.order, size: room, mem: m}
	c.order += uint64(room.Events)
	c.held[inMemory] = c.held[inMemory].Add(room)
	if len(c.arriving) > 0 {
		c.arriving = append(c.arriving, &arrival{s, inMemory, true})
	} else {
		c.insert(s)
		c.wakeTakers()
	}
	return !marked
}

func picked(b *core.Batch, pick []int32) []core.Event {
	if pick == nil {
		return b.Events
	}
	events := make([]core.Event, len(pick))
	for i, at := range pick {
		events[i] = b.Events[at]
	}
	return events
}

// toDisk lets the put join the next group; its events can be taken once they
// are stored.
func (c *Channel) toDisk(b *core.Batch, pick []int32, room core.Size, stored func(error)) {
	born := b.Born
	if born.IsZero() {
		born = c.o.Now()
	}
	p := &wal.Put{Batch: b.Hold(), Pick: slices.Clone(pick), Time: born.UnixNano()}
	claimed := room
	if stream, pos, ok := b.Marked(); ok && c.durable {
		if held, known := c.accepted[stream]; known {
			room = c.withoutRepeats(p, held, room)
			ok = pos > held // a position never goes back
		}
		if ok {
			p.Marked, p.Stream, p.Pos = true, stream, pos
		}
	}
	a := &arrival{span: span{order: c.order, size: room}, at: onDisk}
	cost := cost(room)
	p.Done = func(p *wal.Put, err error) {
		c.logged(a, p, cost, err)
		stored(err)
	}
	c.log.Put(p) // which it takes: it closes after the channel
	if p.Marked {
		c.accepted[p.Stream] = p.Pos
	}
	c.order += uint64(room.Events)
	c.held[onDisk] = c.held[onDisk].Add(room)
	c.cached += cost
	c.storing++
	c.arriving = append(c.arriving, a)
	c.freed(onDisk, claimed.Sub(room), claimed.Bytes-room.Bytes)
}

// withoutRepeats takes the events out of p that the channel holds already.
func (c *Channel) withoutRepeats(p *wal.Put, held int64, room core.Size) core.Size {
	repeated := func(e *core.Event) bool { return e.Pos > 0 && e.Pos <= held }
	if p.Pick == nil {
		if !slices.ContainsFunc(p.Batch.Events, func(e core.Event) bool { return repeated(&e) }) {
			return room
		}
		p.Pick = make([]int32, len(p.Batch.Events))
		for i := range p.Pick {
			p.Pick[i] = int32(i)
		}
	}
	n := len(p.Pick)
	p.Pick = slices.DeleteFunc(p.Pick, func(i int32) bool { return repeated(&p.Batch.Events[i]) })
	c.repeated.Add(int64(n - len(p.Pick)))
	return p.Batch.SizeOf(p.Pick)
}

// logged is the log's answer to one put, in order.
func (c *Channel) logged(a *arrival, p *wal.Put, cost int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := a.span.size
	c.storing--
	a.ready = true
	switch {
	case err != nil || room.Events == 0 || c.closed:
		a.span.size = core.Size{}
		c.cached -= cost
		p.Batch.Release()
		if err != nil {
			c.held[onDisk] = c.held[onDisk].Sub(room)
			c.freed(onDisk, room, room.Bytes)
		}
	default:
		a.span.seqs = p.At.Seqs
		if c.cached <= c.o.Disk.MemoryBytes {
			both := &struct { // one piece of memory
				content
				stretch
			}{content{c: c, batch: p.Batch, events: picked(p.Batch, p.Pick), cost: cost, refs: 1}, *placed(&p.At, nil)}
			a.span.mem, a.span.at = &both.content, &both.stretch
		} else {
			a.span.at = placed(&p.At, nil)
			c.cached -= cost
			p.Batch.Release()
		}
		c.freed(onDisk, core.Size{}, room.Bytes)
	}
	c.arrive()
}

// arrive moves to the queue what no longer waits for a put before it.
func (c *Channel) arrive() {
	if c.closed {
		return
	}
	n := 0
	for ; n < len(c.arriving) && c.arriving[n].ready; n++ {
		if s := c.arriving[n].span; s.size.Events > 0 {
			c.insert(s)
		}
	}
	c.arriving = slices.Delete(c.arriving, 0, n)
	c.wakeTakers()
	if c.o.WhenFull == DropOldest {
		c.wakePutters() // what is in the queue can give way
	}
}
