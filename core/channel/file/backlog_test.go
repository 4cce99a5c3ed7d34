package file

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// counting counts the bytes that are read from a file system.
type counting struct {
	vfs.FS
	read atomic.Int64
}

func (c *counting) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &countingFile{f, c}, nil
}

type countingFile struct {
	vfs.File
	c *counting
}

func (f *countingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.c.read.Add(int64(n))
	return n, err
}

func (f *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.c.read.Add(int64(n))
	return n, err
}

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func segments(t *testing.T, dir string) (sizes []int64) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was freed just now
		}
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	return sizes
}

// TestBacklog is a long outage of the sink: 64 MiB, or MILLRACE_BACKLOG MiB,
// in segments of 4 MiB. Neither memory nor the start may depend on it.
func TestBacklog(t *testing.T) {
	const (
		segment = 4 << 20
		events  = 64
		body    = 4 << 10
		putSize = events * body
	)
	total := int64(64 << 20)
	if n, err := strconv.ParseInt(os.Getenv("MILLRACE_BACKLOG"), 10, 64); err == nil {
		total = n << 20
	}
	dir := t.TempDir()
	keys := []string{
		"checkpointDir", dir, "dataDirs", dir, "maxFileSize", strconv.Itoa(segment), "memoryBytes", "1m", "minimumRequiredSpace", "1m",
		"capacity", "1000000000",
	}
	fsys := &counting{FS: vfs.OS()}
	c := mustStart(t, fsys, append(keys, "fsyncPerTransaction", "false", "fsyncInterval", "3600")...) // the disk is not the subject

	before, n := heap(), uint64(0)
	for at := int64(0); at < total; at += putSize {
		b := core.NewBatch()
		for range events {
			p := b.Block(body)
			binary.BigEndian.PutUint64(p, n)
			b.Append(core.Headers{}, p)
			n++
		}
		tx, err := c.TryClaim(b.Size())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		tx.Commit(b, nil, func(err error) { done <- err })
		b.Release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	budget := int64(12 << 20) // memoryBytes, what is being written and its pools
	if grown := heap() - before; grown > budget {
		t.Errorf("%d bytes of heap more with a backlog of %d", grown, total)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	sizes := segments(t, dir)
	for _, size := range sizes {
		if size > segment+putSize+64<<10 { // the put that fills it is its last
			t.Errorf("a segment of %d bytes, maxFileSize is %d", size, segment)
		}
	}

	fsys.read.Store(0)
	before = heap()
	c = mustStart(t, fsys, keys...)
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("opening a backlog of %d bytes takes %d bytes of heap", total, grown)
	}
	if read := fsys.read.Load(); read > 4*segment { // the newest one, more than once, and a header of each
		t.Errorf("opening a backlog of %d bytes reads %d of them", total, read)
	}
	if got := c.Len(); got.Events != int(n) {
		t.Fatalf("%d events after opening, want %d", got.Events, n)
	}

	// Delivery frees segment after segment, and needs no more memory.
	next, most := uint64(0), int64(0)
	for {
		l, err := c.Take(context.Background(), core.Take{Events: 1000, NoWait: true})
		if errors.Is(err, core.ErrEmpty) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Batch().Events {
			if got := binary.BigEndian.Uint64(e.Body); got != next || len(e.Body) != body {
				t.Fatalf("event %d comes where %d should", got, next)
			}
			next++
		}
		stored := l.Ack(nil)
		if next%(n/8) < 1000 { // now and then
			<-stored
			most = max(most, heap()-before)
			// The segment that is being read, and the current one: not delivered.
			delivered := int(int64(next)*body/(segment+putSize)) - 2
			suite.Eventually(t, "delivered segments are freed", func() bool {
				return len(segments(t, dir)) <= len(sizes)+1-delivered
			})
		}
	}
	if next != n {
		t.Fatalf("%d events came of %d", next, n)
	}
	if most > budget {
		t.Errorf("%d bytes of heap more during the delivery of %d", most, total)
	}
	suite.Eventually(t, "all is freed but the current segment, without another put", func() bool { return len(segments(t, dir)) <= 1 })
	if got := c.metric("memory_bytes"); got != 0 {
		t.Errorf("memory_bytes %d at the end", got)
	}
}
