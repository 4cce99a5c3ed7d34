package sinkgroup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
)

// balance is a group of three with room for all that the tests send.
func balance(t *testing.T, keys string) (core.SinkProcessor, [3]*far) {
	t.Helper()
	const room = 1000
	fars := [3]*far{{room: room}, {room: room}, {room: room}}
	return groupOf(t, LoadBalance, props(keys), writers(fars[:])...), fars
}

func props(keys string) map[string]string {
	m := make(map[string]string)
	for kv := range strings.FieldsSeq(keys) {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

func want(t *testing.T, fars [3]*far, counts ...int) {
	t.Helper()
	for i, f := range fars {
		if len(f.got) != counts[i] {
			t.Errorf("s%d got %d events, want %d of %v", i+1, len(f.got), counts[i], counts)
		}
	}
}

// Flume's own tests (TestLoadBalancingSinkProcessor), with its numbers.
//
// flume: TestLoadBalancingSinkProcessor testDefaultConfiguration testRoundRobinNoFailure testRandomOneActiveSink
// flume: TestLoadBalancingSinkProcessor testRoundRobinOneActiveSink testRandomBackoff testRandomPersistentFailure
// flume: TestLoadBalancingSinkProcessor testRandomNoFailure testRoundRobinPersistentFailure
// flume: TestLoadBalancingSinkProcessor testRoundRobinBackoffInitialFailure testRoundRobinBackoffIncreasingBackoffs
// flume: TestLoadBalancingSinkProcessor testRoundRobinBackoffFailureRecovery
func TestLoadBalanceAsFlume(t *testing.T) {
	const n = 100
	for name, run := range map[string]func(t *testing.T){
		"testDefaultConfiguration": func(t *testing.T) {
			g, fars := balance(t, "")
			deliver(t, g, 3*n)
			want(t, fars, n, n, n)
		},
		"testRoundRobinPersistentFailure": func(t *testing.T) {
			g, fars := balance(t, "selector=round_robin")
			fars[1].fail = true
			deliver(t, g, 3*n)
			want(t, fars, n, 0, 2*n)
		},
		"testRoundRobinOneActiveSink": func(t *testing.T) {
			g, fars := balance(t, "selector=Round_Robin")
			fars[0].fail, fars[2].fail = true, true
			deliver(t, g, 3*n)
			want(t, fars, 0, 3*n, 0)
		},
		"testRandomOneActiveSink": func(t *testing.T) {
			g, fars := balance(t, "selector=RANDOM")
			fars[0].fail, fars[2].fail = true, true
			deliver(t, g, 3*n)
			want(t, fars, 0, 3*n, 0)
		},
		"testRandomNoFailure": func(t *testing.T) {
			g, fars := balance(t, "selector=random")
			deliver(t, g, 3*n)
			s1, s2, s3 := len(fars[0].got), len(fars[1].got), len(fars[2].got)
			if s1+s2+s3 != 3*n || min(s1, s2, s3) < n/3 { // 8 standard deviations below the mean
				t.Errorf("%d %d %d", s1, s2, s3)
			}
		},
		"testRandomPersistentFailure": func(t *testing.T) {
			g, fars := balance(t, "selector=random")
			fars[1].fail = true
			deliver(t, g, 3*n)
			if s1, s2, s3 := len(fars[0].got), len(fars[1].got), len(fars[2].got); s1+s3 != 3*n || s2 != 0 || s1 < n || s3 < n {
				t.Errorf("%d %d %d", s1, s2, s3)
			}
		},
		"testRoundRobinBackoffInitialFailure": func(t *testing.T) {
			g, fars := balance(t, "selector=round_robin backoff=true")
			deliver(t, g, 3)
			fars[1].fail = true
			deliver(t, g, 3)
			fars[1].fail = false
			deliver(t, g, 3*n-6)
			want(t, fars, 3*n/2, 1, 3*n/2-1)
		},
		"testRoundRobinBackoffIncreasingBackoffs": func(t *testing.T) {
			g, fars := balance(t, "backoff=true")
			deliver(t, g, 3)
			fars[1].fail = true
			deliver(t, g, 3)
			time.Sleep(2100 * time.Millisecond)
			deliver(t, g, 3) // it fails again, and is left out for longer
			fars[1].fail = false
			time.Sleep(2100 * time.Millisecond)
			deliver(t, g, 3)
			if len(fars[1].got) != 1 {
				t.Errorf("s2 has got %d events while it is left out", len(fars[1].got)-1)
			}
			time.Sleep(2100 * time.Millisecond)
			deliver(t, g, 3*n-12)
			want(t, fars, n+2, n-3, n+1)
		},
		"testRoundRobinBackoffFailureRecovery": func(t *testing.T) {
			g, fars := balance(t, "backoff=true")
			deliver(t, g, 3)
			fars[1].fail = true
			deliver(t, g, 3)
			fars[1].fail = false
			time.Sleep(2001 * time.Millisecond)
			deliver(t, g, 3*n-6)
			want(t, fars, n+1, n-1, n)
		},
		"testRandomBackoff": func(t *testing.T) {
			g, fars := balance(t, "selector=random backoff=true")
			fars[0].fail, fars[2].fail = true, true
			for len(fars[1].got) < n || len(out(g.(*loadBalance))) < 2 {
				deliver(t, g, 1)
			}
			fars[0].fail, fars[2].fail, fars[1].fail = false, false, true
			before := len(fars[1].got)
			if cause := once(g); cause == nil || retries(cause) {
				t.Errorf("with the one that is left failing: %v", cause)
			}
			if cause := once(g); cause == nil || retries(cause) || !strings.Contains(cause.Error(), "all sinks of the group failed") {
				t.Errorf("with none left: %v", cause)
			}
			time.Sleep(2001 * time.Millisecond)
			fars[1].fail = false
			g.(*loadBalance).sinks[1].restore = time.Now().Add(time.Hour)
			deliver(t, g, n)
			if got := len(fars[0].got) + len(fars[2].got); got != n || len(fars[1].got) != before {
				t.Errorf("%d events go to those that are well again", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
	}
}

// once hands one event to g and gives the cause of its rollback, nil if it was acked.
func once(g core.Sink) error {
	b := core.NewBatch()
	defer b.Release()
	b.Append(core.Headers{}, nil)
	tx := &outcome{Tx: &sinktest.Tx{}, b: b}
	g.Deliver(context.Background(), tx)
	return tx.cause
}

func retries(cause error) bool {
	var now *core.RetryNow
	return errors.As(cause, &now)
}

// out are the sinks that are left out.
func out(g *loadBalance) (names []string) {
	for _, m := range g.sinks {
		if !m.restore.Before(g.now()) {
			names = append(names, m.name)
		}
	}
	return names
}

// When every sink of an order has failed the runner pauses, and begins a new turn.
func TestLoadBalanceAllFail(t *testing.T) {
	g, fars := balance(t, "")
	for _, f := range fars {
		f.fail = true
	}
	for turn := range 2 {
		for try := range 3 {
			if cause := once(g); cause == nil || retries(cause) != (try < 2) {
				t.Errorf("turn %d, try %d: %v, at once: %v", turn, try, cause, retries(cause))
			}
		}
	}
}

// The times, with the limit, and what an hour of quiet does.
func TestLoadBalanceTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := balance(t, "backoff=true selector.maxTimeOut=10000")
		g := p.(*loadBalance)
		m := g.sinks[0]
		for i, want := range []time.Duration{2, 4, 8, 10, 10} {
			g.failed(m, nil, errors.New("down"))
			g.failed(m, nil, errors.New("down")) // a second lease that the same failure rolls back
			if got := time.Until(m.restore); got != want*time.Second {
				t.Errorf("failure %d: left out for %v, want %v s", i+1, got, want)
			}
			time.Sleep(want*time.Second + 1)
		}
		time.Sleep(forgetAfter)
		g.failed(m, nil, errors.New("down"))
		if got := time.Until(m.restore); got != 2*time.Second {
			t.Errorf("after an hour: %v", got)
		}
	})
}

// late is a sink that ends its transactions when it is told.
type late struct{ held []core.TakeTx }

func (l *late) Keys(*conf.Keys)                           {}
func (l *late) Open(context.Context, core.Env) error      { return nil }
func (l *late) Close(context.Context) error               { return nil }
func (l *late) Flush(context.Context) error               { return errors.New("flush failed") }
func (l *late) Deliver(_ context.Context, tx core.TakeTx) { l.held = append(l.held, tx) }

// Sinks that end late: each batch that comes back goes to the sink behind its own.
func TestLoadBalanceLate(t *testing.T) {
	sinks := [3]*late{{}, {}, {}}
	g := groupOf(t, LoadBalance, props("backoff=true"), sinks[0], sinks[1], sinks[2])
	b := core.NewBatch()
	defer b.Release()
	var txs []*outcome
	for range 7 {
		txs = append(txs, &outcome{Tx: &sinktest.Tx{}, b: b})
		g.Deliver(context.Background(), txs[len(txs)-1])
	}
	if len(sinks[0].held) != 3 || len(sinks[1].held) != 2 || len(sinks[2].held) != 2 {
		t.Fatalf("%d %d %d", len(sinks[0].held), len(sinks[1].held), len(sinks[2].held))
	}
	sinks[2].held[0].Ack(nil)
	for _, tx := range sinks[0].held {
		tx.Rollback(errors.New("late failure"))
	}
	if !txs[2].acked || !retries(txs[0].cause) || !retries(txs[6].cause) {
		t.Errorf("%v %v %v", txs[2].acked, txs[0].cause, txs[6].cause)
	}
	if got := g.(*loadBalance).sinks[0].failures; got != 1 {
		t.Errorf("one failure of three batches counts %d times", got)
	}
	for range 3 {
		g.Deliver(context.Background(), &outcome{Tx: &sinktest.Tx{}, b: b})
	}
	if len(sinks[1].held) != 5 {
		t.Errorf("the sink behind got %d of the 3", len(sinks[1].held)-2)
	}
	if err := g.Flush(context.Background()); err == nil || !strings.Contains(err.Error(), "sink s2: flush failed") || len(out(g.(*loadBalance))) != 3 {
		t.Errorf("flush: %v, left out %v", err, out(g.(*loadBalance)))
	}
}

func TestLoadBalanceFaults(t *testing.T) {
	for keys, want := range map[string]string{
		"selector=fastest":                   `"fastest" must be one of ROUND_ROBIN, RANDOM`,
		"selector=ROUND_ROBIN_BACKOFF":       "write round_robin and backoff = true",
		"selector=com.example.Weighted":      "there are no custom selectors here",
		"selector.maxTimeOut=-1":             "must be at least 0",
		"selector.maxTimeOut=100":            "has no effect without backoff",
		"backoff=true selector.maxTimeout=1": "did you mean selector.maxTimeOut?",
	} {
		_, faults := conf.BindMembers(LoadBalance.New(), []string{"s1", "s2"}, props(keys))
		if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("%s: %v", keys, faults)
		}
	}
	_, faults := conf.BindMembers(LoadBalance.New(), []string{"s1"}, nil)
	if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), "type: load_balance takes at least two sinks") {
		t.Error(fmt.Sprint(faults))
	}
}
