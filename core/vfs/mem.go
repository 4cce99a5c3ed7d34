package vfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// page is the unit in which Mem remembers what is not synced.
const page = 512

// Mem is a file system in memory that knows what would survive a crash. It is
// made for tests: one mutex guards all of it.
type Mem struct {
	mu     sync.Mutex
	root   *node
	locked map[string]bool
	inodes uint64
	used   int64
	total  int64
	last   *node // the file written last: the one a crash may tear
	now    func() time.Time
}

// MemStat is what Stat's Sys() gives for a Mem.
type MemStat struct{ Ino uint64 }

// node is a file or a directory. Of a directory's entries, stable are those a
// crash keeps for certain; pending are the changes since.
type node struct {
	ino   uint64
	dir   bool
	mode  fs.FileMode
	mtime time.Time

	entries map[string]*node
	stable  map[string]*node
	pending []*change

	data  []byte
	size  int64            // synced size
	dirty map[int64][]byte // page number -> its synced content, for pages written since
	lost  map[int64][]byte // the same for pages that a failed sync has given up
}

// change is one change of names, in one directory or (a rename) in two.
type change struct {
	set  map[*node]map[string]*node // directory -> name -> node, nil to remove
	done bool                       // synced in one of its directories, hence kept
}

// NewMem returns an empty file system with an endless volume.
func NewMem() *Mem {
	m := &Mem{locked: map[string]bool{}, total: 1 << 50, now: time.Now}
	m.root = m.newDir(0o755)
	return m
}

// SetVolume makes the volume total bytes large; what is beyond is ENOSPC.
func (m *Mem) SetVolume(total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total = total
}

func (m *Mem) newDir(mode fs.FileMode) *node {
	m.inodes++
	return &node{ino: m.inodes, dir: true, mode: mode | fs.ModeDir, mtime: m.now(), entries: map[string]*node{}, stable: map[string]*node{}}
}

func split(name string) []string {
	return strings.FieldsFunc(path.Clean(name), func(r rune) bool { return r == '/' })
}

// find returns the directory that holds name, the last element, and the node
// itself if it is there.
func (m *Mem) find(op, name string) (dir *node, base string, n *node, err error) {
	parts := split(name)
	if len(parts) == 0 || parts[0] == "." {
		return nil, "", m.root, nil
	}
	dir = m.root
	for _, p := range parts[:len(parts)-1] {
		next := dir.entries[p]
		if next == nil {
			return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		if !next.dir {
			return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		dir = next
	}
	base = parts[len(parts)-1]
	return dir, base, dir.entries[base], nil
}

// apply changes names now, and remembers that the change is not synced.
func apply(c *change) {
	for d, names := range c.set {
		for name, n := range names {
			if n == nil {
				delete(d.entries, name)
			} else {
				d.entries[name] = n
			}
		}
		d.pending = append(d.pending, c)
	}
}

func link(d *node, name string, n *node) {
	apply(&change{set: map[*node]map[string]*node{d: {name: n}}})
}

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return fail(fs.ErrNotExist)
	case n == nil:
		m.inodes++
		n = &node{ino: m.inodes, mode: perm, mtime: m.now(), dirty: map[int64][]byte{}, lost: map[int64][]byte{}}
		link(dir, base, n)
	case flag&os.O_EXCL != 0:
		return fail(fs.ErrExist)
	case n.dir && flag&(os.O_WRONLY|os.O_RDWR) != 0:
		return fail(syscall.EISDIR)
	}
	f := &memFile{m: m, n: n, name: name, flag: flag}
	if flag&os.O_TRUNC != 0 && !n.dir {
		m.truncate(n, 0)
	}
	return f, nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.root
	for _, p := range split(dir) {
		n := d.entries[p]
		if n == nil {
			n = m.newDir(perm)
			link(d, p, n)
		}
		if !n.dir {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		d = n
	}
	return nil
}

// Remove implements FS. Open files keep their content, as on Unix.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, n, err := m.find("remove", name)
	switch {
	case err != nil:
		return err
	case n == nil:
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case dir == nil || len(n.entries) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	m.used -= int64(len(n.data))
	link(dir, base, nil)
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fromDir, from, n, err := m.find("rename", oldname)
	if err != nil {
		return err
	}
	toDir, to, old, err := m.find("rename", newname)
	if err != nil {
		return err
	}
	if n == nil || fromDir == nil || toDir == nil {
		return &fs.PathError{Op: "rename", Path: oldname, Err: fs.ErrNotExist}
	}
	if n == old {
		return nil
	}
	if old != nil {
		m.used -= int64(len(old.data))
	}
	c := &change{set: map[*node]map[string]*node{fromDir: {from: nil}}}
	if c.set[toDir] == nil {
		c.set[toDir] = map[string]*node{}
	}
	c.set[toDir][to] = n
	apply(c)
	return nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return n.info(base), nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find("readdir", dir)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: fs.ErrNotExist}
	}
	var list []fs.DirEntry
	for name, e := range n.entries {
		list = append(list, fs.FileInfoToDirEntry(e.info(name)))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return list, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find("sync", dir)
	if err != nil {
		return err
	}
	if n == nil || !n.dir {
		return &fs.PathError{Op: "sync", Path: dir, Err: fs.ErrNotExist}
	}
	for _, c := range n.pending {
		c.done = true
	}
	n.pending = nil
	n.stable = maps.Clone(n.entries)
	return nil
}

type memLock struct {
	m    *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locked, l.name)
	})
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	if m.locked[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	m.locked[name] = true
	return &memLock{m: m, name: name}, nil
}

// Space implements FS.
func (m *Mem) Space(string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, m.total-m.used), m.total, nil
}

type memInfo struct {
	name string
	size int64
	mode fs.FileMode
	time time.Time
	ino  uint64
}

func (n *node) info(name string) fs.FileInfo {
	return memInfo{name, int64(len(n.data)), n.mode, n.mtime, n.ino}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.time }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return &MemStat{Ino: i.ino} }

var errWriteOnly = errors.New("file is not open for this")
