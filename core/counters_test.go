package core_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/suite"
)

// What a source counts, whatever it is: a failure in the chain, a channel that
// does not take a batch, and one that takes it and cannot store it.
//
// flume: TestChannelProcessor testExceptionFromGetTransaction
// flume: TestSyslogTcpSource testSourceCounter
// flume: TestSyslogUdpSource testSourceCounter
// flume: TestMultiportSyslogTCPSource testHandlerGenericFail
// flume: TestHTTPSource testCounterGenericFail
// flume: TestAvroSource testErrorCounterChannelWriteFail
// flume: TestThriftSource testErrorCounterChannelWriteFail
func TestPutFailuresAreCounted(t *testing.T) {
	cells := new(metric.Group)
	sel := bind(t, selector.Replicating.New(), []string{"ch"})
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	drop := new(dropper)
	put := func(chain []core.Interceptor, ch *core.ChannelNode, bodies ...string) error {
		p := core.NewChannelProcessor(slog.New(slog.DiscardHandler), cells, time.Now, chain, sel, []*core.ChannelNode{ch})
		return p.Put(context.Background(), batchOf(bodies...))
	}
	ch := mem(t, "capacity", "2")
	broken := errors.New("broken")
	slow := &slowChannel{stored: core.ErrClosed}
	for _, c := range []struct {
		name              string
		put               func() error
		want              error
		accepted, full, x int64
	}{
		{"taken", func() error { return put(nil, ch, "a", "b") }, nil, 2, 0, 0},
		{"full", func() error { return put(nil, ch, "c") }, core.ErrChannelFull, 2, 1, 0},
		{"not stored", func() error { return put(nil, &core.ChannelNode{Channel: slow, Cells: new(metric.Group)}, "d") }, core.ErrClosed, 2, 2, 0},
		{"interceptor", func() error {
			drop.fail = broken
			return put([]core.Interceptor{drop}, ch, "e")
		}, broken, 2, 2, 1},
	} {
		if err := c.put(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if a, f, x := cells.EventAccepted.Load(), cells.ChannelWriteFail.Load(), cells.GenericProcessingFail.Load(); a != c.accepted || f != c.full || x != c.x {
			t.Errorf("%s: %d accepted, %d not written, %d failed otherwise; want %d, %d, %d", c.name, a, f, x, c.accepted, c.full, c.x)
		}
	}
	if n := cells.EventReceived.Load(); n != 5 {
		t.Errorf("%d received, want 5", n)
	}
}

// What a channel counts: puts that fail are attempts; rolled back events are taken again, and attempted again.
//
// flume: TestSpillableMemoryChannel testCounters
func TestChannelCounts(t *testing.T) {
	ch := mem(t, "capacity", "10", "transactionCapacity", "10")
	p := replicate(t, ch)
	if err := p.Put(context.Background(), batchOf("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(context.Background(), batchOf(suite.Bodies(0, 8)...)); !errors.Is(err, core.ErrChannelFull) {
		t.Fatal(err)
	}
	s := &stage{down: true}
	sink := &core.SinkRunner{
		Name: "k", Log: slog.New(slog.DiscardHandler), Channel: ch,
		Sink: core.WriterSink(&collector{s}), Take: core.Take{Events: 10},
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			sink.Run(ctx, t.Context())
		}()
		synctest.Wait() // the first delivery has failed, and the runner pauses
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
		stop()
		<-ended
	})
	c := ch.Cells
	got := []int64{c.EventPutAttempt.Load(), c.EventPutSuccess.Load(), c.EventTakeAttempt.Load(), c.EventTakeSuccess.Load()}
	if want := []int64{11, 3, 6, 3}; !slices.Equal(got, want) {
		t.Errorf("put attempts, puts, take attempts, takes: %v, want %v", got, want)
	}
}

// asked counts how often a channel is asked, and says when that is too often.
type asked struct {
	core.Channel
	n    atomic.Int64
	most func()
}

func (a *asked) TryClaim(room core.Size) (core.PutTx, error) {
	if a.n.Add(1) == 10000 {
		a.most()
	}
	return a.Channel.TryClaim(room)
}

// A source that waits for a full channel whose keep-alive is 0 does so without
// asking it all the time. Each try that fails counts as an attempt.
func TestWaitWithoutKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		inner := mem(t, "capacity", "2", "keep-alive", "0")
		ch := &asked{Channel: inner.Channel, most: cancel}
		node := &core.ChannelNode{Channel: ch, Cells: new(metric.Group)}
		p := replicate(t, node)
		sent := make(chan error, 1)
		go func() {
			for _, s := range []string{"a", "b", "c"} {
				if err := p.Send(ctx, batchOf(s), nil); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		if c, n := node.Cells, ch.n.Load(); n < 10 || n > 1000 || c.EventPutAttempt.Load() != n || c.EventPutSuccess.Load() != 2 {
			t.Errorf("asked %d times in a second; %d attempts, %d put", n, c.EventPutAttempt.Load(), c.EventPutSuccess.Load())
		}
		got := drainAll(t, ch)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if got = append(got, drainAll(t, ch)...); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("got %q", got)
		}
	})
}

// brokenChannel cannot be read for some time.
type brokenChannel struct {
	core.Channel
	fails atomic.Int64
}

func (b *brokenChannel) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	if b.fails.Add(-1) >= 0 {
		return nil, errors.New("disk gone")
	}
	return b.Channel.Take(ctx, want)
}

// A channel that cannot be read is no reason to stop, nor to ask it without a pause.
//
// flume: TestRollingFileSink testChannelException
// flume: TestHttpSink testErrorCounter
// flume: TestAvroSink testChannelException
// flume: TestHDFSEventSink testChannelException
func TestTakeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem(t, "capacity", "10", "transactionCapacity", "10")
		if err := replicate(t, inner).Put(context.Background(), batchOf("a")); err != nil {
			t.Fatal(err)
		}
		ch := &brokenChannel{Channel: inner.Channel}
		ch.fails.Store(3)
		s, cells := new(stage), new(metric.Group)
		r := &core.SinkRunner{
			Name: "k", Log: slog.New(slog.DiscardHandler), Channel: &core.ChannelNode{Channel: ch, Name: "c", Cells: new(metric.Group)},
			Sink: core.WriterSink(&collector{s}), Take: core.Take{Events: 10}, Cells: []*metric.Group{cells},
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		begun := time.Now()
		go func() {
			defer close(ended)
			r.Run(ctx, t.Context())
		}()
		synctest.Wait()
		if err := r.LastError(); err == nil || !strings.Contains(err.Error(), "take from channel c: disk gone") {
			t.Errorf("status: %v", err)
		}
		for len(s.bodies()) == 0 && time.Since(begun) < time.Minute {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		if n, took := cells.ChannelReadFail.Load(), time.Since(begun); n != 3 || took < 1500*time.Millisecond || took > 2*time.Second {
			t.Errorf("%d failures counted, delivered after %v", n, took)
		}
		stop()
		<-ended
		if err := r.LastError(); err != nil {
			t.Errorf("status after a delivery: %v", err)
		}
	})
}
