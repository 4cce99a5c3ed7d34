package rpctest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/lane/lanetest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
)

// flaky is an outlet that fails now and then, and tells whether the order is kept.
type flaky struct {
	*sourcetest.Outlet
	mu    sync.Mutex
	puts  int
	most  int    // events at once
	cut   func() // ends all connections, after the events were stored
	order lanetest.Order
}

func (f *flaky) Put(_ context.Context, b *core.Batch) error {
	defer b.Release()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts++
	f.most = max(f.most, len(b.Events))
	if f.puts%37 == 0 {
		return core.ErrChannelFull
	}
	f.order.See(b.Events)
	if f.puts%53 == 0 {
		f.cut()
	}
	return nil
}

// Flow runs a sink with the real runner and channel, and a source with an outlet
// that is full now and then, over connections that break when the events are
// stored and not answered: nothing is lost, nothing overtakes, and what comes
// twice was not answered.
func Flow(t *testing.T, w Wire) {
	const events, batch = 1500, 10
	var mu sync.Mutex
	var open []net.Conn
	out := &flaky{Outlet: sourcetest.NewOutlet(), cut: func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
	}}
	addr, env := Serve(t, w, out)
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			c, err := relay.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", addr)
			if err != nil {
				_ = c.Close()
				return
			}
			mu.Lock()
			open = append(open, c, to)
			mu.Unlock()
			pipe := func(a, b net.Conn) {
				buf := make([]byte, 4096)
				for {
					n, err := a.Read(buf)
					if _, bad := b.Write(buf[:n]); err != nil || bad != nil {
						_, _ = a.Close(), b.Close()
						return
					}
				}
			}
			relays.Go(func() { pipe(c, to) })
			relays.Go(func() { pipe(to, c) })
		}
	})
	end := OpenSink(t, w, SinkKeys(relay.Addr().String()))

	began := time.Now()
	ch := lanetest.Run(t, end.Sink, events, batch)
	end.Close()
	_ = relay.Close()
	out.mu.Lock()
	out.cut()
	defer out.mu.Unlock()
	relays.Wait()
	if err := ch.Close(); err != nil {
		t.Error(err)
	}
	if out.order.Next != events || out.order.Wrong != "" {
		t.Errorf("%d of %d events in order: %s", out.order.Next, events, out.order.Wrong)
	}
	if n := env.Metrics.AppendReceived.Load(); n != 0 || out.most != batch {
		t.Errorf("%d requests of one event, and of %d at most in a batch", n, out.most)
	}
	breaks := out.puts / 53
	if out.order.Again == 0 || out.order.Again > breaks*w.InFlight*batch {
		t.Errorf("%d events came again, of %d connections that broke", out.order.Again, breaks)
	}
	t.Logf("%d requests, %d events again, %v", out.puts, out.order.Again, time.Since(began))
}
