package queue

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/wal"
)

// Close implements core.Channel. What is in memory alone is written to the log,
// where there is one, behind what is there already.
func (c *Channel) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	rest := c.unlogged()
	for l := range c.leases {
		l.dead = true
	}
	for _, w := range c.putters {
		close(w.wake)
	}
	c.leases, c.putters = nil, nil
	c.wakeTakers()
	if c.log != nil {
		c.save(rest)
	}
	c.mu.Unlock()
	var err error
	if c.log != nil {
		err = c.log.Close() // answers whatever was put
	}
	c.mu.Lock()
	for i := range c.queue[c.head:] {
		c.queue[c.head+i].drop()
	}
	c.queue, c.head, c.arriving = nil, 0, nil
	c.mu.Unlock()
	tell(rest)
	if c.o.Disk.Release != nil {
		c.o.Disk.Release()
	}
	return err
}

// unlogged collects the events that are in memory alone and neither delivered
// nor dropped, in order, those of leases as well.
func (c *Channel) unlogged() (list []span) {
	for _, s := range c.queue[c.head:] {
		if !s.logged() {
			list = append(list, s)
		}
	}
	for _, a := range c.arriving {
		if a.ready && a.span.size.Events > 0 && !a.span.logged() {
			list = append(list, a.span)
		}
	}
	for l := range c.leases {
		l.runs(func(n, from, to int) {
			if s := &l.spans[n]; !s.logged() {
				list = append(list, s.part(from, to, l.bytes(n, from, to)))
			}
		})
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.order, b.order) })
	return list
}

// save writes what would be gone with the process.
func (c *Channel) save(list []span) {
	for i := range list {
		m := list[i].mem
		b := core.NewBatch()
		b.Born = m.batch.Born
		if b.Born.IsZero() {
			b.Born = c.o.Now()
		}
		b.Events = append(b.Events, list[i].events()...)
		b.Share(m.batch)
		c.log.Put(&wal.Put{Batch: b, Time: b.Born.UnixNano(), Done: func(p *wal.Put, err error) {
			if err == nil {
				c.mu.Lock()
				m.left -= p.Len()
				c.mu.Unlock()
			}
			b.Release()
		}})
	}
}

// tell answers the marked batches that were waiting for their delivery: those
// that were saved as a whole are stored.
func tell(list []span) {
	told := make(map[*content]bool)
	for i := range list {
		m := list[i].mem
		if m.stored == nil || told[m] {
			continue
		}
		told[m] = true
		if m.left == 0 {
			m.stored(nil)
		} else {
			m.stored(core.ErrClosed)
		}
	}
}
