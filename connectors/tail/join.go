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

// joined adds the events that came of lines to the batch. All are taken, also
// when full says that the turn's batches are used up.
func (c *cutter) joined(events []lines.Event) (full bool, err error) {
	for i := range events {
		e := &events[i]
		if c.b != nil && (c.text != e.Stream || c.bytes+len(e.Body) > batchBytes) {
			if full, err = c.flushJoined(full); err != nil {
				c.unsent(events[i:])
				return full, err
			}
		}
		if c.b == nil {
			c.b, c.bytes, c.text, c.first = core.NewBatch(), 0, e.Stream, e.Begin
		}
		h := c.st.join.Headers(c.st.headers, e)
		if c.t.c.byteOffset {
			h = h.With("byteoffset", strconv.FormatInt(e.Begin, 10))
		}
		c.b.Copy(h, e.Body)
		c.b.Events[len(c.b.Events)-1].Pos = e.End
		c.bytes += len(e.Body)
		if len(c.b.Events) >= c.t.limit() {
			if full, err = c.flushJoined(full); err != nil {
				c.unsent(events[i+1:])
				return full, err
			}
		}
	}
	return full, nil
}

// flushJoined is flush for a batch of one text.
func (c *cutter) flushJoined(full bool) (bool, error) {
	first, text := c.first, c.text
	again, err := c.flush(c.b.Events[len(c.b.Events)-1].Pos)
	if err != nil {
		c.st.part[text].lose(first)
	}
	return full || again, err
}

// unsent takes note of events that are not put into a batch any more.
func (c *cutter) unsent(events []lines.Event) {
	for i := range events {
		c.st.part[events[i].Stream].lose(events[i].Begin)
	}
}

// lose says that what begins at pos was not sent and must be read again.
func (p *part) lose(pos int64) {
	if p.unsent == 0 {
		p.unsent = pos + 1
	}
}

// settle flushes what is unfinished in st, or only what has waited long enough.
func (t *tailer) settle(st *stream, all bool) error {
	if st.join == nil {
		return nil
	}
	c := cutter{t: t, st: st, left: math.MaxInt64}
	return c.settle(all)
}

func (c *cutter) settle(all bool) error {
	if c.st.join == nil {
		return nil
	}
	var events []lines.Event
	if all {
		events = c.st.join.Flush()
	} else {
		events = c.st.join.Expired(c.t.env.Now())
	}
	if _, err := c.joined(events); err != nil || c.b == nil {
		return err
	}
	_, err := c.flushJoined(false)
	return err
}

// settleLeft flushes the streams whose files are gone.
func (t *tailer) settleLeft() error {
	for len(t.left) > 0 {
		st := t.left[0]
		t.left = t.left[1:]
		if err := t.settle(st, true); err != nil {
			return err
		}
		t.retired = append(t.retired, st)
	}
	return nil
}

// due has the files read that have something unfinished for too long.
func (t *tailer) due(now time.Time) {
	for _, f := range t.files {
		if f.st.join == nil || f.dirty {
			continue
		}
		if at, ok := f.st.join.Due(); ok && !now.Before(at) {
			f.dirty = true
		}
	}
	for _, d := range t.dirs {
		for name, f := range d.before {
			if f.released {
				delete(d.before, name)
			}
		}
	}
}

// precede takes note that f had its name before another file has it. What is
// unfinished in f then comes first.
func (t *tailer) precede(d *dir, name string, f *file) {
	if f.st.joined {
		d.before[name] = f
	}
}

// waits reports whether nothing is read of f yet, because an event is unfinished
// in the file that had its name before. It waits no longer than the event may.
func (t *tailer) waits(f *file) (bool, error) {
	old := f.dir.before[f.name]
	if old == nil || old == f {
		return false, nil
	}
	now := t.env.Now()
	if f.waiting.IsZero() {
		f.waiting = now
	}
	pending := false
	if old.st.join != nil {
		_, pending = old.st.join.Due()
	}
	switch {
	case old.released, !pending && !old.dirty:
	case now.Sub(f.waiting) >= t.c.lines.Timeout():
		// Its writer still has it, or it can not be read.
		if err := t.settle(old.st, true); err != nil {
			return false, err
		}
	default:
		f.retry = now.Add(min(t.c.poll, retryTime))
		return true, nil
	}
	delete(f.dir.before, f.name)
	f.waiting = time.Time{}
	return false, nil
}
