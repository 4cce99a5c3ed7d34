package exec

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/millrace/millrace/core"
)

const (
	blockBytes = 64 << 10 // what a pipe holds
	leastRoom  = 4 << 10  // below it a new block is begun
	batchBytes = 1 << 20  // of bodies in a batch at most
)

// reader cuts the output of one process into lines, in the memory of blocks
// that batches hold.
type reader struct {
	s   *source
	p   *process
	out core.Outlet
	ctx context.Context

	block    *core.Block
	from     int  // in block.Buf: begin of the line that is not complete
	scanned  int  // up to where there is no newline in it
	to       int  // end of what was read
	dropping bool // the line is too long; its rest is skipped

	batch *core.Batch // nil: empty
	using *core.Block // the block that batch holds
	bytes int         // of batch
	timed bool        // the pipe has a deadline
}

// run reads to the end of the output. An error is the outlet's.
func (r *reader) run() error {
	r.block = core.NewBlock(blockBytes)
	defer func() {
		r.block.Release()
		if r.batch != nil {
			r.batch.Release()
		}
	}()
	for {
		r.deadline()
		if r.p.abort.Load() {
			return r.end()
		}
		n, err := r.p.stdout.Read(r.block.Buf[r.to:])
		r.to += n
		if n > 0 {
			if e := r.lines(); e != nil {
				return e
			}
			if e := r.room(); e != nil {
				return e
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !r.p.abort.Load():
			if err := r.flush(); err != nil {
				return err
			}
		default:
			if !errors.Is(err, io.EOF) && !r.p.abort.Load() {
				r.s.env.Metrics.EventReadFail.Add(1)
				r.s.env.Log.Error("read output of command", "error", err)
			}
			return r.end()
		}
	}
}

// deadline makes the next read end when the batch is due.
func (r *reader) deadline() {
	switch {
	case r.batch != nil && !r.timed:
		_ = r.p.stdout.SetReadDeadline(time.Now().Add(r.s.timeout))
		r.timed = true
	case r.batch == nil && r.timed:
		_ = r.p.stdout.SetReadDeadline(time.Time{})
		r.timed = false
	}
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
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if err := r.line(line); err != nil {
			return err
		}
	}
}

// line makes events of a line.
func (r *reader) line(line []byte) error {
	most := int(r.s.maxEvent)
	if len(line) > most {
		if r.s.longLines == drop {
			r.s.drops.Add(1)
			return nil
		}
		r.s.splits.Add(1)
		for ; len(line) > most; line = line[most:] {
			if err := r.add(line[:most:most]); err != nil {
				return err
			}
		}
	}
	return r.add(line[:len(line):len(line)])
}

// room makes room for the next read, taking the begin of a line along, and cuts
// from one what is too long already.
func (r *reader) room() error {
	most := int(r.s.maxEvent)
	switch {
	case r.dropping:
		r.from = r.to
	case r.to-r.from <= most+1: // the 1 is for a carriage return
	case r.s.longLines == drop:
		r.s.drops.Add(1)
		r.dropping, r.from = true, r.to
	default:
		r.s.splits.Add(1)
		for r.to-r.from > most+1 {
			if err := r.add(r.block.Buf[r.from : r.from+most : r.from+most]); err != nil {
				return err
			}
			r.from += most
		}
	}
	if len(r.block.Buf)-r.to >= leastRoom {
		return nil
	}
	part := r.block.Buf[r.from:r.to]
	next := core.NewBlock(max(blockBytes, 2*len(part)))
	copy(next.Buf, part)
	r.block.Release()
	r.block, r.from, r.to = next, 0, len(part)
	r.scanned = r.to
	return nil
}

// add puts an event into the batch, and the batch into the outlet when it is full.
func (r *reader) add(body []byte) error {
	if r.batch != nil && r.bytes+len(body) > batchBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if r.batch == nil {
		r.batch, r.bytes = core.NewBatch(), 0
	}
	if r.using != r.block {
		r.batch.Use(r.block)
		r.using = r.block
	}
	r.batch.Events = append(r.batch.Events, core.Event{Body: body})
	r.bytes += len(body)
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
	if err := r.out.Send(r.ctx, b, nil); err != nil {
		return &sendError{err}
	}
	return nil
}

// end makes an event of a last line without newline, and sends what there is.
func (r *reader) end() error {
	if line := r.block.Buf[r.from:r.to]; len(line) > 0 && !r.dropping {
		if err := r.line(line); err != nil {
			return err
		}
	}
	return r.flush()
}
