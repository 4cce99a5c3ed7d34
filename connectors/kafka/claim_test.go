package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// handed is a lease in a sink's hands, as a runner gives it.
type handed struct {
	core.Lease
	deaf   bool // the agent dies before it hears of acks
	rolled error
}

func (x *handed) Unwrap() core.Lease { return x.Lease }

func (x *handed) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	if x.deaf {
		return nil
	}
	return x.Lease.Ack(pick, m...)
}

func (x *handed) Rollback(cause error) {
	x.rolled = cause
	x.Lease.Rollback(cause)
}

func (x *handed) Refuse(i int, _ error) { x.Ack([]int32{int32(i)}) }

// hand gives a sink a take of n events.
func hand(t *testing.T, ch core.Channel, in *sinktest.Instance, n int, deaf bool) *handed {
	t.Helper()
	leases, _ := takeN(t, ch, n)
	if len(leases) != 1 {
		t.Fatalf("%d leases", len(leases))
	}
	x := &handed{Lease: leases[0], deaf: deaf}
	in.Sink.Deliver(context.Background(), x)
	return x
}

// told keeps what is logged.
type told struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *told) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *told) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// openOut opens a transactional sink into the topic out.
func (c *cluster) openOut(id string, more ...string) (*sinktest.Instance, *told) {
	c.t.Helper()
	log := new(told)
	return sinktest.Open(c.t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
		return sinktest.Backend{
			Keys:    txnKeys(c, append([]string{"kafka.topic", "out", "kafka.producer.transactional.id", id}, more...)...),
			Prepare: func(env *core.Env) { env.Log = slog.New(slog.NewTextHandler(log, nil)) },
		}
	}}), log
}

// From topic to topic: what is delivered, and how far that is, are one. The channel commits nothing itself.
func TestClaimIsCommitted(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"), kfake.SeedTopics(2, "out"))
	commits := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "flume", Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		for _, topic := range r.(*kmsg.OffsetCommitRequest).Topics {
			for _, p := range topic.Partitions {
				if p.Offset > 0 { // 0 names the stream at its beginning
					return true
				}
			}
		}
		return false
	}})
	ch := c.openChannel("partitionIdHeader", "p")
	in, _ := c.openOut("x")
	defer in.Close()
	numbered(t, ch, 0, 100)
	stop := runner(ch, in.Sink)
	suite.Eventually(t, "all is there", func() bool { return len(c.visible("out")) >= 100 })
	stop()
	seen := c.visible("out")
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 100 {
		t.Errorf("%d events: %q", len(seen), seen)
	}
	for p := range int32(4) {
		if n := c.committed("t", p); n != 25 {
			t.Errorf("partition %d: %d committed", p, n)
		}
	}
	_ = ch.Close()
	if n := commits.Hits(); n != 0 {
		t.Errorf("the channel has committed %d times", n)
	}
}

// The agent dies between the commit and the ack, and with a transaction open.
func TestClaimAfterACrash(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t", "out"))
	ch := c.openChannel()
	in, _ := c.openOut("x")
	defer in.Close()
	all := suite.Bodies(0, 30)
	putBodies(t, ch, all...)
	hand(t, ch, in, 10, false)
	if x := hand(t, ch, in, 10, true); x.rolled != nil {
		t.Fatal(x.rolled)
	}
	p := in.Sink.(*sink).p
	leases, _ := takeN(t, ch, 5)
	if x := p.write(context.Background(), leases[0].Batch().Events); x.left() > 0 {
		t.Fatal(x.err)
	}
	offsets := []placed{{topicPartition{"t", 0}, 25, "of a transaction that is never committed"}}
	if err := p.txn.addOffsets(context.Background(), "flume", ch.in.live.turn, offsets); err != nil {
		t.Fatal(err)
	}
	_ = ch.Close()
	again := c.openChannel()
	next, _ := c.openOut("x")
	defer next.Close()
	stop := runner(again, next.Sink)
	suite.Eventually(t, "all is there", func() bool { return len(c.visible("out")) >= 30 })
	stop()
	if seen := c.visible("out"); !slices.Equal(seen, all) {
		t.Errorf("%q", seen)
	}
}

// It is not known whether a transaction was committed until the time is over: it was. The same sink goes on, or another.
func TestClaimCommitUnknown(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced=%v", replaced), func(t *testing.T) {
			l := &lossy{key: int16(kmsg.EndTxn)}
			c := newCluster(t, kfake.SeedTopics(1, "t", "out"), l.opt())
			l.in(c)
			ch := c.openChannel()
			in, _ := c.openOut("x")
			defer in.Close()
			putBodies(t, ch, suite.Bodies(0, 20)...)
			hand(t, ch, in, 5, false)
			suite.Eventually(t, "the commit is unknown", func() bool { // the answer to something else may be lost instead
				l.on.Store(true)
				in.Sink.(*sink).timeout = 300 * time.Millisecond
				x := hand(t, ch, in, 5, false)
				return x.rolled != nil
			})
			l.on.Store(false)
			in.Sink.(*sink).timeout = suite.Deadline
			next := in
			if replaced {
				next, _ = c.openOut("x")
				defer next.Close()
			}
			stop := runner(ch, next.Sink)
			suite.Eventually(t, "all is there", func() bool { return len(c.visible("out")) >= 20 })
			stop()
			if seen := c.visible("out"); !slices.Equal(seen, suite.Bodies(0, 20)) {
				t.Errorf("%q", seen)
			}
		})
	}
}

// A partition goes to another agent while its events are in a sink's hands: what the sink writes then is aborted.
func TestClaimOfAnother(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"), kfake.SeedTopics(1, "out"))
	keys := []string{"partitionIdHeader", "p", "kafka.consumer.session.timeout.ms", "1000"}
	first := c.openChannel(keys...)
	in, _ := c.openOut("x")
	defer in.Close()
	numbered(t, first, 0, 40)
	leases, _ := takeN(t, first, 1)
	leases[0].Rollback(nil)
	suite.Eventually(t, "all is read", func() bool { return first.stash.size().Events == 40 })
	held, _ := takeN(t, first, 40)
	second := c.openChannel(keys...)
	out, _ := c.openOut("y")
	defer out.Close()
	stop := runner(second, out.Sink)
	defer stop()
	for _, l := range held {
		select {
		case <-l.Lost():
		case <-time.After(suite.Deadline):
			t.Fatal("a lease of all partitions is not lost")
		}
		x := &handed{Lease: l}
		if in.Sink.Deliver(context.Background(), x); x.rolled == nil {
			t.Error("what was lost was delivered")
		}
	}
	also := runner(first, in.Sink)
	defer also()
	suite.Eventually(t, "all is there", func() bool { return len(c.visible("out")) >= 40 })
	seen := c.visible("out")
	slices.Sort(seen)
	if len(seen) != 40 || len(slices.Compact(seen)) != 40 {
		t.Errorf("%d events: %q", len(seen), seen)
	}
}

// The coordinator knows of another generation before the agent does.
func TestClaimOfAnOldGeneration(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t", "out"))
	ch := c.openChannel()
	in, _ := c.openOut("x")
	defer in.Close()
	putBodies(t, ch, suite.Bodies(0, 10)...)
	hand(t, ch, in, 5, false)
	ch.in.mu.Lock()
	ch.in.live.turn.id-- // what a zombie has
	ch.in.mu.Unlock()
	x := hand(t, ch, in, 5, false)
	if x.rolled == nil || !strings.Contains(x.rolled.Error(), "Illegal Generation") {
		t.Errorf("rolled back: %v", x.rolled)
	}
	if seen := c.visible("out"); !slices.Equal(seen, suite.Bodies(0, 5)) {
		t.Errorf("%q", seen)
	}
	if n := c.committed("t", 0); n != 5 {
		t.Errorf("%d committed", n)
	}
}

// Where the offsets can not be in the transaction it is said, and the channel commits them.
func TestClaimIsNotPossible(t *testing.T) {
	c, far := newCluster(t, kfake.SeedTopics(1, "t", "out")), newCluster(t, kfake.SeedTopics(1, "out"), kfake.ClusterID("far"))
	ch := c.openChannel()
	in, log := far.openOut("x")
	defer in.Close()
	putBodies(t, ch, suite.Bodies(0, 10)...)
	if x := hand(t, ch, in, 2, false); x.rolled != nil || !log.has("another cluster") {
		t.Errorf("another cluster: %v, logged %s", x.rolled, log.text.String())
	}
	suite.Eventually(t, "the channel commits", func() bool { return c.committed("t", 0) == 2 })
	near, log := c.openOut("y")
	defer near.Close()
	other, _ := takeN(t, ch, 2)
	if x := hand(t, ch, near, 2, false); x.rolled != nil || !log.has("another sink takes") {
		t.Errorf("another sink: %v, logged %s", x.rolled, log.text.String())
	}
	other[0].Ack(nil)
	suite.Eventually(t, "the channel commits again", func() bool { return c.committed("t", 0) == 6 })
}

// Events that no partition takes are refused, and behind.
func TestClaimWithRefused(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t", "out"))
	ch := c.openChannel()
	in, _ := c.openOut("x", "partitionIdHeader", "q")
	defer in.Close()
	putAll(t, ch, event("a"), event("b", "q", "7"), event("c"), event("d", "q", "9"))
	if x := hand(t, ch, in, 4, false); x.rolled != nil {
		t.Fatal(x.rolled)
	}
	if seen, n := c.visible("out"), c.committed("t", 0); !slices.Equal(seen, []string{"a", "c"}) || n != 4 {
		t.Errorf("%q, %d committed", seen, n)
	}
}

// What a sink's transactions have aborted a channel leaves out, if it is told to; by default it does not, as Java's clients.
func TestChannelReadsCommitted(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"), kfake.SeedTopics(1, "u"))
	in := c.openSink(txnKeys(c, "kafka.producer.delivery.timeout.ms", "300"))
	defer in.Close()
	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "u", Err: kerr.NotEnoughReplicas, Count: -1})
	if x := deliver(t, in, event("a"), event("b", "topic", "u")); x.rolled == nil {
		t.Fatal("a partition fails, and the take is delivered")
	}
	f.Remove()
	in.Sink.(*sink).timeout = suite.Deadline
	if x := deliver(t, in, event("c")); x.rolled != nil {
		t.Fatal(x.rolled)
	}
	for level, want := range map[string][]string{"read_committed": {"c"}, "read_uncommitted": {"a", "c"}} {
		ch := c.openChannel("parseAsFlumeEvent", "false", "kafka.consumer.isolation.level", level, "kafka.consumer.group.id", level)
		if got := eventBodies(deliverN(t, ch, len(want))); !slices.Equal(got, want) {
			t.Errorf("%s: %q", level, got)
		}
	}
}
