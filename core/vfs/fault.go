package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Kind is a kind of file operation that a Fault sees.
type Kind string

// The kinds of operation. Reads are counted apart from the rest: they change
// nothing, so a crash at one is a crash at the operation before it.
const (
	OpAny      Kind = "" // any that changes something
	OpCreate   Kind = "create"
	OpOpen     Kind = "open"
	OpMkdir    Kind = "mkdir"
	OpRemove   Kind = "remove"
	OpRename   Kind = "rename"
	OpSyncDir  Kind = "syncdir"
	OpLock     Kind = "lock"
	OpRead     Kind = "read"
	OpWrite    Kind = "write"
	OpTruncate Kind = "truncate"
	OpSync     Kind = "sync"
	OpAllocate Kind = "allocate"
)

// ErrCrashed is what every operation returns from a scripted crash on.
var ErrCrashed = errors.New("the machine has crashed (fault injection)")

// Rule is one line of a fault script.
type Rule struct {
	Kind  Kind   // OpAny: whatever changes something
	Path  string // pattern for the base name, as in filepath.Match; empty: any
	Point string // the name the operation has by the Fault's Namer; empty: any
	At    int    // the 1-based number of the matching operation at which it strikes
	Times int    // and how many matching ones in a row; 0: one; negative: all later ones
	Err   error  // what is returned; for a failed Sync of a Mem the unsynced pages are lost
	Short bool   // a write does half of its work before it fails
	Crash bool   // the operation may be half done, and everything later fails with ErrCrashed
}

// Namer gives an operation that changes something the name of its fault point:
// what it does to which file. p is what a write writes, else nil.
type Namer func(k Kind, name string, p []byte) string

// Fault is an FS that follows a script. It may be changed at any time.
type Fault struct {
	inner   FS
	namer   Namer
	mu      sync.Mutex
	rules   []*rule
	ops     int
	counts  map[Kind]int
	points  []string // of all operations so far, with a namer
	struck  []string // those at which a rule struck
	crashed bool
}

type rule struct {
	Rule
	seen int
}

// NewFault wraps inner.
func NewFault(inner FS, script ...Rule) *Fault {
	f := &Fault{inner: inner, counts: map[Kind]int{}}
	f.Add(script...)
	return f
}

// NewNamedFault wraps inner and gives its operations names.
func NewNamedFault(inner FS, namer Namer, script ...Rule) *Fault {
	f := NewFault(inner, script...)
	f.namer = namer
	return f
}

// Points returns the fault points of all operations so far, in order.
func (f *Fault) Points() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.points)
}

// Struck returns the fault points at which rules have struck, in order.
func (f *Fault) Struck() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.struck)
}

// Add appends rules; their counting starts now.
func (f *Fault) Add(script ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range script {
		if r.Err == nil {
			r.Err = fmt.Errorf("injected fault: %w", errIO)
		}
		f.rules = append(f.rules, &rule{Rule: r})
	}
}

// Clear drops all rules; a crash stays.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Crash makes every later operation fail with ErrCrashed.
func (f *Fault) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Crashed reports whether the crash has come.
func (f *Fault) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Ops returns how many operations were asked for that change something.
func (f *Fault) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Count returns how many operations of one kind were asked for.
func (f *Fault) Count(k Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[k]
}

var errIO = errors.New("input/output error")

// enter judges one operation: err is what it returns; do says whether it is
// done nevertheless (wholly, or half with short).
func (f *Fault) enter(k Kind, name string, p []byte) (do, short bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return false, false, ErrCrashed
	}
	changes := k != OpRead && k != OpOpen
	point := ""
	if changes {
		f.ops++
		if f.namer != nil {
			point = f.namer(k, name, p)
			f.points = append(f.points, point)
		}
	}
	f.counts[k]++
	for _, r := range f.rules {
		if r.Kind != k && (r.Kind != OpAny || !changes) {
			continue
		}
		if r.Path != "" {
			if ok, _ := filepath.Match(r.Path, filepath.Base(name)); !ok {
				continue
			}
		}
		if r.Point != "" && r.Point != point {
			continue
		}
		r.seen++
		times := max(r.Times, 1)
		if r.seen < r.At || r.Times >= 0 && r.seen >= r.At+times {
			continue
		}
		f.struck = append(f.struck, point)
		if r.Crash {
			f.crashed = true
			// What changes memory only may have happened; a sync has not.
			return k != OpSync && k != OpSyncDir, r.Short, ErrCrashed
		}
		return r.Short, r.Short, &fs.PathError{Op: string(k), Path: name, Err: r.Err}
	}
	return true, false, nil
}

// run does one operation that is done wholly or not at all.
func (f *Fault) run(k Kind, name string, op func() error) error {
	do, _, err := f.enter(k, name, nil)
	if do {
		if e := op(); err == nil {
			err = e
		}
	}
	return err
}

// OpenFile implements FS.
func (f *Fault) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	k := OpOpen
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		k = OpCreate
	}
	do, _, err := f.enter(k, name, nil)
	if !do {
		return nil, err
	}
	file, e := f.inner.OpenFile(name, flag, perm)
	if e != nil {
		return nil, e
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &faultFile{File: file, f: f}, nil
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(dir string, perm fs.FileMode) error {
	return f.run(OpMkdir, dir, func() error { return f.inner.MkdirAll(dir, perm) })
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	return f.run(OpRemove, name, func() error { return f.inner.Remove(name) })
}

// Rename implements FS.
func (f *Fault) Rename(oldname, newname string) error {
	return f.run(OpRename, oldname, func() error { return f.inner.Rename(oldname, newname) })
}

// Stat implements FS.
func (f *Fault) Stat(name string) (info fs.FileInfo, err error) {
	err = f.run(OpRead, name, func() (err error) { info, err = f.inner.Stat(name); return err })
	return info, err
}

// ReadDir implements FS.
func (f *Fault) ReadDir(dir string) (list []fs.DirEntry, err error) {
	err = f.run(OpRead, dir, func() (err error) { list, err = f.inner.ReadDir(dir); return err })
	return list, err
}

// SyncDir implements FS.
func (f *Fault) SyncDir(dir string) error {
	return f.run(OpSyncDir, dir, func() error { return f.inner.SyncDir(dir) })
}

// Lock implements FS.
func (f *Fault) Lock(name string) (c io.Closer, err error) {
	err = f.run(OpLock, name, func() (err error) { c, err = f.inner.Lock(name); return err })
	if err != nil && c != nil {
		c.Close()
		c = nil
	}
	return c, err
}

// Space implements FS.
func (f *Fault) Space(dir string) (free, total int64, err error) {
	err = f.run(OpRead, dir, func() (err error) { free, total, err = f.inner.Space(dir); return err })
	return free, total, err
}

type faultFile struct {
	File
	f *Fault
}

func (t *faultFile) Read(p []byte) (n int, err error) {
	e := t.f.run(OpRead, t.Name(), func() error { n, err = t.File.Read(p); return nil })
	if e != nil {
		return 0, e
	}
	return n, err
}

func (t *faultFile) ReadAt(p []byte, off int64) (n int, err error) {
	e := t.f.run(OpRead, t.Name(), func() error { n, err = t.File.ReadAt(p, off); return nil })
	if e != nil {
		return 0, e
	}
	return n, err
}

func (t *faultFile) Write(p []byte) (int, error) {
	return t.write(p, t.File.Write)
}

func (t *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return t.write(p, func(p []byte) (int, error) { return t.File.WriteAt(p, off) })
}

func (t *faultFile) write(p []byte, op func([]byte) (int, error)) (n int, err error) {
	do, short, err := t.f.enter(OpWrite, t.Name(), p)
	if short {
		p = p[:len(p)/2]
	}
	if do {
		var e error
		if n, e = op(p); err == nil {
			err = e
		}
	}
	return n, err
}

func (t *faultFile) Truncate(size int64) error {
	return t.f.run(OpTruncate, t.Name(), func() error { return t.File.Truncate(size) })
}

func (t *faultFile) Allocate(off, n int64) error {
	return t.f.run(OpAllocate, t.Name(), func() error { return t.File.Allocate(off, n) })
}

func (t *faultFile) Sync() error {
	do, _, err := t.f.enter(OpSync, t.Name(), nil)
	if do && err == nil {
		return t.File.Sync()
	}
	if l, ok := t.File.(interface{ loseDirty() }); ok && !errors.Is(err, ErrCrashed) {
		l.loseDirty()
	}
	return err
}
