// Package resumetest tests sinks that go on after a crash: each behind the real
// runner and a real channel, all on one disk that stops under them.
package resumetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	filechannel "github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// start is when the first life begins, in ms since 1970; each life begins a second after the one before.
const start = 1382534100000

// Flow is what outlives a crash: the disk, and the source's place where the
// channel does not keep it.
type Flow struct {
	T      *testing.T
	Rng    *rand.Rand
	Disk   *vfs.Mem
	Events int64 // that the source has: see Event

	// Sink makes a sink, with its keys bound, on a disk that may have stopped.
	Sink func(disk *vfs.Fault) core.Sink
	// Flush has the sink commit what it holds while the rest is waited for.
	Flush bool
	// Memory has the channel in memory: the source goes on where its acks end.
	Memory bool

	lives    int
	position int64
}

// Event is the body of event i.
func Event(i int64) string { return fmt.Sprintf("event-%03d", i) }

// Crash makes the disk what it is after a crash.
func (f *Flow) Crash(mode vfs.CrashMode) { f.Disk = f.Disk.CrashClone(f.Rng, mode) }

// Life runs channel, sink and runner until all is delivered and the sink is
// closed, or the disk crashes by one of the rules or by the sink. It reports
// whether it crashed.
func (f *Flow) Life(rules ...vfs.Rule) bool {
	fault := vfs.NewFault(f.Disk)
	for _, r := range rules {
		fault.Add(r)
	}
	f.lives++
	now := time.UnixMilli(start + int64(f.lives)*1000)
	env := core.Env{
		Name: "c", Log: slog.New(slog.DiscardHandler), FS: fault, Dir: "/state", Now: func() time.Time { return now },
		Metrics: &metric.Group{Kind: metric.Channel, Name: "c"},
	}
	ch, keys := memory.Channel.New(), map[string]string{"capacity": "100", "transactionCapacity": "20"}
	if !f.Memory {
		ch = filechannel.Channel.New()
		maps.Copy(keys, map[string]string{"maxFileSize": "4096"})
	}
	if _, faults := conf.Bind(ch, keys); faults.HasErrors() {
		f.T.Fatal(faults)
	}
	if err := ch.Open(context.Background(), env); err != nil {
		return f.mustHaveCrashed(fault, err)
	}
	defer ch.Close()
	s := f.Sink(fault)
	env.Name, env.Metrics, env.Marks = "k", &metric.Group{Kind: metric.Sink, Name: "k"}, ch.Marks()
	if err := s.Open(context.Background(), env); err != nil {
		return f.mustHaveCrashed(fault, err)
	}
	f.run(ch, s, env.Log, fault)
	if err := closed(s, fault); err != nil && !fault.Crashed() {
		f.T.Errorf("close: %v", err)
	}
	return fault.Crashed()
}

func (f *Flow) mustHaveCrashed(fault *vfs.Fault, err error) bool {
	if !fault.Crashed() {
		f.T.Fatal(err)
	}
	return true
}

// run feeds the channel, and the sink from it, until the channel is empty.
func (f *Flow) run(ch core.Channel, s core.Sink, log *slog.Logger, fault *vfs.Fault) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	node := &core.ChannelNode{Channel: ch, Name: "c", Cells: &metric.Group{Kind: metric.Channel, Name: "c"}}
	runner := &core.SinkRunner{Name: "k", Log: log, Channel: node, Sink: s, Take: core.Take{Events: 1 + f.Rng.IntN(20)}}
	var work sync.WaitGroup
	work.Go(func() { runner.Run(ctx, ctx) })
	f.put(ctx, ch, fault)
	for ch.Len().Events > 0 && !fault.Crashed() {
		if f.Flush {
			_ = s.Flush(ctx) // what fails is rolled back and comes again
		}
		time.Sleep(100 * time.Microsecond) // a poll, not a pause: the loop ends by its condition
	}
	stop()
	work.Wait()
}

// put sends what the channel does not have, as a source with positions does.
func (f *Flow) put(ctx context.Context, ch core.Channel, fault *vfs.Fault) {
	at, _ := ch.Position("s:x")
	if f.Memory {
		at = f.position
	}
	for at < f.Events && !fault.Crashed() {
		b := core.NewBatch()
		for n := min(f.Events, at+1+f.Rng.Int64N(12)); at < n; at++ {
			b.Copy(core.Headers{}, []byte(Event(at)))
			b.Events[len(b.Events)-1].Pos = at + 1
		}
		b.Mark("s:x", at)
		for {
			tx, err := ch.TryClaim(b.Size())
			if err == nil {
				stored := at
				tx.Commit(b, nil, func(err error) {
					if err == nil && f.Memory {
						f.position = stored
					}
				})
				break
			}
			if !errors.Is(err, core.ErrChannelFull) || fault.Crashed() {
				return
			}
			wait, cancel := context.WithTimeout(ctx, time.Millisecond)
			_ = ch.Room(wait, b.Size())
			cancel()
		}
		b.Release()
	}
}

// closed closes a sink, which waits for nobody once the disk has crashed.
func closed(s core.Sink, fault *vfs.Fault) error {
	grace, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- s.Close(grace) }()
	for {
		select {
		case err := <-end:
			return err
		case <-time.After(time.Millisecond):
			if fault.Crashed() {
				cancel() // nobody answers any more
			}
		}
	}
}
