package crash

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/vfs/points"
)

// mutants are what a program might forget. Each must be found, or the rounds
// that find nothing prove nothing.
var mutants = map[string]mutant{
	"the log is not synced":          {sync: skip("log")},
	"the output is not synced":       {sync: skip("out")},
	"names are not synced":           {syncDir: func() bool { return false }},
	"puts are answered, then synced": {sync: skip("log"), late: true},
	"acks are not written":           {write: skip("log acks")},
	"positions before their data":    {channel: func(c core.Channel) core.Channel { return &hasty{Channel: c} }},
	"acked, then delivered":          {channel: func(c core.Channel) core.Channel { return &eager{c} }},
}

// mutant is a fault: of the file system, whose calls are done where the
// function says so, or of the channel.
type mutant struct {
	sync, write func(point string) bool // nil: done
	syncDir     func() bool
	late        bool // a sync that is not done is done before the next write
	channel     func(core.Channel) core.Channel
}

// skip is true for all fault points but that one.
func skip(what string) func(string) bool {
	return func(point string) bool { _, at, _ := strings.Cut(point, " "); return at != what }
}

type mutantFS struct {
	vfs.FS
	mutant
}

func (m *mutantFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := m.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &mutantFile{File: f, m: m.mutant}, nil
}

func (m *mutantFS) SyncDir(dir string) error {
	if m.syncDir != nil && !m.syncDir() {
		return nil
	}
	return m.FS.SyncDir(dir)
}

type mutantFile struct {
	vfs.File
	m    mutant
	mu   sync.Mutex
	owed bool
}

func (f *mutantFile) does(rule func(string) bool, k vfs.Kind, p []byte) bool {
	return rule == nil || rule(points.Name(k, f.Name(), p))
}

func (f *mutantFile) Sync() error {
	if f.does(f.m.sync, vfs.OpSync, nil) {
		return f.File.Sync()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owed = f.m.late
	return nil
}

func (f *mutantFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	owed := f.owed
	f.owed = false
	f.mu.Unlock()
	if owed {
		if err := f.File.Sync(); err != nil {
			return 0, err
		}
	}
	if f.does(f.m.write, vfs.OpWrite, p) {
		return f.File.WriteAt(p, off)
	}
	return len(p), nil
}

// hasty stores a position in a transaction of its own, before the events.
type hasty struct{ core.Channel }

func (h *hasty) TryClaim(room core.Size) (core.PutTx, error) {
	tx, err := h.Channel.TryClaim(room)
	if err != nil {
		return nil, err
	}
	return &hastyPut{tx, h}, nil
}

type hastyPut struct {
	core.PutTx
	h *hasty
}

func (p *hastyPut) Commit(b *core.Batch, pick []int32, stored func(error)) {
	if _, _, marked := b.Marked(); !marked {
		p.PutTx.Commit(b, pick, stored)
		return
	}
	plain := core.NewBatch()
	for _, e := range b.Events {
		plain.Copy(e.Headers, e.Body)
	}
	first, err := p.h.Channel.TryClaim(core.Size{})
	if err != nil {
		p.Rollback()
		stored(err)
		return
	}
	first.Commit(b, []int32{}, func(err error) {
		if err != nil {
			stored(err)
		}
	})
	p.PutTx.Commit(plain, pick, stored)
	plain.Release()
}

// eager acks all but the last of what it hands out before anybody has it.
type eager struct{ core.Channel }

func (e *eager) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	l, err := e.Channel.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	early := []int32{}
	for i := range len(l.Batch().Events) - 1 {
		early = append(early, int32(i))
	}
	l.Ack(early)
	return &eagerLease{l, int32(len(early))}, nil
}

type eagerLease struct {
	core.Lease
	last int32
}

func (l *eagerLease) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	if pick != nil {
		rest := []int32{}
		if slices.Contains(pick, l.last) {
			rest = append(rest, l.last)
		}
		pick = rest
	}
	return l.Lease.Ack(pick, m...)
}

// TestMutants runs rounds until one finds the fault.
func TestMutants(t *testing.T) {
	const most = 300
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := newTally(flowPoints)
			for seed := range uint64(most) {
				aims := plan(rand.New(rand.NewPCG(seed, 5)), table)
				v, err := round(t, seed, table, &m, "", aims)
				if err != nil || !v.good() {
					t.Logf("found in round %d: %v %v", seed, v, err)
					return
				}
			}
			t.Errorf("not found in %d rounds", most)
		})
	}
}
