package core_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/sinkgroup"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// bind binds c to keys given as "key", "value" pairs.
func bind[T core.Component](t *testing.T, c T, members []string, kv ...string) T {
	t.Helper()
	props := make(map[string]string)
	for i := 0; i+1 < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	if _, faults := conf.BindMembers(c, members, props); faults.HasErrors() {
		t.Fatalf("keys: %v", faults)
	}
	return c
}

func openChannel(t *testing.T, ch core.Channel, kv ...string) *core.ChannelNode {
	t.Helper()
	bind(t, ch, nil, kv...)
	if err := ch.Open(context.Background(), sourcetest.NewEnv(t, "ch")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)}
}

// replicate is a processor from one source to all channels.
func replicate(t *testing.T, channels ...*core.ChannelNode) *core.ChannelProcessor {
	t.Helper()
	names := make([]string, len(channels))
	for i := range channels {
		names[i] = fmt.Sprint("c", i)
	}
	sel := bind(t, selector.Replicating.New(), names)
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	return core.NewChannelProcessor(slog.New(slog.DiscardHandler), new(metric.Group), time.Now, nil, sel, channels)
}

// bucketSink is late: it sorts events into three buckets and acks a bucket when
// it is flushed, or full, by index, from another goroutine.
type bucketSink struct {
	mu      sync.Mutex
	buckets [3][]held
	fail    error // of every bucket that is written
	out     []string
}

type held struct {
	tx core.TakeTx
	i  int32
}

func (s *bucketSink) Keys(*conf.Keys)                      {}
func (s *bucketSink) Open(context.Context, core.Env) error { return nil }

func (s *bucketSink) Deliver(_ context.Context, tx core.TakeTx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range tx.Batch().Events {
		n := int(e.Body[len(e.Body)-1]) % 3
		s.buckets[n] = append(s.buckets[n], held{tx, int32(i)})
	}
	for n := range s.buckets {
		if len(s.buckets[n]) >= 10 {
			s.write(n)
		}
	}
}

// write acks, or rolls back, what a bucket holds. Under s.mu.
func (s *bucketSink) write(n int) {
	list := s.buckets[n]
	s.buckets[n] = nil
	if s.fail != nil {
		rolled := make(map[core.TakeTx]bool)
		for _, h := range list {
			if !rolled[h.tx] {
				rolled[h.tx] = true
				s.forget(h.tx)
				h.tx.Rollback(s.fail)
			}
		}
		return
	}
	for _, h := range list {
		s.out = append(s.out, string(h.tx.Batch().Events[h.i].Body))
		h.tx.Ack([]int32{h.i})
	}
}

// forget takes the events of a transaction that is rolled back out of all buckets.
func (s *bucketSink) forget(tx core.TakeTx) {
	for n := range s.buckets {
		s.buckets[n] = slices.DeleteFunc(s.buckets[n], func(h held) bool { return h.tx == tx })
	}
}

func (s *bucketSink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.buckets {
		s.write(n)
	}
	return s.fail
}

func (s *bucketSink) Close(ctx context.Context) error { return s.Flush(ctx) }

// The first contract: a late sink with three buckets inside a failover group.
// The channel is smaller than the buckets, so it stalls and flushes; the first
// sink fails half-way, and the second goes on; nothing is lost or repeated.
func TestLateSinkInFailoverGroup(t *testing.T) {
	ch := openChannel(t, memory.Channel.New(), "capacity", "12", "transactionCapacity", "12", "keep-alive", "1")
	first, second := new(bucketSink), new(bucketSink)
	group := bind(t, sinkgroup.Failover.New(), []string{"k1", "k2"}, "priority.k1", "2", "priority.k2", "1")
	group.Group([]core.Sink{first, second})
	if err := group.Open(context.Background(), sourcetest.NewEnv(t, "g")); err != nil {
		t.Fatal(err)
	}
	r := &core.SinkRunner{Name: "g", Log: slog.New(slog.DiscardHandler), Channel: ch, Sink: group, Take: core.Take{Events: 5}}
	work, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(work, context.Background()) })

	p := replicate(t, ch)
	want := suite.Bodies(0, 300)
	for i, body := range want {
		if i == 150 {
			first.mu.Lock()
			first.fail = errors.New("disk on fire")
			first.mu.Unlock()
		}
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(body))
		if err := p.Send(context.Background(), b, nil); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	got := slices.Concat(first.out, second.out)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("delivered %d events, want %d, each once", len(got), len(want))
	}
	if len(first.out) == 0 || len(second.out) == 0 {
		t.Errorf("first sink delivered %d, second %d: the group did not fail over", len(first.out), len(second.out))
	}
}

// revoking is a channel that takes leases away, as a Kafka channel does when
// its group rebalances: events of a lost lease come again, acks of it do not count.
type revoking struct {
	core.Channel
	mu     sync.Mutex
	leases []*revocable
}

type revocable struct {
	core.Lease
	mu   sync.Mutex
	lost chan struct{}
	gone bool
}

func (c *revoking) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	l, err := c.Channel.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	r := &revocable{Lease: l, lost: make(chan struct{})}
	c.mu.Lock()
	c.leases = append(c.leases, r)
	c.mu.Unlock()
	return r, nil
}

func (c *revoking) revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.leases {
		l.mu.Lock()
		if !l.gone {
			l.gone = true
			close(l.lost)
			l.Lease.Rollback(errors.New("revoked"))
		}
		l.mu.Unlock()
	}
	c.leases = nil
}

func (l *revocable) Lost() <-chan struct{} { return l.lost }

func (l *revocable) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return l.lost
	}
	l.gone = pick == nil
	return l.Lease.Ack(pick, m...)
}

func (l *revocable) Rollback(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		l.gone = true
		l.Lease.Rollback(cause)
	}
}

// stageSink publishes what it holds only if its lease is still its own.
type stageSink struct {
	mu   sync.Mutex
	held []core.TakeTx
	out  []string
}

func (s *stageSink) Keys(*conf.Keys)                      {}
func (s *stageSink) Open(context.Context, core.Env) error { return nil }
func (s *stageSink) Deliver(_ context.Context, tx core.TakeTx) {
	s.mu.Lock()
	s.held = append(s.held, tx)
	s.mu.Unlock()
}

func (s *stageSink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tx := range s.held {
		select {
		case <-tx.Lost():
			tx.Rollback(errors.New("lease lost"))
			continue
		default:
		}
		for _, e := range tx.Batch().Events {
			s.out = append(s.out, string(e.Body))
		}
		tx.Ack(nil)
	}
	s.held = nil
	return nil
}
func (s *stageSink) Close(ctx context.Context) error { return s.Flush(ctx) }

// The second contract: a channel that revokes leases.
func TestRevokedLeases(t *testing.T) {
	inner := openChannel(t, memory.Channel.New(), "capacity", "100", "keep-alive", "1")
	ch := &revoking{Channel: inner.Channel}
	node := &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)}
	sink := new(stageSink)
	r := &core.SinkRunner{Name: "k", Log: slog.New(slog.DiscardHandler), Channel: node, Sink: sink, Take: core.Take{Events: 10}}
	work, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(work, context.Background()) })
	p := replicate(t, node)
	want := suite.Bodies(0, 100)
	for i := 0; i < 100; i += 10 {
		b := core.NewBatch()
		for _, body := range want[i : i+10] {
			b.Copy(core.Headers{}, []byte(body))
		}
		if err := p.Put(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			suite.Eventually(t, "the sink holds leases", func() bool {
				sink.mu.Lock()
				defer sink.mu.Unlock()
				return len(sink.held) > 0
			})
			ch.revoke()
		}
	}
	stop()
	wg.Wait()
	slices.Sort(sink.out)
	if !slices.Equal(sink.out, want) {
		t.Fatalf("published %d events, want %d, each once", len(sink.out), len(want))
	}
}

// twoFiles is a stream source with two interleaved files; its position moves
// only in done.
type twoFiles struct {
	lines    [2][]string
	position [2]int64
	mu       sync.Mutex
}

func (s *twoFiles) Keys(*conf.Keys)                      {}
func (s *twoFiles) Open(context.Context, core.Env) error { return nil }
func (s *twoFiles) Close() error                         { return nil }

func (s *twoFiles) Run(ctx context.Context, out core.Outlet) error {
	var next [2]int64
	for f := range next {
		if pos, ok := out.Position(fmt.Sprint("src:", f)); ok {
			next[f] = pos
		}
	}
	for next[0] < int64(len(s.lines[0])) || next[1] < int64(len(s.lines[1])) {
		for f, lines := range s.lines {
			b := core.NewBatch()
			from := next[f]
			for n := 0; n < 3 && next[f] < int64(len(lines)); n++ {
				b.Copy(core.Headers{}, []byte(lines[next[f]]))
				next[f]++
				b.Events[n].Pos = next[f]
			}
			if next[f] == from {
				b.Release()
				continue
			}
			end := next[f]
			b.Mark(fmt.Sprint("src:", f), end)
			err := out.Send(ctx, b, func(err error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if err == nil {
					if end < s.position[f] {
						panic("done out of order within a stream")
					}
					s.position[f] = end
				}
			})
			if err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return nil
}

// The third contract: a stream source with two interleaved files. Positions
// move in order, with delivery for a memory channel, and a second run of the
// source goes on where the first was.
func TestInterleavedStreams(t *testing.T) {
	ch := openChannel(t, memory.Channel.New(), "capacity", "1000", "keep-alive", "1")
	p := replicate(t, ch)
	src := new(twoFiles)
	for i := range 40 {
		src.lines[0] = append(src.lines[0], fmt.Sprint("a", i))
	}
	for i := range 25 {
		src.lines[1] = append(src.lines[1], fmt.Sprint("b", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, p) }()
	suite.Eventually(t, "all lines are put", func() bool { return ch.Len().Events == 65 })
	if src.position != [2]int64{} {
		t.Errorf("positions %v moved before delivery", src.position)
	}
	// Two leases of four events each, the younger acked first: neither covers
	// file b's first batch whole before both are acked.
	var leases []core.Lease
	for range 2 {
		l, err := ch.Take(context.Background(), core.Take{Events: 4})
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l)
	}
	leases[1].Ack(nil)
	if src.position != [2]int64{} {
		t.Errorf("positions %v moved although the oldest lease is open", src.position)
	}
	leases[0].Ack(nil)
	if src.position != [2]int64{3, 3} {
		t.Errorf("positions %v after the first eight events, want 3 and 3", src.position)
	}
	cancel()
	<-ended
	src.lines[0] = append(src.lines[0], "a40")
	ctx, cancel = context.WithCancel(context.Background())
	go func() { ended <- src.Run(ctx, p) }()
	suite.Eventually(t, "the new line is put, and no other", func() bool { return ch.Len().Events == 58 })
	var got []string
	for {
		l, err := ch.Take(context.Background(), core.Take{Events: 100, NoWait: true})
		if err != nil {
			break
		}
		for _, e := range l.Batch().Events {
			got = append(got, string(e.Body))
		}
		l.Ack(nil)
	}
	if len(got) != 58 || !strings.HasPrefix(got[len(got)-1], "a40") {
		t.Errorf("%d events, the last %q", len(got), got[len(got)-1])
	}
	cancel()
	<-ended
	if src.position != [2]int64{41, 25} {
		t.Errorf("positions %v at the end", src.position)
	}
}
