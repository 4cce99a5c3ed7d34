package sinkgroup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/sourcetest"
)

// far is a far end in memory, with a capacity like that of Flume's own test.
type far struct {
	room int
	got  []string
	fail bool
}

func (f *far) Keys(*conf.Keys)                      {}
func (f *far) Open(context.Context, core.Env) error { return nil }
func (f *far) Close(context.Context) error          { return nil }
func (f *far) Write(_ context.Context, b *core.Batch) error {
	if f.fail || f.room < len(b.Events) {
		return errors.New("far end is full")
	}
	f.room -= len(b.Events)
	for _, e := range b.Events {
		f.got = append(f.got, string(e.Body))
	}
	return nil
}

func failoverOf(t *testing.T, keys map[string]string, fars ...*far) core.SinkProcessor {
	t.Helper()
	return groupOf(t, Failover, keys, writers(fars)...)
}

func writers(fars []*far) (sinks []core.Sink) {
	for _, f := range fars {
		sinks = append(sinks, core.WriterSink(f))
	}
	return sinks
}

func groupOf(t *testing.T, typ core.Type[core.SinkProcessor], keys map[string]string, sinks ...core.Sink) core.SinkProcessor {
	t.Helper()
	g := typ.New()
	if _, faults := conf.BindMembers(g, []string{"s1", "s2", "s3"}[:len(sinks)], keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	g.Group(sinks)
	if err := g.Open(context.Background(), sourcetest.NewEnv(t, "g")); err != nil {
		t.Fatal(err)
	}
	return g
}

// deliver hands single events to g until n are delivered, as the runner does:
// what is rolled back comes again at once, or after a pause when no sink is live.
func deliver(t *testing.T, g core.Sink, n int) {
	t.Helper()
	for tries := 0; n > 0; tries++ {
		if tries > 10_000 {
			t.Fatal("no progress")
		}
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte("x"))
		tx := &outcome{Tx: &sinktest.Tx{}, b: b}
		g.Deliver(context.Background(), tx)
		var now *core.RetryNow
		switch {
		case tx.acked:
			n--
		case !errors.As(tx.cause, &now):
			time.Sleep(time.Second) // in the bubble's time
		}
		b.Release()
	}
}

type outcome struct {
	*sinktest.Tx
	b     *core.Batch
	acked bool
	cause error
}

func (o *outcome) Batch() *core.Batch { return o.b }
func (o *outcome) Ack([]int32, ...core.Mark) <-chan struct{} {
	o.acked = true
	return nil
}
func (o *outcome) Rollback(cause error) { o.cause = cause }

// Flume's own test: capacities 10, 50, 100; 15, then 50 events; s2 gets room for
// 20 more and is well again after its penalty; then 100.
//
// flume: TestFailoverSinkProcessor testFailover
func TestFailoverAsFlume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s1, s2, s3 := &far{room: 10}, &far{room: 50}, &far{room: 100}
		g := failoverOf(t, map[string]string{"priority.s1": "3", "priority.s2": "2", "priority.s3": "1", "maxpenalty": "10000"}, s1, s2, s3)
		deliver(t, g, 15)
		if len(s1.got) != 10 || len(s2.got) != 5 {
			t.Fatalf("s1 %d, s2 %d, want 10 and 5", len(s1.got), len(s2.got))
		}
		deliver(t, g, 50)
		if len(s2.got) != 50 || len(s3.got) != 5 {
			t.Fatalf("s2 %d, s3 %d, want 50 and 5", len(s2.got), len(s3.got))
		}
		s2.room = 20
		time.Sleep(5 * time.Second)
		deliver(t, g, 100)
		if len(s1.got) != 10 || len(s2.got) != 70 || len(s3.got) != 85 {
			t.Fatalf("s1 %d, s2 %d, s3 %d, want 10, 70, 85", len(s1.got), len(s2.got), len(s3.got))
		}
	})
}

// Flume's penalty overflows after 21 failures and becomes none; ours never exceeds maxpenalty nor falls below it.
func TestPenaltyDoesNotOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &far{fail: true}
		g := failoverOf(t, map[string]string{"maxpenalty": "30000"}, s).(*failover)
		for n := range 40 {
			g.failed(g.sinks[0], errors.New("down"))
			penalty := time.Until(g.sinks[0].until)
			if want := min(30*time.Second, time.Second<<min(n+1, 20)); penalty != want {
				t.Fatalf("penalty %v after %d failures, want %v", penalty, n+1, want)
			}
			time.Sleep(penalty + 1)
		}
	})
}

func TestFaults(t *testing.T) {
	for keys, want := range map[string]string{
		"priority.s1=1 priority.s2=1": "is also that of",
		"priority.s9=1":               "is not a sink of this group",
		"priority.s1=high":            "is not a number",
	} {
		_, faults := conf.BindMembers(Failover.New(), []string{"s1", "s2"}, props(keys))
		if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("%s: %v", keys, faults)
		}
	}
	_, faults := conf.BindMembers(Default.New(), []string{"s1", "s2"}, nil)
	if len(faults) != 1 || !strings.Contains(faults[0].String(), "exactly one sink") {
		t.Errorf("default with two sinks: %v", faults)
	}
}
