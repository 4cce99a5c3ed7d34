package hdfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime/debug"
	"sync"
	"time"
)

// fileSystem is all that the sink asks of a file system: HDFS, a local one for
// file: paths, one in memory in tests. It is safe for concurrent use. Paths are
// absolute. Errors are those of io/fs where there is one (fs.ErrExist,
// fs.ErrNotExist).
type fileSystem interface {
	MkdirAll(dir string) error
	// Create makes a file; one that is there is fs.ErrExist.
	Create(path string) (writer, error)
	// Append goes on with a file that was closed.
	Append(path string) (writer, error)
	// Rename may replace what is at to.
	Rename(from, to string) error
	Remove(path string) error
	// Size is the length that readers see.
	Size(path string) (int64, error)
	// Read returns a file, up to limit bytes.
	Read(path string, limit int64) ([]byte, error)
	// Truncate cuts a file that is closed. False: it is begun, and done when a later
	// call says true.
	Truncate(path string, size int64) (bool, error)
	// Recover has the file of a dead writer closed, and a cut that does not end
	// begun anew; neither is done when it returns.
	Recover(path string) error
	// Close ends the connection. Writers that are open are dead.
	Close() error
}

// writer is an open file. Only Close that returned nil says that what was
// written is safe; after an error the writer is good for nothing more.
type writer interface {
	Write(b []byte) error
	Close() error
	// Abandon lets go of the connection without finishing the file.
	Abandon()
}

// session is the connection to a file system, made when it is needed. A failure
// ends it: the next call makes another.
type session struct {
	dial    func() (fileSystem, error)
	timeout time.Duration // of each call; 0: none

	mu  sync.Mutex
	cur fileSystem
}

var errTimeout = errors.New("no answer within hdfs.callTimeout")

// call runs one call, and gives up waiting for it after the timeout. Then the
// call may go on; what it returns is given to late. A panic is an error: the
// library has some where a server answers what it does not expect, and the other
// sinks of the agent are not to end of that.
func call[T any](timeout time.Duration, do func() (T, error), late func(T)) (T, error) {
	do = calm(do)
	if timeout <= 0 {
		return do()
	}
	type answer struct {
		v   T
		err error
	}
	var mu sync.Mutex
	gone := false
	done := make(chan answer, 1)
	go func() {
		v, err := do()
		mu.Lock()
		defer mu.Unlock()
		if !gone {
			done <- answer{v, err}
		} else if err == nil && late != nil {
			late(v)
		}
	}()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case a := <-done:
		return a.v, a.err
	case <-t.C:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case a := <-done:
		return a.v, a.err
	default:
	}
	gone = true
	var none T
	return none, errTimeout
}

// calm makes an error of a panic of do.
func calm[T any](do func() (T, error)) func() (T, error) {
	return func() (v T, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return do()
	}
}

// get returns the connection, made now if there is none.
func (s *session) get() (fileSystem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil {
		return s.cur, nil
	}
	f, err := call(s.timeout, s.dial, func(f fileSystem) { _ = f.Close() })
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.cur = f
	return f, nil
}

// drop ends the connection f; without one, whichever there is.
func (s *session) drop() {
	s.mu.Lock()
	f := s.cur
	s.cur = nil
	s.mu.Unlock()
	if f != nil {
		// Its answer says nothing that matters. It waits for a call that hangs.
		go func() { _ = f.Close() }()
	}
}

// create makes a file and the directories above it.
func (s *session) create(name string) (writer, error) {
	return s.open("create", name, func(f fileSystem) (writer, error) {
		if err := f.MkdirAll(path.Dir(name)); err != nil {
			return nil, err
		}
		return f.Create(name)
	})
}

func (s *session) append(name string) (writer, error) {
	return s.open("append to", name, func(f fileSystem) (writer, error) { return f.Append(name) })
}

func (s *session) open(what, name string, do func(fileSystem) (writer, error)) (writer, error) {
	f, err := s.get()
	if err != nil {
		return nil, err
	}
	w, err := call(s.timeout, func() (writer, error) { return do(f) }, func(w writer) { w.Abandon() })
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	return w, nil
}

func (s *session) rename(from, to string) error {
	_, err := ask(s, func(f fileSystem) (struct{}, error) { return struct{}{}, f.Rename(from, to) })
	return named("rename", from, err)
}

func (s *session) makeDir(dir string) error {
	_, err := ask(s, func(f fileSystem) (struct{}, error) { return struct{}{}, f.MkdirAll(dir) })
	return named("make directory", dir, err)
}

// remove removes a file, if it is there.
func (s *session) remove(name string) error {
	_, err := ask(s, func(f fileSystem) (struct{}, error) { return struct{}{}, f.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return named("remove", name, err)
}

// size returns how long a file is; false: there is none.
func (s *session) size(name string) (int64, bool, error) {
	n, err := ask(s, func(f fileSystem) (int64, error) { return f.Size(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return n, err == nil, named("look for", name, err)
}

func (s *session) truncate(name string, size int64) (bool, error) {
	done, err := ask(s, func(f fileSystem) (bool, error) { return f.Truncate(name, size) })
	return done, named("truncate", name, err)
}

func (s *session) recover(name string) error {
	_, err := ask(s, func(f fileSystem) (struct{}, error) { return struct{}{}, f.Recover(name) })
	return named("recover", name, err)
}

func ask[T any](s *session, do func(fileSystem) (T, error)) (v T, err error) {
	f, err := s.get()
	if err != nil {
		return v, err
	}
	return call(s.timeout, func() (T, error) { return do(f) }, nil)
}

func named(what, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, name, err)
	}
	return nil
}
