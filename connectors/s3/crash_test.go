package s3

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/connectors/internal/resume/resumetest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
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
						f.Crash(vfs.CrashMode((at + n) % vfs.CrashModes))
						next := &crash{disk: 1 + f.Rng.IntN(200)}
						if n > 0 {
							next = nil
						} else if f.Rng.IntN(2) == 0 {
							next = &crash{after: 1 + f.Rng.IntN(6)}
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
		f.Memory = true
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

// flow is a flow into a store.
type flow struct {
	*resumetest.Flow
	kv    string
	store *fake
	crash *crash // of this life
}

func newFlow(t *testing.T, kv string, seed int) *flow {
	f := &flow{kv: kv, store: newFake()}
	f.Flow = &resumetest.Flow{
		T: t, Rng: rand.New(rand.NewPCG(uint64(seed), 3)), Disk: withSchema(vfs.NewMem(), len(resumetest.Event(0))), Events: flowEvents, Flush: true,
		Sink: func(disk *vfs.Fault) core.Sink {
			s := &small{part: 64}
			s.client = &dead{fake: f.store, disk: disk, c: f.crash}
			if _, faults := conf.Bind(s, settings(kv)); faults.HasErrors() {
				t.Fatal(faults)
			}
			return s
		},
	}
	return f
}

// life runs until all is in the store, or the crash. It reports whether it crashed.
func (f *flow) life(c *crash) bool {
	f.crash = c
	if c == nil || c.disk == 0 {
		return f.Life()
	}
	return f.Life(vfs.Rule{At: c.disk, Crash: true, Short: f.Rng.IntN(2) == 0})
}

// objects are the contents of all objects, in order; of containers, which begin
// with a random marker, what is in them.
func (f *flow) objects() (list [][]byte) {
	for _, k := range f.store.keys() {
		b := f.store.content(k)
		if strings.Contains(f.kv, "serializer=avro") {
			file, err := formattest.DecodeBodies(b)
			if err != nil {
				f.T.Fatalf("%s: %v", k, err)
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
