package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// What another client reads of what the channel has written, and the other way round.
//
// flume: TestParseAsFlumeEvent testParseAsFlumeEventFalse testParseAsFlumeEventFalseCheckHeader
// flume: TestParseAsFlumeEvent testParseAsFlumeEventFalseAsSource testParseAsFlumeEventFalseAsSourceCheckHeader
// flume: TestBasicFunctionality testNullKeyNoHeader
func TestChannelRecords(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t", "raw"))
	ch := c.openChannel()
	putAll(t, ch, event("hello", "key", "k1", "topic", "t1"), event(""))
	r := c.records("t")
	if len(r) != 2 || string(r[0].Key) != "k1" || r[1].Key != nil || len(r[0].Headers) != 0 ||
		string(r[0].Value) != string(appendDatum(nil, event("", "key", "k1", "topic", "t1").Headers, []byte("hello"))) || string(r[1].Value) != "\x00\x00" {
		t.Errorf("%q", bodies(r))
	}
	if got := deliverN(t, ch, 2); string(got[0].Body) != "hello" || got[0].Headers.Value("topic") != "t1" || got[0].Headers.Len() != 2 || got[1].Headers.Len() != 0 {
		t.Errorf("%v", got)
	}
	// A key goes before a header of that name, as in Flume; what is no event of Flume's is left out.
	c.produce([]*kgo.Record{
		{Topic: "t", Key: []byte("other"), Value: appendDatum(nil, event("", "key", "mine").Headers, []byte("x"))},
		{Topic: "t", Value: nil},
		{Topic: "t", Value: []byte{5}},
		{Topic: "t", Value: []byte{0, 2, 'y'}},
	})
	if got := deliverN(t, ch, 2); got[0].Headers.Value("key") != "other" || string(got[1].Body) != "y" || ch.in.undecodable.Load() != 2 {
		t.Errorf("%v, %d undecodable", got, ch.in.undecodable.Load())
	}
	raw := c.openChannel("kafka.topic", "raw", "parseAsFlumeEvent", "false", "kafka.consumer.group.id", "raw")
	putAll(t, raw, event("one", "key", "1-header", "lost", "x"), event("two"))
	c.produce([]*kgo.Record{
		{Topic: "raw", Key: []byte("3-header"), Value: []byte("three"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}, {Topic: "raw", Value: nil},
	})
	if r = c.records("raw"); string(r[0].Value) != "one" || string(r[0].Key) != "1-header" || r[1].Key != nil {
		t.Errorf("%q", bodies(r))
	}
	for i, e := range deliverN(t, raw, 4) {
		key, has := e.Headers.Get("key")
		want := []struct{ body, key string }{{"one", "1-header"}, {"two", ""}, {"three", "3-header"}, {"", ""}}[i]
		if string(e.Body) != want.body || key != want.key || has != (want.key != "") || e.Headers.Len() > 1 {
			t.Errorf("event %d: %q %v", i, e.Body, e.Headers)
		}
	}
}

// Stopped and started, with leases given back, and given up: all comes, and
// nothing that was delivered comes again.
//
// flume: TestBasicFunctionality testStopAndStart testStopAndStartWithRollback testStopAndStartWithRollbackAndNoRetry
// flume: TestOffsetsAndMigration testOffsetsNotCommittedOnStop testMigrateOffsetsNone
func TestChannelStopsAndStarts(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	all := suite.Bodies(0, 50)
	first := c.openChannel()
	putBodies(t, first, all...)
	deliverN(t, first, 10)
	leases, _ := takeN(t, first, 10)
	leases[0].Rollback(errors.New("again"))
	if got := deliverN(t, first, 10); !slices.Equal(eventBodies(got), all[10:20]) {
		t.Errorf("after the rollback: %q", eventBodies(got))
	}
	takeN(t, first, 10) // neither delivered nor given back
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if n := c.committed("t", 0); n != 20 {
		t.Errorf("%d committed, 20 delivered", n)
	}
	second := c.openChannel()
	if got := deliverN(t, second, 30); !slices.Equal(eventBodies(got), all[20:]) {
		t.Errorf("after the restart: %q", eventBodies(got))
	}
	_ = second.Close()
	if n := c.committed("t", 0); n != 50 {
		t.Errorf("%d committed, 50 delivered", n)
	}
}

// Offsets that somebody has committed are where the channel begins.
//
// flume: TestOffsetsAndMigration testMigrateOffsetsKafka testMigrateOffsetsBoth
func TestChannelBeginsAtTheCommit(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("zookeeperConnect", "127.0.0.1:1", "migrateZookeeperOffsets", "true")
	putBodies(t, ch, suite.Bodies(0, 50)...)
	c.commit("t", 5)
	if got := deliverN(t, ch, 45); string(got[0].Body) != suite.Bodies(5, 1)[0] {
		t.Errorf("begins at %q", got[0].Body)
	}
}

// A topic that is not there: the channel works, and begins when it is.
//
// flume: TestOffsetsAndMigration testMigrateZookeeperOffsetsWhenTopicNotExists
func TestChannelWithoutTopic(t *testing.T) {
	c := newCluster(t)
	ch := c.openChannel("migrateZookeeperOffsets", "true", "kafka.consumer.metadata.max.age.ms", "50")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := ch.Take(ctx, core.Take{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	putBodies(t, ch, "one")
	deliverN(t, ch, 1)
}

// Offsets are committed up to where all is delivered, whatever the order of acks.
func TestChannelCommitsWhatIsDelivered(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel()
	putBodies(t, ch, suite.Bodies(0, 20)...)
	var leases []core.Lease
	for range 4 {
		l, _ := takeN(t, ch, 5)
		leases = append(leases, l...)
	}
	leases[3].Ack(nil)
	leases[1].Ack(nil)
	leases[0].Ack([]int32{0, 1, 4})
	suite.Eventually(t, "two are committed", func() bool { return c.committed("t", 0) == 2 })
	leases[0].Ack([]int32{2})
	suite.Eventually(t, "three are committed", func() bool { return c.committed("t", 0) == 3 })
	leases[0].Rollback(errors.New("again"))
	again, events := takeN(t, ch, 1)
	if string(events[0].Body) != suite.Bodies(3, 1)[0] {
		t.Errorf("%q comes again", events[0].Body)
	}
	again[0].Ack(nil)
	suite.Eventually(t, "ten are committed", func() bool { return c.committed("t", 0) == 10 })
	leases[2].Ack(nil)
	suite.Eventually(t, "all are committed", func() bool { return c.committed("t", 0) == 20 })
}

// A put is answered when the brokers have it, and not before; several wait together.
func TestChannelPutWaitsForTheBrokers(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	f := new(failing)
	f.code.Store(int32(kafkago.NotEnoughReplicas))
	f.in(c)
	ch := c.openChannel("kafka.producer.delivery.timeout.ms", "50", "kafka.producer.max.block.ms", "50")
	var answers []<-chan error
	for i := range 3 {
		answers = append(answers, putting(t, ch, event(fmt.Sprint(i)), event("x")))
	}
	suite.Eventually(t, "it says that it fails", func() bool { return ch.Health() != nil })
	if n := ch.Len().Events; n != 6 {
		t.Errorf("holds %d events", n)
	}
	suite.Eventually(t, "a claim says why", func() bool {
		_, err := ch.TryClaim(core.Size{Events: 1, Bytes: 1})
		return errors.Is(err, core.ErrChannelFull) && errors.Is(err, kafkago.NotEnoughReplicas)
	})
	if err := ch.Room(context.Background(), core.Size{Events: 1, Bytes: 1}); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("room: %v", err)
	}
	select {
	case err := <-answers[0]:
		t.Fatalf("answered: %v", err)
	default:
	}
	f.code.Store(0)
	if err := ch.Room(context.Background(), core.Size{Events: 1, Bytes: 1}); err != nil && !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("room: %v", err)
	}
	for _, a := range answers {
		if err := <-a; err != nil {
			t.Error(err)
		}
	}
	suite.Eventually(t, "it is well again", func() bool { return ch.Health() == nil && ch.Len().Events == 0 })
	if n := len(c.records("t")); n != 6 {
		t.Errorf("%d records", n)
	}
}

// An answer that gets lost makes no second copy.
func TestChannelIsIdempotent(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "t"))
	ch := c.openChannel()
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 3, Topic: "t"})
	for i := range 10 {
		putAll(t, ch, event(fmt.Sprint("a", i), "key", "a"), event(fmt.Sprint("b", i), "key", "d"))
	}
	if n := len(c.records("t")); n != 20 {
		t.Errorf("%d records", n)
	}
}

// A channel that closes without brokers says what it could not store, and keeps nobody.
func TestChannelClosesWithoutBrokers(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel()
	c.Close()
	answer := putting(t, ch, event("x"))
	ch.w.cut() // as after the last try
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, core.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Events beyond buffer.memory wait; one that can never be written is dropped alone, and counted.
func TestChannelRoom(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("kafka.producer.buffer.memory", "1000", "kafka.producer.max.request.size", "4096", "kafka.producer.max.block.ms", "60000")
	if _, err := ch.TryClaim(core.Size{Events: 1, Bytes: 5000}); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	tx, err := ch.TryClaim(core.Size{Events: 2, Bytes: 900})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ch.TryClaim(core.Size{Events: 1, Bytes: 200}); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("%v", err)
	}
	answer := make(chan error)
	go func() { answer <- ch.Room(context.Background(), core.Size{Events: 1, Bytes: 200}) }()
	tx.Rollback()
	if err := <-answer; err != nil {
		t.Errorf("room: %v", err)
	}
	putAll(t, ch, event("small"), event(strings.Repeat("x", 4500)), event("small too"))
	if n := len(c.records("t")); n != 2 || ch.w.refused.Load() != 1 {
		t.Errorf("%d records, %d refused", n, ch.w.refused.Load())
	}
}

// Partitions as events say; one that is not there is no reason to lose an event.
//
// flume: TestPartitions testPartitionHeaderSet testPartitionHeaderNotSet testStaticPartitionAndHeaderSet testStaticPartitionHeaderNotSet testPartitionHeaderMissing
func TestChannelPartitions(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(5, "t"))
	ch := c.openChannel("partitionIdHeader", "p", "defaultPartitionId", "3", "parseAsFlumeEvent", "false")
	putAll(t, ch, event("a", "p", "0"), event("b"), event("c", "p", "9", "key", "k1"), event("d", "p", "not-a-number", "key", "k1"))
	at := make(map[string]int32)
	for _, r := range c.records("t") {
		at[string(r.Value)] = r.Partition
	}
	k1 := partitionOf([]byte("k1"), 5)
	if len(at) != 4 || at["a"] != 0 || at["b"] != 3 || at["c"] != k1 || at["d"] != k1 {
		t.Errorf("%v", at)
	}
	plain := c.openChannel("partitionIdHeader", "p", "parseAsFlumeEvent", "false")
	putBodies(t, plain, "e", "f")
	if n := len(c.records("t")); n != 6 {
		t.Errorf("%d records", n)
	}
}

// A channel that nobody takes from is in no group: its partitions are for those who deliver.
func TestChannelWithoutSink(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	writer, reader := c.openChannel(), c.openChannel()
	putBodies(t, writer, suite.Bodies(0, 10)...)
	deliverN(t, reader, 10)
	if g := c.GroupInfo("flume"); g == nil || len(g.Members) != 1 {
		t.Errorf("%+v", g)
	}
}

// What was read stays within byteCapacity; a sink that holds it all is told to deliver.
func TestChannelByteCapacity(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("byteCapacity", "10000", "kafka.consumer.max.partition.fetch.bytes", "2000", "kafka.producer.max.request.size", "2000")
	for range 10 {
		putAll(t, ch, event(strings.Repeat("x", 1500)), event(strings.Repeat("y", 1500)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	var leases []core.Lease
	for n := 0; n < 20; {
		l, err := ch.Take(ctx, core.Take{Stall: len(leases) > 0})
		if errors.Is(err, core.ErrStalled) {
			for _, l := range leases {
				l.Ack(nil)
			}
			leases = nil
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if held := ch.stash.size().Bytes; held > 10000 {
			t.Fatalf("%d bytes are in memory", held)
		}
		n += len(l.Batch().Events)
		leases = append(leases, l)
	}
}

// Nobody takes for max.poll.interval.ms: the partitions are left to others, what was
// leased is lost, and comes to whoever takes next.
func TestChannelLeavesWhenNobodyTakes(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("kafka.consumer.max.poll.interval.ms", "100")
	putBodies(t, ch, suite.Bodies(0, 3)...)
	leases, _ := takeN(t, ch, 3)
	select {
	case <-leases[0].Lost():
	case <-time.After(suite.Deadline):
		t.Fatal("the lease is not lost")
	}
	suite.Eventually(t, "the group is empty", func() bool { return len(c.GroupInfo("flume").Members) == 0 })
	leases[0].Ack(nil)
	deliverN(t, ch, 3)
	suite.Eventually(t, "all is committed", func() bool { return c.committed("t", 0) == 3 })
}

// auto.offset.reset = none, and nothing is committed: takes fail, and say why; the channel goes on once there is.
func TestChannelWithoutOffset(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	ch := c.openChannel("kafka.consumer.auto.offset.reset", "none")
	putBodies(t, ch, "one")
	if _, err := ch.Take(context.Background(), core.Take{}); !errors.Is(err, errNoOffset) {
		t.Fatalf("%v", err)
	}
	c.commit("t", 0)
	var l core.Lease
	suite.Eventually(t, "it is taken", func() (ok bool) {
		var err error
		l, err = ch.Take(context.Background(), core.Take{})
		return err == nil
	})
	l.Ack(nil)
}

// The topic is deleted and made again, smaller, while events are read and put.
func TestChannelTopicAnew(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, "t"))
	ch := c.openChannel("kafka.consumer.metadata.max.age.ms", "50", "kafka.producer.delivery.timeout.ms", "500", "kafka.producer.metadata.max.age.ms", "50")
	for i := range 9 {
		putAll(t, ch, event(fmt.Sprint("old", i), "key", fmt.Sprint(i)))
	}
	leases, _ := takeN(t, ch, 5)
	if err := c.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	answer := putting(t, ch, event("between", "key", "b"))
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		putAll(t, ch, event(fmt.Sprint("new", i)))
	}
	for _, l := range leases {
		l.Ack(nil)
	}
	seen := make(map[string]bool)
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	for !seen["between"] || !seen["new0"] || !seen["new1"] || !seen["new2"] {
		l, err := ch.Take(ctx, core.Take{})
		if err != nil {
			t.Fatalf("%v: %v", err, seen)
		}
		for _, e := range l.Batch().Events {
			seen[string(e.Body)] = true
		}
		l.Ack(nil)
	}
}
