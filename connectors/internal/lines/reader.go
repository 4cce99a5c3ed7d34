package lines

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/millrace/millrace/core"
)

// Input is what a Pipe reads from. Read returns os.ErrDeadlineExceeded when the
// deadline is over, also when there is something to read.
type Input interface {
	io.Reader
	SetReadDeadline(time.Time) error
	// Stopped reports that nothing is to be read any more: the reading ends as at
	// the end of the input. Who makes it so has Read return.
	Stopped() bool
}

const (
	pipeBytes  = 64 << 10 // what a pipe holds
	leastRoom  = 4 << 10  // below it a new block is begun
	batchBytes = 1 << 20  // of bodies in a batch at most
	// A line may be there although its event waits too long: nobody has read it,
	// because the channels had no room. So long it may take to come.
	lateGrace = 10 * time.Millisecond
)

// reader cuts an input into lines, in the memory of blocks that batches hold.
type reader struct {
	s   *Pipe
	in  Input
	out core.Outlet
	ctx context.Context

	block    *core.Block
	from     int  // in block.Buf: begin of the line that is not complete
	scanned  int  // up to where there is no newline in it
	to       int  // end of what was read
	longest  int  // line that is not split
	cut      bool // the line is too long; pieces of it are events
	dropping bool // the line is too long; its rest is skipped

	batch    *core.Batch // nil: empty
	using    *core.Block // the block that batch holds
	bytes    int         // of batch
	due      time.Time   // when it is to be sent
	deadline time.Time   // of the input

	join *Joiner // nil: a line is an event
	at   int64   // bytes of the lines that the joiner has
	late bool    // an event waits too long, what there is may end it
}

// Read reads in to its end and puts its lines into out, in ctx. An error is the
// outlet's; one of in is logged, and ends the reading.
func (p *Pipe) Read(ctx context.Context, in Input, out core.Outlet) error {
	r := p.reader(ctx, in, out)
	defer r.close()
	return r.run()
}

func (p *Pipe) reader(ctx context.Context, in Input, out core.Outlet) *reader {
	r := &reader{s: p, in: in, out: out, ctx: ctx, block: core.NewBlock(pipeBytes), longest: int(p.lines.Longest(p.maxEvent))}
	if !p.lines.Plain() {
		r.join = p.lines.Joiner(p.counters, p.maxEvent, p.longLines == drop, Positions{})
	}
	return r
}

func (r *reader) close() {
	r.block.Release()
	if r.batch != nil {
		r.batch.Release()
	}
}

func (r *reader) run() error {
	for {
		r.wake()
		if r.in.Stopped() {
			return r.end()
		}
		n, err := r.in.Read(r.block.Buf[r.to:])
		if e := r.took(n); e != nil {
			return e
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !r.in.Stopped():
			if err := r.overdue(); err != nil {
				return err
			}
		default:
			if !errors.Is(err, io.EOF) && !r.in.Stopped() {
				r.s.env.Metrics.EventReadFail.Add(1)
				r.s.env.Log.Error("read lines", "error", err)
			}
			return r.end()
		}
	}
}

// took makes events of n bytes more.
func (r *reader) took(n int) error {
	if n > 0 {
		r.to += n
		if err := r.lines(); err != nil {
			return err
		}
		if err := r.room(); err != nil {
			return err
		}
	}
	if !r.late {
		return nil
	}
	r.late = false
	if err := r.events(r.join.Expired(time.Now())); err != nil || n > 0 {
		return err
	}
	return r.flush()
}

// wake makes the next read end when the batch is due, or an event that waits
// for its next line.
func (r *reader) wake() {
	var at time.Time
	if r.batch != nil {
		at = r.due
	}
	if r.late {
		at = time.Now().Add(lateGrace)
	} else if r.join != nil {
		if due, ok := r.join.Due(); ok && (at.IsZero() || due.Before(at)) {
			at = due
		}
	}
	if at != r.deadline {
		_ = r.in.SetReadDeadline(at)
		r.deadline = at
	}
}

// overdue does what the deadline was for.
func (r *reader) overdue() error {
	now := time.Now()
	if r.join != nil {
		if due, ok := r.join.Due(); ok && !now.Before(due) {
			r.late = true
		}
	}
	if r.batch != nil && !now.Before(r.due) {
		return r.flush()
	}
	return nil
}

// lines makes events of what is complete.
func (r *reader) lines() error {
	buf := r.block.Buf[:r.to]
	for {
		i := bytes.IndexByte(buf[r.scanned:], '\n')
		if i < 0 {
			r.scanned = r.to
			return nil
		}
		line := buf[r.from : r.scanned+i]
		r.scanned += i + 1
		r.from = r.scanned
		if r.dropping {
			r.dropping = false
			continue
		}
		if err := r.line(line); err != nil {
			return err
		}
	}
}

// line makes events of a line, or of the last piece of one.
func (r *reader) line(whole []byte) error {
	line := bytes.TrimSuffix(whole, []byte{'\r'})
	if len(line) > r.longest {
		if r.s.longLines == drop {
			r.s.drops.Add(1)
			return nil
		}
		r.long()
		for ; len(line) > r.longest; line = line[r.longest:] {
			if err := r.piece(line[:r.longest], true); err != nil {
				return err
			}
		}
		whole = line
	}
	r.cut = false
	if r.join == nil {
		whole = line
	}
	return r.piece(whole, false)
}

// long counts a line that is split, once.
func (r *reader) long() {
	if !r.cut {
		r.s.splits.Add(1)
		r.cut = true
	}
}

// room makes room for the next read, taking the begin of a line along, and cuts
// from one what is too long already.
func (r *reader) room() error {
	switch {
	case r.dropping:
		r.from = r.to
	case r.to-r.from <= r.longest+1: // the 1 is for a carriage return
	case r.s.longLines == drop:
		r.s.drops.Add(1)
		r.dropping, r.from = true, r.to
	default:
		r.long()
		for r.to-r.from > r.longest+1 {
			if err := r.piece(r.block.Buf[r.from:r.from+r.longest], true); err != nil {
				return err
			}
			r.from += r.longest
		}
	}
	if len(r.block.Buf)-r.to >= leastRoom {
		return nil
	}
	part := r.block.Buf[r.from:r.to]
	next := core.NewBlock(max(pipeBytes, 2*len(part)))
	copy(next.Buf, part)
	r.block.Release()
	r.block, r.from, r.to = next, 0, len(part)
	r.scanned = r.to
	return nil
}

// piece makes an event of a line, or adds it to what may become one.
func (r *reader) piece(text []byte, more bool) error {
	if r.join != nil {
		begin := r.at
		r.at += int64(len(text)) + 1
		return r.events(r.join.Add(Line{Text: text, Begin: begin, End: r.at, More: more}, time.Now()))
	}
	if err := r.begin(len(text)); err != nil {
		return err
	}
	if r.using != r.block {
		r.batch.Use(r.block)
		r.using = r.block
	}
	r.batch.Events = append(r.batch.Events, core.Event{Body: text[:len(text):len(text)]})
	return r.added(len(text))
}

// events puts events of joined lines into batches.
func (r *reader) events(events []Event) error {
	for i := range events {
		e := &events[i]
		if err := r.begin(len(e.Body)); err != nil {
			return err
		}
		r.batch.Copy(r.join.Headers(core.Headers{}, e), e.Body)
		if err := r.added(len(e.Body)); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a batch that has room for size bytes.
func (r *reader) begin(size int) error {
	if r.batch != nil && r.bytes+size > batchBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if r.batch == nil {
		r.batch, r.bytes, r.due = core.NewBatch(), 0, time.Now().Add(r.s.timeout)
	}
	return nil
}

// added sends the batch when it is full.
func (r *reader) added(size int) error {
	r.bytes += size
	if n := len(r.batch.Events); n >= r.s.batch || n == r.s.env.MaxEvents {
		return r.flush()
	}
	return nil
}

// flush sends the batch, waiting for room.
func (r *reader) flush() error {
	b := r.batch
	if b == nil {
		return nil
	}
	b.Resize()
	r.batch, r.using = nil, nil
	return r.out.Send(r.ctx, b, nil)
}

// end makes an event of a last line without newline, and sends what there is.
func (r *reader) end() error {
	if line := r.block.Buf[r.from:r.to]; len(line) > 0 && !r.dropping {
		if err := r.line(line); err != nil {
			return err
		}
	}
	if r.join != nil {
		if err := r.events(r.join.Flush()); err != nil {
			return err
		}
	}
	return r.flush()
}
