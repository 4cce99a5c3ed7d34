package stress

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

func TestSuite(t *testing.T) {
	for _, batch := range []string{"1", "7"} {
		t.Run("batch "+batch, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Subject{
				New: Source.New,
				Keys: func(testing.TB) map[string]string {
					return map[string]string{"size": "20", "maxTotalEvents": "3000", "batchSize": batch, "backoffSleepIncrement": "0"}
				},
				Feed:   func(_ testing.TB, _ *sourcetest.Instance, bodies []string) []string { return bodies },
				Bodies: func(_, n int) []string { return slices.Repeat([]string{strings.Repeat("\x7f", 20)}, n) },
			})
		})
	}
}

// outlet answers as it is told, and records the sizes of the batches.
type outlet struct {
	core.Outlet
	tried []int
	times []time.Time
	full  func(put int) bool
	err   error
}

func (o *outlet) Put(_ context.Context, b *core.Batch) error {
	defer b.Release()
	o.tried = append(o.tried, len(b.Events))
	o.times = append(o.times, time.Now())
	switch {
	case o.err != nil:
		return o.err
	case o.full != nil && o.full(len(o.tried)):
		return core.ErrChannelFull
	}
	return nil
}

func open(t *testing.T, keys string) *source {
	t.Helper()
	m := make(map[string]string)
	for kv := range strings.FieldsSeq(keys) {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	s := Source.New().(*source)
	if _, faults := conf.Bind(s, m); len(faults) > 0 {
		t.Fatal(faults)
	}
	if err := s.Open(context.Background(), sourcetest.NewEnv(t, "src")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Flume's TestStressSource, with its numbers.
//
// flume: TestStressSource testMaxTotalEvents testMaxSuccessfulEvents testBatchEvents
func TestAsFlume(t *testing.T) {
	for name, c := range map[string]struct {
		keys   string
		full   func(put int) bool
		want   []int // sizes of the batches
		failed int64
	}{
		"testMaxTotalEvents":      {keys: "maxTotalEvents=35", want: slices.Repeat([]int{1}, 35)},
		"testMaxSuccessfulEvents": {keys: "maxSuccessfulEvents=35", full: func(put int) bool { return put == 10 || put == 21 }, want: slices.Repeat([]int{1}, 37), failed: 2},
		"testBatchEvents":         {keys: "maxTotalEvents=35 batchSize=10", want: []int{10, 10, 10, 5}},
		"a batch that fails is not sent again": {
			keys: "maxTotalEvents=35 batchSize=10", full: func(put int) bool { return put == 2 }, want: []int{10, 10, 10, 5}, failed: 10,
		},
		"no more than maxSuccessfulEvents": {
			keys: "maxSuccessfulEvents=15 batchSize=10", full: func(put int) bool { return put == 2 }, want: []int{10, 5, 5}, failed: 5,
		},
		"nothing": {keys: "maxTotalEvents=0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, out := open(t, c.keys), &outlet{full: c.full}
				for range 2 { // the second run finds nothing left
					if err := s.Run(t.Context(), out); err != nil {
						t.Fatal(err)
					}
				}
				if !slices.Equal(out.tried, c.want) || s.failed.Load() != c.failed {
					t.Errorf("batches %v, %d failed; want %v, %d", out.tried, s.failed.Load(), c.want, c.failed)
				}
			})
		})
	}
}

// The pauses after failures, and those of a rate.
//
// flume: TestStressSource testRateLimitedEventsNoBatch testRateLimitedEventsBatch testNonRateLimitedEventsNoBatch
// flume: TestStressSource testNonRateLimitedEventsBatch
func TestPauses(t *testing.T) {
	for keys, want := range map[string][]time.Duration{
		"maxTotalEvents=4 maxEventsPerSecond=20":               {0, 50, 100, 150},
		"maxTotalEvents=40 batchSize=10 maxEventsPerSecond=20": {0, 500, 1000, 1500},
		"maxTotalEvents=4": {0, 0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			out := new(outlet)
			if err := open(t, keys).Run(t.Context(), out); err != nil {
				t.Fatal(err)
			}
			checkTimes(t, keys, out.times, want)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		out := &outlet{full: func(put int) bool { return put != 4 && put <= 8 }}
		if err := open(t, "maxTotalEvents=9").Run(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		checkTimes(t, "failures", out.times, []time.Duration{0, 1000, 3000, 6000, 6000, 7000, 9000, 12000, 16000})
	})
}

func checkTimes(t *testing.T, keys string, times []time.Time, want []time.Duration) {
	t.Helper()
	if len(times) != len(want) {
		t.Fatalf("%s: %d batches, want %d", keys, len(times), len(want))
	}
	for i := range times {
		if got := times[i].Sub(times[0]); got != want[i]*time.Millisecond {
			t.Errorf("%s: batch %d comes after %v, want %d ms", keys, i, got, want[i])
		}
	}
}

// It stops within a pause, and passes on what is not a full channel.
//
// flume: TestStressSource testBatchEventsWithoutMatTotalEvents
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keys := range []string{"", "maxEventsPerSecond=1"} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			out := &outlet{full: func(int) bool { return keys == "" }}
			if err := open(t, keys).Run(ctx, out); err != nil || len(out.tried) != 1 {
				t.Errorf("%s: %v after %d", keys, err, len(out.tried))
			}
			cancel()
		}
	})
	synctest.Test(t, func(t *testing.T) { // without a limit it goes on until it is told
		ctx, cancel := context.WithCancel(t.Context())
		out := &outlet{full: func(put int) bool {
			if put == 10 {
				cancel()
			}
			return false
		}}
		if err := open(t, "batchSize=10").Run(ctx, out); err != nil || !slices.Equal(out.tried, slices.Repeat([]int{10}, 10)) {
			t.Errorf("%v: batches %v", err, out.tried)
		}
	})
	broken := errors.New("broken")
	if err := open(t, "").Run(t.Context(), &outlet{err: broken}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestTransactionCapacity(t *testing.T) {
	s, out := open(t, "maxTotalEvents=10 batchSize=10"), new(outlet)
	s.env.MaxEvents = 4
	if err := s.Run(t.Context(), out); err != nil || !slices.Equal(out.tried, []int{4, 4, 2}) {
		t.Errorf("%v %v", out.tried, err)
	}
}

func TestKeys(t *testing.T) {
	for _, keys := range []map[string]string{{"batchSize": "0"}, {"size": "-1"}, {"maxTotalEvents": "many"}} {
		if _, faults := conf.Bind(Source.New(), keys); !faults.HasErrors() {
			t.Errorf("%v is accepted", keys)
		}
	}
}

type discard struct{ core.Outlet }

func (discard) Put(_ context.Context, b *core.Batch) error {
	b.Release()
	return nil
}

func BenchmarkSource(b *testing.B) {
	s := &source{size: 500, batch: 100, total: int64(b.N), successful: -1}
	if err := s.Open(context.Background(), sourcetest.NewEnv(b, "src")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	if err := s.Run(context.Background(), discard{}); err != nil {
		b.Fatal(err)
	}
}
