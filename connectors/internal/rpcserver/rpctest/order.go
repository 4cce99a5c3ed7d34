package rpctest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

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

// InFlight proves that requests do not wait for the answers to those before them, if the far
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

// orderAfterFailure: after a failure what is on the way comes back newest first,
// and a transaction that was taken before that goes back too instead of overtaking.
func orderAfterFailure(t testing.TB, w Wire) {
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

// largeBatch: a batch that is too large for one request goes out in several, in
// order, to a Flume one after the other.
func largeBatch(t testing.TB, w Wire) {
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
