package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/suite"
)

// numbered puts n events from from on, spread over four partitions.
func numbered(t *testing.T, ch core.Channel, from, n int) {
	t.Helper()
	var events []core.Event
	for i := from; i < from+n; i++ {
		events = append(events, event(fmt.Sprintf("%06d", i), "p", fmt.Sprint(i%4)))
	}
	putAll(t, ch, events...)
}

// Another agent joins while a lease is out that nobody delivers: the partitions
// that go take it along. What it had of others comes again here, its acks do not
// count, and the other agent delivers the rest.
func TestChannelLosesLeases(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	keys := []string{"partitionIdHeader", "p", "kafka.consumer.session.timeout.ms", "3000"} // half of it to deliver what is leased
	first := c.openChannel(keys...)
	putAll(t, first, event("", "p", "0"))
	deliverN(t, first, 1) // from now on it reads
	numbered(t, first, 0, 8)
	suite.Eventually(t, "all is read", func() bool { return first.stash.size().Events == 8 })
	leases, _ := takeN(t, first, 8)
	second := c.openChannel(keys...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	moved := make(chan []core.Event)
	go func() { moved <- deliverN(t, second, 4) }()
	for _, l := range leases {
		select {
		case <-l.Lost():
		case <-ctx.Done():
		case <-time.After(suite.Deadline):
			t.Fatal("a lease of all partitions is not lost")
		}
		l.Ack([]int32{0})
		l.Ack(nil)
	}
	kept := deliverN(t, first, 4)
	all := append(eventBodies(kept), eventBodies(<-moved)...)
	slices.Sort(all)
	if want := []string{"000000", "000001", "000002", "000003", "000004", "000005", "000006", "000007"}; !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
	if kept[0].Headers.Value("p") == kept[1].Headers.Value("p") && kept[1].Headers.Value("p") == kept[2].Headers.Value("p") {
		t.Errorf("the first agent has kept one partition of four: %v", kept)
	}
	suite.Eventually(t, "all is committed", func() bool {
		for p := range int32(4) {
			if n := c.committed("t", p); n < 2 || p == 0 && n < 3 {
				return false
			}
		}
		return true
	})
}

// stage publishes what it holds when it is told to flush, unless that is lost.
type stage struct {
	mu      sync.Mutex
	held    []core.TakeTx
	out     []string
	flushes int
}

func (s *stage) Keys(*conf.Keys)                      {}
func (s *stage) Open(context.Context, core.Env) error { return nil }
func (s *stage) Close(ctx context.Context) error      { return s.Flush(ctx) }

func (s *stage) Deliver(_ context.Context, tx core.TakeTx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, tx)
}

func (s *stage) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushes++
	for _, tx := range s.held {
		select {
		case <-tx.Lost():
			tx.Rollback(errors.New("lost"))
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

func (s *stage) holds() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tx := range s.held {
		n += len(tx.Batch().Events)
	}
	return n
}

// runner runs a sink on ch until stop is called.
func runner(ch core.Channel, sink core.Sink) (stop func()) {
	r := &core.SinkRunner{
		Name: "k", Log: slog.New(slog.DiscardHandler), Sink: sink, Take: core.Take{Events: 10},
		Channel: &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx, context.Background()) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// Sinks that hold leases for long deliver them before the partitions go to
// another agent: nothing is lost and nothing comes twice, although agents come
// and go. (The second contract of core's tests, with a real group.)
func TestChannelRebalances(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	in := c.openChannel("partitionIdHeader", "p")
	var sinks []*stage
	var stops []func()
	var channels []*channel
	n := 0
	for round := range 3 {
		ch, sink := c.openChannel(), new(stage)
		channels, sinks, stops = append(channels, ch), append(sinks, sink), append(stops, runner(ch, sink))
		suite.Eventually(t, "all are in the group", func() bool {
			g := c.GroupInfo("flume")
			return g != nil && g.State == "Stable" && len(g.Members) == round+1
		})
		for range 5 {
			numbered(t, in, n, 40)
			n += 40
		}
		suite.Eventually(t, "the sinks hold all that is new", func() bool {
			held := 0
			for _, s := range sinks {
				s.mu.Lock()
				held += len(s.out)
				s.mu.Unlock()
				held += s.holds()
			}
			return held >= n
		})
	}
	for i, stop := range stops { // one after the other leaves
		stop()
		if err := channels[i].Close(); err != nil {
			t.Error(err)
		}
	}
	var all []string
	for _, s := range sinks {
		all = append(all, s.out...)
	}
	if sinks[0].flushes < 3 {
		t.Errorf("the first sink was asked for what it held %d times", sinks[0].flushes)
	}
	slices.Sort(all)
	if distinct := len(slices.Compact(slices.Clone(all))); distinct != n || len(all) != n {
		t.Errorf("%d events, %d different ones, want %d", len(all), distinct, n)
	}
}

// The coordinator forgets the member while a lease is out: the partition comes
// back as it went, and the lease still counts.
func TestChannelGoesOnAfterALostGeneration(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("kafka.consumer.session.timeout.ms", "3000")
	putBodies(t, ch, suite.Bodies(0, 10)...)
	leases, _ := takeN(t, ch, 5)
	beats := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID})
	suite.Eventually(t, "a heartbeat fails", func() bool { return beats.Hits() > 0 })
	if got := deliverN(t, ch, 5); !slices.Equal(eventBodies(got), suite.Bodies(5, 5)) {
		t.Errorf("%q", eventBodies(got))
	}
	for _, l := range leases {
		l.Ack(nil)
	}
	suite.Eventually(t, "all is committed", func() bool { return c.committed("t", 0) == 10 })
}

// A partition goes to another agent and comes back: what was read of it before
// is read again from where the other one has committed.
func TestChannelPartitionReturns(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	first := c.openChannel("partitionIdHeader", "p")
	numbered(t, first, 0, 40)
	deliverN(t, first, 4) // all 40 are read
	second := c.openChannel()
	theirs := deliverN(t, second, 6)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	ours := deliverN(t, first, 30)
	all := append(eventBodies(theirs), eventBodies(ours)...)
	slices.Sort(all)
	if distinct := slices.Compact(slices.Clone(all)); len(distinct) != 36 {
		t.Errorf("%d different ones of 36: %q", len(distinct), all)
	}
}

// What the agent counts of a put and a take of 50.
//
// flume: TestBasicFunctionality testMetricsCount
func TestChannelCounters(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel()
	node := &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)}
	p := processor(t, new(metric.Group), node)
	for _, body := range suite.Bodies(0, 50) {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(body))
		if err := p.Put(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	sink := new(stage)
	r := &core.SinkRunner{Name: "k", Log: slog.New(slog.DiscardHandler), Channel: node, Sink: sink, Take: core.Take{Events: 10}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx, context.Background()) })
	suite.Eventually(t, "the sink has all", func() bool { return sink.holds() == 50 })
	cancel()
	wg.Wait()
	for name, cell := range map[string]*metric.Cell{
		"EventPutAttempt": &node.Cells.EventPutAttempt, "EventPutSuccess": &node.Cells.EventPutSuccess,
		"EventTakeAttempt": &node.Cells.EventTakeAttempt, "EventTakeSuccess": &node.Cells.EventTakeSuccess,
	} {
		if n := cell.Load(); n != 50 {
			t.Errorf("%s %d, want 50", name, n)
		}
	}
	names := make(map[string]bool)
	for _, x := range ch.in.env.Metrics.Extras() {
		names[x.Flume] = true
	}
	for _, name := range []string{"KafkaEventGetTimer", "KafkaEventSendTimer", "KafkaCommitTimer", "RollbackCount"} {
		if !names[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
