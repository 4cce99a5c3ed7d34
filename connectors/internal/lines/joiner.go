package lines

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// Positions says for each stream up to where its lines have become events:
// lines that end there or before need not be read again. Unit: bytes of the file.
type Positions [Streams]int64

// Safe returns where reading must begin so that nothing is missed.
func (p *Positions) Safe() int64 { return slices.Min(p[:]) }

// At returns the positions of a file of which all before pos is done.
func At(pos int64) (p Positions) {
	for s := range p {
		p[s] = pos
	}
	return p
}

// Longest returns the longest physical line that the source has to give to a
// joiner whole, where limit is that for a line of text: a container's line is
// longer than its text.
func (o *Options) Longest(limit int64) int64 {
	if o.container == none {
		return limit
	}
	return max(limit, envelopeBytes)
}

// envelopeBytes is more than a runtime's longest line: 16 KiB of text, of which
// JSON makes six times as much.
const envelopeBytes = 256 << 10

// Line is a physical line, or a piece of one that is too long.
type Line struct {
	Text       []byte // without its newline; a carriage return before that is left out here; not kept
	Begin, End int64  // in the file, the newline included
	More       bool   // the rest of it is the next piece
}

// line is the text where it is a line of its own, not of a container.
func (l *Line) line() []byte {
	if l.More {
		return l.Text
	}
	return bytes.TrimSuffix(l.Text, []byte{'\r'})
}

// Event is what became of lines.
type Event struct {
	Body       []byte // valid until the next call of any joiner of the same Options: copy it
	Stream     Stream // whose position End is; see Stream.Of
	Begin, End int64  // where its lines lie; lines of other streams may be between them
	Time       int64  // of its first line, ms since 1970; 0: not known
}

// Counters counts what is out of the ordinary.
type Counters struct{ malformed, splits, long *metric.Extra }

// NewCounters makes the counters of a source that may have joiners.
func NewCounters(m *metric.Group) *Counters {
	return &Counters{
		malformed: m.Counter("container_lines_malformed_total", "Lines that are not of the container format; they are passed on as they are."),
		splits:    m.Counter("multiline_splits_total", "Events of several lines that were ended by multiline.maxLines or maxBytes."),
		long:      m.Counter("container_lines_long_total", "Lines of a container that were longer than maxEventBytes, when their parts were joined."),
	}
}

// Joiner makes events of the lines of one file. It takes every line in order;
// what it returns is to be put in order.
type Joiner struct {
	o     *Options
	n     *Counters
	limit int  // of a logical line
	drop  bool // longer ones are left out instead of split
	done  Positions
	state [Streams]joining

	base   core.Headers // of the last Headers
	stream Stream
	time   int64
	last   core.Headers
}

// joining is what is unfinished in a stream: whole lines of an event, and
// behind them a line of which only parts have come.
type joining struct {
	buf   []byte
	whole int   // bytes of whole lines
	lines int   // how many
	begin int64 // where the first of them begins
	end   int64 // where the last of them ends
	time  int64 // of the first
	glue  bool  // what comes next goes on in the last of them, which was split
	grown time.Time

	partial   bool  // there is a line without its end
	dropping  bool  // it is too long, and left out
	partAt    int   // where it begins in buf
	partBegin int64 // where it begins in the file
	partEnd   int64 // what there is of it ends here
	partTime  int64
}

func (s *joining) pending() bool { return s.lines > 0 || s.partial }

// Joiner returns the joiner of a file of which done are events already. Lines
// that a container runtime cut are joined up to limit bytes; longer ones become
// several events, cut where the runtime did, or, if drop, none.
func (o *Options) Joiner(n *Counters, limit int64, drop bool, done Positions) *Joiner {
	return &Joiner{o: o, n: n, limit: int(min(limit, math.MaxInt32)), drop: drop, done: done}
}

// Add takes a line and returns the events that are finished. They are valid
// until the next call of any joiner of the same Options.
func (j *Joiner) Add(l Line, now time.Time) []Event {
	j.o.scratch.begin()
	t := text{body: l.Text}
	if j.o.container == none {
		t.body = l.line()
	} else {
		var err error
		if t, err = j.o.parse(l.Text); err != nil || l.More {
			return j.raw(l)
		}
		if j.o.only != all && j.o.only != t.stream.String() {
			return nil
		}
	}
	if l.End <= j.done[t.stream] {
		return nil
	}
	s := &j.state[t.stream]
	if !j.o.multi() && !s.partial && !t.partial && (len(t.body) <= j.limit || !j.drop) {
		// Most lines of containers are whole.
		j.event(t.stream, t.body, l.Begin, l.End, t.time)
		return j.o.scratch.events
	}
	s.grown = now
	j.part(s, &t, l)
	if !t.partial {
		j.line(s, t.stream, l.More)
	}
	s.rest(&j.o.scratch)
	return j.o.scratch.events
}

// raw passes a line on that is not of a container.
func (j *Joiner) raw(l Line) []Event {
	if l.End <= j.done[Raw] {
		return nil
	}
	if !l.More {
		j.n.malformed.Add(1)
	}
	j.event(Raw, l.line(), l.Begin, l.End, 0)
	return j.o.scratch.events
}

// event adds an event whose body stays as it is until the next call.
func (j *Joiner) event(s Stream, body []byte, begin, end, at int64) {
	j.o.scratch.events = append(j.o.scratch.events, Event{body, s, begin, end, at})
}

// part adds a line, or a part of one, to what is unfinished.
func (j *Joiner) part(s *joining, t *text, l Line) {
	n := len(t.body)
	if s.partial {
		n += len(s.buf) - s.partAt
	}
	long := n > j.limit && !(s.partial && s.dropping)
	if long && s.partial && !j.drop {
		j.n.long.Add(1)
		j.line(s, t.stream, true)
	}
	if !s.partial {
		if s.buf == nil {
			s.buf = j.o.scratch.take()
		}
		s.partial, s.dropping, s.partBegin, s.partTime = true, false, l.Begin, t.time
		if s.lines > 0 && !s.glue {
			s.buf = append(s.buf, '\n')
		}
		s.partAt = len(s.buf)
	}
	if long && j.drop {
		j.n.long.Add(1)
		s.buf, s.dropping = s.buf[:s.whole], true
	}
	if !s.dropping {
		s.buf = append(s.buf, t.body...)
	}
	s.partEnd = l.End
}

// line ends the unfinished line, of which there is more if it was split.
func (j *Joiner) line(s *joining, stream Stream, more bool) {
	s.partial = false
	if s.dropping {
		s.dropping = false
		return
	}
	text := s.buf[s.partAt:]
	if s.lines > 0 {
		begins := !s.glue && j.o.begins(text)
		full := s.lines >= j.o.maxLines || int64(len(s.buf)) > j.o.maxBytes
		if begins || full {
			if !begins {
				j.n.splits.Add(1)
			}
			j.emit(s, stream)
			s.buf = append(s.buf, text...) // moves it to the front
			text = s.buf
		}
	}
	if s.lines == 0 {
		s.begin, s.time = s.partBegin, s.partTime
	}
	s.whole, s.end, s.glue = len(s.buf), s.partEnd, more
	s.lines++
	if !j.o.multi() || !more && j.o.ends(text) {
		j.emit(s, stream)
	}
}

// emit makes an event of the whole lines.
func (j *Joiner) emit(s *joining, stream Stream) {
	arena := j.o.scratch.arena
	at := len(arena)
	arena = append(arena, s.buf[:s.whole]...)
	j.o.scratch.arena = arena
	j.event(stream, arena[at:len(arena):len(arena)], s.begin, s.end, s.time)
	s.buf, s.whole, s.lines = s.buf[:0], 0, 0
}

// rest gives memory back where nothing is unfinished.
func (s *joining) rest(c *scratch) {
	if s.pending() || s.buf == nil {
		return
	}
	c.give(s.buf)
	s.buf = nil
}

// Expired returns what has waited longer than multiline.timeout for its next
// line, as events. They are valid as those of Add.
func (j *Joiner) Expired(now time.Time) []Event {
	return j.flush(func(s *joining) bool { return now.Sub(s.grown) >= j.o.timeout })
}

// Flush returns all that is unfinished, as events: at the end of a file that
// does not grow any more. They are valid as those of Add.
func (j *Joiner) Flush() []Event { return j.flush(func(*joining) bool { return true }) }

func (j *Joiner) flush(due func(*joining) bool) []Event {
	j.o.scratch.begin()
	for i := range j.state {
		s := &j.state[i]
		if !s.pending() || !due(s) {
			continue
		}
		if s.partial {
			j.line(s, Stream(i), false)
		}
		if s.lines > 0 {
			j.emit(s, Stream(i))
		}
		s.glue = false
		s.rest(&j.o.scratch)
	}
	return j.o.scratch.events
}

// Due returns when Expired may next have something; ok is false where nothing is unfinished.
func (j *Joiner) Due() (at time.Time, ok bool) {
	for i := range j.state {
		s := &j.state[i]
		if !s.pending() {
			continue
		}
		if t := s.grown.Add(j.o.timeout); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// Positions returns what is done when all before read has been added, and all
// events that came of it are put.
func (j *Joiner) Positions(read int64) (p Positions) {
	for i := range p {
		s := &j.state[i]
		switch {
		case s.lines > 0:
			p[i] = s.begin
		case s.partial:
			p[i] = s.partBegin
		default:
			p[i] = read
		}
		p[i] = max(p[i], j.done[i])
	}
	return p
}

// Headers returns base with the headers of e: stream and timestamp, of a
// container's line. Events in a row with the same ones share them.
func (j *Joiner) Headers(base core.Headers, e *Event) core.Headers {
	if e.Stream == Raw {
		return base
	}
	if j.last.Len() == 0 || base != j.base || e.Stream != j.stream || e.Time != j.time {
		j.base, j.stream, j.time = base, e.Stream, e.Time
		j.last = base.With("stream", e.Stream.String()).With("timestamp", strconv.FormatInt(e.Time, 10))
	}
	return j.last
}
