package queue

import (
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Policy is what a put does that finds no room.
type Policy uint8

// The policies. With the two that drop, a put never waits for a sink; it waits
// for the disk only while more is on its way there than memory allows. What is
// dropped counts as stored: its source goes on.
const (
	Block      Policy = iota // it waits for KeepAlive
	DropNewest               // it is dropped, whole
	DropOldest               // the oldest events that no sink holds give way; if they are too few it is dropped itself
)

var policies = [...]string{Block: "block", DropNewest: "drop_newest", DropOldest: "drop_oldest"}

// Keys binds the policy to its key.
func (p *Policy) Keys(k *conf.Keys) {
	*p = Block
	k.Func("whenFull", "string", policies[Block],
		"What a put does that finds no room: block waits, as in Flume; drop_newest drops it; drop_oldest drops the oldest events that no sink holds. What is dropped is counted, and its source goes on.",
		func(text string) error {
			for i, name := range policies {
				if strings.EqualFold(text, name) {
					*p = Policy(i)
				}
			}
			return nil // the rule says what is wrong with another
		}).Must(conf.OneOf(policies[:]...))
}

// sayEvery is how often drops are logged.
const sayEvery = 10 * time.Second

// drops counts what was dropped and says so now and then.
type drops struct {
	count *metric.Extra
	said  time.Time
	since int64 // the last word
}

// drop notes that n events were dropped because the channel is full.
func (c *Channel) drop(n int) {
	c.starved = true
	if c.ready().Events == 0 {
		c.wakeTakers() // all is leased: they may want to flush
	}
	if n == 0 {
		return
	}
	d := &c.drops
	d.count.Add(int64(n))
	d.since += int64(n)
	if now := c.o.Now(); d.said.IsZero() || now.Sub(d.said) >= sayEvery {
		c.o.Log.Warn("the channel is full and drops events", "dropped", d.since, "in_all", d.count.Load())
		d.said, d.since = now, 0
	}
}

// makeRoom is for a put that claimed nothing: there may be room by now, or, with
// DropOldest, it is made. The contents returned are to be told that they are
// done, without the lock.
func (c *Channel) makeRoom(room core.Size) (place, []*content) {
	at := c.admitLate(room)
	if at == nowhere && c.mayOverflow() {
		c.overflow()
		at = c.admitLate(room)
	}
	if at != nowhere || c.o.WhenFull != DropOldest || !c.couldFit(&c.rooms, room) {
		return at, nil
	}
	var x settled
	n := 0
	for ; at == nowhere && c.head < len(c.queue); at = c.admitLate(room) {
		n += c.dropFirst(c.excess(room), &x)
	}
	c.drop(n)
	if len(x.seqs) > 0 {
		c.log.Ack(x.seqs, nil)
	}
	return at, x.done
}

// admitLate admits a put that is here already: what waits to be written does not matter.
func (c *Channel) admitLate(room core.Size) place {
	r := c.rooms
	r.waiting = 0
	at := c.admit(&r, room)
	r.waiting += c.rooms.waiting
	c.rooms = r
	return at
}

// couldFit says whether there would be room if all that can be dropped were gone.
func (c *Channel) couldFit(from *rooms, room core.Size) bool {
	r := *from
	r.waiting = 0
	for p := range r.used {
		r.used[p] = r.used[p].Sub(c.free[p])
	}
	r.used[onDisk] = r.used[onDisk].Add(c.reading) // out of reach
	r.overflows = r.overflows && !c.isRoomy(&r)
	return c.admit(&r, room) != nowhere
}

// soon says whether a put that finds no room should wait nevertheless, for the
// disk alone: too much is to be written, or what would give way is not in the
// queue yet.
func (c *Channel) soon(from *rooms, room core.Size) bool {
	if c.storing == 0 && !c.loading && from.waiting == 0 {
		return false
	}
	r := *from
	r.waiting = 0
	switch {
	case c.admit(&r, room) != nowhere:
		return true
	case c.o.WhenFull != DropOldest:
		return false
	case c.couldFit(&r, room):
		return from.waiting > 0 && from.waiting+room.Bytes > c.o.Disk.MemoryBytes
	}
	for _, a := range c.arriving {
		r.used[a.at] = r.used[a.at].Sub(a.span.size)
	}
	r.used[onDisk] = r.used[onDisk].Sub(c.reading)
	return c.couldFit(&r, room)
}

// excess is how many of the first span's events must go for room, as far as
// their number is what matters; at least one.
func (c *Channel) excess(room core.Size) int {
	p := c.queue[c.head].place()
	most := c.o.Memory.Events
	switch {
	case p == onDisk:
		most = c.o.Disk.Events
	case c.rooms.overflows: // room in memory counts when it is used again
		most = most * (100 - c.o.Resume) / 100
	}
	return max(1, c.rooms.used[p].Events+room.Events-most)
}

// dropFirst drops up to n events from the front of the queue, which is not
// empty, all of one span. It returns how many.
func (c *Channel) dropFirst(n int, x *settled) int {
	s := &c.queue[c.head]
	p := s.place()
	n = min(n, s.size.Events)
	var gone core.Size
	if s.mem != nil {
		var part span
		s.cut(n, &part)
		gone = part.size
		x.add(&part, 0, n, gone.Bytes)
		part.drop()
		if s.mem == nil {
			c.pop()
		}
	} else {
		gone = s.dropUnread(n, x)
		if s.size.Events == 0 {
			c.pop()
		}
	}
	c.free[p] = c.free[p].Sub(gone)
	c.held[p] = c.held[p].Sub(gone)
	c.rooms.used[p] = c.rooms.used[p].Sub(gone)
	if p == inMemory {
		c.relax()
	}
	return n
}

// dropUnread takes the first n events off a span that is only on disk. What
// they weigh is not known; they get their share.
func (s *span) dropUnread(n int, x *settled) core.Size {
	gone := core.Size{Events: n, Bytes: s.size.Bytes}
	if n < s.size.Events {
		gone.Bytes = int64(float64(s.size.Bytes) * float64(n) / float64(s.size.Events))
	}
	left := uint64(n)
	for _, r := range s.at.skip.Without(s.seqs) {
		r.To = min(r.To, r.From+left)
		left -= r.Len()
		x.seqs = append(x.seqs, r)
		s.order += r.To - s.seqs.From
		s.seqs.From = r.To
		if left == 0 {
			break
		}
	}
	s.size = s.size.Sub(gone)
	return gone
}
