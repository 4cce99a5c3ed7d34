package tail

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// stream is one generation of a file's content.
type stream struct {
	id   string // random; the name in the channels has the source's name before it
	name string
	pos  int64 // read and handed to the outlet up to here
	part [lines.Streams]part
	tail fileid.Print
	past []fileid.Print // some earlier ones, the oldest first
	born int64          // when its file was made, ns; 0: not known
	kept bool           // its name is on disk

	joined  bool          // its lines go through a joiner
	join    *lines.Joiner // made when the first of them is read
	headers core.Headers  // of the file, for what is unfinished when that is gone
}

// part is one of the texts in a stream. Where lines are events there is only lines.Raw.
type part struct {
	sent int64        // position of the last batch; less than that of the stream where bytes gave no event
	done atomic.Int64 // stored up to here
	held int64        // if not 0: 1 + where the events begin that were made and not sent yet
}

// isIn reports whether an open file has the stream's content, and takes note of
// when it was made.
func (st *stream) isIn(f vfs.File) bool {
	at := fileid.Born(f)
	if st.born != 0 && at != 0 && at != st.born || !st.tail.In(f) {
		return false
	}
	st.born = at
	return true
}

// stored is the position that may be written down. What follows the last batch
// and gave no event counts as stored with it.
func (st *stream) stored() int64 {
	if st.joined {
		p := st.positions()
		return p.Safe()
	}
	raw := &st.part[lines.Raw]
	if d := raw.done.Load(); d < raw.sent {
		return d
	}
	return st.pos
}

// positions is stored for each text of a stream whose lines are joined.
func (st *stream) positions() (p lines.Positions) {
	if st.join != nil {
		p = st.join.Positions(st.pos)
	}
	for s := range p {
		switch part, d := &st.part[s], st.part[s].done.Load(); {
		case d < part.sent:
			p[s] = d
		case part.held > 0:
			p[s] = max(d, part.held-1)
		default:
			p[s] = max(p[s], d)
		}
	}
	return p
}

// texts is how many of the texts a stream may have.
func (st *stream) texts() int {
	if st.joined {
		return lines.Streams
	}
	return 1
}

// answered reports whether all that was sent is stored.
func (st *stream) answered() bool {
	for s := range st.part {
		if st.part[s].done.Load() < st.part[s].sent {
			return false
		}
	}
	return true
}

// reached takes note of the fingerprint before a new position. Some earlier
// ones are kept, all along the stream: by them a copy is known that ends behind
// the position.
func (st *stream) reached(p fileid.Print) {
	const most = 16
	if n := len(st.past); n == 0 || st.tail.Off-st.past[n-1].Off >= st.tail.Off/most {
		if n == most {
			for i := range most / 2 {
				st.past[i] = st.past[2*i]
			}
			st.past = st.past[:most/2]
		}
		if st.tail.N > 0 {
			st.past = append(st.past, st.tail)
		}
	}
	st.tail = p
}

// covers reports whether a file of that size has the beginning of the stream,
// and no more than was read of it.
func (st *stream) covers(f vfs.File, size int64) bool {
	if size > st.pos {
		return false
	}
	if st.tail.N > 0 && st.tail.Off <= size {
		return st.tail.In(f)
	}
	for i := len(st.past) - 1; i >= 0; i-- {
		if st.past[i].Off <= size {
			return st.past[i].In(f)
		}
	}
	return false
}

// at rests the stream at a position.
func (st *stream) at(pos int64) { st.resume(lines.At(pos)) }

// resume rests the stream at the positions of its texts.
func (st *stream) resume(p lines.Positions) {
	st.pos = p.Safe()
	for s := range p {
		st.part[s].sent = p[s]
		st.part[s].done.Store(p[s])
	}
}

// file is one inode, followed as long as it may have something new.
type file struct {
	id      fileid.ID
	dir     *dir
	group   *group
	name    string // its last one in dir
	path    string // dir and name
	real    string // where the path led to, if it was a symbolic link; else empty
	named   bool   // the path still leads to it
	copied  bool   // it is a copy that goes by the path of what it was made of
	headers core.Headers

	st   *stream
	open vfs.File

	size    int64
	mtime   time.Time
	changed time.Time // when size or mtime last differed from before
	read    time.Time // the mtime it had when it was last read to its end
	peak    int64     // the size before it shrank; 0 if it did not
	changes int       // how often it changed
	listed  uint64    // number of the listing that had it

	dirty    bool  // there may be something to read
	confirm  bool  // the stream's fingerprint is to be checked before reading
	moved    bool  // known by a position file of Flume's under another name: must end in a newline
	expire   bool  // deliver the rest, then close
	ignored  bool  // compressed
	shrunk   bool  // follows a truncation: NULs at its beginning are a hole
	long     bool  // within a line that was split
	skip     bool  // within a line that is dropped
	scanned  int64 // no newline between the position and here
	failing  bool  // the last opening or reading failed, which was said
	retry    time.Time
	after    *file     // had the name before, and may have an unfinished event
	waiting  time.Time // since then, for that
	moves    int64     // the stored position when last looked at
	stuck    time.Time
	released bool // no longer followed
}

// saw takes in what a stat says.
func (f *file) saw(size int64, mtime, now time.Time) {
	if size == f.size && mtime.Equal(f.mtime) {
		return
	}
	if size < f.size {
		f.peak = max(f.peak, f.size)
		f.ignored = false
	}
	f.size, f.mtime, f.changed, f.expire = size, mtime, now, false
	f.changes++
	f.dirty = !f.ignored
}

// check has a closed file opened and compared with its stream: its inode may
// have been used again within one tick of the clock.
func (f *file) check() {
	if f.open == nil && !f.ignored {
		f.dirty = true
	}
}

// active reports whether f is looked at in every poll.
func (f *file) active(now time.Time) bool {
	return !f.named || f.dirty || now.Sub(f.changed) < activeTime
}

// activeTime is how long after its last change a file is looked at in every
// poll; later it is found by the listing of its directory.
const activeTime = 10 * time.Second

// unread is how far the file is ahead of what is stored.
func (f *file) unread() int64 {
	if f.ignored {
		return 0
	}
	return max(0, f.size-f.st.stored())
}

// close closes the file, if it is open.
func (f *file) close() {
	if f.open != nil {
		_ = f.open.Close() // it was read only: there is nothing to lose
		f.open = nil
	}
}

// newStream makes a stream that no channel has heard of.
func (t *tailer) newStream(id fileid.ID) *stream {
	name := strconv.FormatUint(id.Dev, 16) + "-" + strconv.FormatUint(id.Ino, 10) + "-" + strconv.FormatUint(rand.Uint64(), 36)
	return &stream{id: name, name: t.env.Name + ":" + name, joined: !t.c.lines.Plain()}
}

// header sets the headers of f's events.
func (t *tailer) header(f *file) {
	f.headers = f.group.headers
	if t.c.fileHeader {
		f.headers = f.headers.With(t.c.fileHeaderKey, f.path)
	}
}
