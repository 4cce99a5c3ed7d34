package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is a file system. All methods may be called from any goroutine; errors
// wrap the usual ones of io/fs and syscall.
type FS interface {
	// OpenFile is os.OpenFile: the flags are those of package os.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll makes a directory and its parents. See MakeDir for a durable one.
	MkdirAll(dir string, perm fs.FileMode) error
	Remove(name string) error
	// Rename replaces newname if it is there, atomically.
	Rename(oldname, newname string) error
	// Stat's Sys() is *syscall.Stat_t where the system has one; Mem gives *MemStat.
	Stat(name string) (fs.FileInfo, error)
	ReadDir(dir string) ([]fs.DirEntry, error)
	// SyncDir makes the names in dir durable: those created, renamed, removed before.
	SyncDir(dir string) error
	// Lock takes an advisory lock on the file name, made if missing, and holds
	// it until the closer is closed or the process ends. Who comes second gets
	// ErrLocked.
	Lock(name string) (io.Closer, error)
	// Space returns the bytes that are free to this process and the size of
	// dir's volume.
	Space(dir string) (free, total int64, err error)
}

// File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.Reader
	io.Writer
	io.Seeker
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync makes the content durable, not the name: see FS.SyncDir. After an
	// error see the package's assumptions.
	Sync() error
	// Allocate reserves the range and enlarges the file to its end, so that
	// later writes there neither change the size nor run out of space. Where
	// the system can not do it, it does nothing and returns nil.
	Allocate(off, n int64) error
}

// ErrLocked is what Lock returns while somebody else holds the lock.
var ErrLocked = errors.New("locked by another process or component")

// MakeDir makes dir and the parents it lacks, and syncs each directory that
// got a new name in it, so that dir survives a crash. Where dir is there
// already, whoever made it may have been killed before that sync: its parent is
// synced too, unless it is of a kind where that cannot be.
func MakeDir(fsys FS, dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	info, err := fsys.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		err := fsys.SyncDir(filepath.Dir(dir))
		for _, other := range []error{fs.ErrPermission, syscall.EROFS, syscall.EINVAL, errors.ErrUnsupported} {
			if errors.Is(err, other) { // not a directory that we, or one like us, have written to
				return nil
			}
		}
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDir(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, perm); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// ReadFile returns the content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// WriteFile replaces a file durably and atomically: readers and crashes see
// the old content or the new. It uses name+".tmp".
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	tmp := name + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // best effort: the error above is what counts
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
