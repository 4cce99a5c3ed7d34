package kafka

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

func TestTransactionalSinkSuite(t *testing.T) {
	for name, code := range map[string]int32{
		"breaks": -1, "no leader": int32(kafkago.NotLeaderForPartition), "not allowed": int32(kafkago.TopicAuthorizationFailed),
		"out of order": int32(kafkago.OutOfOrderSequenceNumber),
	} {
		t.Run(name, func(t *testing.T) {
			clusters := new(sync.Map)
			sinktest.Run(t, sinktest.Subject{New: func() core.Sink { return &hasty{clusters: clusters} }, Backend: func(t testing.TB) sinktest.Backend {
				f := new(failing)
				cl := newCluster(t, kfake.SeedTopics(1, "t"))
				f.in(cl)
				clusters.Store(cl.servers(), f)
				return sinktest.Backend{
					Keys: txnKeys(cl), Seen: func() []string { return cl.visible("t") },
					Break: func() { f.code.Store(code) }, Heal: func() { f.code.Store(0) },
				}
			}})
		})
	}
}

// A take is one transaction, over all topics and partitions of it.
func TestTransactionIsWhole(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t", "u"))
	in := c.openSink(txnKeys(c, "partitionIdHeader", "p", "kafka.producer.delivery.timeout.ms", "300"))
	defer in.Close()
	all := []core.Event{event("a", "p", "0"), event("b", "p", "1"), event("c", "p", "9"), event("d", "p", "2", "topic", "u")}
	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "u", Err: kerr.NotEnoughReplicas, Count: -1})
	if x := deliver(t, in, all...); x.rolled == nil || len(x.acked) > 0 {
		t.Fatalf("one partition fails: %d acked, rolled back: %v", len(x.acked), x.rolled)
	}
	f.Remove()
	if seen := append(c.visible("t"), c.visible("u")...); len(seen) > 0 {
		t.Errorf("of an aborted transaction is seen %q", seen)
	}
	in.Sink.(*sink).timeout = suite.Deadline
	if x := deliver(t, in, all...); x.rolled != nil || len(x.acked) != 3 || x.refused[2] == nil {
		t.Fatalf("%v acked, %v refused, rolled back: %v", x.acked, x.refused, x.rolled)
	}
	if seen := append(c.visible("t"), c.visible("u")...); !slices.Equal(seen, []string{"a", "b", "d"}) {
		t.Errorf("%q", seen)
	}
	x := in.Sink.(*sink).p.txn
	if x.committed.Load() != 1 || x.aborted.Load() != 1 {
		t.Errorf("%d committed, %d aborted", x.committed.Load(), x.aborted.Load())
	}
	for _, r := range c.records("u", kgo.KeepControlRecords()) {
		if !r.Attrs.IsTransactional() {
			t.Errorf("%q is in no transaction", r.Value)
		}
	}
	if x := deliver(t, in, event("x", "p", "-")); len(x.refused) != 1 {
		t.Errorf("nothing to write: %v", x)
	}
}

// The errors of a coordinator that pass are waited for.
func TestTransactionCoordinatorMoves(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	s := newShelf(t, suite.Bodies(0, 30)...)
	in := s.open(c)
	defer in.Close()
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn} {
		for _, err := range []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions} {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, TxnID: "x", Err: err, Count: 1})
		}
	}
	for s.left() > 0 {
		if err := s.deliver(in, 10); err != nil {
			t.Fatal(err)
		}
		c.RehashCoordinators()
	}
	if seen := c.visible("t"); !slices.Equal(seen, suite.Bodies(0, 30)) {
		t.Errorf("%q", seen)
	}
}

// Two sinks with one transactional.id: the older one is told so, and gets its turn again.
func TestTransactionFenced(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	first := c.openSink(txnKeys(c))
	defer first.Close()
	deliver(t, first, event("1"))
	second := c.openSink(txnKeys(c))
	defer second.Close()
	deliver(t, second, event("2"))
	x := deliver(t, first, event("3"))
	if x.rolled == nil || !strings.Contains(x.rolled.Error(), "another producer has the transactional.id x") {
		t.Errorf("rolled back: %v", x.rolled)
	}
	if x = deliver(t, first, event("3")); x.rolled != nil {
		t.Errorf("the second time: %v", x.rolled)
	}
	if seen := c.visible("t"); seen[len(seen)-1] != "3" || len(seen) != 3 {
		t.Errorf("%q", seen)
	}
}

// What a predecessor has left open is ended when the sink opens, though nothing is to be delivered.
func TestTransactionLeftOpen(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	first := c.openSink(txnKeys(c))
	defer first.Close()
	first.Sink.(*sink).prepared.Wait()
	p := first.Sink.(*sink).p
	b := core.NewBatch()
	defer b.Release()
	b.Copy(event("lost").Headers, []byte("lost"))
	if err := p.txn.prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	if x := p.write(context.Background(), b.Events); x.left() > 0 {
		t.Fatal(x.err)
	}
	second := c.openSink(txnKeys(c))
	defer second.Close()
	if seen := c.visible("t"); len(seen) > 0 {
		t.Errorf("%q", seen)
	}
}

// The answer to EndTxn is lost: it is said again.
func TestTransactionCommitAnswerLost(t *testing.T) {
	l := &lossy{key: int16(kmsg.EndTxn)}
	c := newCluster(t, kfake.SeedTopics(1, "t"), l.opt())
	l.in(c)
	in := c.openSink(txnKeys(c))
	defer in.Close()
	l.on.Store(true)
	done := make(chan *tx)
	go func() { done <- deliver(t, in, event("a"), event("b")) }()
	suite.Eventually(t, "it was said again", func() bool { return l.asked.Load() > 3 })
	l.on.Store(false)
	if x := <-done; x.rolled != nil {
		t.Error(x.rolled)
	}
	if seen := c.visible("t"); !slices.Equal(seen, []string{"a", "b"}) {
		t.Errorf("%q", seen)
	}
}
