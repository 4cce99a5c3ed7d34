// Package sinktest is the suite that every sink runs under: what it acks is
// visible at the far end, what it rolls back comes again, every transaction
// ends once, and it does what Flush and Close promise.
package sinktest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// Subject is a sink to test.
type Subject struct {
	New func() core.Sink
	// Backend makes a far end and the keys that lead to it. Called once per check.
	Backend func(t testing.TB) Backend
	// Discards: the far end shows nothing (the null sink).
	Discards bool
}

// Backend is the far end of a sink.
type Backend struct {
	Keys map[string]string
	// Prepare changes the sink's environment before Open; may be nil.
	Prepare func(env *core.Env)
	// Seen returns the bodies that are visible to a reader now, in order. Nil if Discards.
	Seen func() []string
	// Break makes deliveries fail until Heal. Nil where that cannot be.
	Break, Heal func()
}

// Checks are the properties of a sink.
var Checks = []suite.Check[Subject]{
	{Name: "acked is visible", Run: visible},
	{Name: "flush ends what is held", Run: flushes},
	{Name: "failure rolls back, success follows", Run: recovers},
	{Name: "close ends what is held", Run: closes},
	{Name: "empty batch", Run: empty},
}

// Run runs the suite.
func Run(t *testing.T, s Subject) { suite.Run(t, s, Checks) }

// Instance is an open sink in a check.
type Instance struct {
	Sink    core.Sink
	Backend Backend
	Env     core.Env
	t       testing.TB
	txs     []*Tx
}

// Open binds and opens a sink of s.
func Open(t testing.TB, s Subject) *Instance {
	t.Helper()
	in := &Instance{Sink: s.New(), Backend: s.Backend(t), t: t}
	in.Env = sourcetest.NewEnv(t, "sink")
	in.Env.Metrics = &metric.Group{Kind: metric.Sink, Name: "sink"}
	if in.Backend.Prepare != nil {
		in.Backend.Prepare(&in.Env)
	}
	if _, faults := conf.Bind(in.Sink, in.Backend.Keys); faults.HasErrors() {
		t.Fatalf("keys: %v", faults)
	}
	if err := in.Sink.Open(context.Background(), in.Env); err != nil {
		t.Fatalf("open: %v", err)
	}
	return in
}

// Deliver hands bodies to the sink in one transaction.
func (in *Instance) Deliver(bodies []string) *Tx {
	b := core.NewBatch()
	b.Born = time.Now()
	for i, body := range bodies {
		b.Copy(core.NewHeaders(core.Header{Key: "n", Value: string(rune('a' + i%26))}), []byte(body))
	}
	tx := &Tx{t: in.t, batch: b, bodies: bodies, ended: make(chan struct{}), done: make([]bool, len(bodies))}
	in.txs = append(in.txs, tx)
	in.Sink.Deliver(context.Background(), tx)
	return tx
}

// Close closes the sink and checks that every transaction has ended.
func (in *Instance) Close() {
	in.t.Helper()
	if err := in.Sink.Close(context.Background()); err != nil {
		in.t.Errorf("close: %v", err)
	}
	for i, tx := range in.txs {
		select {
		case <-tx.ended:
		case <-time.After(suite.Deadline):
			in.t.Fatalf("transaction %d is not ended after Close", i)
		}
		tx.batch.Release()
	}
}

// Tx is a transaction that records its fate. Its acks are on disk at once.
type Tx struct {
	t      testing.TB
	batch  *core.Batch
	bodies []string

	mu      sync.Mutex
	done    []bool
	refused []error
	rolled  error
	marks   []core.Mark
	ended   chan struct{}
}

// Batch implements core.Lease.
func (x *Tx) Batch() *core.Batch { return x.batch }

func (x *Tx) over() bool {
	select {
	case <-x.ended:
		return true
	default:
		return false
	}
}

// Ack implements core.Lease.
func (x *Tx) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	stored := make(chan struct{})
	close(stored)
	if x.over() && (pick != nil || !slices.Contains(x.done, true)) && len(x.done) > 0 {
		x.t.Errorf("ack after the transaction has ended")
		return stored
	}
	x.marks = append(x.marks, m...)
	for i := range x.done {
		if pick == nil || slices.Contains(pick, int32(i)) {
			if pick != nil && x.done[i] {
				x.t.Errorf("event %d acked twice", i)
			}
			x.done[i] = true
		}
	}
	x.settle()
	return stored
}

func (x *Tx) settle() {
	if !slices.Contains(x.done, false) && !x.over() {
		close(x.ended)
	}
}

// Refuse implements core.TakeTx.
func (x *Tx) Refuse(i int, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done[i] {
		x.t.Errorf("event %d refused after it was acked or refused", i)
	}
	x.done[i] = true
	x.refused = append(x.refused, why)
	x.settle()
}

// Rollback implements core.Lease.
func (x *Tx) Rollback(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over() {
		x.t.Errorf("rollback after the transaction has ended")
		return
	}
	if cause == nil {
		cause = errors.New("no cause given")
	}
	x.rolled = cause
	close(x.ended)
}

// Unpin implements core.Lease.
func (x *Tx) Unpin() bool { return false }

// Lost implements core.Lease.
func (x *Tx) Lost() <-chan struct{} { return nil }

// Acked returns the bodies that were acked, the cause of a rollback, and whether the transaction has ended.
func (x *Tx) Acked() (bodies []string, rolled error, ended bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, d := range x.done {
		if d {
			bodies = append(bodies, x.bodies[i])
		}
	}
	return bodies, x.rolled, x.over()
}

// Marks returns the marks stored with the acks.
func (x *Tx) Marks() []core.Mark {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]core.Mark(nil), x.marks...)
}

func (in *Instance) acked() []string {
	var all []string
	for _, tx := range in.txs {
		bodies, _, _ := tx.Acked()
		all = append(all, bodies...)
	}
	return all
}

// agree checks that the far end shows exactly want.
func (in *Instance) agree(s Subject, want []string) {
	in.t.Helper()
	if s.Discards {
		return
	}
	suite.Within(suite.Deadline, func() bool { return len(in.Backend.Seen()) >= len(want) })
	if got := in.Backend.Seen(); !slices.Equal(got, want) {
		in.t.Fatalf("the far end shows %d events, want %d:\n%s", len(got), len(want), strings.Join(got[:min(len(got), 5)], "\n"))
	}
}

func visible(t testing.TB, s Subject) {
	in := Open(t, s)
	for i := range 5 {
		in.Deliver(suite.Bodies(i*100, 100))
	}
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatalf("flush: %v", err)
	}
	if n := len(in.acked()); n != 500 {
		t.Fatalf("%d of 500 events acked after Flush", n)
	}
	in.agree(s, suite.Bodies(0, 500))
	in.Close()
	in.agree(s, suite.Bodies(0, 500))
}

func flushes(t testing.TB, s Subject) {
	in := Open(t, s)
	tx := in.Deliver(suite.Bodies(0, 3))
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatalf("flush: %v", err)
	}
	if _, rolled, ended := tx.Acked(); !ended || rolled != nil {
		t.Fatalf("after Flush: ended %v, rolled back: %v", ended, rolled)
	}
	in.agree(s, suite.Bodies(0, 3))
	in.Close()
}

func recovers(t testing.TB, s Subject) {
	in := Open(t, s)
	if in.Backend.Break == nil {
		in.Close()
		return
	}
	first := in.Deliver(suite.Bodies(0, 10))
	_ = in.Sink.Flush(context.Background())
	if _, rolled, _ := first.Acked(); rolled != nil {
		t.Fatalf("rolled back with a healthy far end: %v", rolled)
	}
	in.Backend.Break()
	bad := in.Deliver(suite.Bodies(10, 10))
	_ = in.Sink.Flush(context.Background())
	bodies, rolled, ended := bad.Acked()
	if !ended || rolled == nil || len(bodies) != 0 {
		t.Fatalf("with a broken far end: ended %v, acked %d, rolled back: %v", ended, len(bodies), rolled)
	}
	in.Backend.Heal()
	suite.Eventually(t, "delivery after the far end is well again", func() bool {
		tx := in.Deliver(suite.Bodies(10, 10))
		_ = in.Sink.Flush(context.Background())
		_, rolled, ended := tx.Acked()
		return ended && rolled == nil
	})
	in.agree(s, suite.Bodies(0, 20))
	in.Close()
}

func closes(t testing.TB, s Subject) {
	in := Open(t, s)
	tx := in.Deliver(suite.Bodies(0, 10))
	in.Close()
	bodies, _, _ := tx.Acked()
	if s.Discards {
		return
	}
	seen := in.Backend.Seen()
	for _, b := range bodies {
		if !slices.Contains(seen, b) {
			t.Fatalf("%q is acked and not visible after Close", b)
		}
	}
}

func empty(t testing.TB, s Subject) {
	in := Open(t, s)
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatalf("flush of nothing: %v", err)
	}
	in.Close()
	if !s.Discards {
		if got := in.Backend.Seen(); len(got) != 0 {
			t.Fatalf("%d events seen, none delivered", len(got))
		}
	}
}
