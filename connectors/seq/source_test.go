package seq

import (
	"context"
	"strconv"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// flume: TestSequenceGeneratorSource testLifecycle testSingleEvents
func TestSuite(t *testing.T) {
	for _, batch := range []string{"1", "7"} {
		t.Run("batch "+batch, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Subject{
				New: Source.New,
				Keys: func(testing.TB) map[string]string {
					return map[string]string{"totalEvents": "3000", "batchSize": batch}
				},
				Feed:   func(_ testing.TB, _ *sourcetest.Instance, bodies []string) []string { return bodies },
				Bodies: numbers,
				Replay: true,
			})
		})
	}
}

func numbers(from, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = strconv.Itoa(from + i)
	}
	return s
}

// flume: TestSequenceGeneratorSource testBatch
func TestTotal(t *testing.T) {
	out := sourcetest.NewOutlet()
	in := sourcetest.Start(t, sourcetest.Subject{New: Source.New}, map[string]string{"totalEvents": "10", "batchSize": "4"}, out)
	suite.Eventually(t, "ten events", func() bool { return out.Len() == 10 })
	in.Close()
	if got := out.Bodies(); out.Biggest() != 4 || got[0] != "0" || got[9] != "9" || len(got) != 10 {
		t.Errorf("batches of %d: %q", out.Biggest(), got)
	}
	if n := in.Env.Metrics.AppendBatchAccepted.Load(); n != 3 {
		t.Errorf("%d batches counted, want 3", n)
	}
}

// Opened again with a channel that knows nothing, it does not repeat a number.
func TestGoesOn(t *testing.T) {
	s := &source{total: 5, batch: 5}
	for _, want := range []int{5, 0} {
		out := sourcetest.NewOutlet()
		if err := s.Open(context.Background(), sourcetest.NewEnv(t, "src")); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background(), out); err != nil {
			t.Fatal(err)
		}
		if out.Len() != want {
			t.Errorf("%d events, want %d", out.Len(), want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTransactionCapacity(t *testing.T) {
	s, out := &source{total: 10, batch: 10}, sourcetest.NewOutlet()
	env := sourcetest.NewEnv(t, "src")
	env.MaxEvents = 3
	if err := s.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background(), out); err != nil || out.Biggest() != 3 || out.Len() != 10 {
		t.Errorf("%d events in batches of %d, %v", out.Len(), out.Biggest(), err)
	}
}

func TestKeys(t *testing.T) {
	if _, faults := conf.Bind(Source.New(), map[string]string{"batchSize": "0"}); !faults.HasErrors() {
		t.Error("a batch size of 0 is accepted")
	}
}

type discard struct{ core.Outlet }

func (discard) Position(string) (int64, bool) { return 0, false }
func (discard) Send(_ context.Context, b *core.Batch, done func(error)) error {
	b.Release()
	done(nil)
	return nil
}

func BenchmarkSource(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(strconv.Itoa(batch), func(b *testing.B) {
			s := &source{total: int64(b.N), batch: batch, env: sourcetest.NewEnv(b, "src")}
			b.ReportAllocs()
			if err := s.Run(context.Background(), discard{}); err != nil {
				b.Fatal(err)
			}
		})
	}
}
