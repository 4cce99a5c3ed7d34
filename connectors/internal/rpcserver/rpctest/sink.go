package rpctest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// SinkSuite runs the suite of sinks with a far end that fails in each of its ways.
func SinkSuite(t *testing.T, w Wire) {
	modes := map[string]Mode{
		"rejects": Rejects, "unknown": Unknown, "words": Words, "hangs": Hangs, "half an answer": Halves, "dies": Dies, "garbage": Garbage,
	}
	maps.Copy(modes, w.Modes)
	for name, m := range modes {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, as Flume %v", name, plain), func(t *testing.T) {
				sinktest.Run(t, sinktest.Subject{New: w.Sink, Backend: func(t testing.TB) sinktest.Backend {
					p := NewPeer(t, w, plain)
					keys := p.Keys()
					if m == Hangs {
						keys["request-timeout"], keys["connect-timeout"] = "1000", "1000"
					}
					return sinktest.Backend{Keys: keys, Seen: p.Seen, Break: func() { p.Set(m) }, Heal: func() { p.Set(Well) }}
				}})
			})
		}
	}
}

// SinkSuiteKilled runs it with a far end that is not there at first, and killed later.
func SinkSuiteKilled(t *testing.T, w Wire) {
	sinktest.Run(t, sinktest.Subject{New: w.Sink, Backend: func(t testing.TB) sinktest.Backend {
		p := NewPeer(t, w, false)
		return sinktest.Backend{Keys: p.Keys(), Seen: p.Seen, Break: p.Stop, Heal: p.Listen}
	}})
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

// meet delivers events of which the answer tells what the far end promises, if
// that is to come, and returns how many: their bodies are numbers from 0.
func meet(t testing.TB, w Wire, in *sinktest.Instance) int {
	t.Helper()
	if w.Greets {
		return 0
	}
	DeliverAll(t, in, 1)
	return 1
}

// InFlight: requests do not wait for the answers to those before them, if the far
// end keeps order or the user insists. An answer that takes its time is one.
func InFlight(t *testing.T, w Wire) {
	for _, x := range []struct {
		name  string
		plain bool
		more  []string
		want  int
	}{
		{"one of ours", false, nil, w.InFlight},
		{"a Flume", true, nil, 1},
		{"a Flume, insisting", true, []string{"max-in-flight", "3"}, 3},
		{"one at a time", false, []string{"max-in-flight", "1"}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := NewPeer(t, w, x.plain)
			in := OpenSink(t, w, p.Keys(x.more...))
			first := meet(t, w, in)
			p.Set(Waits)
			delivered := make(chan struct{})
			go func() {
				defer close(delivered)
				for i := range 2 * w.InFlight {
					in.Deliver([]string{strconv.Itoa(first + i)})
				}
			}()
			l := w.Lane(in.Sink)
			suite.Eventually(t, "as many are on the way as may be", func() bool { return l.Waiting() == x.want })
			p.Open()
			<-delivered
			if err := in.Sink.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			in.Close()
			if got := p.Seen(); len(got) != first+2*w.InFlight || !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
				t.Errorf("seen %q", got)
			}
			if n := in.Env.Metrics.ConnectionCreated.Load(); n != 1 || in.Env.Metrics.ConnectionClosed.Load() != 1 {
				t.Errorf("%d connections made, %d closed", n, in.Env.Metrics.ConnectionClosed.Load())
			}
		})
	}
}

// Tx is a transaction of which only the batch matters. Ended, if set, is told
// how it ends.
type Tx struct {
	core.TakeTx
	B     *core.Batch
	Ended func(rolled error)
}

// Batch implements core.Lease.
func (x *Tx) Batch() *core.Batch { return x.B }

// Ack implements core.Lease.
func (x *Tx) Ack([]int32, ...core.Mark) <-chan struct{} {
	x.end(nil)
	return nil
}

// Rollback implements core.TakeTx.
func (x *Tx) Rollback(cause error) { x.end(cause) }

func (x *Tx) end(rolled error) {
	if x.Ended != nil {
		x.Ended(rolled)
	}
}

// OrderAfterFailure: after a failure what is on the way comes back newest first,
// and a transaction that was taken before that goes back too instead of overtaking.
func OrderAfterFailure(t *testing.T, w Wire) {
	p := NewPeer(t, w, false)
	in := OpenSink(t, w, p.Keys())
	first := meet(t, w, in)
	p.Set(Waits)
	var back []string
	var mu sync.Mutex
	deliver := func(name string) {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(name))
		in.Sink.Deliver(context.Background(), &Tx{B: b, Ended: func(rolled error) {
			mu.Lock()
			if rolled != nil {
				back = append(back, name)
			}
			mu.Unlock()
		}})
	}
	deliver("1")
	deliver("2")
	deliver("3")
	suite.Eventually(t, "the first is with the peer", func() bool { return p.Waiting() == 1 })
	p.Set(Rejects)
	p.Open() // the one that waits is stored, the next refused
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Set(Well)
	deliver("4") // taken while 2 was still on its way
	deliver("2")
	deliver("3")
	deliver("4")
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if got, want := p.Seen()[first:], []string{"1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("seen %q, want %q", got, want)
	}
	if want := []string{"3", "2", "4"}; !slices.Equal(back, want) {
		t.Errorf("went back in the order %q, want %q", back, want)
	}
}

// LargeBatch: a batch that is too large for one request goes out in several, in
// order, to a Flume one after the other.
func LargeBatch(t *testing.T, w Wire) {
	for _, plain := range []bool{false, true} {
		p := NewPeer(t, w, plain)
		in := OpenSink(t, w, p.Keys())
		DeliverAll(t, in, 1)
		var bodies []string
		for i := range 5 {
			bodies = append(bodies, strconv.Itoa(i+1)+strings.Repeat("x", lane.RequestBytes/2-100))
		}
		bodies = append(bodies, "6"+strings.Repeat("y", lane.RequestBytes), "7")
		in.Deliver(bodies)
		last := in.Deliver([]string{"8"})
		in.Close()
		if _, back, _ := last.Acked(); back != nil {
			t.Errorf("as Flume %v: rolled back: %v", plain, back)
		}
		var order string
		for _, b := range p.Seen() {
			order += b[:1]
		}
		if order != "012345678" {
			t.Errorf("as Flume %v: seen in the order %s", plain, order)
		}
		// A part that fails takes the whole batch back.
		p.Set(Rejects)
		in = OpenSink(t, w, p.Keys())
		tx := in.Deliver(bodies)
		_ = in.Sink.Flush(t.Context())
		if acked, back, _ := tx.Acked(); back == nil || len(acked) != 0 {
			t.Errorf("as Flume %v: %d acked, %v", plain, len(acked), back)
		}
		in.Close()
	}
}

// FailedConnect: a far end that is not there is tried again with every delivery.
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

// Reset: a connection that has the age is replaced at the next delivery, without the key never.
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

// IdleConnectionEnds: a connection that the far end closed while nothing was sent is no failure.
func IdleConnectionEnds(t *testing.T, w Wire) {
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

// Patience: the end of the runner's patience ends a delivery that waits, and a Flush.
func Patience(t *testing.T, w Wire) {
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
