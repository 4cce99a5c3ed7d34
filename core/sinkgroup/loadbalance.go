package sinkgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// LoadBalance is the catalogue entry.
var LoadBalance = core.Type[core.SinkProcessor]{
	Name: "load_balance", Doc: "The sinks take batches in turn or by chance; where one fails, the next takes over.",
	Aliases: []string{"org.apache.flume.sink.LoadBalancingSinkProcessor"},
	New:     func() core.SinkProcessor { return new(loadBalance) },
}

const (
	roundRobin  = "ROUND_ROBIN"
	random      = "RANDOM"
	longest     = 30 * time.Second // out of the turn, by default
	forgetAfter = time.Hour        // without a failure
	mostSteps   = 16               // that the time out of the turn doubles
	mostWaiting = 64               // orders of failed batches that are kept
)

type loadBalance struct {
	names   []string
	policy  string
	backoff bool
	longest time.Duration

	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	sinks   []*balanced
	head    int     // where the next turn begins, among the active ones
	waiting [][]int // what is left of the orders of batches that were rolled back, oldest first
	cause   error   // of the newest failure
}

// balanced is a sink of the group, with what Flume's back-off remembers of it.
type balanced struct {
	core.Sink
	name     string
	failures int
	last     time.Time // failure
	restore  time.Time // when it is in the turn again
}

// Keys implements core.Component.
func (g *loadBalance) Keys(k *conf.Keys) {
	g.policy = roundRobin
	k.Func("selector", "one of "+roundRobin+", "+random, roundRobin, "In turn, or by chance.", g.setPolicy)
	k.Bool(&g.backoff, "backoff", false, "Leave a sink that failed out for a while: 2 s, then twice as long each time.")
	k.Millis(&g.longest, "selector.maxTimeOut", longest, "The longest time a failed sink is left out; 0: the default.").Must(conf.Min(0))
	k.Check(func(r *conf.Report) {
		g.names = r.Members()
		if len(g.names) < 2 {
			r.Error("type", "load_balance takes at least two sinks, this group has %d: leave the group out", len(g.names))
		}
		if r.IsSet("selector.maxTimeOut") && !g.backoff {
			r.Warn("selector.maxTimeOut", "has no effect without backoff = true")
		}
		if g.longest == 0 {
			g.longest = longest
		}
	})
}

func (g *loadBalance) setPolicy(text string) error {
	switch name := strings.ToUpper(text); {
	case name == roundRobin, name == random:
		g.policy = name
		return nil
	case name == roundRobin+"_BACKOFF", name == random+"_BACKOFF":
		return fmt.Errorf("is in Flume's source but no name of a selector: write %s and backoff = true",
			strings.ToLower(strings.TrimSuffix(name, "_BACKOFF")))
	case strings.Contains(text, "."):
		return errors.New("is a class, and there are no custom selectors here: write round_robin or random")
	}
	return fmt.Errorf("must be one of %s, %s", roundRobin, random)
}

// Group implements core.SinkProcessor.
func (g *loadBalance) Group(sinks []core.Sink) {
	for i, s := range sinks {
		g.sinks = append(g.sinks, &balanced{Sink: s, name: g.names[i]})
	}
}

// Open implements core.Component.
func (g *loadBalance) Open(_ context.Context, env core.Env) error {
	g.mu.Lock() // somebody may ask already how the sinks fare
	defer g.mu.Unlock()
	g.log, g.now = env.Log, env.Now
	return nil
}

// Deliver implements core.Sink. A batch that comes again after a failure goes
// to the next sink of its order; when its order ends the runner pauses.
func (g *loadBalance) Deliver(ctx context.Context, tx core.TakeTx) {
	m, rest, cause := g.pick()
	if m == nil {
		tx.Rollback(cause)
		return
	}
	m.Deliver(ctx, &balancedTx{TakeTx: tx, g: g, m: m, rest: rest, ctx: ctx})
}

// pick gives a sink, and those to try after it; a nil sink: none is active, because of cause.
func (g *loadBalance) pick() (m *balanced, rest []int, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.waiting) > 0 {
		order := g.active(g.waiting[0])
		g.waiting = g.waiting[1:]
		if len(order) > 0 {
			return g.sinks[order[0]], order[1:], nil
		}
	}
	order := g.order()
	if len(order) == 0 {
		return nil, nil, fmt.Errorf("all sinks of the group failed and are left out for a while, the last: %w", g.cause)
	}
	return g.sinks[order[0]], order[1:], nil
}

// order is a turn over the active sinks. The head moves on by one a turn, whether the sink at the head delivers or another.
func (g *loadBalance) order() []int {
	all := make([]int, len(g.sinks))
	for i := range all {
		all[i] = i
	}
	all = g.active(all)
	n := len(all)
	if n == 0 {
		return nil
	}
	if g.policy == random {
		rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all
	}
	if g.head >= n {
		g.head = 0
	}
	order := append(all[g.head:n:n], all[:g.head]...)
	g.head = (g.head + 1) % n
	return order
}

// active are those of a list that are not left out.
func (g *loadBalance) active(list []int) []int {
	if !g.backoff {
		return list
	}
	now := g.now()
	var active []int
	for _, i := range list {
		if g.sinks[i].restore.Before(now) {
			active = append(active, i)
		}
	}
	return active
}

// failed notes a failure of m. It reports whether rest has a sink to try next, and keeps rest for then.
func (g *loadBalance) failed(m *balanced, rest []int, cause error) (other bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cause = fmt.Errorf("sink %s: %w", m.name, cause)
	out := g.leaveOut(m)
	rest = g.active(rest)
	if len(rest) > 0 && len(g.waiting) < mostWaiting {
		g.waiting = append(g.waiting, rest)
	}
	g.log.Warn("sink failed", "sink", m.name, "left_out", out, "others", len(rest), "error", cause)
	return len(rest) > 0
}

// leaveOut takes m out of the turn, if backoff says so, as Flume's back-off reckons: the time doubles with each failure
// that comes within an hour of the end of the last time, and a success does not shorten it.
func (g *loadBalance) leaveOut(m *balanced) time.Duration {
	now := g.now()
	if !g.backoff || now.Before(m.restore) { // one failure counts once, however many leases it rolls back
		return 0
	}
	if now.Sub(m.last) < g.timeout(m.failures)+forgetAfter {
		m.failures = min(m.failures+1, mostSteps)
	} else {
		m.failures = 1
	}
	out := g.timeout(m.failures)
	m.last, m.restore = now, now.Add(out)
	return out
}

func (g *loadBalance) timeout(failures int) time.Duration {
	return min(g.longest, time.Second<<failures)
}

// Fares implements core.Members.
func (g *loadBalance) Fares() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now == nil {
		return nil
	}
	now := g.now()
	all := make(map[string]string, len(g.sinks))
	for _, m := range g.sinks {
		all[m.name] = core.FaresActive
		if g.backoff && !m.restore.Before(now) {
			all[m.name] = core.FaresFailed
		}
	}
	return all
}

// Flush implements core.Sink.
func (g *loadBalance) Flush(ctx context.Context) error {
	var errs []error
	for _, m := range g.sinks {
		if err := m.Flush(ctx); err != nil {
			if ctx.Err() == nil {
				g.failed(m, nil, err)
			}
			errs = append(errs, fmt.Errorf("sink %s: %w", m.name, err))
		}
	}
	return errors.Join(errs...)
}

// Close implements core.Sink; the agent closes the sinks themselves.
func (g *loadBalance) Close(context.Context) error { return nil }

// balancedTx sees how its sink fares.
type balancedTx struct {
	core.TakeTx
	g    *loadBalance
	m    *balanced
	rest []int
	ctx  context.Context
}

// Unwrap is for core.Origin.
func (t *balancedTx) Unwrap() core.Lease { return t.TakeTx }

func (t *balancedTx) Rollback(cause error) {
	if t.ctx.Err() == nil && t.g.failed(t.m, t.rest, cause) {
		cause = &core.RetryNow{Cause: cause}
	}
	t.TakeTx.Rollback(cause)
}
