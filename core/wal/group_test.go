package wal

import (
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// gate holds back syncs of files until it is told.
type gate struct {
	vfs.FS
	shut    atomic.Bool
	entered chan struct{}
	open    chan struct{}
}

type gatedFile struct {
	vfs.File
	g *gate
}

func (g *gate) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := g.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return gatedFile{f, g}, nil
}

func (f gatedFile) Sync() error {
	if f.g.shut.Load() {
		f.g.entered <- struct{}{}
		<-f.g.open
	}
	return f.File.Sync()
}

// What comes while a sync is under way shares the next one.
//
// flume: TestLogFile testGroupCommit
func TestGroupCommit(t *testing.T) {
	const puts = 20
	g := &gate{FS: disk(t), entered: make(chan struct{}, puts+1), open: make(chan struct{})}
	l := open(t, g)
	put(t, l, "makes the segment")
	g.shut.Store(true)
	done := make(chan error, puts+1)
	later := func(body string) {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(body))
		if !l.Put(&Put{Batch: b, Done: func(_ *Put, err error) { done <- err }}) {
			t.Fatal("closed")
		}
	}
	later("first")
	<-g.entered
	for i := range puts {
		later(fmt.Sprint(i))
	}
	for range 2 {
		g.open <- struct{}{}
	}
	for range puts + 1 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.entered); n != 1 {
		t.Errorf("%d more syncs for %d puts", n, puts)
	}
	g.shut.Store(false)
	if got, _ := all(t, l); len(got) != puts+2 {
		t.Errorf("%d events", len(got))
	}
}
