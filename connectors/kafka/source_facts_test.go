package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// Batches of at most three, of one partition each, in its order; stopped and
// started nothing comes twice, and what came meanwhile comes.
//
// flume: TestKafkaSource testOffsets testTwoBatches testTwoBatchesWithAutocommit testCommit
// flume: TestKafkaSource testProcessItNotEmpty testProcessItNotEmptyBatch
func TestSourceBatches(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, "t"))
	sent := make(map[int32][]string)
	n := 0
	feed := func(count int) {
		var records []*kgo.Record
		for range count {
			p, body := int32(n%3), fmt.Sprintf("%06d", n)
			records = append(records, &kgo.Record{Topic: "t", Partition: p, Value: []byte(body)})
			sent[p] = append(sent[p], body)
			n++
		}
		c.produce(records)
	}
	out := sourcetest.NewOutlet()
	keys := map[string]string{"batchSize": "3", "batchDurationMillis": "2000", "kafka.consumer.enable.auto.commit": "true"}
	in := c.start(keys, out)
	for _, count := range []int{1, 2, 3, 5, 1} {
		feed(count)
		arrive(t, out, n)
	}
	in.Close()
	feed(2)
	in = c.start(keys, out)
	arrive(t, out, n)
	feed(1)
	arrive(t, out, n)
	in.Close()
	got := make(map[int32][]string)
	for _, e := range out.Events() {
		var p int32
		if _, err := fmt.Sscan(e.Headers.Value("partition"), &p); err != nil {
			t.Fatal(err)
		}
		got[p] = append(got[p], string(e.Body))
		if e.Headers.Value("topic") != "t" {
			t.Errorf("topic %q", e.Headers.Value("topic"))
		}
	}
	if !maps.EqualFunc(got, sent, slices.Equal) {
		t.Errorf("%v, want %v", got, sent)
	}
}

// processor is what stands between a source and its channel.
func processor(t *testing.T, cells *metric.Group, node *core.ChannelNode) *core.ChannelProcessor {
	t.Helper()
	sel := selector.Replicating.New()
	if _, faults := conf.BindMembers(sel, []string{"ch"}, nil); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	return core.NewChannelProcessor(slog.New(slog.DiscardHandler), cells, time.Now, nil, sel, []*core.ChannelNode{node})
}

// What can not be read and what a channel does not take is counted, each by its counter.
//
// flume: TestKafkaSource testErrorCounters
func TestSourceErrorCounters(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	s := new(source)
	if _, faults := conf.Bind(s, map[string]string{
		"kafka.bootstrap.servers": c.servers(), "kafka.topics": "t", "kafka.consumer.auto.offset.reset": "earliest",
		"useFlumeEventFormat": "true", "kafka.consumer.fetch.max.wait.ms": "20",
	}); faults.HasErrors() {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	if err := s.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ch := memory.Channel.New()
	if _, faults := conf.Bind(ch, nil); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := ch.Open(context.Background(), sourcetest.NewEnv(t, "ch")); err != nil {
		t.Fatal(err)
	}
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	c.produce([]*kgo.Record{{Topic: "t", Value: []byte{5}}, {Topic: "t", Value: []byte{0, 2, 'x'}}})
	out := processor(t, env.Metrics, &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)})
	if err := s.Run(context.Background(), out); err == nil {
		t.Fatal("the source goes on although its channel takes nothing")
	}
	if read, write := env.Metrics.EventReadFail.Load(), env.Metrics.ChannelWriteFail.Load(); read != 1 || write != 1 {
		t.Errorf("EventReadFail %d, ChannelWriteFail %d", read, write)
	}
}

// The timers begin at 0, and count what brokers take their time for.
//
// flume: KafkaSourceCounterTest testAddToKafkaEventGetTimer testAddToKafkaCommitTimer testIncrementKafkaEmptyCount
// flume: KafkaSourceCounterTest testGetKafkaCommitTimer testGetKafkaEventGetTimer testGetKafkaEmptyCount
func TestSourceTimers(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	c.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		time.Sleep(5 * time.Millisecond) // a slow broker
		return nil, nil, false
	})
	out := sourcetest.NewOutlet()
	out.Hold()
	in := c.start(nil, out)
	timers := func() map[string]int64 {
		all := make(map[string]int64)
		for _, x := range in.Env.Metrics.Extras() {
			if x.Flume != "" {
				all[x.Flume] = x.Value()
			}
		}
		return all
	}
	if n := timers()["KafkaCommitTimer"]; n != 0 && c.committed("t", 0) < 0 {
		t.Errorf("KafkaCommitTimer is %d before there was a commit", n)
	}
	out.Release()
	for i := range 2 {
		before := timers()
		c.produce(recordsOf("t", suite.Bodies(i, 1)))
		suite.Eventually(t, "all three have grown", func() bool {
			now := timers()
			return len(now) == 3 && now["KafkaCommitTimer"] > before["KafkaCommitTimer"] &&
				now["KafkaEventGetTimer"] > before["KafkaEventGetTimer"] && now["KafkaEmptyCount"] > before["KafkaEmptyCount"]
		})
	}
	in.Close()
}

// What Flume sets for Java's consumer, from its own keys and the old ones.
//
// flume: TestKafkaSource testOldProperties testDefaultSettingsOnReConfigure testSourceProperties testPatternBasedSubscription
func TestSourceProperties(t *testing.T) {
	bind := func(keys map[string]string) *source {
		t.Helper()
		s := new(source)
		keys["kafka.bootstrap.servers"] = "b:1"
		if _, faults := conf.Bind(s, keys); faults.HasErrors() {
			t.Fatal(faults)
		}
		return s
	}
	if s := bind(map[string]string{"topic": "old.topic", "groupId": "old.groupId"}); !slices.Equal(s.topics, []string{"old.topic"}) || s.group != "old.groupId" {
		t.Errorf("%v %s", s.topics, s.group)
	}
	if s := bind(map[string]string{"topic": "old.topic", "groupId": "old.groupId", "kafka.consumer.group.id": "override"}); s.group != "override" {
		t.Error(s.group)
	}
	if s := bind(map[string]string{"topic": "old.topic"}); s.group != "flume" {
		t.Error(s.group)
	}
	s := bind(map[string]string{"kafka.topics": "a", "kafka.consumer.auto.offset.reset": "earliest"})
	if again := bind(map[string]string{"kafka.topics": "a"}); s.reset != "earliest" || again.reset != "latest" {
		t.Errorf("%s, then %s", s.reset, again.reset)
	}
	matches := func(pattern, name string) bool {
		s := bind(map[string]string{"kafka.topics": "test1, test2", "kafka.topics.regex": pattern})
		ok, err := s.pattern.Match([]byte(name))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !matches("^stream[0-9]$", "stream1") || matches("^stream[0-9]$", "test1") || !matches("^topic[0-9]$", "topic9") || matches("^topic[0-9]$", "topic") {
		t.Error("another choice of topics than by the whole name")
	}
}

// Offsets that the group has committed are where the source begins, whatever ZooKeeper may have.
//
// flume: TestKafkaSource testMigrateOffsetsKafka testMigrateOffsetsBoth
func TestSourceBeginsAtTheCommit(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	c.produce(recordsOf("t", suite.Bodies(0, 50)))
	c.commit("t", 5)
	out := sourcetest.NewOutlet()
	in := c.start(map[string]string{"zookeeperConnect": "127.0.0.1:1", "migrateZookeeperOffsets": "true"}, out)
	arrive(t, out, 45)
	in.Close()
	if got := out.Bodies()[0]; got != suite.Bodies(5, 1)[0] {
		t.Errorf("begins at %s", got)
	}
}

// The topic is deleted and made again while the source is away, and has more in
// it by now than the group has committed of the old one: all of it is new.
func TestSourceTopicAnew(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	c.produce(recordsOf("t", suite.Bodies(0, 10)))
	out := sourcetest.NewOutlet()
	in := c.start(nil, out)
	arrive(t, out, 10)
	in.Close()
	if n := c.committed("t", 0); n != 10 {
		t.Fatalf("%d committed", n)
	}
	anew := func(from, n int) {
		if err := c.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		c.produce(recordsOf("t", suite.Bodies(from, n)))
	}
	anew(10, 20)
	in = c.start(map[string]string{"kafka.consumer.metadata.max.age.ms": "50"}, out)
	arrive(t, out, 30)
	anew(30, 40) // and once more while it reads
	suite.Eventually(t, "all has arrived", func() bool {
		all := out.Bodies()
		slices.Sort(all)
		return slices.Equal(slices.Compact(all), suite.Bodies(0, 70))
	})
	in.Close()
}

// Another client, as Java's are, is in the group: whoever leads shares the
// partitions out, and each record comes once.
func TestSourceSharesItsGroup(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	out := sourcetest.NewOutlet()
	in := c.start(nil, out) // it leads
	suite.Eventually(t, "the source is in its group", func() bool {
		g := c.GroupInfo("flume")
		return g != nil && g.State == "Stable"
	})
	other, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...), kgo.ConsumerGroup("flume"), kgo.ConsumeTopics("t"), kgo.Balancers(kgo.RangeBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var theirs []string
	poll := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		other.PollFetches(ctx).EachRecord(func(r *kgo.Record) { theirs = append(theirs, string(r.Value)) })
	}
	suite.Eventually(t, "both are in it", func() bool {
		poll()
		g := c.GroupInfo("flume")
		return g.State == "Stable" && len(g.Members) == 2
	})
	var records []*kgo.Record
	for i, body := range suite.Bodies(0, 40) {
		records = append(records, &kgo.Record{Topic: "t", Partition: int32(i % 4), Value: []byte(body)})
	}
	c.produce(records)
	suite.Eventually(t, "all have arrived", func() bool {
		poll()
		return len(theirs)+out.Len() >= 40
	})
	all := slices.Sorted(slices.Values(slices.Concat(theirs, out.Bodies())))
	if !slices.Equal(all, suite.Bodies(0, 40)) || len(theirs) != 20 {
		t.Errorf("%d here, %d there", out.Len(), len(theirs))
	}
	in.Close()
}
