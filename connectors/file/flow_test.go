package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	filechannel "github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// The same with the real file channel and the real runner, on one disk that
// crashes under both: a source that goes on where the channel's positions end,
// and after all crashes each event is in the files once, in order.
func TestCrashWithFileChannel(t *testing.T) {
	step := 7
	if testing.Short() {
		step = 29
	}
	for name, keys := range map[string]map[string]string{
		"rolls":     {"sink.rollCount": "25"},
		"published": {"sink.rollCount": "40", "sink.inUseSuffix": ".tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 5; ; at += step {
				mode := vfs.CrashMode(at % vfs.CrashModes)
				f := &flow{t: t, keys: keys, rng: rand.New(rand.NewPCG(uint64(at), 7)), mem: vfs.NewMem()}
				crashed := f.life(at)
				for i := 0; i < 2 && crashed; i++ {
					f.mem = f.mem.CrashClone(f.rng, mode)
					crashed = f.life(1 + f.rng.IntN(80))
				}
				if crashed {
					f.mem = f.mem.CrashClone(f.rng, mode)
					f.life(0)
				}
				if f.check(); t.Failed() {
					t.Fatalf("first crash at operation %d, mode %d", at, mode)
				}
				if f.ended && at > 5 {
					return
				}
			}
		})
	}
}

const flowEvents = 200

type flow struct {
	t     *testing.T
	keys  map[string]string
	rng   *rand.Rand
	mem   *vfs.Mem
	lives int
	ended bool // the first life came to its end
}

// life runs channel, sink and runner until all is delivered or the crash. It
// reports whether it crashed.
func (f *flow) life(crash int) bool {
	fault := vfs.NewFault(f.mem)
	if crash > 0 {
		fault.Add(vfs.Rule{At: crash, Crash: true})
	}
	f.lives++
	log := slog.New(slog.DiscardHandler)
	now := time.UnixMilli(1382534100000 + int64(f.lives)*1000)
	env := core.Env{
		Name: "c", Log: log, FS: fault, Dir: "/state", Now: func() time.Time { return now },
		Metrics: &metric.Group{Kind: metric.Channel, Name: "c"},
	}
	ch := filechannel.Channel.New()
	if _, faults := conf.Bind(ch, map[string]string{"capacity": "100", "transactionCapacity": "20", "maxFileSize": "4096"}); faults.HasErrors() {
		f.t.Fatal(faults)
	}
	if err := ch.Open(context.Background(), env); err != nil {
		if !fault.Crashed() {
			f.t.Fatal(err)
		}
		return true
	}
	defer ch.Close()
	keys := map[string]string{"sink.directory": "/out", "sink.commitInterval": "1"}
	for k, v := range f.keys {
		keys[k] = v
	}
	s := Sink.New()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		f.t.Fatal(faults)
	}
	env.Name, env.Metrics, env.Marks = "k", &metric.Group{Kind: metric.Sink, Name: "k"}, ch.Marks()
	if err := s.Open(context.Background(), env); err != nil {
		if !fault.Crashed() {
			f.t.Fatal(err)
		}
		return true
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	node := &core.ChannelNode{Channel: ch, Name: "c", Cells: &metric.Group{Kind: metric.Channel, Name: "c"}}
	runner := &core.SinkRunner{Name: "k", Log: log, Channel: node, Sink: s, Take: core.Take{Events: 1 + f.rng.IntN(20)}}
	var work sync.WaitGroup
	work.Go(func() { runner.Run(ctx, ctx) })
	f.put(ctx, ch, fault)
	for ch.Len().Events > 0 && !fault.Crashed() {
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
	if f.lives == 1 && !fault.Crashed() {
		f.ended = true
	}
	return fault.Crashed()
}

// put sends what the channel does not have, as a source with positions does.
func (f *flow) put(ctx context.Context, ch core.Channel, fault *vfs.Fault) {
	at, _ := ch.Position("s:x")
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
				tx.Commit(b, nil, func(error) {})
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

func (f *flow) check() {
	var got, want []string
	for _, file := range list(f.t, f.mem, "/out") {
		events := strings.Fields(file.content)
		if count := f.keys["sink.rollCount"]; len(got)+len(events) < flowEvents && fmt.Sprint(len(events)) != count {
			f.t.Errorf("%s has %d events, want %s", file.name, len(events), count)
		}
		got = append(got, events...)
	}
	for i := range flowEvents {
		want = append(want, fmt.Sprintf("event-%03d", i))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		f.t.Errorf("in the files: %s", strings.Join(got, " "))
	}
}
