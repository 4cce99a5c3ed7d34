package hdfs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/core/vfs"
)

// local is the file system of a file: path. Close of a writer syncs.
type local struct{ fs vfs.FS }

func (l local) MkdirAll(dir string) error { return vfs.MakeDir(l.fs, dir, 0o755) }

func (l local) Create(path string) (writer, error) {
	f, err := l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &localFile{fs: l.fs, f: f, made: true}, nil
}

func (l local) Append(path string) (writer, error) {
	f, err := l.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return &localFile{fs: l.fs, f: f, at: info.Size()}, nil
}

func (l local) Rename(from, to string) error {
	if err := l.fs.Rename(from, to); err != nil {
		return err
	}
	return l.fs.SyncDir(filepath.Dir(to))
}

func (l local) Remove(path string) error { return l.fs.Remove(path) }

func (l local) Size(path string) (int64, error) {
	info, err := l.fs.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (l local) Read(path string, limit int64) ([]byte, error) {
	f, err := l.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, limit))
}

func (l local) Truncate(path string, size int64) (bool, error) {
	f, err := l.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	if err = f.Truncate(size); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil && e != nil {
		err = fmt.Errorf("close: %w", e)
	}
	return err == nil, err
}

// Recover has nothing to do: Truncate has ended when it returns.
func (l local) Recover(string) error { return nil }

func (l local) Close() error { return nil }

type localFile struct {
	fs   vfs.FS
	f    vfs.File
	at   int64
	made bool // its name is not synced yet
}

func (w *localFile) Write(b []byte) error {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return err
}

func (w *localFile) Close() error {
	err := w.f.Sync()
	if err == nil && w.made {
		err = w.fs.SyncDir(filepath.Dir(w.f.Name()))
	}
	if e := w.f.Close(); err == nil {
		err = e
	}
	return err
}

func (w *localFile) Abandon() { _ = w.f.Close() } // what is in it does not count
