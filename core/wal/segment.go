package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/millrace/millrace/core/vfs"
)

// segment is a live segment: one that holds events not acked, or the current one.
type segment struct {
	listed
	path string
	salt uint32 // 0 where the header has rotted: any is taken
	left int64  // events not acked, as far as is stored
}

func name(number, first uint64) string { return fmt.Sprintf("%08d-%020d.wal", number, first) }

// holds says that s was stored in the segment. Puts come in order.
func (g *segment) holds(s Range, bytes int64) {
	if g.seqs.Len() == 0 {
		g.seqs = s
	} else {
		g.seqs.To = s.To
	}
	g.bytes += bytes
	g.left += int64(s.Len())
}

// current is the segment being written.
type current struct {
	*segment
	file   vfs.File
	off    int64 // where the next frame goes
	synced int64 // what the promise of the next frames is
	space  int64 // reserved up to here
	fresh  bool  // nothing in it is stored yet
}

// write writes g and syncs it. On error nothing of g counts as stored.
func (l *Log) write(g *group) error {
	if !g.writes() {
		return nil
	}
	if l.cur != nil && l.cur.off >= l.opt.SegmentBytes {
		l.seal()
	}
	buf := l.buf[:0]
	if l.cur == nil {
		var err error
		if buf, err = l.begin(buf); err != nil {
			return err
		}
	}
	c := l.cur
	next := l.state.next // changed by this goroutine only
	for _, p := range g.puts {
		at := len(buf)
		next = max(next, p.First+uint64(p.Len()))
		if p.writes() {
			buf = appendPut(buf, p, c.salt, c.synced)
		}
		p.At = Extent{c.number, c.off + int64(at), c.off + int64(len(buf)), Range{p.First, p.First + uint64(p.Len())}}
	}
	if len(g.seqs) > 0 || len(g.marks) > 0 {
		at := len(buf)
		buf = startFrame(buf)
		buf = appendSinkMarks(appendRanges(buf, g.seqs), g.marks)
		buf = endFrame(buf, at, frame{kind: kindAck, flags: flagLast, first: next, promise: c.synced, time: l.opt.Now().UnixNano(), salt: c.salt})
	}
	if l.buf = buf; cap(buf) > 2*groupTarget {
		l.buf = nil // one huge transaction must not hold its memory for ever
	}
	if err := l.put(buf); err != nil {
		l.distrust(err)
		return err
	}
	return nil
}

// put writes buf at the end of the current segment, and syncs it.
func (l *Log) put(buf []byte) error {
	c := l.cur
	end := c.off + int64(len(buf))
	if end > c.space {
		step := min(allocStep, l.opt.SegmentBytes)
		want := (end + step - 1) / step * step
		switch err := c.file.Allocate(c.space, want-c.space); {
		case err == nil:
			c.space = want
		case !errors.Is(err, syscall.ENOSPC): // a full step is not there, but perhaps enough for buf
			return err
		}
	}
	if _, err := c.file.WriteAt(buf, c.off); err != nil {
		return err
	}
	if l.opt.SyncEvery == 0 || c.fresh {
		if err := l.sync(); err != nil {
			return &syncError{err}
		}
		c.synced = end
	} else {
		l.dirty = true
	}
	c.off = end
	l.mu.Lock()
	c.length = end
	if c.fresh {
		c.fresh = false
		l.live[c.number] = c.segment
	}
	l.mu.Unlock()
	return nil
}

type syncError struct{ error }

func (e *syncError) Unwrap() error { return e.error }

func (l *Log) sync() error {
	err := l.cur.file.Sync()
	l.mu.Lock()
	l.stats.Syncs++
	l.mu.Unlock()
	return err
}

// begin makes a new segment. Its header and head go into buf, to be written
// with the first group: before that nothing refers to it.
func (l *Log) begin(buf []byte) ([]byte, error) {
	dir := l.opt.Dirs[l.turn%len(l.opt.Dirs)]
	l.turn++
	l.number++ // used up even if this fails: a file of that name may be left
	l.mu.Lock()
	first := l.state.next
	l.state.segments = l.state.segments[:0]
	for _, g := range l.live {
		l.state.segments = append(l.state.segments, g.listed)
	}
	slices.SortFunc(l.state.segments, func(a, b listed) int { return int(int64(a.number) - int64(b.number)) })
	h := header{salt: rand.Uint32() | 1, number: l.number, first: first, time: l.opt.Now().UnixNano()}
	buf = h.append(buf)
	buf = startFrame(buf)
	buf = appendHead(buf, l.state)
	l.mu.Unlock()
	buf = endFrame(buf, headerSize, frame{kind: kindHead, flags: flagLast, first: first, time: h.time, salt: h.salt})

	path := filepath.Join(dir, name(h.number, h.first))
	f, err := l.opt.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	g := &segment{listed: listed{number: h.number, first: h.first}, path: path, salt: h.salt}
	l.cur = &current{segment: g, file: f, fresh: true}
	if err := l.opt.FS.SyncDir(dir); err != nil {
		l.distrust(err)
		return nil, err
	}
	return buf, nil
}

// distrust gives the current segment up after a failed write or sync. Its
// trusted length stays what it was after the last good group.
func (l *Log) distrust(err error) {
	c := l.cur
	if !c.fresh && errors.Is(err, syscall.ENOSPC) && !errors.As(err, new(*syncError)) {
		return // written again in place once there is room
	}
	l.cur, l.dirty = nil, false
	l.closeFile(c.file)
	if c.fresh {
		if err := l.opt.FS.Remove(c.path); err != nil {
			l.opt.Log.Warn("cannot remove an unused segment", "error", err)
		}
	}
}

func (l *Log) closeFile(f vfs.File) {
	if err := f.Close(); err != nil {
		// What counts is synced or given up already.
		l.opt.Log.Warn("cannot close a segment", "error", err)
	}
}

// seal ends the current segment. If that fails it just lacks its seal: what it
// holds is stored, and its length goes into the next head.
func (l *Log) seal() {
	c := l.cur
	l.cur = nil
	defer l.closeFile(c.file)
	err := error(nil)
	if l.dirty {
		err = c.file.Sync()
		l.dirty = false
	}
	if err == nil {
		buf := startFrame(l.buf[:0])
		for _, v := range [...]uint64{c.seqs.From, c.seqs.To, uint64(c.bytes)} {
			buf = binary.AppendUvarint(buf, v)
		}
		buf = endFrame(buf, 0, frame{kind: kindSeal, flags: flagLast, first: c.seqs.To, promise: c.off, time: l.opt.Now().UnixNano(), salt: c.salt})
		if _, err = c.file.WriteAt(buf, c.off); err == nil {
			if err = c.file.Truncate(c.off + int64(len(buf))); err == nil {
				err = c.file.Sync()
			}
		}
	}
	if err != nil {
		l.opt.Log.Warn("cannot seal a segment; a new one is begun", "segment", c.path, "error", err)
	}
}

// syncNow is the periodic sync of SyncEvery.
func (l *Log) syncNow() {
	if !l.dirty {
		return
	}
	l.dirty = false
	if err := l.sync(); err != nil {
		// The events were answered long ago; all that can be done is not to
		// build on this file, and to say so.
		l.opt.Log.Error("cannot sync the log; events that were answered may not survive a crash", "segment", l.cur.path, "error", err)
		l.closeFile(l.cur.file)
		l.cur = nil
		return
	}
	l.cur.synced = l.cur.off
	l.reclaim()
}

// finish ends the committer: the log is left sealed.
func (l *Log) finish() {
	if l.cur != nil {
		l.seal()
	}
}

// reclaim removes segments whose events are all acked. It is called when all
// that is written is synced and a newer head is on disk, so no crash can bring
// their events back without the acks, or lose a mark stored with the acks.
func (l *Log) reclaim() {
	if l.cur == nil {
		return
	}
	var dead []*segment
	l.mu.Lock()
	for n, g := range l.live {
		if g.left == 0 && g != l.cur.segment {
			dead = append(dead, g)
			delete(l.live, n)
		}
	}
	l.mu.Unlock()
	if len(dead) == 0 {
		return
	}
	dirs := map[string]bool{}
	for _, g := range dead {
		l.forgetReader(g.number)
		err := error(nil)
		if g.damaged {
			err = l.opt.FS.Rename(g.path, g.path[:len(g.path)-len(".wal")]+".damaged")
		} else {
			err = l.opt.FS.Remove(g.path)
		}
		if err != nil {
			l.opt.Log.Warn("cannot remove a delivered segment", "segment", g.path, "error", err)
		}
		dirs[filepath.Dir(g.path)] = true
	}
	for dir := range dirs {
		if err := l.opt.FS.SyncDir(dir); err != nil {
			// Then a crash may bring them back; recovery removes them again.
			l.opt.Log.Warn("cannot sync a directory", "dir", dir, "error", err)
		}
	}
}
