package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	filechannel "github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// The real file channel, the real runner and the sink on one disk, and a store
// beside it. The machine stops at every operation of the disk in turn, or at
// every request, before or after the store has done it; then again at random.
// At the end each event is in the objects once, in order, and the objects are
// byte for byte those of a run that nothing has disturbed; containers hold the same.
func TestCrash(t *testing.T) {
	for name, kv := range map[string]string{
		"parts":  "rollCount=25",
		"puts":   "rollCount=3",
		"json":   "rollCount=40 serializer=json",
		"commit": "rollCount=60 commitInterval=1",
		"bodies": "rollCount=25 serializer=avro",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calm := newFlow(t, kv, 0)
			calm.life(nil)
			want := calm.objects()
			if len(want) < 3 {
				t.Fatalf("%d objects without a crash", len(want))
			}
			step := 5
			if os.Getenv("MILLRACE_CRASH") != "" {
				step = 1
			}
			for at := 1; ; at += step {
				some := false
				for _, c := range []crash{{disk: at * 11}, {before: at}, {after: at}} {
					f := newFlow(t, kv, at)
					crashed := f.life(&c)
					some = some || crashed
					for n := 0; crashed; n++ {
						f.disk = f.disk.CrashClone(f.rng, vfs.CrashMode((at+n)%vfs.CrashModes))
						next := &crash{disk: 1 + f.rng.IntN(200)}
						if n > 0 {
							next = nil
						} else if f.rng.IntN(2) == 0 {
							next = &crash{after: 1 + f.rng.IntN(6)}
						}
						crashed = f.life(next)
					}
					if got := f.objects(); !slices.EqualFunc(got, want, bytes.Equal) {
						t.Errorf("%d objects, want %d: %s", len(got), len(want), f.brief())
					}
					f.store.set(func() {
						if len(f.store.uploads) > 0 {
							t.Errorf("%d uploads are left", len(f.store.uploads))
						}
					})
					if t.Failed() {
						t.Fatalf("first crash: %+v", c)
					}
				}
				if !some {
					return
				}
			}
		})
	}
}

// brief shows the objects by their first and last lines.
func (f *flow) brief() string {
	var b strings.Builder
	for _, k := range f.store.keys() {
		l := lines(f.store.content(k))
		fmt.Fprintf(&b, "\n%s: %d lines, %s to %s", k, len(l), l[0], l[len(l)-1])
	}
	return b.String()
}

// With a channel in memory an event may come twice, and none is lost: the
// source reads again what was not acked.
func TestKilledWithMemoryChannel(t *testing.T) {
	for at := 1; at < 60; at += 3 {
		f := newFlow(t, "rollCount=25 commitInterval=1", at)
		f.forgetful = true
		for n := 0; n < 3; n++ {
			if !f.life(&crash{after: at % 23, disk: at * 5 * (n + 1)}) {
				break
			}
		}
		f.life(nil)
		got := map[string]bool{}
		for _, l := range f.store.lines() {
			got[l] = true
		}
		if len(got) != flowEvents {
			t.Fatalf("%d of %d events, crash %d: %s", len(got), flowEvents, at, f.brief())
		}
	}
}

const flowEvents = 150

// crash says when the machine stops: at an operation of the disk, or at a
// request, before or after it is done. 0: not.
type crash struct{ disk, before, after int }

type flow struct {
	t         *testing.T
	kv        string
	rng       *rand.Rand
	disk      *vfs.Mem
	store     *fake
	lives     int
	forgetful bool  // the channel is in memory
	position  int64 // of the source, then
}

func newFlow(t *testing.T, kv string, seed int) *flow {
	return &flow{t: t, kv: kv, rng: rand.New(rand.NewPCG(uint64(seed), 3)), disk: withSchema(vfs.NewMem(), len("event-000")), store: newFake()}
}

// objects are the contents of all objects, in order; of containers, which begin
// with a random marker, what is in them.
func (f *flow) objects() (list [][]byte) {
	for _, k := range f.store.keys() {
		b := f.store.content(k)
		if strings.Contains(f.kv, "serializer=avro") {
			file, err := formattest.DecodeBodies(b)
			if err != nil {
				f.t.Fatalf("%s: %v", k, err)
			}
			b = []byte(strings.Join(file.Bodies, "\n"))
		}
		list = append(list, b)
	}
	return list
}

// dead is the store for a machine that may have stopped.
type dead struct {
	*fake
	disk *vfs.Fault
	c    *crash
	mu   sync.Mutex
	n    int
}

func (d *dead) Do(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.n++
	n := d.n
	d.mu.Unlock()
	if d.c != nil && d.c.before == n {
		d.disk.Crash()
	}
	if d.disk.Crashed() {
		return nil, errCut
	}
	a, err := d.fake.Do(r)
	if d.c != nil && d.c.after == n {
		d.disk.Crash()
	}
	if d.disk.Crashed() {
		return nil, errCut
	}
	return a, err
}

// life runs channel, sink and runner until all is in the store, or the crash.
// It reports whether it crashed.
func (f *flow) life(c *crash) bool {
	fault := vfs.NewFault(f.disk)
	if c != nil && c.disk > 0 {
		fault.Add(vfs.Rule{At: c.disk, Crash: true, Short: f.rng.IntN(2) == 0})
	}
	f.lives++
	now := time.UnixMilli(start + int64(f.lives)*1000)
	env := core.Env{
		Name: "c", Log: slog.New(slog.DiscardHandler), FS: fault, Dir: "/state", Now: func() time.Time { return now },
		Metrics: &metric.Group{Kind: metric.Channel, Name: "c"},
	}
	ch, keys := filechannel.Channel.New(), map[string]string{"capacity": "100", "transactionCapacity": "20", "maxFileSize": "8192"}
	if f.forgetful {
		ch, keys = memory.Channel.New(), map[string]string{"capacity": "100", "transactionCapacity": "20"}
	}
	if _, faults := conf.Bind(ch, keys); faults.HasErrors() {
		f.t.Fatal(faults)
	}
	if err := ch.Open(context.Background(), env); err != nil {
		return f.mustHaveCrashed(fault, err)
	}
	defer ch.Close()
	s := &small{part: 64}
	s.client = &dead{fake: f.store, disk: fault, c: c}
	if _, faults := conf.Bind(s, settings(f.kv)); faults.HasErrors() {
		f.t.Fatal(faults)
	}
	env.Name, env.Metrics, env.Marks = "k", &metric.Group{Kind: metric.Sink, Name: "k"}, ch.Marks()
	if err := s.Open(context.Background(), env); err != nil {
		return f.mustHaveCrashed(fault, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	node := &core.ChannelNode{Channel: ch, Name: "c", Cells: &metric.Group{Kind: metric.Channel, Name: "c"}}
	runner := &core.SinkRunner{Name: "k", Log: env.Log, Channel: node, Sink: s, Take: core.Take{Events: 1 + f.rng.IntN(20)}}
	var work sync.WaitGroup
	work.Go(func() { runner.Run(ctx, ctx) })
	f.put(ctx, ch, fault)
	for ch.Len().Events > 0 && !fault.Crashed() {
		_ = s.Flush(ctx)                   // what fails is rolled back and comes again
		time.Sleep(100 * time.Microsecond) // a poll, not a pause: the loop ends by its condition
	}
	stop()
	work.Wait()
	grace, cancel := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(grace) }()
	var err error
	for waiting := true; waiting; {
		select {
		case err = <-closed:
			waiting = false
		case <-time.After(time.Millisecond):
			if fault.Crashed() {
				cancel() // nobody answers any more
			}
		}
	}
	cancel()
	if err != nil && !fault.Crashed() {
		f.t.Errorf("close: %v", err)
	}
	return fault.Crashed()
}

func (f *flow) mustHaveCrashed(fault *vfs.Fault, err error) bool {
	if !fault.Crashed() {
		f.t.Fatal(err)
	}
	return true
}

// put sends what the channel does not have, as a source with positions does.
func (f *flow) put(ctx context.Context, ch core.Channel, fault *vfs.Fault) {
	at, _ := ch.Position("s:x")
	if f.forgetful {
		at = f.position
	}
	for at < flowEvents && !fault.Crashed() {
		b := core.NewBatch()
		for n := min(flowEvents, at+1+f.rng.Int64N(12)); at < n; at++ {
			b.Copy(core.Headers{}, fmt.Appendf(nil, "event-%03d", at))
			b.Events[len(b.Events)-1].Pos = at + 1
		}
		b.Mark("s:x", at)
		for {
			tx, err := ch.TryClaim(b.Size())
			if err == nil {
				stored := at
				tx.Commit(b, nil, func(err error) {
					if err == nil && f.forgetful {
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
