package channeltest

import (
	"context"
	"io/fs"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/vfs"
)

// crashMutants are file channels that break a promise. RunCrash must find each.
var crashMutants = map[string]CrashSubject{
	"nothing is synced":        {Disk: func(fsys vfs.FS) vfs.FS { return &noSync{FS: fsys, files: true} }},
	"names are not synced":     {Disk: func(fsys vfs.FS) vfs.FS { return &noSync{FS: fsys, names: true} }},
	"answered before the sync": {New: func() core.Channel { return &forward{file.Channel.New(), "answers"} }},
	"a put in two halves":      {New: func() core.Channel { return &forward{file.Channel.New(), "halves"} }},
	"acks answered at once":    {New: func() core.Channel { return &forward{file.Channel.New(), "acks"} }},
}

type noSync struct {
	vfs.FS
	files, names bool
}

func (d *noSync) SyncDir(dir string) error {
	if d.names {
		return nil
	}
	return d.FS.SyncDir(dir)
}

func (d *noSync) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err == nil && d.files {
		f = noSyncFile{f}
	}
	return f, err
}

type noSyncFile struct{ vfs.File }

func (noSyncFile) Sync() error { return nil }

// forward is a file channel with one fault.
type forward struct {
	core.Channel
	fault string
}

func (f *forward) TryClaim(room core.Size) (core.PutTx, error) {
	tx, err := f.Channel.TryClaim(room)
	if err != nil {
		return nil, err
	}
	return &forwardPut{tx, f}, nil
}

type forwardPut struct {
	core.PutTx
	f *forward
}

func (p *forwardPut) Commit(b *core.Batch, pick []int32, stored func(error)) {
	half := len(b.Events) / 2
	switch {
	case p.f.fault == "answers":
		var once sync.Once
		p.PutTx.Commit(b, pick, func(err error) { once.Do(func() { stored(err) }) })
		once.Do(func() { stored(nil) })
	case p.f.fault == "halves" && half > 0:
		var first, second []int32
		for i := range b.Events {
			if i < half {
				first = append(first, int32(i))
			} else {
				second = append(second, int32(i))
			}
		}
		p.Rollback()
		one, err := p.f.Channel.TryClaim(b.SizeOf(first))
		if err != nil {
			stored(core.ErrClosed)
			return
		}
		two, err := p.f.Channel.TryClaim(b.SizeOf(second))
		if err != nil {
			one.Rollback()
			stored(core.ErrClosed)
			return
		}
		plain := core.NewBatch() // without the mark
		for _, e := range b.Events {
			plain.Copy(e.Headers, e.Body)
		}
		one.Commit(plain, first, func(error) {})
		plain.Release()
		two.Commit(b, second, stored)
	default:
		p.PutTx.Commit(b, pick, stored)
	}
}

func (f *forward) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	l, err := f.Channel.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	return &forwardLease{l, f}, nil
}

type forwardLease struct {
	core.Lease
	f *forward
}

func (l *forwardLease) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	stored := l.Lease.Ack(pick, m...)
	if l.f.fault != "acks" {
		return stored
	}
	now := make(chan struct{})
	close(now)
	return now
}

func TestCrashMutants(t *testing.T) {
	for name, s := range crashMutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s.New == nil {
				s.New = file.Channel.New
			}
			s.Keys = map[string]string{"maxFileSize": "16384", "memoryBytes": "65536", "keep-alive": "0", "transactionCapacity": "1000"}
			for seed := range uint64(40) {
				if faults := (crashes{}).seed(t, s, seed, 1); len(faults) > 0 {
					t.Logf("found: %s", faults[0])
					return
				}
			}
			t.Error("not found")
		})
	}
}
