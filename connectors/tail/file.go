package tail

import (
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// identity is what stays of a file when it is renamed.
type identity struct{ dev, ino uint64 }

func identify(fi fs.FileInfo) identity {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return identity{uint64(st.Dev), st.Ino} //nolint:unconvert // int32 on darwin
	case *vfs.MemStat:
		return identity{0, st.Ino}
	}
	return identity{}
}

// stream is one generation of a file's content.
type stream struct {
	id   string // random; the name in the channels has the source's name before it
	name string
	pos  int64        // read and handed to the outlet up to here
	sent int64        // position of the last batch; less than pos where bytes gave no event
	done atomic.Int64 // stored up to here
	tail print
	past []print // some earlier ones, the oldest first
	born int64   // when its file was made, ns; 0: not known
	kept bool    // its name is on disk
}

// isIn reports whether an open file has the stream's content, and takes note of
// when it was made.
func (st *stream) isIn(f vfs.File) bool {
	at := born(f)
	if st.born != 0 && at != 0 && at != st.born || !st.tail.in(f) {
		return false
	}
	st.born = at
	return true
}

// stored is the position that may be written down. What follows the last batch
// and gave no event counts as stored with it.
func (st *stream) stored() int64 {
	if d := st.done.Load(); d < st.sent {
		return d
	}
	return st.pos
}

// reached takes note of the fingerprint before a new position. Some earlier
// ones are kept, all along the stream: by them a copy is known that ends behind
// the position.
func (st *stream) reached(p print) {
	const most = 16
	if n := len(st.past); n == 0 || st.tail.off-st.past[n-1].off >= st.tail.off/most {
		if n == most {
			for i := range most / 2 {
				st.past[i] = st.past[2*i]
			}
			st.past = st.past[:most/2]
		}
		if st.tail.n > 0 {
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
	if st.tail.n > 0 && st.tail.off <= size {
		return st.tail.in(f)
	}
	for i := len(st.past) - 1; i >= 0; i-- {
		if st.past[i].off <= size {
			return st.past[i].in(f)
		}
	}
	return false
}

// at rests the stream at a position.
func (st *stream) at(pos int64) {
	st.pos, st.sent = pos, pos
	st.done.Store(pos)
}

// print is the fingerprint of a stream: the checksum of the n bytes before an
// offset. The bytes before a position tell more than the first ones of a file:
// those are often the same in every file of a program.
type print struct {
	off int64
	n   int
	sum uint32
}

const printBytes = 256

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// printOf is the fingerprint at off of a file of which read ends there.
func printOf(off int64, read []byte) print {
	read = read[max(0, len(read)-printBytes):]
	return print{off, len(read), crc32.Checksum(read, castagnoli)}
}

// possible reports whether p may be of a file at all.
func (p print) possible() bool { return p.n <= printBytes && p.n >= 0 && int64(p.n) <= p.off }

// in reports whether f has the bytes.
func (p print) in(f vfs.File) bool {
	if p.n == 0 {
		return true
	}
	q, err := printAt(f, p.off, p.n)
	return err == nil && q == p
}

// printAt reads the fingerprint at off.
func printAt(f vfs.File, off int64, n int) (print, error) {
	var buf [printBytes]byte
	n = int(min(int64(n), off))
	if _, err := f.ReadAt(buf[:n], off-int64(n)); err != nil {
		return print{}, err
	}
	return printOf(off, buf[:n]), nil
}

// file is one inode, followed as long as it may have something new.
type file struct {
	id      identity
	dir     *dir
	group   *group
	name    string // its last one in dir
	path    string // dir and name
	named   bool   // the path still leads to it
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
	moves    int64 // the stored position when last looked at
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
func (t *tailer) newStream(id identity) *stream {
	name := strconv.FormatUint(id.dev, 16) + "-" + strconv.FormatUint(id.ino, 10) + "-" + strconv.FormatUint(rand.Uint64(), 36)
	return &stream{id: name, name: t.env.Name + ":" + name}
}

// header sets the headers of f's events.
func (t *tailer) header(f *file) {
	f.headers = f.group.headers
	if t.c.fileHeader {
		f.headers = f.headers.With(t.c.fileHeaderKey, f.path)
	}
}
