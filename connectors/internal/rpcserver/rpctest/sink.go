package rpctest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// SinkSubjects are, by name, the subjects of the suite of sinks: with a far end that is
// not there at first and killed later, and with one that fails in each of its ways.
func SinkSubjects(w Wire) map[string]sinktest.Subject {
	subjects := map[string]sinktest.Subject{
		"killed": {New: w.Sink, Backend: func(t testing.TB) sinktest.Backend {
			p := NewPeer(t, w, false)
			return sinktest.Backend{Keys: p.Keys(), Seen: p.Seen, Break: p.Stop, Heal: p.Listen}
		}},
	}
	modes := map[string]Mode{
		"rejects": Rejects, "unknown": Unknown, "words": Words, "hangs": Hangs, "half an answer": Halves, "dies": Dies, "garbage": Garbage,
	}
	maps.Copy(modes, w.Modes)
	for name, m := range modes {
		for _, plain := range []bool{false, true} {
			subjects[fmt.Sprintf("%s, as Flume %v", name, plain)] = sinktest.Subject{New: w.Sink, Backend: func(t testing.TB) sinktest.Backend {
				p := NewPeer(t, w, plain)
				keys := p.Keys()
				if m == Hangs {
					keys["request-timeout"], keys["connect-timeout"] = "1000", "1000"
				}
				return sinktest.Backend{Keys: keys, Seen: p.Seen, Break: func() { p.Set(m) }, Heal: func() { p.Set(Well) }}
			}}
		}
	}
	return subjects
}

// SinkChecks are properties of a sink.
var SinkChecks = []suite.Check[Wire]{
	{Name: "order after a failure", Run: orderAfterFailure},
	{Name: "large batch", Run: largeBatch},
	{Name: "an idle connection ends", Run: idleConnectionEnds},
	{Name: "patience", Run: patience},
}

// OpenSink opens a sink with those keys.
func OpenSink(t testing.TB, w Wire, keys map[string]string) *sinktest.Instance {
	t.Helper()
	return sinktest.Open(t, sinktest.Subject{New: w.Sink, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
}

// DeliverAll delivers n events, each again until it is taken.
func DeliverAll(t testing.TB, in *sinktest.Instance, n int) {
	t.Helper()
	for i := range n {
		suite.Eventually(t, "delivery", func() bool {
			tx := in.Deliver([]string{strconv.Itoa(i)})
			_ = in.Sink.Flush(context.Background())
			_, back, ended := tx.Acked()
			return ended && back == nil
		})
	}
}

// FailedConnect proves that a far end that is not there is tried again with every delivery.
func FailedConnect(t *testing.T, w Wire) {
	p := NewPeer(t, w, false)
	p.Stop()
	in := OpenSink(t, w, p.Keys())
	for range 5 {
		tx := in.Deliver([]string{"x"})
		if _, back, _ := tx.Acked(); back == nil {
			t.Error("not rolled back")
		}
	}
	p.Listen()
	DeliverAll(t, in, 3)
	in.Close()
	m := in.Env.Metrics
	if f, c := m.ConnectionFailed.Load(), m.ConnectionCreated.Load(); f != 5 || c != 1 || len(p.Seen()) != 3 {
		t.Errorf("%d connections failed, %d made, %q", f, c, p.Seen())
	}
}

// Reset proves that a connection that has the age is replaced at the next
// delivery, without the key never.
func Reset(t *testing.T, w Wire) {
	p := NewPeer(t, w, false)
	in := OpenSink(t, w, p.Keys("reset-connection-interval", "0"))
	DeliverAll(t, in, 5)
	in.Close()
	if n := in.Env.Metrics.ConnectionCreated.Load(); n != 1 {
		t.Errorf("without it: %d connections", n)
	}
	p = NewPeer(t, w, false)
	in = OpenSink(t, w, p.Keys("reset-connection-interval", "50ms"))
	DeliverAll(t, in, 1)
	c := w.Lane(in.Sink).Conn()
	suite.Eventually(t, "its age", func() bool { return time.Since(c.Since()) > 50*time.Millisecond })
	DeliverAll(t, in, 1)
	in.Close()
	if n := in.Env.Metrics.ConnectionCreated.Load(); n != 2 || len(p.Seen()) != 2 {
		t.Errorf("%d connections, %q", n, p.Seen())
	}
}

// idleConnectionEnds: a connection that the far end closed while nothing was sent is no failure.
func idleConnectionEnds(t testing.TB, w Wire) {
	p := NewPeer(t, w, false)
	in := OpenSink(t, w, p.Keys())
	DeliverAll(t, in, 1)
	c := w.Lane(in.Sink).Conn()
	p.Stop()
	<-c.Ended()
	p.Listen()
	tx := in.Deliver([]string{"second"})
	_ = in.Sink.Flush(context.Background())
	if _, back, _ := tx.Acked(); back != nil {
		t.Errorf("rolled back: %v", back)
	}
	in.Close()
}

// patience: the end of the runner's patience ends a delivery that waits, and a Flush.
func patience(t testing.TB, w Wire) {
	p := NewPeer(t, w, true)
	p.Set(Waits)
	in := OpenSink(t, w, p.Keys())
	first := in.Deliver([]string{"1"})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- in.Sink.Flush(ctx) }()
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	if _, back, ended := first.Acked(); !ended || back == nil {
		t.Errorf("after the flush: ended %v, rolled back %v", ended, back)
	}
	p.Open()
	in.Close()
}
