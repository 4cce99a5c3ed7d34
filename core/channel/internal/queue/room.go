package queue

import (
	"slices"
	"time"

	"github.com/millrace/millrace/core"
)

// place is where an event is kept.
type place uint8

const (
	nowhere  place = iota // there is no room
	inMemory              // and nowhere else
	onDisk                // perhaps in memory as well
	places
)

// rooms is what the answer to a claim depends on.
type rooms struct {
	used      [places]core.Size // held and claimed
	waiting   int64             // bytes claimed for the disk, or under way to it
	overflows bool              // memory was full: puts go to disk until part of it is free
}

// admit reserves room in r, or finds none.
func (c *Channel) admit(r *rooms, room core.Size) place {
	var at place
	switch {
	case room.Events == 0:
		at = c.home()
	case !r.overflows && c.memoryHas(r.used[inMemory], room):
		at = inMemory
	case c.log == nil, c.o.Memory.Events > 0 && !r.overflows && c.memoryHas(core.Size{}, room):
		return nowhere // memory is worth waiting for
	case c.low != nil, r.used[onDisk].Events+room.Events > c.o.Disk.Events,
		r.waiting > 0 && r.waiting+room.Bytes > c.o.Disk.MemoryBytes:
		return nowhere
	default:
		at = onDisk
	}
	r.used[at] = r.used[at].Add(room)
	if at == onDisk {
		r.waiting += room.Bytes
	}
	return at
}

// home is where a put without events goes: its mark is all there is to store.
func (c *Channel) home() place {
	if c.durable {
		return onDisk
	}
	return inMemory
}

func (c *Channel) memoryHas(used, room core.Size) bool {
	most := c.o.Memory
	return used.Events+room.Events <= most.Events && (most.Bytes <= 0 || used.Bytes+room.Bytes <= most.Bytes)
}

// grant is admit for a claim: with a policy that drops there need be no room.
func (c *Channel) grant(r *rooms, room core.Size) (at place, ok bool) {
	at = c.admit(r, room)
	return at, at != nowhere || c.o.WhenFull != Block && !c.soon(r, room)
}

// mayOverflow says whether a claim that finds memory full may go to disk now:
// it was full for KeepAlive already, or puts are not to wait.
func (c *Channel) mayOverflow() bool {
	if c.log == nil || c.o.Memory.Events == 0 || c.rooms.overflows {
		return false
	}
	now := c.o.Now()
	if c.fullSince.IsZero() {
		c.fullSince = now
	}
	return c.o.WhenFull != Block || now.Sub(c.fullSince) >= c.o.KeepAlive
}

// overflow makes puts go to disk. It reports whether that is a change.
func (c *Channel) overflow() bool {
	if c.log == nil || c.o.Memory.Events == 0 || c.rooms.overflows {
		return false
	}
	c.rooms.overflows = true
	c.fullSince = time.Time{}
	c.o.Log.Debug("memory is full: events go to disk", "events", c.rooms.used[inMemory].Events)
	c.wakePutters()
	return true
}

// relax makes puts go to memory again when enough of it is free.
func (c *Channel) relax() {
	if c.rooms.overflows && c.isRoomy(&c.rooms) {
		c.rooms.overflows = false
		c.o.Log.Debug("memory has room again", "events", c.rooms.used[inMemory].Events)
	}
}

// isRoomy says whether the part of memory is free that puts may go to again.
func (c *Channel) isRoomy(r *rooms) bool {
	used, most, part := r.used[inMemory], c.o.Memory, float64(100-c.o.Resume)
	return float64(used.Events)*100 <= float64(most.Events)*part &&
		(most.Bytes <= 0 || float64(used.Bytes)*100 <= float64(most.Bytes)*part)
}

// freed gives room back, and wakes those who now fit, in order.
func (c *Channel) freed(at place, room core.Size, waiting int64) {
	c.rooms.used[at] = c.rooms.used[at].Sub(room)
	c.rooms.waiting -= waiting
	if at == inMemory {
		c.relax()
	}
	if room.Events > 0 {
		c.starved = false
	}
	c.wakePutters()
}

func (c *Channel) wakePutters() {
	if len(c.putters) == 0 {
		return
	}
	would := c.rooms
	n := 0
	for ; n < len(c.putters); n++ {
		if _, ok := c.grant(&would, c.putters[n].room); !ok {
			break
		}
		close(c.putters[n].wake)
	}
	c.putters = slices.Delete(c.putters, 0, n)
}

// ready is what can be taken now.
func (c *Channel) ready() core.Size { return c.free[inMemory].Add(c.free[onDisk]) }

// ByteLimit is what Flume's byteCapacity leaves for bodies when percent of it is
// set aside for headers; 0 or less: no limit.
func ByteLimit(byteCapacity int64, percent int) int64 {
	return int64(float64(byteCapacity) * (1 - float64(percent)/100))
}
