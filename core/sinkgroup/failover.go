package sinkgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Failover is the catalogue entry.
var Failover = core.Type[core.SinkProcessor]{
	Name: "failover", Doc: "One sink works; when it fails, the one with the next lower priority takes over, until the first is well again.",
	Aliases: []string{"org.apache.flume.sink.FailoverSinkProcessor"},
	New:     func() core.SinkProcessor { return new(failover) },
}

type failover struct {
	names      []string
	priorities map[string]string
	maxPenalty time.Duration

	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	sinks []*member // highest priority first
}

type member struct {
	core.Sink
	name     string
	priority int
	failures int       // in a row
	until    time.Time // end of the penalty
}

// Keys implements core.Component.
func (f *failover) Keys(k *conf.Keys) {
	k.Map(&f.priorities, "priority.", "Priority of that sink: the highest that is well works. Without: -1, -2, … in written order.").As("priority.<sink>")
	k.Millis(&f.maxPenalty, "maxpenalty", 30*time.Second, "The longest time a failed sink is left alone; it begins at 2 s and doubles.").OrDefault()
	k.Check(func(r *conf.Report) {
		f.names = r.Members()
		seen := make(map[int]string)
		for name, v := range f.priorities {
			p, err := strconv.Atoi(v)
			switch {
			case !slices.Contains(f.names, name):
				r.Warn("priority."+name, "%q is not a sink of this group", name)
			case err != nil:
				r.Warn("priority."+name, "%q is not a number: a priority below all others is used", v)
			case seen[p] != "":
				r.Error("priority."+name, "priority %d is also that of %s: Flume would never use one of them", p, seen[p])
			default:
				seen[p] = name
			}
		}
	})
}

// Group implements core.SinkProcessor.
func (f *failover) Group(sinks []core.Sink) {
	auto := -1
	for i, s := range sinks {
		m := &member{Sink: s, name: f.names[i]}
		p, err := strconv.Atoi(f.priorities[m.name])
		if err != nil {
			p = auto
			auto--
		}
		m.priority = p
		f.sinks = append(f.sinks, m)
	}
	slices.SortStableFunc(f.sinks, func(a, b *member) int { return b.priority - a.priority })
}

// Open implements core.Component.
func (f *failover) Open(_ context.Context, env core.Env) error {
	f.mu.Lock() // somebody may ask already how the sinks fare
	defer f.mu.Unlock()
	f.log, f.now = env.Log, env.Now
	return nil
}

// Deliver implements core.Sink: the live sink of the highest priority gets tx.
// When all are under penalty the one whose penalty ends first does.
func (f *failover) Deliver(ctx context.Context, tx core.TakeTx) {
	m := f.pick()
	m.Deliver(ctx, &groupTx{TakeTx: tx, f: f, m: m, ctx: ctx})
}

func (f *failover) pick() *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	best := f.sinks[0]
	for _, m := range f.sinks {
		if !m.until.After(now) {
			return m
		}
		if m.until.Before(best.until) {
			best = m
		}
	}
	return best
}

// failed notes a failure of m and reports whether another sink is live.
func (f *failover) failed(m *member, cause error) (other bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if !m.until.After(now) { // one failure counts once, however many leases it rolls back
		m.failures++
		penalty := min(f.maxPenalty, time.Second<<min(m.failures, 20))
		m.until = now.Add(penalty)
		f.log.Warn("sink failed, another takes over", "sink", m.name, "penalty", penalty, "error", cause)
	}
	return slices.ContainsFunc(f.sinks, func(o *member) bool { return !o.until.After(now) })
}

func (f *failover) succeeded(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.failures > 0 {
		f.log.Info("sink is well again", "sink", m.name)
		m.failures, m.until = 0, time.Time{}
	}
}

// Fares implements core.Members.
func (f *failover) Fares() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		return nil
	}
	now, active := f.now(), false
	all := make(map[string]string, len(f.sinks))
	for _, m := range f.sinks {
		switch {
		case m.until.After(now):
			all[m.name] = core.FaresFailed
		case active:
			all[m.name] = core.FaresStandby
		default:
			all[m.name], active = core.FaresActive, true
		}
	}
	return all
}

// Flush implements core.Sink.
func (f *failover) Flush(ctx context.Context) error {
	var errs []error
	for _, m := range f.sinks {
		if err := m.Flush(ctx); err != nil {
			f.failed(m, err)
			errs = append(errs, fmt.Errorf("sink %s: %w", m.name, err))
		}
	}
	return errors.Join(errs...)
}

// Close implements core.Sink; the agent closes the sinks themselves.
func (f *failover) Close(context.Context) error { return nil }

// groupTx sees how its sink fares.
type groupTx struct {
	core.TakeTx
	f   *failover
	m   *member
	ctx context.Context
}

// Unwrap is for core.Origin.
func (t *groupTx) Unwrap() core.Lease { return t.TakeTx }

func (t *groupTx) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	t.f.succeeded(t.m)
	return t.TakeTx.Ack(pick, m...)
}

func (t *groupTx) Rollback(cause error) {
	if t.ctx.Err() == nil && t.f.failed(t.m, cause) {
		cause = &core.RetryNow{Cause: cause}
	}
	t.TakeTx.Rollback(cause)
}
