package hdfs

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// fake is a file system that behaves as HDFS does through the library: what is
// written is visible once Close said so; a writer that failed is dead, and its
// file stays locked until the name node has given up on it.
type fake struct {
	mu       sync.Mutex
	files    map[string]*fakeFile
	made     int
	broken   error          // what writes, closes and creations answer
	fails    map[string]int // calls of that name to fail, then they work
	hang     chan struct{}  // if set, writes and closes wait for it
	locks    int            // times that a file with a dead writer must be recovered, but for one
	stall    int            // truncations, or recoveries of them, that a data node dies of
	calls    map[string]int
	renames  []string
	short    bool // a failing write leaves half of it
	noAppend bool
}

type fakeFile struct {
	order   int
	data    []byte
	visible int
	writer  *fakeWriter // not closed
	locks   int
	stalled bool // the data node that cuts it has died
}

func newFake() *fake {
	return &fake{files: map[string]*fakeFile{}, fails: map[string]int{}, calls: map[string]int{}}
}

var errFake = errors.New("no answer from the data node")

// ask counts a call and answers whether it fails. With the lock held.
func (f *fake) ask(name string, data bool) error {
	f.calls[name]++
	if f.fails[name] > 0 {
		f.fails[name]--
		return errFake
	}
	if data {
		return f.broken
	}
	return nil
}

func (f *fake) MkdirAll(string) error { return nil }

func (f *fake) Create(path string) (writer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("create", true); err != nil {
		return nil, err
	}
	if f.files[path] != nil {
		return nil, fs.ErrExist
	}
	f.made++
	w := &fakeWriter{f: f}
	f.files[path] = &fakeFile{order: f.made, writer: w}
	w.file = f.files[path]
	return w, nil
}

func (f *fake) Append(path string) (writer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("append", true); err != nil {
		return nil, err
	}
	file := f.files[path]
	switch {
	case file == nil:
		return nil, fs.ErrNotExist
	case file.writer != nil:
		return nil, errors.New("AlreadyBeingCreatedException")
	case f.noAppend:
		return nil, errors.New("append is not supported")
	}
	file.writer = &fakeWriter{f: f, file: file}
	return file.writer, nil
}

func (f *fake) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("rename", false); err != nil {
		return err
	}
	if f.files[from] == nil {
		return fs.ErrNotExist
	}
	f.files[to] = f.files[from]
	delete(f.files, from)
	f.renames = append(f.renames, to)
	return nil
}

func (f *fake) Read(path string, limit int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("read", false); err != nil {
		return nil, err
	}
	file := f.files[path]
	if file == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(file.data[:min(int64(file.visible), limit)]), nil
}

func (f *fake) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("remove", false); err != nil {
		return err
	}
	if f.files[path] == nil {
		return fs.ErrNotExist
	}
	f.files[path].writer = nil
	delete(f.files, path)
	return nil
}

func (f *fake) Size(path string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[path] == nil {
		return 0, fs.ErrNotExist
	}
	return int64(f.files[path].visible), nil
}

func (f *fake) Truncate(path string, size int64) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("truncate", false); err != nil {
		return false, err
	}
	file := f.files[path]
	switch {
	case file == nil:
		return false, fs.ErrNotExist
	case file.writer != nil:
		return false, errors.New("AlreadyBeingCreatedException")
	case size > int64(len(file.data)):
		return false, fs.ErrInvalid
	case file.stalled:
		return false, nil
	case f.stall > 0:
		f.stall--
		file.stalled = true
		return false, nil
	}
	was := file.visible
	file.data, file.visible = file.data[:size], int(size)
	return was <= int(size), nil // a real cut is asynchronous
}

func (f *fake) Recover(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("recover", false); err != nil {
		return err
	}
	file := f.files[path]
	switch {
	case file == nil:
		return fs.ErrNotExist
	case file.locks < f.locks:
		file.locks++
	case f.stall > 0:
		f.stall--
	default:
		file.writer, file.stalled = nil, false
	}
	return nil
}

func (f *fake) Close() error { return nil }

type fakeWriter struct {
	f    *fake
	file *fakeFile
	dead bool
}

// wait waits as long as calls hang.
func (f *fake) wait() {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (w *fakeWriter) Write(b []byte) error {
	w.f.wait()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	err := w.f.ask("write", true)
	if w.dead || w.file.writer != w {
		return errors.New("writer is dead")
	}
	if err != nil {
		w.dead = true
		if w.f.short {
			w.file.data = append(w.file.data, b[:len(b)/2]...)
		}
		return err
	}
	w.file.data = append(w.file.data, b...)
	return nil
}

func (w *fakeWriter) Close() error {
	w.f.wait()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	if err := w.f.ask("close", true); err != nil || w.dead || w.file.writer != w {
		w.dead = true
		return errors.Join(errors.New("close failed"), err)
	}
	w.file.writer, w.file.visible = nil, len(w.file.data)
	return nil
}

func (w *fakeWriter) Abandon() {}

// names returns the files in the order in which they were begun, "name content"
// with blanks for newlines.
func (f *fake) names() (list []string) {
	for _, p := range f.paths() {
		list = append(list, p+" "+strings.ReplaceAll(strings.TrimSuffix(string(f.content(p)), "\n"), "\n", " "))
	}
	return list
}

func (f *fake) paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.files), func(a, b string) int { return f.files[a].order - f.files[b].order })
}

func (f *fake) content(p string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.files[p].data[:f.files[p].visible])
}

// seen are the lines that readers see in all files.
func (f *fake) seen() (lines []string) {
	for _, p := range f.paths() {
		if c := f.content(p); len(c) > 0 {
			lines = append(lines, strings.Split(strings.TrimSuffix(string(c), "\n"), "\n")...)
		}
	}
	return lines
}

// unfinished are the files that are still named as in use.
func (f *fake) unfinished() (list []string) {
	for _, p := range f.paths() {
		if strings.HasSuffix(p, ".tmp") || strings.HasPrefix(path.Base(p), "_") {
			list = append(list, p)
		}
	}
	return list
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}
