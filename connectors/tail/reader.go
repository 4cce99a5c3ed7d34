package tail

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

const (
	blockBytes = 256 << 10 // one read
	smallRead  = 16 << 10  // shorter ones share a block
	smallBlock = 64 << 10
	turnBytes  = 2 << 20 // read from one file before the next has its turn
	batchBytes = 1 << 20 // bodies in one batch
	probeBytes = 64 << 10
	retryTime  = time.Second
)

// turn reads what f has, up to a limit that lets the others have their turn.
func (t *tailer) turn(f *file) error {
	if !f.dirty || f.released || !t.ensure(f) {
		return nil
	}
	if wait, err := t.waits(f); wait || err != nil {
		return ended(err)
	}
	if f.expire {
		t.stat(f, t.env.Now()) // it may have grown since it was last looked at
	}
	if f.size < f.st.pos || f.confirm && !t.confirmed(f) {
		if t.replaced(f) {
			return nil // the rest of the copy is older: it is read first
		}
		if f.released {
			return nil
		}
		if err := t.settleLeft(); err != nil {
			return ended(err)
		}
	}
	f.confirm, t.changed = false, true
	t.prime(f)
	t.joiner(f)
	c := cutter{t: t, f: f, st: f.st, at: f.st.pos, left: t.c.maxBatches, mtime: f.mtime, changes: f.changes}
	if f.st.tail.Off == c.at {
		c.back = f.st.tail.N
	}
	err := c.run()
	if c.b != nil {
		c.b.Release()
	}
	return ended(err)
}

// ensure opens f.
func (t *tailer) ensure(f *file) bool {
	if f.open != nil {
		return true
	}
	if !f.named || f.released {
		f.dirty = false
		return false
	}
	if t.env.Now().Before(f.retry) {
		return false
	}
	open, err := t.openNow(f)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		t.closeRested()
		open, err = t.env.FS.OpenFile(f.path, openFlags, 0)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // gone since it was looked at: the next look tells
			t.fail(f, "open", err)
		}
		f.dir.due = time.Time{}
		f.retry = t.env.Now().Add(min(retryTime, t.c.poll))
		return false
	}
	if f.failing {
		f.failing = false
		t.log.Info("file can be read again", "file", f.path)
	}
	f.open, f.confirm = open, true
	return true
}

// openNow opens f by its path. While a rotation shifts names it may lead to
// another file: then f is looked for at once, or younger files would be read first.
func (t *tailer) openNow(f *file) (open vfs.File, err error) {
	for range 3 {
		if open, err = t.env.FS.OpenFile(f.path, openFlags, 0); err == nil {
			if fi, e := open.Stat(); e == nil && fileid.Of(fi) == f.id {
				return open, nil
			}
			_ = open.Close()
			err = fs.ErrNotExist
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if t.list(f.dir, t.env.Now()); !f.named {
			break
		}
	}
	return nil, err
}

// fail counts a failure, says it if it is new, and leaves f alone for a while.
func (t *tailer) fail(f *file, what string, err error) {
	t.env.Metrics.EventReadFail.Add(1)
	if !f.failing {
		f.failing = true
		t.log.Error(what+" file, will try again", "file", f.path, "error", err)
	}
	f.retry = t.env.Now().Add(retryTime)
}

// closeRested closes the files that have nothing to read: the process has no
// more descriptors.
func (t *tailer) closeRested() {
	t.log.Warn("too many open files: those at rest are closed before their time")
	for _, f := range t.files {
		if !f.dirty && f.named {
			f.close()
		}
	}
}

// confirmed reports whether an open file is still what its record says.
func (t *tailer) confirmed(f *file) bool {
	st := f.st
	if !st.isIn(f.open) {
		return false
	}
	if st.pos == 0 || st.tail.Off == st.pos && st.tail.N > 0 {
		return true
	}
	p, err := fileid.Take(f.open, st.pos)
	if err != nil {
		return false
	}
	if f.moved {
		// Of a file under a new name Flume's positions say too little; at least a line must end there.
		var last [1]byte
		if _, err := f.open.ReadAt(last[:], st.pos-1); err != nil || last[0] != '\n' {
			return false
		}
	}
	st.tail = p
	return true
}

// prime takes the first fingerprint of a stream. It is written down before the
// first event is sent: what the channels know of a stream after a crash is
// worth nothing if its content can not be told from another.
func (t *tailer) prime(f *file) {
	st := f.st
	if st.kept || st.tail.N > 0 || f.open == nil {
		return
	}
	st.born = fileid.Born(f.open)
	off := st.pos
	if off == 0 {
		off = min(f.size, fileid.Bytes)
	}
	if p, err := fileid.Take(f.open, off); err == nil {
		st.tail = p
	}
}

// region returns n bytes to read into, and their block with a reference.
func (t *tailer) region(n int) (*core.Block, []byte) {
	if n > smallRead {
		blk := core.NewBlock(n)
		return blk, blk.Buf[:n:n]
	}
	if t.small == nil || len(t.small.Buf)-t.fill < n {
		if t.small != nil {
			t.small.Release()
		}
		t.small, t.fill = core.NewBlock(smallBlock), 0
	}
	return t.small.Hold(), t.small.Buf[t.fill : t.fill+n : t.fill+n]
}

// cutter is one turn of a file: it reads blocks and cuts them into events.
type cutter struct {
	t    *tailer
	f    *file
	st   *stream
	at   int64 // in the file: behind the last line that was cut
	back int   // bytes before at that are read along, to be compared with the stream's fingerprint
	left int64 // batches this turn may still send

	b     *core.Batch  // not sent yet
	text  lines.Stream // of the events in b
	bytes int
	blk   *core.Block // being cut
	used  bool        // b holds blk
	taken int         // bytes read in this turn

	mtime   time.Time // of f when the turn began
	changes int
}

// rest says that f has been read to its end, as far as was known when the turn
// began: it may have been looked at again since.
func (c *cutter) rest() {
	c.f.read = c.mtime
	c.f.dirty = c.f.changes != c.changes
}

// run reads until the end of the file, or of the turn.
func (c *cutter) run() error {
	f, t := c.f, c.t
	room := blockBytes
	if n := c.left * int64(t.c.batch); n > 0 && n < blockBytes>>10 {
		room = int(n) << 10 // a few lines only: a whole block would be read again and again
	}
	if f.scanned-c.at > probeBytes && !f.skip && !f.expire && c.probe() {
		return nil
	}
	for {
		if f.skip {
			if more, err := c.skipLine(); err != nil || !more {
				return err
			}
		}
		want := int(min(int64(room), int64(c.back)+max(0, f.size-c.at)))
		blk, buf := t.region(want)
		n, err := f.open.ReadAt(buf, c.at-int64(c.back))
		if err != nil && !errors.Is(err, io.EOF) {
			blk.Release()
			t.fail(f, "read", err)
			return c.end()
		}
		if n < c.back || c.back > 0 && fileid.PrintOf(c.at, buf[:c.back]).Sum != c.st.tail.Sum {
			// Not what was here before. The next turn finds it replaced.
			blk.Release()
			f.confirm = true
			return c.end()
		}
		c.blk, c.used = blk, false
		data := buf[c.back:n]
		p, full, err := c.cut(data)
		if blk == t.small {
			t.fill += c.back + p
		}
		if err == nil && p > 0 {
			c.at += int64(p)
			c.st.reached(fileid.PrintOf(c.at, buf[:c.back+p]))
			c.back = c.st.tail.N
		}
		blk.Release()
		if err != nil {
			return err
		}
		c.taken += p
		if p > 0 {
			room = min(room, blockBytes)
		}
		rest := c.at + int64(len(data)-p)
		f.size = max(f.size, rest)
		switch {
		case full:
			return c.end()
		case n < len(buf) || rest >= f.size:
			if n < len(buf) && rest < f.size {
				// Shorter than it was when last looked at.
				f.peak = max(f.peak, f.size)
			}
			f.scanned = rest
			c.rest()
			return c.atEnd()
		case f.skip:
		case p == 0:
			// A line longer than the block: the next one is larger, up to the
			// longest that may be.
			room = min(4*room, c.back+int(t.longest)+2)
		case c.taken >= turnBytes:
			return c.end()
		}
	}
}

// cut makes events of the lines in data and returns how many bytes they had.
// full says that the turn's batches are used up.
func (c *cutter) cut(data []byte) (p int, full bool, err error) {
	t, f := c.t, c.f
	if c.at == 0 {
		if t.c.compressed && compressed(data) {
			t.log.Info("file is compressed and not read (skipCompressed)", "file", f.path)
			f.ignored = true
			return 0, true, nil
		}
	}
	if f.shrunk {
		for p < len(data) && data[p] == 0 {
			p++
		}
		t.holes.Add(int64(p))
		f.shrunk = p == len(data)
	}
	longest := int(t.longest)
	for p < len(data) {
		i := bytes.IndexByte(data[p:], '\n')
		end := p + i + 1
		if i < 0 {
			end = len(data)
			if end-p < longest+2 && !f.expire {
				break
			}
		}
		body := data[p:end]
		if i >= 0 {
			body = body[:i]
			if i > 0 && body[i-1] == '\r' {
				body = body[:i-1]
			}
		}
		if len(body) > longest {
			if t.c.longLines == drop {
				if i < 0 {
					f.skip = true
					f.scanned = c.at + int64(end)
					break
				}
				t.drops.Add(1)
				p = end
				continue
			}
			if !f.long {
				f.long = true
				t.splits.Add(1)
			}
			body, end = body[:longest:longest], p+longest
		} else if i >= 0 {
			f.long = false
		} else if end < len(data) || c.at+int64(end) < f.size {
			break // the rest of it has not been read yet
		}
		begin := c.at + int64(p)
		if c.st.join != nil {
			if !f.long {
				body = data[p : end-min(1, i+1)] // the joiner looks after the carriage return
			}
			full, err = c.joined(c.st.join.Add(lines.Line{Text: body, Begin: begin, End: c.at + int64(end), More: f.long}, t.env.Now()))
			if p = end; full || err != nil {
				return p, full, err
			}
			continue
		}
		if c.b != nil && c.bytes+len(body) > batchBytes {
			if full, err = c.flush(begin); full || err != nil {
				return p, full, err
			}
		}
		c.add(body, begin, c.at+int64(end))
		p = end
		if len(c.b.Events) >= t.limit() {
			if full, err = c.flush(c.at + int64(p)); full || err != nil {
				return p, full, err
			}
		}
	}
	return p, false, nil
}

// add adds an event that lies from begin to end in the file.
func (c *cutter) add(body []byte, begin, end int64) {
	if c.b == nil {
		c.b, c.bytes, c.used = core.NewBatch(), 0, false
	}
	if !c.used {
		c.b.Use(c.blk)
		c.used = true
	}
	h := c.f.headers
	if c.t.c.byteOffset {
		h = h.With("byteoffset", strconv.FormatInt(begin, 10))
	}
	c.b.Events = append(c.b.Events, core.Event{Headers: h, Body: body, Pos: end})
	c.bytes += len(body)
}

// limit is the number of events in a full batch.
func (t *tailer) limit() int {
	if n := t.env.MaxEvents; n > 0 && n < t.c.batch {
		return n
	}
	return t.c.batch
}

// flush sends the batch, of which the last event ends at pos.
func (c *cutter) flush(pos int64) (full bool, err error) {
	b := c.b
	c.b = nil
	c.left--
	return c.left <= 0, c.t.send(b, c.st, c.text, pos)
}

// end sends what is left and takes note of the position.
func (c *cutter) end() error {
	if c.b != nil && len(c.b.Events) > 0 {
		if _, err := c.flush(c.b.Events[len(c.b.Events)-1].Pos); err != nil {
			return err
		}
	}
	c.st.pos = max(c.st.pos, c.at)
	if c.f.ignored {
		c.f.dirty = false
		c.f.close()
	}
	return nil
}

// atEnd is end at the end of the file, where an idle one is closed.
func (c *cutter) atEnd() error {
	if err := c.end(); err != nil {
		return err
	}
	f := c.f
	if c.st.join != nil {
		if err := c.settle(c.st.join.Expired(c.t.env.Now())); err != nil {
			return err
		}
	}
	if !f.expire || f.dirty {
		return nil
	}
	f.expire = false
	if !f.named && !c.st.answered() {
		return nil // as long as it is followed its position is kept
	}
	if f.skip {
		f.skip = false
		c.t.drops.Add(1)
		c.st.pos, c.st.tail = f.scanned, fileid.Print{}
	}
	if f.named {
		f.close()
		return nil
	}
	if err := c.t.settle(c.st); err != nil {
		return err
	}
	c.t.release(f)
	return nil
}

// probe looks for a newline in what is new of a long unfinished line. It
// reports true if there is none and the line can still become an event.
func (c *cutter) probe() bool {
	f := c.f
	if f.size-c.at >= c.t.longest+2 || f.size < f.scanned {
		return false
	}
	blk, buf := c.t.region(int(min(blockBytes, max(1, f.size-f.scanned))))
	defer blk.Release()
	n, err := f.open.ReadAt(buf, f.scanned)
	if err != nil && !errors.Is(err, io.EOF) || bytes.IndexByte(buf[:n], '\n') >= 0 {
		return false
	}
	f.scanned += int64(n)
	if f.scanned < f.size {
		return n > 0 // still dirty: the next turn goes on
	}
	c.rest()
	return true
}

// skipLine reads on in a line that is dropped. It reports whether its end was
// found and there is more.
func (c *cutter) skipLine() (more bool, err error) {
	f, t := c.f, c.t
	blk := core.NewBlock(blockBytes)
	defer blk.Release()
	for c.taken < turnBytes {
		n, err := f.open.ReadAt(blk.Buf, f.scanned)
		if err != nil && !errors.Is(err, io.EOF) {
			t.fail(f, "read", err)
			return false, c.end()
		}
		if i := bytes.IndexByte(blk.Buf[:n], '\n'); i >= 0 {
			t.drops.Add(1)
			f.skip = false
			c.at = f.scanned + int64(i) + 1
			c.st.reached(fileid.PrintOf(c.at, blk.Buf[:i+1]))
			c.back = c.st.tail.N
			c.taken += i
			return true, nil
		}
		f.scanned += int64(n)
		c.taken += n
		f.size = max(f.size, f.scanned)
		if n < len(blk.Buf) {
			c.rest()
			return false, c.atEnd()
		}
	}
	return false, c.end()
}

// compressed reports whether data begins as compressed files do.
func compressed(data []byte) bool {
	for _, magic := range [...]string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if len(data) >= len(magic) && string(data[:len(magic)]) == magic {
			return true
		}
	}
	return false
}
