package s3

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// Whatever request fails, in whatever way and some times in a row: each event
// is there once, and no part is uploaded more often than it must.
func TestRequestFails(t *testing.T) {
	for _, op := range []string{"put", "create", "part", "complete"} {
		for name, v := range map[string]verdict{"500": fail500, "slow down": slowDown, "hangs": hang, "answer is lost": deaf, "denied": denied} {
			t.Run(op+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig()
					var mu sync.Mutex
					left := 3
					r.before = func(o, _ string) verdict {
						mu.Lock()
						defer mu.Unlock()
						if o != op || left == 0 {
							return serve
						}
						left--
						return v
					}
					count := "rollCount=30"
					if op == "put" {
						count = "rollCount=2"
					}
					in := r.open(t, count+" callTimeout=5000")
					for i := range 6 {
						in.Deliver(suite.Bodies(i*10, 10))
					}
					in.Close()
					if left == 3 {
						t.Fatal("nothing failed")
					}
					if got := r.lines(); !slices.Equal(got, suite.Bodies(0, 60)) {
						t.Errorf("%d events in %d objects", len(got), len(r.keys()))
					}
					r.idle(t)
				})
			})
		}
	}
}

// While the store is down events go into the spool, up to its limit; then they
// wait in the channel, and the sink says what the store says.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.part = 1 << 20
		r.breakAll(denied)
		in := r.open(t, "rollCount=10 maxBacklog=5m callTimeout=2000")
		big := strings.Repeat("x", 200_000)
		var refused error
		n := 0
		for range 100 {
			tx := in.Deliver([]string{big})
			if _, refused, _ = tx.Acked(); refused != nil {
				break
			}
			n++
		}
		if refused == nil || !strings.Contains(refused.Error(), "AccessDenied") || n < 26 || n > 40 {
			t.Fatalf("after %d events: %v", n, refused)
		}
		r.breakAll(serve)
		in.Close()
		if got := len(r.lines()); got != n {
			t.Errorf("%d events, want %d", got, n)
		}
		r.idle(t)
	})
}

// What is closed while the store is down is published by the next start.
func TestClosedWhileDown(t *testing.T) {
	for _, kv := range []string{"rollCount=5", "rollCount=100"} {
		for _, keeps := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig()
				r.breakAll(fail500)
				in := r.open(t, kv)
				tx := in.Deliver(suite.Bodies(0, 50))
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				if err := in.Sink.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "InternalError") {
					t.Errorf("close: %v", err)
				}
				if got, _, _ := tx.Acked(); len(got) != 50 || len(r.keys()) > 0 {
					t.Fatalf("%d acked, objects %q", len(got), r.keys())
				}
				r.breakAll(serve)
				var marks []core.Mark
				if keeps {
					marks = tx.Marks()
				}
				r = r.crashed()
				r.open(t, kv, marks...).Close()
				if !slices.Equal(r.lines(), suite.Bodies(0, 50)) {
					t.Errorf("%q", r.lines())
				}
				r.idle(t)
			})
		}
	}
}

// A store without conditional writes is asked once, and served without.
func TestNoConditions(t *testing.T) {
	r := newRig()
	r.simple = true
	in := r.open(t, "rollCount=30")
	in.Deliver(suite.Bodies(0, 91))
	in.Close()
	if !slices.Equal(r.lines(), suite.Bodies(0, 91)) {
		t.Errorf("%q", r.lines())
	}
	r.idle(t)
}

// An object that is refused for good holds up nobody, and is not lost.
func TestRefusedForGood(t *testing.T) {
	for _, op := range []string{"put", "create", "part", "complete"} {
		r := newRig()
		r.before = func(o, key string) verdict {
			if o == op && strings.HasPrefix(key, "bad/") {
				return refused
			}
			return serve
		}
		in := r.open(t, "path=%{a}")
		size := 2
		if op != "put" {
			size = 60
		}
		deliver(in, slices.Repeat([]string{"bad", "good"}, size)...)
		in.Close()
		if got := r.lines(); len(got) != size || len(r.files()) != 1 || r.files()[0] != "refused" {
			t.Errorf("%s: %d events arrived, in the spool %q", op, len(got), r.files())
		}
		list, err := r.mem.ReadDir("/spool/refused")
		if err != nil || len(list) < 1 || in.Env.Metrics.Counter("objects_refused_total", "").Load() != 1 {
			t.Errorf("%s: set aside: %v, %v", op, list, err)
		}
	}
}

// A lifecycle rule that is too short takes parts away: what is left arrives.
func TestUploadAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		in := r.open(t, "")
		in.Deliver(suite.Bodies(0, 20))
		flush(t, in)
		synctest.Wait()
		r.set(func() { clear(r.uploads) })
		in.Deliver(suite.Bodies(20, 20))
		in.Close()
		got := r.lines()
		if len(got) < 20 || !slices.Contains(got, suite.Bodies(39, 1)[0]) {
			t.Errorf("%q", got)
		}
		if len(r.files()) > 0 {
			t.Errorf("left in the spool: %q", r.files())
		}
	})
}

// What was uploaded after that is not lost by a restart, though the parts have
// other numbers than in the spool; nor after a second abort and restart.
func TestUploadAbortedThenKilled(t *testing.T) {
	for _, rounds := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig()
			in := r.open(t, "")
			var marks []core.Mark
			deliver := func(from int) {
				marks = append(marks, in.Deliver(suite.Bodies(from, 20)).Marks()...)
				flush(t, in)
				synctest.Wait()
			}
			for i := range rounds {
				deliver(i * 40)
				r.set(func() { clear(r.uploads) }) // of which the next part hears
				deliver(i*40 + 20)
				r = kill(r, in)
				in = r.open(t, "", marks...)
			}
			in.Deliver(suite.Bodies(rounds*40, 20))
			in.Close()
			// The abort takes what was uploaded by then; the lines at its edge are torn.
			got, want := r.lines(), suite.Bodies(rounds*40-20+3, 20+20-3)
			if n := len(got); n < len(want) || !slices.Equal(got[n-len(want):], want) || len(r.files()) > 0 {
				t.Errorf("%d aborts: %q, left in the spool %q", rounds, got, r.files())
			}
		})
	}
}

// The disk fails: all is rolled back and comes again.
func TestDiskFails(t *testing.T) {
	// The suite has that; here with objects that were begun before.
	r := newRig()
	r.part = 1000
	in := r.open(t, "rollCount=50")
	in.Deliver(suite.Bodies(0, 20))
	flush(t, in)
	in.Deliver(suite.Bodies(20, 10))
	in.Backend.Break()
	if err := in.Sink.Flush(context.Background()); err == nil {
		t.Fatal("flushed onto a broken disk")
	}
	in.Backend.Heal()
	in.Deliver(suite.Bodies(20, 80))
	in.Close()
	keys := r.keys()
	if len(keys) != 2 || !slices.Equal(lines(r.content(keys[0])), suite.Bodies(0, 50)) || !slices.Equal(r.lines(), suite.Bodies(0, 100)) {
		t.Errorf("%d events in %q", len(r.lines()), keys)
	}
	r.idle(t)
}
