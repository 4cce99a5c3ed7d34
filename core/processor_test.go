package core_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/suite"
)

func batchOf(bodies ...string) *core.Batch {
	b := core.NewBatch()
	for i, s := range bodies {
		b.Copy(core.Headers{}, []byte(s))
		b.Events[i].Pos = int64(i + 1)
	}
	return b
}

// drainAll takes and acks what is in ch.
func drainAll(t *testing.T, ch core.Channel) []string {
	t.Helper()
	got := []string{}
	for {
		l, err := ch.Take(context.Background(), core.Take{NoWait: true})
		if errors.Is(err, core.ErrEmpty) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Batch().Events {
			got = append(got, string(e.Body))
		}
		l.Ack(nil)
	}
}

func mem(t *testing.T, kv ...string) *core.ChannelNode {
	t.Helper()
	return openChannel(t, memory.Channel.New(), append([]string{"transactionCapacity", "2", "keep-alive", "0"}, kv...)...)
}

// A full channel must not leave the batch in the others: Flume's partial commit.
func TestPutIsAllOrNothing(t *testing.T) {
	roomy, small := mem(t, "capacity", "10"), mem(t, "capacity", "2")
	p := replicate(t, roomy, small)
	if err := p.Put(context.Background(), batchOf("a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(context.Background(), batchOf("c")); !errors.Is(err, core.ErrChannelFull) {
		t.Fatalf("put with one channel full: %v", err)
	}
	if n := roomy.Len().Events; n != 2 {
		t.Errorf("the roomy channel has %d events, want 2: the put was not atomic", n)
	}
	drainAll(t, small.Channel)
	if err := p.Put(context.Background(), batchOf("c")); err != nil {
		t.Fatalf("put after there is room: %v", err)
	}
	if got := drainAll(t, roomy.Channel); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q", got)
	}
}

func TestSendWaitsForRoom(t *testing.T) {
	ch := mem(t, "capacity", "2", "keep-alive", "1")
	p := replicate(t, ch)
	for _, s := range []string{"a", "b"} {
		if err := p.Send(context.Background(), batchOf(s), nil); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan error, 1)
	go func() { sent <- p.Send(context.Background(), batchOf("c"), nil) }()
	l, err := ch.Take(context.Background(), core.Take{Events: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.Ack(nil)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { sent <- p.Send(ctx, batchOf("d"), nil) }()
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled send: %v", err)
	}
	if got := drainAll(t, ch.Channel); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("got %q", got)
	}
}

// A channel that drops never holds a source up, and drops nothing for a batch
// that another channel then refuses.
func TestDroppingChannelHoldsNobodyUp(t *testing.T) {
	roomy, drops := mem(t, "capacity", "4"), mem(t, "capacity", "2", "whenFull", "drop_oldest")
	p := replicate(t, roomy, drops)
	for _, s := range []string{"a", "b", "c", "d"} {
		if err := p.Put(context.Background(), batchOf(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Put(context.Background(), batchOf("e")); !errors.Is(err, core.ErrChannelFull) {
		t.Fatal(err)
	}
	if got := drainAll(t, drops.Channel); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("the channel that drops has %q", got)
	}
	if got := drainAll(t, roomy.Channel); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("the other has %q", got)
	}
}

// flume: TestChannelProcessor testRequiredAndOptionalChannels
func TestOptionalChannelNeverBlocks(t *testing.T) {
	must, may := mem(t, "capacity", "10"), mem(t, "capacity", "2")
	cells := new(metric.Group)
	sel := bind(t, selector.Replicating.New(), []string{"must", "may"}, "optional", "may")
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	p := core.NewChannelProcessor(slog.New(slog.DiscardHandler), cells, time.Now, nil, sel, []*core.ChannelNode{must, may})
	for _, s := range []string{"a", "b", "c"} {
		if err := p.Put(context.Background(), batchOf(s)); err != nil {
			t.Fatal(err)
		}
	}
	if got := drainAll(t, must.Channel); len(got) != 3 {
		t.Errorf("required channel: %q", got)
	}
	if got := drainAll(t, may.Channel); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("optional channel: %q", got)
	}
	if n := cells.Counter("optional_channel_dropped_total", "").Load(); n != 1 {
		t.Errorf("%d drops counted, want 1", n)
	}
}

// A stream's batch that no channel takes whole is split; one event that is too
// large is dropped and counted, and the stream goes on.
func TestSendSplitsWhatIsTooLarge(t *testing.T) {
	ch := mem(t, "capacity", "100", "byteCapacity", "1000", "byteCapacityBufferPercentage", "0")
	p := replicate(t, ch)
	b := batchOf("a", "b", string(make([]byte, 2000)), "d", "e")
	b.Mark("s", 5)
	done := make(chan error, 1)
	if err := p.Send(context.Background(), b, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("done (%v) before delivery of a marked batch", err)
	default:
	}
	if got := drainAll(t, ch.Channel); !slices.Equal(got, []string{"a", "b", "d", "e"}) {
		t.Errorf("got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if pos, ok := p.Position("s"); !ok || pos != 5 {
		t.Errorf("position %d, %v", pos, ok)
	}
	if err := p.Put(context.Background(), batchOf("1", "2", "3")); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("put of a transaction that is too large: %v", err)
	}
}

// slowChannel answers stored when it is told.
type slowChannel struct {
	core.Channel
	answers []func(error)
	stored  error // if set, the answer, at once
}

func (s *slowChannel) TryClaim(core.Size) (core.PutTx, error) { return &slowPut{s}, nil }

type slowPut struct{ s *slowChannel }

func (p *slowPut) Rollback() {}
func (p *slowPut) Commit(_ *core.Batch, _ []int32, stored func(error)) {
	if p.s.stored != nil {
		stored(p.s.stored)
		return
	}
	p.s.answers = append(p.s.answers, stored)
}

// Dones come when all channels have stored, in order within a stream.
func TestDoneOrder(t *testing.T) {
	a, b := new(slowChannel), new(slowChannel)
	nodes := []*core.ChannelNode{{Channel: a, Cells: new(metric.Group)}, {Channel: b, Cells: new(metric.Group)}}
	p := replicate(t, nodes...)
	var order []string
	send := func(stream string, n int64) {
		x := batchOf("x")
		x.Mark(stream, n)
		if err := p.Send(context.Background(), x, func(error) { order = append(order, stream) }); err != nil {
			t.Fatal(err)
		}
	}
	send("s1", 1) // 0
	send("s2", 1) // 1
	send("s1", 2) // 2
	for _, i := range []int{2, 1, 0} {
		a.answers[i](nil)
	}
	b.answers[2](nil)
	if len(order) != 0 {
		t.Fatalf("%q before their time", order)
	}
	b.answers[1](nil)
	b.answers[0](nil)
	if want := []string{"s2", "s1", "s1"}; !slices.Equal(order, want) {
		t.Errorf("dones %q, want %q", order, want)
	}
	send("s1", 3)
	a.answers[3](nil)
	b.answers[3](core.ErrClosed)
	if err := p.Send(context.Background(), batchOf("y"), nil); !errors.Is(err, core.ErrClosed) {
		t.Errorf("send after a failed done: %v", err)
	}
	if err := p.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// dropper drops every event.
type dropper struct{ fail error }

func (d *dropper) Keys(*conf.Keys)                      {}
func (d *dropper) Open(context.Context, core.Env) error { return nil }
func (d *dropper) Intercept(b *core.Batch) error {
	b.Filter(func(*core.Event) bool { return false })
	return d.fail
}

func TestInterceptors(t *testing.T) {
	ch := mem(t, "capacity", "10")
	sel := bind(t, selector.Replicating.New(), []string{"ch"})
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	d := new(dropper)
	p := core.NewChannelProcessor(slog.New(slog.DiscardHandler), new(metric.Group), time.Now, []core.Interceptor{d}, sel, []*core.ChannelNode{ch})
	done := make(chan error, 1)
	b := batchOf(suite.Bodies(0, 50)...)
	b.Mark("s", 50)
	if err := p.Send(context.Background(), b, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || ch.Len().Events != 0 {
		t.Errorf("a batch that is dropped whole: %v, %d events", err, ch.Len().Events)
	}
	d.fail = errors.New("bad event")
	if err := p.Put(context.Background(), batchOf("x")); !errors.Is(err, d.fail) {
		t.Errorf("interceptor's error: %v", err)
	}
}
