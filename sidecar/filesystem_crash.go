//go:build crashpoints

package sidecar

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/vfs/points"
)

// crashVariable says where this build kills itself: POINT:N:WHEN, as in
// "write log puts:3:half". WHEN is before, half (of a write) or after.
const crashVariable = "MILLRACE_CRASHPOINT"

// filesystem is the system's, and ends the process at one operation. It is for
// e2e/crash alone.
func filesystem() vfs.FS {
	text := os.Getenv(crashVariable)
	if text == "" {
		return vfs.OS()
	}
	part := strings.Split(text, ":")
	n, err := 0, error(nil)
	if len(part) == 3 {
		n, err = strconv.Atoi(part[1])
	}
	if n < 1 || err != nil {
		fmt.Fprintf(os.Stderr, "%s=%q is not POINT:N:WHEN\n", crashVariable, text)
		os.Exit(exitUsage)
	}
	return &suicide{FS: vfs.OS(), point: part[0], left: n, when: part[2]}
}

// suicide kills its own process at the operation that it is told.
type suicide struct {
	vfs.FS
	point, when string

	mu   sync.Mutex
	left int
}

// here tells whether this is the operation.
func (s *suicide) here(k vfs.Kind, name string, p []byte) bool {
	if points.Name(k, name, p) != s.point {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
	return s.left == 0
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
	select {}
}

func (s *suicide) around(k vfs.Kind, name string, op func() error) error {
	if !s.here(k, name, nil) {
		return op()
	}
	if s.when == "after" {
		_ = op() // whatever came of it: nobody learns of it
	}
	die()
	return nil
}

func (s *suicide) OpenFile(name string, flag int, perm fs.FileMode) (f vfs.File, err error) {
	open := func() error { f, err = s.FS.OpenFile(name, flag, perm); return err }
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		err = s.around(vfs.OpCreate, name, open)
	} else {
		err = open()
	}
	if err != nil {
		return nil, err
	}
	return &suicideFile{f, s}, nil
}

func (s *suicide) MkdirAll(dir string, perm fs.FileMode) error {
	return s.around(vfs.OpMkdir, dir, func() error { return s.FS.MkdirAll(dir, perm) })
}

func (s *suicide) Remove(name string) error {
	return s.around(vfs.OpRemove, name, func() error { return s.FS.Remove(name) })
}

func (s *suicide) Rename(from, to string) error {
	return s.around(vfs.OpRename, from, func() error { return s.FS.Rename(from, to) })
}

func (s *suicide) SyncDir(dir string) error {
	return s.around(vfs.OpSyncDir, dir, func() error { return s.FS.SyncDir(dir) })
}

func (s *suicide) Lock(name string) (c io.Closer, err error) {
	err = s.around(vfs.OpLock, name, func() error { c, err = s.FS.Lock(name); return err })
	return c, err
}

type suicideFile struct {
	vfs.File
	s *suicide
}

func (f *suicideFile) write(p []byte, op func([]byte) (int, error)) (int, error) {
	if !f.s.here(vfs.OpWrite, f.Name(), p) {
		return op(p)
	}
	switch f.s.when {
	case "half":
		_, _ = op(p[:len(p)/2])
	case "after":
		_, _ = op(p)
	}
	die()
	return 0, nil
}

func (f *suicideFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

func (f *suicideFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *suicideFile) Truncate(size int64) error {
	return f.s.around(vfs.OpTruncate, f.Name(), func() error { return f.File.Truncate(size) })
}

func (f *suicideFile) Allocate(off, n int64) error {
	return f.s.around(vfs.OpAllocate, f.Name(), func() error { return f.File.Allocate(off, n) })
}

func (f *suicideFile) Sync() error {
	return f.s.around(vfs.OpSync, f.Name(), f.File.Sync)
}
