package vfs

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"syscall"
)

// memFile is an open file of a Mem.
type memFile struct {
	m      *Mem
	n      *node
	name   string
	flag   int
	off    int64
	closed bool
}

func (f *memFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *memFile) enter(op string, write bool) (leave func(), err error) {
	f.m.mu.Lock()
	mode := f.flag & (os.O_WRONLY | os.O_RDWR)
	switch {
	case f.closed:
		err = fs.ErrClosed
	case write && mode == 0, op == "read" && mode == os.O_WRONLY:
		err = errWriteOnly
	}
	if err != nil {
		f.m.mu.Unlock()
		return nil, f.fail(op, err)
	}
	return f.m.mu.Unlock, nil
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return f.fail("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	leave, err := f.enter("stat", false)
	if err != nil {
		return nil, err
	}
	defer leave()
	return f.n.info(path.Base(f.name)), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	leave, err := f.enter("read", false)
	if err != nil {
		return 0, err
	}
	defer leave()
	return f.readAt(p, off)
}

func (f *memFile) readAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Read(p []byte) (int, error) {
	leave, err := f.enter("read", false)
	if err != nil {
		return 0, err
	}
	defer leave()
	n, err := f.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	leave, err := f.enter("write", true)
	if err != nil {
		return 0, err
	}
	defer leave()
	return f.writeAt(p, off)
}

func (f *memFile) writeAt(p []byte, off int64) (n int, err error) {
	if grow := off + int64(len(p)) - int64(len(f.n.data)); grow > 0 {
		if over := f.m.used + grow - f.m.total; over > 0 {
			p = p[:max(0, int64(len(p))-over)]
			err = f.fail("write", syscall.ENOSPC)
		}
	}
	if len(p) > 0 {
		end := off + int64(len(p))
		f.m.touch(f.n, off, end)
		copy(f.n.data[off:end], p)
		f.n.mtime = f.m.now()
		f.m.last = f.n
	}
	return len(p), err
}

func (f *memFile) Write(p []byte) (int, error) {
	leave, err := f.enter("write", true)
	if err != nil {
		return 0, err
	}
	defer leave()
	if f.flag&os.O_APPEND != 0 {
		f.off = int64(len(f.n.data))
	}
	n, err := f.writeAt(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	leave, err := f.enter("seek", false)
	if err != nil {
		return 0, err
	}
	defer leave()
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += int64(len(f.n.data))
	}
	if offset < 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.off = offset
	return offset, nil
}

func (f *memFile) Truncate(size int64) error {
	leave, err := f.enter("truncate", true)
	if err != nil {
		return err
	}
	defer leave()
	f.m.truncate(f.n, size)
	return nil
}

func (f *memFile) Allocate(off, n int64) error {
	leave, err := f.enter("allocate", true)
	if err != nil {
		return err
	}
	defer leave()
	if end := off + n; end > int64(len(f.n.data)) {
		if f.m.used+end-int64(len(f.n.data)) > f.m.total {
			return f.fail("allocate", syscall.ENOSPC)
		}
		f.m.truncate(f.n, end)
	}
	return nil
}

func (f *memFile) Sync() error {
	leave, err := f.enter("sync", false)
	if err != nil {
		return err
	}
	defer leave()
	clear(f.n.dirty)
	f.n.size = int64(len(f.n.data))
	return nil
}

// loseDirty is a failed sync: what is written stays readable, but no later
// sync brings it to the disk.
func (f *memFile) loseDirty() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	maps.Copy(f.n.lost, f.n.dirty)
	clear(f.n.dirty)
}

// touch makes the range part of the file and remembers the synced content of its pages.
func (m *Mem) touch(n *node, off, end int64) {
	m.resize(n, max(end, int64(len(n.data))))
	for p := off / page; p*page < end; p++ {
		m.save(n, p)
	}
}

// save remembers the synced content of page p, before its first change.
func (m *Mem) save(n *node, p int64) {
	if _, ok := n.dirty[p]; ok {
		return
	}
	if old, ok := n.lost[p]; ok { // written again after a failed sync: it may be synced now
		n.dirty[p] = old
		delete(n.lost, p)
		return
	}
	old := make([]byte, page)
	if p*page < n.size && p*page < int64(len(n.data)) {
		copy(old, n.data[p*page:min(n.size, int64(len(n.data)))])
	}
	n.dirty[p] = old
}

func (m *Mem) resize(n *node, size int64) {
	m.used += size - int64(len(n.data))
	if size <= int64(cap(n.data)) {
		had := len(n.data)
		n.data = n.data[:size]
		if int(size) > had {
			clear(n.data[had:])
		}
		return
	}
	data := make([]byte, size, size+size/2)
	copy(data, n.data)
	n.data = data
}

func (m *Mem) truncate(n *node, size int64) {
	if was := int64(len(n.data)); size < was {
		for p := size / page; p*page < was; p++ {
			m.save(n, p)
		}
	}
	m.resize(n, size)
	n.mtime = m.now()
}
