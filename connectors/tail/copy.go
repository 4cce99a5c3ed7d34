package tail

import (
	"io/fs"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core/vfs"
)

// hold reports whether a new file looks like a copy of one that is followed,
// as logrotate's copytruncate makes it. It then waits: if the other one is
// truncated the copy continues it; if not, it is read as a file of its own.
func (t *tailer) hold(d *dir, name, path string, fi fs.FileInfo, now time.Time) bool {
	h, known := d.held[name]
	if known && h.size == fi.Size() && now.Sub(h.at) > holdTime {
		return false
	}
	alike := t.copied(d, name, path, fi)
	if alike && (!known || h.size != fi.Size()) {
		d.held[name] = held{fi.Size(), now}
	}
	return alike
}

// copied reports whether the file at path looks like a copy. An empty one does if
// it was just made: cp makes it first, and fills it then.
func (t *tailer) copied(d *dir, name, path string, fi fs.FileInfo) bool {
	if fi.Size() == 0 && !t.justMade(fi) {
		return false
	}
	var c vfs.File // open once there is something to compare it with
	open := func() (err error) {
		if c == nil {
			c, err = t.env.FS.OpenFile(path, openFlags, 0)
		}
		return err
	}
	defer func() {
		if c != nil {
			_ = c.Close() // it was read only: there is nothing to lose
		}
	}()
	// Rotation adds to the name: app.log, app.log.1, app-20260131.log. What was
	// copied may itself have been renamed since.
	compared := 0
	for _, r := range t.pending {
		if r.taken || filepath.Dir(r.path) != d.path || !kin(filepath.Base(r.path), name) {
			continue
		}
		if fi.Size() == 0 {
			return true
		}
		if open() != nil {
			return false
		}
		if r.tail.N > 0 && continues(r, c, fi.Size()) {
			return true
		}
		if compared == maxCompared || r.path == path {
			continue
		}
		compared++
		if t.begins(r.path, c, fi.Size()) {
			return true
		}
	}
	compared = 0
	for _, f := range t.files {
		if f.dir != d || f.released || !kin(f.name, name) {
			continue
		}
		// Of what nobody has read yet a copy is made while a source starts that knew the file, empty.
		if f.st.pos == 0 && !d.listed && !f.confirm {
			continue
		}
		if compared == maxCompared {
			break
		}
		compared++
		if f.st.pos == 0 && !t.filled(f) {
			continue
		}
		if fi.Size() == 0 {
			return true
		}
		if open() != nil {
			return false
		}
		if t.looksAlike(f, c, fi.Size()) {
			return true
		}
	}
	return false
}

// maxCompared bounds the cost where very many files have names alike.
const maxCompared = 64

func (t *tailer) justMade(fi fs.FileInfo) bool { return t.env.Now().Sub(fi.ModTime()) < time.Second }

// filled reports whether f has content. It may have got it since it was looked
// at: the copy may come first in a listing.
func (t *tailer) filled(f *file) bool {
	if f.size > 0 {
		return true
	}
	fi, err := t.env.FS.Stat(f.path)
	return err == nil && fi.Size() > 0
}

// looksAlike reports whether c may be a copy of f.
func (t *tailer) looksAlike(f *file, c vfs.File, size int64) bool {
	p := f.st.tail
	alike := p.N > 0 && size >= p.Off && p.In(c) || f.st.covers(c, size)
	of := f.open
	if of == nil {
		if of = t.openAt(f.path, f.id); of == nil {
			return alike
		}
		defer of.Close()
	}
	now, err := of.Stat()
	if err != nil {
		return alike
	}
	// What there is of the copy may still be there, in a generation that has not been read yet.
	if size <= now.Size() && startsWith(of, c, size) {
		return true
	}
	if now.Size() >= f.st.pos && p.In(of) {
		return false // f is what it was, and this is something else
	}
	return alike
}

// continues reports whether c has what was read of the file of a record, or ends
// within it.
func continues(r *record, c vfs.File, size int64) bool {
	st := stream{pos: max(r.pos, r.tail.Off), tail: r.tail, past: r.past}
	return size >= r.tail.Off && r.tail.In(c) || st.covers(c, size)
}

// begins reports whether c is the beginning of another file: the copy of it that
// is about to be truncated.
func (t *tailer) begins(other string, c vfs.File, size int64) bool {
	o, err := t.env.FS.OpenFile(other, openFlags, 0)
	if err != nil {
		return false
	}
	defer o.Close()
	return startsWith(o, c, size)
}

// startsWith reports whether f has the last of the size bytes of c at the same place.
func startsWith(f, c vfs.File, size int64) bool {
	last, err := fileid.Take(c, size)
	return err == nil && last.In(f)
}

// copyOf finds the copy that was made of f before it was truncated: a file in
// its directory that nobody follows, whose name begins as f's does, that is no
// older than what was read of f, and that has the same bytes before the
// position; or one that ends before the position: read says so. It is open, or nil.
func (t *tailer) copyOf(f *file) (open vfs.File, path string, fi fs.FileInfo, read bool) {
	if f.st.tail.N == 0 {
		return nil, "", nil, false
	}
	for dir, name := range f.homes() {
		names, err := t.env.FS.ReadDir(dir)
		if err != nil {
			continue
		}
		if open, path, fi, read = t.copyIn(f, dir, name, names); open != nil {
			return open, path, fi, read
		}
	}
	return nil, "", nil, false
}

// copyIn is copyOf in a directory where f had that name.
func (t *tailer) copyIn(f *file, dir, name string, names []fs.DirEntry) (open vfs.File, path string, fi fs.FileInfo, read bool) {
	p := f.st.tail
	for _, e := range names {
		if e.IsDir() || e.Name() == name || !kin(e.Name(), name) {
			continue
		}
		path = filepath.Join(dir, e.Name())
		var err error
		fi, err = t.env.FS.Stat(path)
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		id := fileid.Of(fi)
		t.stale(id, path, fi.Size())
		if old := t.byID[id]; old != nil && old != f && t.overwritten(old) {
			t.end(old) // a copy, and another is made in its place
		}
		if t.byID[id] != nil || t.recorded(id) {
			continue
		}
		open = t.openAt(path, id)
		if open == nil {
			continue
		}
		if read = fi.Size() < max(f.st.pos, p.Off); read {
			if f.st.covers(open, fi.Size()) {
				return open, path, fi, true
			}
		} else if !fi.ModTime().Before(f.read) && p.In(open) {
			return open, path, fi, false
		}
		_ = open.Close()
	}
	return nil, "", nil, false
}

// succeeded gives f's stream to a copy that was made of f, if there is one with
// something to read. One without is followed from its end.
func (t *tailer) succeeded(f *file) bool {
	open, path, fi, read := t.copyOf(f)
	if open == nil {
		return false
	}
	now := t.env.Now()
	st := f.st
	if read {
		st = t.newStream(fileid.Of(fi))
		st.at(fi.Size())
	}
	st.born = fileid.Born(open)
	// Outside of the patterns it goes by the name of what it was copied from.
	c := &file{id: fileid.Of(fi), dir: f.dir, group: f.group, name: f.name, path: f.path, headers: f.headers, st: st, open: open, changed: now, confirm: true, copied: true}
	t.follow(c)
	name := filepath.Base(path)
	if g := f.dir.match(name); g != nil && filepath.Dir(path) == f.dir.path {
		c.group, c.name, c.path, c.named = g, name, path, true
		c.listed = f.dir.listing
		f.dir.files[name] = c
		delete(f.dir.held, name)
		t.header(c)
	} else if filepath.Dir(path) != f.dir.path {
		c.real = path
	}
	c.saw(fi.Size(), fi.ModTime(), now)
	if read {
		return false
	}
	t.precede(f.dir, f.name, c)
	t.log.Info("file is gone or truncated, its copy is read on", "file", f.path, "copy", path, "bytes", fi.Size()-f.st.pos)
	return true
}

// overwritten reports whether f is a copy that no pattern leads to, and whose
// content is not what it was.
func (t *tailer) overwritten(f *file) bool {
	if f.named || !f.copied || f.open == nil {
		return false
	}
	fi, err := f.open.Stat()
	return err == nil && (fi.Size() < f.st.pos || !f.st.isIn(f.open))
}

// end releases a file whose content is gone, and counts what was not read of it.
func (t *tailer) end(f *file) {
	t.lostBytes.Add(max(0, max(f.peak, f.scanned)-f.st.pos))
	t.release(f)
}

// replaced begins a new stream for f: its content is not what it was. What was
// not read of it is looked for in a copy; rest says that there is some. A copy
// that no pattern leads to is released: its new content is another copy.
func (t *tailer) replaced(f *file) (rest bool) {
	if !f.named && f.copied {
		t.log.Info("copy has other content, it is left", "of", f.path)
		t.end(f)
		return false
	}
	old := f.st
	t.truncations.Add(1)
	rest = t.succeeded(f)
	if !rest {
		lost := max(0, max(f.peak, f.scanned)-old.pos)
		t.lostBytes.Add(lost)
		t.retire(old)
		t.log.Info("file was truncated or replaced, reading it from its beginning", "file", f.path, "read", old.pos, "bytes_lost_at_least", lost)
	}
	f.st = t.newStream(f.id)
	f.peak, f.scanned, f.long, f.skip, f.confirm, f.moved = 0, 0, false, false, false, false
	f.shrunk = true
	return rest
}
