package tail

import (
	"math"
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
)

// joiner gives f's stream its joiner, if lines are joined.
func (t *tailer) joiner(f *file) {
	st := f.st
	if !st.joined {
		return
	}
	st.headers = f.headers
	if st.join == nil {
		st.join = t.c.lines.Joiner(t.counters, t.c.maxEvent, t.c.longLines == drop, st.positions())
	}
}

// joined adds the events that came of lines to the batch, which has events of
// one text only. All are taken, also when full says that the turn's batches are
// used up.
func (c *cutter) joined(events []lines.Event) (full bool, err error) {
	for i := range events {
		e := &events[i]
		if c.b != nil && (c.text != e.Stream || c.bytes+len(e.Body) > batchBytes) {
			if full, err = c.flushJoined(full, events[i:]); err != nil {
				return full, err
			}
		}
		if c.b == nil {
			c.b, c.bytes, c.text = core.NewBatch(), 0, e.Stream
		}
		c.st.part[e.Stream].hold(e.Begin)
		h := c.st.join.Headers(c.st.headers, e)
		if c.t.c.byteOffset {
			h = h.With("byteoffset", strconv.FormatInt(e.Begin, 10))
		}
		c.b.Copy(h, e.Body)
		c.b.Events[len(c.b.Events)-1].Pos = e.End
		c.bytes += len(e.Body)
		if len(c.b.Events) >= c.t.limit() {
			if full, err = c.flushJoined(full, events[i+1:]); err != nil {
				return full, err
			}
		}
	}
	return full, nil
}

// flushJoined is flush for a batch of one text, while rest is not in a batch:
// positions may be written meanwhile.
func (c *cutter) flushJoined(full bool, rest []lines.Event) (bool, error) {
	for i := range rest {
		c.st.part[rest[i].Stream].hold(rest[i].Begin)
	}
	again, err := c.flush(c.b.Events[len(c.b.Events)-1].Pos)
	if err == nil {
		for i := range rest {
			c.st.part[rest[i].Stream].hold(rest[i].Begin)
		}
	}
	return full || again, err
}

// hold says that what begins at pos is an event that has not been sent: until
// it is, the position stays before it. Events are held in order.
func (p *part) hold(pos int64) {
	if p.held == 0 {
		p.held = pos + 1
	}
}

// settle sends what is unfinished in a stream that nobody reads just now.
func (t *tailer) settle(st *stream) error {
	if st.join == nil {
		return nil
	}
	c := cutter{t: t, st: st, left: math.MaxInt64}
	return c.settle(st.join.Flush())
}

// settle sends events that no line has ended.
func (c *cutter) settle(events []lines.Event) error {
	if _, err := c.joined(events); err != nil || c.b == nil {
		return err
	}
	_, err := c.flushJoined(false, nil)
	return err
}

// settleLeft sends what is unfinished in streams that nothing comes to any more.
func (t *tailer) settleLeft() error {
	for len(t.left) > 0 {
		st := t.left[0]
		t.left = t.left[1:]
		if err := t.settle(st); err != nil {
			return err
		}
		t.retired = append(t.retired, st)
	}
	return nil
}

// settleDue sends what has waited long enough, of files that are read to their
// ends; of others that comes with the end.
func (t *tailer) settleDue() error {
	t.due = false
	now := t.env.Now()
	for _, f := range t.files {
		if !f.overdue(now) {
			continue
		}
		c := cutter{t: t, st: f.st, left: math.MaxInt64}
		if err := c.settle(f.st.join.Expired(now)); err != nil {
			return err
		}
	}
	return nil
}

// overdue reports whether an event of f has waited long enough for its next line.
func (f *file) overdue(now time.Time) bool {
	if f.st.join == nil || f.dirty {
		return false
	}
	at, ok := f.st.join.Due()
	return ok && !now.Before(at)
}

// precede takes note that f had its name before another file has it. What is
// unfinished in f then comes first.
func (t *tailer) precede(d *dir, name string, f *file) {
	if !f.st.joined {
		return
	}
	if next := d.files[name]; next == nil {
		d.before[name] = f
	} else if next != f && next.after == nil {
		next.after = f
	}
}

// succeed is the other half: f has the name now.
func (d *dir) succeed(name string, f *file) {
	if old := d.before[name]; old != nil {
		delete(d.before, name)
		if old != f {
			f.after = old
		}
	}
}

// waits reports whether nothing is read of f yet, because an event is unfinished
// in the file that had its name before. It waits no longer than the event may.
func (t *tailer) waits(f *file) (bool, error) {
	old := f.after
	if old == nil {
		return false, nil
	}
	now := t.env.Now()
	if f.waiting.IsZero() {
		f.waiting = now
	}
	if !old.released {
		t.stat(old, now)
	}
	pending := false
	if old.st.join != nil {
		_, pending = old.st.join.Due()
	}
	switch {
	case old.released, !pending && !old.dirty:
	case now.Sub(f.waiting) >= t.c.lines.Timeout():
		// Its writer still has it, or it can not be read.
		if err := t.settle(old.st); err != nil {
			return false, err
		}
	default:
		f.retry = now.Add(min(t.c.poll, retryTime))
		return true, nil
	}
	f.after, f.waiting = nil, time.Time{}
	return false, t.settleLeft()
}
