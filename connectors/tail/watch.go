package tail

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core/vfs"
)

// dir is a directory that groups look into.
type dir struct {
	path    string
	groups  []*group
	files   map[string]*file // by name, those whose path leads to them
	held    map[string]held
	before  map[string]*file // by name, those that had it until now
	due     time.Time        // of the next listing
	listing uint64
	failing bool // it can not be listed, which was said
	listed  bool // once at least
}

// held is a file that looks like a copy being made of another: if that is
// truncated the copy continues it, else it is a file of its own.
type held struct {
	size int64
	at   time.Time
}

// holdTime is how long a copy must be at rest before it counts as a file of its own.
const holdTime = 5 * time.Second

// listShare bounds the time spent listing: a listing that took d is not
// repeated within listShare·d.
const listShare = 200

// look is the poll: it stats active files and lists the directories that are due.
func (t *tailer) look(now time.Time) {
	for _, f := range t.files {
		if f.active(now) && !f.released {
			t.stat(f, now)
		}
	}
	for _, d := range t.dirs {
		if !now.Before(d.due) {
			t.list(d, now)
		}
	}
	t.search()
}

// stat looks at one file again.
func (t *tailer) stat(f *file, now time.Time) {
	if f.named {
		t.entry(f.dir, f.name, now)
		return
	}
	if f.open == nil {
		return
	}
	if fi, err := f.open.Stat(); err == nil {
		f.saw(fi.Size(), fi.ModTime(), now)
	}
}

// list looks at every name in a directory.
func (t *tailer) list(d *dir, now time.Time) {
	begun := time.Now()
	d.due = now.Add(t.c.poll)
	names, err := t.env.FS.ReadDir(d.path)
	if err != nil {
		if !d.failing {
			d.failing = true
			t.log.Warn("directory cannot be listed, waiting for it", "dir", d.path, "error", err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			for _, f := range d.files {
				t.orphan(f)
			}
		} else {
			t.env.Metrics.EventReadFail.Add(1)
		}
		return
	}
	if d.failing {
		d.failing = false
		t.log.Info("directory is there", "dir", d.path)
	}
	if t.watcher != nil {
		// Again each time: the directory may have been replaced. An error
		// means that the poll must do.
		_ = t.watcher.Add(d.path)
	}
	d.listing++
	for _, e := range names {
		if !e.IsDir() {
			t.entry(d, e.Name(), now)
		}
	}
	for _, f := range d.files {
		if f.listed != d.listing {
			t.orphan(f)
		}
	}
	for name, h := range d.held {
		if now.Sub(h.at) > 10*holdTime {
			delete(d.held, name)
		}
	}
	if !d.listed {
		d.listed = true
		t.strays(d)
	}
	if t.c.cache {
		d.due = now.Add(max(t.c.poll, listShare*time.Since(begun)))
	}
}

// entry looks at one name.
func (t *tailer) entry(d *dir, name string, now time.Time) {
	g := d.match(name)
	if g == nil {
		return
	}
	path := filepath.Join(d.path, name)
	fi, err := t.env.FS.Stat(path)
	old := d.files[name]
	switch {
	case err == nil && fi.Mode().IsRegular():
	case err == nil || errors.Is(err, fs.ErrNotExist):
		if old != nil {
			t.orphan(old) // gone, or replaced by a directory
		}
		return
	default:
		if old != nil {
			old.listed = d.listing
		}
		return
	}
	id := fileid.Of(fi)
	if old != nil && old.id != id {
		t.orphan(old)
	}
	t.stale(id, path, fi.Size())
	f := t.byID[id]
	switch {
	case f == nil:
		f = t.discover(d, g, name, path, id, fi, now)
		if f == nil {
			return
		}
	case f.named && f.path == path:
	case f.named && t.leads(f):
		return // a second name of the same file
	default:
		t.rename(f, d, g, name, path)
	}
	f.listed = d.listing
	f.saw(fi.Size(), fi.ModTime(), now)
}

// stale releases the file that had an inode which the file at path has now.
func (t *tailer) stale(id fileid.ID, path string, size int64) {
	f := t.byID[id]
	if f != nil && f.path != path && f.open == nil && !t.leads(f) && t.reused(f.st, path, id, size) {
		t.release(f)
	}
}

// leads reports whether f's path still leads to it.
func (t *tailer) leads(f *file) bool {
	fi, err := t.env.FS.Stat(f.path)
	return err == nil && fileid.Of(fi) == f.id
}

// discover begins to follow a file, at its stored position if it has one. It
// returns nil if the file must wait.
func (t *tailer) discover(d *dir, g *group, name, path string, id fileid.ID, fi fs.FileInfo, now time.Time) *file {
	r := t.claim(id, path)
	if r != nil && r.path != path && r.stream != "" {
		st := t.recall(r)
		if t.reused(st, path, id, fi.Size()) {
			t.retire(st)
			r = nil
		}
	}
	if r == nil && !t.skipping && t.hold(d, name, path, fi, now) {
		return nil
	}
	delete(d.held, name)
	f := &file{id: id, dir: d, group: g, name: name, path: path, changed: now}
	switch {
	case r != nil:
		t.resume(f, r, fi.Size())
		f.moved = f.moved && r.path != path
		if r.path != path && filepath.Dir(r.path) == d.path {
			t.precede(d, filepath.Base(r.path), f)
		}
	case t.skipping:
		f.st = t.newStream(id)
		f.st.at(fi.Size())
		f.size, f.mtime = fi.Size(), fi.ModTime()
	default:
		f.st = t.newStream(id)
	}
	t.follow(f)
	f.named = true
	d.files[name] = f
	d.succeed(name, f)
	t.header(f)
	f.resolve()
	return f
}

// follow adds a file.
func (t *tailer) follow(f *file) {
	t.byID[f.id] = f
	t.files = append(t.files, f)
	f.moves = f.st.stored()
	t.changed = true
}

// rename gives a file that is followed another path.
func (t *tailer) rename(f *file, d *dir, g *group, name, path string) {
	if f.named && f.dir.files[f.name] == f {
		delete(f.dir.files, f.name)
		t.precede(f.dir, f.name, f)
	}
	t.log.Info("file was renamed", "from", f.path, "to", path)
	f.dir, f.group, f.name, f.path, f.named = d, g, name, path, true
	d.files[name] = f
	d.succeed(name, f)
	t.header(f)
	f.resolve()
	t.changed = true
	f.check()
}

// orphan says that a file's path does not lead to it any more. If it is open
// it is read to its end; else search looks for it.
func (t *tailer) orphan(f *file) {
	if f.dir.files[f.name] == f {
		delete(f.dir.files, f.name)
		t.precede(f.dir, f.name, f)
	}
	f.named = false
	f.dir.due = time.Time{} // it may have another name there
	if f.open == nil {
		// It may have one in any directory: all are listed before it counts as gone.
		for _, d := range t.dirs {
			d.due = time.Time{}
		}
		t.lost = append(t.lost, f)
	}
}

// claim takes the record of a file.
func (t *tailer) claim(id fileid.ID, path string) *record {
	for _, r := range t.byIno[id.Ino] {
		switch {
		case r.taken:
		case !r.anyDev && r.id.Dev != id.Dev:
		case r.anyDev && r.path != path && !strings.HasPrefix(filepath.Base(path), filepath.Base(r.path)):
			// Flume's own rule is: the same path. A rotated name is believed too.
		default:
			r.taken = true
			return r
		}
	}
	return nil
}

// resume sets f's stream and position from a record.
func (t *tailer) resume(f *file, r *record, size int64) {
	if r.stream == "" {
		f.st = t.newStream(f.id)
		f.st.at(r.pos)
		f.moved = true
	} else {
		f.st = t.recall(r)
	}
	f.confirm = true
	f.read = time.Unix(0, r.mtime)
	if size == f.st.pos {
		// At rest, unless its time differs from what it was.
		f.size, f.mtime = size, f.read
	}
}

// recall makes the stream of a record, at the position that the channels have or else the record.
func (t *tailer) recall(r *record) *stream {
	st := &stream{
		id: r.stream, name: t.env.Name + ":" + r.stream, tail: r.tail, past: slices.Clone(r.past), born: r.born, kept: r.tail.N > 0,
		joined: !t.c.lines.Plain(),
	}
	if r.texts == nil {
		pos := r.pos
		if p, ok := t.out.Position(st.name); ok {
			pos = p
		}
		st.at(pos)
		return st
	}
	// What the channels have of a text may end long before what was read of it
	// and gave no event.
	texts := *r.texts
	for text := range lines.Stream(lines.Streams) {
		if p, ok := t.out.Position(text.Of(st.name)); ok {
			texts[text] = max(texts[text], p)
		}
	}
	if st.joined || texts.Safe() == texts[lines.Raw] {
		st.resume(texts)
		return st
	}
	// The keys were removed, and the channels have more of what will be the one
	// text than is safe: it comes again, under another name.
	t.retire(st)
	next := t.newStream(r.id)
	next.tail, next.past, next.born = st.tail, st.past, st.born
	next.at(texts.Safe())
	return next
}

// forget gives up a record.
func (t *tailer) forget(r *record) {
	if r.stream != "" {
		t.retire(t.recall(r))
	}
}

// reused reports whether the file at path, which has the inode of st's file but
// another name, is another file: made at another time or, where that is not
// known, with other content. If it is the same one it may still have been
// truncated; reading it will tell.
func (t *tailer) reused(st *stream, path string, id fileid.ID, size int64) bool {
	f := t.openAt(path, id)
	if f == nil {
		return false
	}
	defer f.Close()
	if at := fileid.Born(f); at != 0 && st.born != 0 {
		return at != st.born
	}
	return size < max(st.pos, st.tail.Off) || !st.tail.In(f)
}

// strays looks for the files of a directory's records that no pattern has
// found: rotated away while nobody looked, or gone.
func (t *tailer) strays(d *dir) {
	for _, r := range t.pending {
		if r.taken || filepath.Dir(r.path) != d.path {
			continue
		}
		r.taken = true
		name := filepath.Base(r.path)
		g := d.match(name)
		if r.stream == "" || g == nil || t.byID[r.id] != nil {
			// Flume does not look for them either; or no group wants it; or the inode is used again.
			t.forget(r)
			continue
		}
		f := &file{id: r.id, dir: d, group: g, name: name, path: r.path, real: r.real, copied: r.copied, changed: t.env.Now()}
		t.resume(f, r, -1)
		f.size, f.mtime = f.st.pos, f.read
		t.header(f)
		t.follow(f)
		t.precede(d, name, f)
		t.lost = append(t.lost, f)
	}
	t.pending = slices.DeleteFunc(t.pending, func(r *record) bool { return r.taken })
}

// recorded reports whether a record waits for id.
func (t *tailer) recorded(id fileid.ID) bool {
	for _, r := range t.byIno[id.Ino] {
		if !r.taken && (r.anyDev || r.id.Dev == id.Dev) {
			return true
		}
	}
	return false
}

// resolve takes note of where a path leads that is a symbolic link, or in a
// directory that is: what is rotated is there.
func (f *file) resolve() {
	f.real = ""
	if real, err := filepath.EvalSymlinks(f.path); err == nil && real != f.path {
		f.real = real
	}
}

// homes returns the directories where f may be under another name, and for each
// the name that it had there.
func (f *file) homes() map[string]string {
	h := map[string]string{f.dir.path: f.name}
	if f.real != "" {
		h[filepath.Dir(f.real)] = filepath.Base(f.real)
	}
	return h
}

// search looks for the files that lost their name while they were not open: by
// inode, among the names in their directories that begin as the old one does.
func (t *tailer) search() {
	if len(t.lost) == 0 {
		return
	}
	lost := slices.DeleteFunc(t.lost, func(f *file) bool { return f.named || f.open != nil || f.released })
	t.lost = nil
	type listing struct {
		names []fs.DirEntry
		err   error
	}
	listings := make(map[string]listing)
	for _, f := range lost {
		found, unknown := false, false
		for dir, name := range f.homes() {
			l, ok := listings[dir]
			if !ok {
				l.names, l.err = t.env.FS.ReadDir(dir)
				listings[dir] = l
			}
			// What a link led to goes with its directory; of ours nothing is known without it.
			unknown = unknown || l.err != nil && (dir == f.dir.path || !errors.Is(l.err, fs.ErrNotExist))
			if found = t.find(f, dir, name, l.names); found {
				break
			}
		}
		switch {
		case found:
		case unknown:
			t.lost = append(t.lost, f)
		// Few bytes alike prove little where nothing else says "copy".
		case f.st.tail.N == fileid.Bytes && t.succeeded(f):
			t.drop(f)
		default:
			t.release(f)
		}
	}
}

// find opens a lost file under its new name in a directory where it had that name.
func (t *tailer) find(f *file, dir, name string, names []fs.DirEntry) bool {
	for _, e := range names {
		if e.IsDir() || !strings.HasPrefix(e.Name(), stem(name)) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		fi, err := t.env.FS.Stat(path)
		if err != nil || fileid.Of(fi) != f.id {
			continue
		}
		open := t.openAt(path, f.id)
		if open == nil {
			return false
		}
		if made := fileid.Born(open); made != 0 && f.st.born != 0 {
			// It may have been truncated; reading will tell.
			if made != f.st.born {
				_ = open.Close()
				return false
			}
			f.confirm = true
		} else if fi.Size() < max(f.st.pos, f.st.tail.Off) || !f.st.tail.In(open) {
			_ = open.Close() // another file with that inode
			return false
		}
		f.open = open
		f.saw(fi.Size(), fi.ModTime(), t.env.Now())
		if f.size > f.st.pos {
			t.log.Info("file was rotated away, reading its rest", "file", f.path, "now", path, "bytes", f.size-f.st.pos)
		}
		return true
	}
	return false
}

// openAt opens a path if it leads to id.
func (t *tailer) openAt(path string, id fileid.ID) vfs.File {
	f, err := t.env.FS.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil
	}
	if fi, err := f.Stat(); err != nil || fileid.Of(fi) != id {
		_ = f.Close()
		return nil
	}
	return f
}

// release ends the following of a file that is gone.
func (t *tailer) release(f *file) {
	t.drop(f)
	t.retire(f.st)
}

// drop is release where the stream goes on.
func (t *tailer) drop(f *file) {
	f.close()
	f.released, f.dirty = true, false
	t.changed = true
	if f.dir.files[f.name] == f {
		delete(f.dir.files, f.name)
	}
	if t.byID[f.id] == f {
		delete(t.byID, f.id)
	}
}

// retire lets the channels forget a stream, once they have stored all of it.
func (t *tailer) retire(st *stream) {
	if st.join != nil {
		t.left = append(t.left, st)
		return
	}
	t.retired = append(t.retired, st)
}

// note takes in an event of the watcher: a hint, never truth. It returns the
// file that the name leads to, if that is followed.
func (t *tailer) note(e fsnotify.Event, now time.Time) *file {
	path, name := filepath.Split(e.Name)
	path = filepath.Clean(path)
	for _, d := range t.dirs {
		if d.path != path {
			continue
		}
		if f := d.files[name]; f == nil || !f.dirty || !e.Has(fsnotify.Write) {
			t.entry(d, name, now)
		}
		f := d.files[name]
		if f != nil && e.Has(fsnotify.Create) {
			f.check()
		}
		return f
	}
	return nil
}
