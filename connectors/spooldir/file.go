package spooldir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// identity is what a file is.
type identity struct {
	id   fileid.ID
	born int64
}

// file is a file that is not finished.
type file struct {
	identity
	rel, path string
	stream    string
	head      core.Headers

	size   int64 // when it was last opened
	mtime  time.Time
	sent   lines.Positions // handed to the outlet up to here
	mark   int64           // the same for Flume; or, before the first read, where Flume was
	events bool            // some came of it
	ended  bool            // read to its end
	aside  string          // why it is to be set aside; empty: it is to be finished
	grew   bool            // which was said

	// Guarded by spooler.mu.
	rounds []*round // under way
	stored place
}

// place is up to where a file is done.
type place struct {
	done lines.Positions
	mark int64
}

// round is what was collected at a time: a batch for each stream.
type round struct {
	left int // batches that are not stored
	to   place
}

// openFlags: a FIFO that took a file's place must not hold us.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// reading is a file that is open.
type reading struct {
	f  *file
	in *input
	d  deserializer
}

// read reads a file to its end, or as far as it goes. Its error is one of the outlet.
func (t *spooler) read(ctx context.Context, c *candidate) error {
	f, open, err := t.open(c)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // gone since it was listed
			t.readFail(c.rel, "open file", err)
		}
		return nil
	}
	defer func() { _ = open.Close() }() // it was read only: there is nothing to lose
	if f == nil {
		return nil
	}
	r := &reading{f: f}
	if err := t.begin(r, open); err != nil {
		return t.stopped(ctx, r, err)
	}
	defer r.d.close()
	defer t.col.drop()
	for ctx.Err() == nil {
		t.col.full = false
		err := r.d.fill(&t.col)
		if err == io.EOF && t.atRest(f, open) { //nolint:errorlint // a wrapped one is no end
			if e := r.d.rest(&t.col); e != nil {
				err = e
			} else {
				f.ended = true
			}
			if f.ended && !f.events && t.col.empty() {
				t.col.copy(lines.Raw, f.head, nil, 0) // Flume makes an event of an empty file as well
			}
		}
		if e := t.send(ctx, r); e != nil {
			f.ended = false
			return e
		}
		if f.ended {
			t.end(f)
			return nil
		}
		if err != nil {
			return t.stopped(ctx, r, err)
		}
		t.finishAll()
		t.saveSometimes()
	}
	return nil
}

// open opens a candidate and finds what is known of it. No file: it is being
// finished under another name.
func (t *spooler) open(c *candidate) (*file, vfs.File, error) {
	path := t.path(c.rel)
	open, err := t.env.FS.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := open.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		_ = open.Close()
		return nil, nil, err
	}
	who := identity{fileid.Of(fi), fileid.Born(open)}
	f := t.files[who]
	if f == nil {
		f = &file{identity: who}
		at := who.born
		if at == 0 {
			at = fi.ModTime().UnixNano()
		}
		own := strconv.FormatUint(who.id.Ino, 10) + "-" + strconv.FormatInt(at, 36)
		f.stream = t.env.Name + ":" + own
		t.resume(f, own)
		t.files[who] = f
		t.line = append(t.line, f)
	} else if f.ended {
		return nil, open, nil
	} else if !f.mtime.Equal(fi.ModTime()) || f.size != fi.Size() {
		t.grown(f)
	}
	f.rel, f.path, f.size, f.mtime = c.rel, path, fi.Size(), fi.ModTime()
	f.head = core.Headers{}
	if t.c.fileHeader {
		f.head = f.head.With(t.c.fileHeaderKey, path)
	}
	if t.c.basenameHeader {
		f.head = f.head.With(t.c.basenameHeaderKey, filepath.Base(path))
	}
	return f, open, nil
}

// resume finds up to where a file is done: what the channels say, what we have
// written down, or where Flume was.
func (t *spooler) resume(f *file, own string) {
	left := t.known[:0]
	for _, r := range t.known {
		switch {
		case r.ino == f.id.Ino && r.stream == flumeStream:
			f.mark = r.done[lines.Raw]
			if t.c.deserializer != avroType {
				f.sent = lines.At(f.mark)
			}
		case r.stream == own:
			f.sent = r.done
		default:
			left = append(left, r)
		}
	}
	t.known = left
	for s := range lines.Stream(lines.Streams) {
		if pos, ok := t.out.Position(s.Of(f.stream)); ok {
			f.sent[s] = max(f.sent[s], offset(pos))
			f.events = true
		}
	}
	f.events = f.events || f.sent != lines.Positions{} || f.mark > 0
	f.stored = place{f.sent, f.mark}
}

// errShrunk says that a file has less than was read of it.
var errShrunk = errors.New("it has become shorter than what was read of it")

// begin makes the deserializer of an open file.
func (t *spooler) begin(r *reading, open vfs.File) (err error) {
	f := r.f
	gz := false
	if t.c.compression == auto && t.c.deserializer != blobType {
		if gz, err = isGzip(open); err != nil {
			return err
		}
	}
	if r.in, err = newInput(open, gz); err != nil {
		return err
	}
	if !gz && t.c.deserializer != avroType && f.sent.Safe() > f.size {
		return errShrunk
	}
	size := f.size
	if gz {
		size *= 4 // about
	}
	switch t.c.deserializer {
	case avroType:
		var d *avroReader
		if d, err = newAvroReader(t.c, r.in, f.head, f.sent[lines.Raw], f.mark); err == nil {
			r.d = d
			f.sent = d.positions() // where Flume's offset is in records
			t.mu.Lock()
			if len(f.rounds) == 0 {
				f.stored.done = f.sent
			}
			t.mu.Unlock()
		}
	case blobType:
		var d *blobReader
		if d, err = newBlobReader(t.c, r.in, f.head, f.sent[lines.Raw], size); err == nil {
			r.d = d
		}
	default:
		var d *lineReader
		if d, err = newLineReader(t.c, r.in, f.head, f.sent, size); err == nil {
			r.d, r.in = d, d.in
		}
	}
	return err
}

// end says that a file is read as far as it can be.
func (t *spooler) end(f *file) {
	f.ended = true
	t.busy[f.rel] = f
	t.nudge()
}

// atRest reports whether a file that was read to its end is what it was when it was opened.
func (t *spooler) atRest(f *file, open vfs.File) bool {
	fi, err := open.Stat()
	return err == nil && fi.Size() == f.size && fi.ModTime().Equal(f.mtime)
}

// stopped deals with an error that ended the reading of a file.
func (t *spooler) stopped(ctx context.Context, r *reading, err error) error {
	f := r.f
	fi, e := t.env.FS.Stat(f.path)
	rests := e == nil && fi.Size() == f.size && fi.ModTime().Equal(f.mtime)
	switch {
	case ctx.Err() != nil:
	case errors.As(err, new(readError)):
		t.readFail(f.rel, "read file", err)
	case err == io.EOF, err != errShrunk && !rests: //nolint:errorlint // as they were returned
		// It is still being written, whatever is wrong with it now.
		t.grown(f)
		t.troubles[f.rel] = &trouble{until: t.env.Now().Add(t.c.poll), seen: t.listings}
	default:
		t.env.Metrics.EventReadFail.Add(1)
		if err == errShrunk { //nolint:errorlint // as begin returns it
			t.changed.Add(1)
		}
		f.aside = err.Error()
		t.end(f)
	}
	return nil
}

// grown says that a file changes while it is read.
func (t *spooler) grown(f *file) {
	if f.grew {
		return
	}
	f.grew = true
	t.changed.Add(1)
	t.log.Warn("file is still being written: it is read on when it rests; write files elsewhere and rename them into the spool directory", "file", f.path)
}

// readFail leaves a file alone for a while.
func (t *spooler) readFail(rel, what string, err error) {
	t.env.Metrics.EventReadFail.Add(1)
	t.trouble(rel, t.env.Now().Add(max(retryTime, t.c.poll)), what, err)
}

// send puts what was collected.
func (t *spooler) send(ctx context.Context, r *reading) error {
	f, cells := r.f, t.env.Metrics
	one := &round{to: place{r.d.positions(), r.d.mark()}}
	for s := range t.col.batches {
		if t.col.batches[s].b != nil {
			one.left++
		}
	}
	to := one.to
	t.mu.Lock()
	f.rounds = append(f.rounds, one)
	f.settle()
	t.mu.Unlock()
	done := func(err error) {
		if err != nil {
			return // the channel is closing: the file stays as it is
		}
		cells.AppendBatchAccepted.Add(1)
		t.mu.Lock()
		one.left--
		f.settle()
		t.mu.Unlock()
		t.nudge()
	}
	for s := range lines.Stream(lines.Streams) {
		b := t.col.take(s)
		if b == nil {
			continue
		}
		f.events = true
		b.Mark(s.Of(f.stream), position(to.done[s]))
		b.Resize()
		cells.AppendBatchReceived.Add(1)
		if err := t.out.Send(ctx, b, done); err != nil {
			t.unsent(f, one)
			return err
		}
		f.sent[s] = to.done[s]
	}
	f.sent, f.mark = to.done, to.mark
	return nil
}

// unsent takes out of a round what could not be sent.
func (t *spooler) unsent(f *file, one *round) {
	left := 1
	for s := range t.col.batches {
		if t.col.batches[s].b != nil {
			left++
		}
	}
	t.mu.Lock()
	one.left -= left
	one.to = place{f.sent, f.mark}
	f.settle()
	t.mu.Unlock()
}

// settle takes note of the rounds that are stored. mu is held.
func (f *file) settle() {
	for len(f.rounds) > 0 && f.rounds[0].left == 0 {
		f.stored = f.rounds[0].to
		f.rounds = f.rounds[1:]
	}
}

// underWay reports whether events of f are not stored yet.
func (t *spooler) underWay(f *file) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(f.rounds) > 0
}
