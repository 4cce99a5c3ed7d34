package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// produce writes records by a client that is not ours.
func (c *cluster) produce(records []*kgo.Record, opts ...kgo.Opt) {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

func recordsOf(topic string, bodies []string) (records []*kgo.Record) {
	for _, b := range bodies {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(b)})
	}
	return records
}

// mortal is a source whose process may have died: the next one on the same
// cluster ends what is left of it, as its session would.
type mortal struct {
	*source
	last *sync.Map
}

func (m *mortal) Open(ctx context.Context, env core.Env) error {
	if prev, ok := m.last.Swap(m.servers[0], m.source); ok && prev.(*source) != m.source {
		prev.(*source).leave()
		prev.(*source).c.close()
	}
	return m.source.Open(ctx, env)
}

// flume: TestKafkaSource testNonCommit
func TestSourceSuite(t *testing.T) {
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression()} {
		clusters, last := new(sync.Map), new(sync.Map)
		sourcetest.Run(t, sourcetest.Subject{
			New: func() core.Source { return &mortal{source: new(source), last: last} },
			Keys: func(t testing.TB) map[string]string {
				c := newCluster(t, kfake.SeedTopics(1, "t"))
				clusters.Store(c.servers(), c)
				t.Cleanup(func() { // before the cluster ends
					if s, ok := last.Load(c.addrs[0]); ok {
						s.(*source).leave()
						s.(*source).c.close()
					}
				})
				return map[string]string{
					"kafka.bootstrap.servers": c.servers(), "kafka.topics": "t", "batchSize": "100",
					"kafka.consumer.auto.offset.reset": "earliest", "kafka.consumer.fetch.max.wait.ms": "50",
					"kafka.consumer.retry.backoff.ms": "5", "kafka.consumer.heartbeat.interval.ms": "50",
				}
			},
			Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
				c, _ := clusters.Load(in.Keys["kafka.bootstrap.servers"])
				c.(*cluster).produce(recordsOf("t", bodies), kgo.ProducerBatchCompression(codec))
				return bodies
			},
			Replay: true,
		})
	}
}

// start starts a source on c. It is closed with the test.
func (c *cluster) start(keys map[string]string, out *sourcetest.Outlet) *sourcetest.Instance {
	c.t.Helper()
	all := map[string]string{
		"kafka.bootstrap.servers": c.servers(), "kafka.topics": "t", "kafka.consumer.auto.offset.reset": "earliest",
		"kafka.consumer.fetch.max.wait.ms": "50", "kafka.consumer.retry.backoff.ms": "5", "kafka.consumer.heartbeat.interval.ms": "50",
	}
	maps.Copy(all, keys)
	return sourcetest.Start(c.t, sourcetest.Subject{New: Source.New}, all, out)
}

func arrive(t testing.TB, out *sourcetest.Outlet, n int) []core.Event {
	t.Helper()
	suite.Eventually(t, fmt.Sprint(n, " events arrive"), func() bool { return out.Len() >= n })
	if got := out.Len(); got != n {
		t.Fatalf("%d events, want %d", got, n)
	}
	return out.Events()
}

// Conformance S10, S12, S13, S14.
//
// flume: TestKafkaSource testNullKey testAvroEvent testTopicHeaderSet testTopicCustomHeaderSet testTopicCustomHeaderNotSet testTopicKafkaHeaderSet
func TestSourceHeaders(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "t"))
	at := func(r *kgo.Record) []*kgo.Record { return []*kgo.Record{r} }
	datum := appendDatum(nil, core.NewHeaders(core.Header{Key: "topic", Value: "was"}, core.Header{Key: "a", Value: "b"}), []byte("body"))
	c.produce(at(&kgo.Record{Topic: "t", Partition: 1, Value: []byte("one"), Key: []byte("k"), Headers: []kgo.RecordHeader{
		{Key: "FLUME_CORRELATOR", Value: []byte("1")}, {Key: "FLUME_CORRELATOR", Value: []byte("2")}, {Key: "other", Value: []byte("x")},
	}}))
	c.produce(at(&kgo.Record{Topic: "t", Partition: 1, Value: nil}))
	c.produce(at(&kgo.Record{Topic: "t", Partition: 1, Value: datum}))
	out := sourcetest.NewOutlet()
	in := c.start(map[string]string{"header.correlator": "FLUME_CORRELATOR", "topicHeader": "custom"}, out)
	events := arrive(t, out, 3)
	in.Close()
	e := events[0]
	if v := e.Headers.Value; string(e.Body) != "one" || v("correlator") != "2" || v("custom") != "t" || v("partition") != "1" ||
		v("offset") != "0" || v("key") != "k" || len(v("timestamp")) != 13 || e.Headers.Len() != 6 {
		t.Errorf("%q %v", e.Body, e.Headers)
	}
	if e := events[1]; len(e.Body) != 0 || e.Headers.Len() != 4 || e.Headers.Value("offset") != "1" {
		t.Errorf("%q %v", e.Body, e.Headers)
	}
	out = sourcetest.NewOutlet()
	in = c.start(map[string]string{"useFlumeEventFormat": "true", "setTopicHeader": "false", "kafka.consumer.group.id": "other"}, out)
	e = arrive(t, out, 1)[0]
	if v := e.Headers.Value; string(e.Body) != "body" || v("topic") != "was" || v("a") != "b" || v("offset") != "2" {
		t.Errorf("%q %v", e.Body, e.Headers)
	}
	if n := in.Source.(*source).undecodable.Load(); n != 2 {
		t.Errorf("%d records undecodable", n)
	}
	in.Close()
}

// latest is a place: what comes after the first start is read, also what comes
// while the source is away.
//
// flume: TestKafkaSource testMigrateOffsetsNone
func TestSourceBeginsAtLatest(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	c.produce(recordsOf("t", suite.Bodies(0, 10)))
	out := sourcetest.NewOutlet()
	keys := map[string]string{"kafka.consumer.auto.offset.reset": "latest"}
	in := c.start(keys, out)
	suite.Eventually(t, "the place to begin at is committed", func() bool { return c.committed("t", 0) == 10 })
	in.Close()
	c.produce(recordsOf("t", suite.Bodies(10, 10)))
	in = c.start(keys, out)
	arrive(t, out, 10)
	c.produce(recordsOf("t", suite.Bodies(20, 10)))
	arrive(t, out, 20)
	in.Close()
	if !slices.Equal(out.Bodies(), suite.Bodies(10, 20)) {
		t.Errorf("%q", out.Bodies())
	}
}

// Nothing is committed beyond what is stored, and all that is.
func TestSourceCommitsWhatIsStored(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	c.produce(recordsOf("t", suite.Bodies(0, 50)))
	out := sourcetest.NewOutlet()
	in := c.start(map[string]string{"batchSize": "10"}, out)
	arrive(t, out, 50)
	out.Hold()
	c.produce(recordsOf("t", suite.Bodies(50, 50)))
	s := in.Source.(*source)
	at := topicPartition{"t", 0}
	suite.Eventually(t, "all is sent", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.parts[at] != nil && s.parts[at].sent == 100 && s.parts[at].committed == 50
	})
	in.Stop()
	if got := c.committed("t", 0); got != 50 {
		t.Errorf("%d committed, 50 stored", got)
	}
	out.Release()
	in.Close()
	if got := c.committed("t", 0); got != 100 {
		t.Errorf("%d committed, 100 stored", got)
	}
}

// The agent dies with events stored whose offsets are not committed: the channel
// knows how far it has them, and the commit which stream they are of.
func TestSourceRepeatsNothingAfterACrash(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	out := sourcetest.NewOutlet()
	in := c.start(nil, out)
	suite.Eventually(t, "the place to begin at is committed", func() bool { return c.committed("t", 0) == 0 })
	commits := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	c.produce(recordsOf("t", suite.Bodies(0, 50)))
	arrive(t, out, 50)
	in.Close()
	if n := c.committed("t", 0); n != 0 {
		t.Fatalf("%d committed", n)
	}
	commits.Remove()
	in = c.start(nil, out)
	c.produce(recordsOf("t", suite.Bodies(50, 10)))
	arrive(t, out, 60)
	suite.Eventually(t, "all is committed", func() bool { return c.committed("t", 0) == 60 })
	fetched := in.Source.(*source).parts[topicPartition{"t", 0}].stream
	in.Close()
	if !slices.Equal(out.Bodies(), suite.Bodies(0, 60)) {
		t.Errorf("%q", out.Bodies())
	}
	// Somebody sets the group back: that is another stream, and all comes again.
	c.commit("t", 40)
	in = c.start(nil, out)
	arrive(t, out, 80)
	if s := in.Source.(*source); s.parts[topicPartition{"t", 0}].stream == fetched {
		t.Errorf("still %s", fetched)
	}
	in.Close()
}

// committed is what the group flume has committed; -1: nothing.
func (c *cluster) committed(topic string, partition int32) int64 {
	if g := c.GroupInfo("flume"); g != nil {
		if commit, ok := g.Commits[topic][partition]; ok {
			return commit.Offset
		}
	}
	return -1
}

// commit sets the group flume back, or on, in partition 0.
func (c *cluster) commit(topic string, offset int64) {
	c.t.Helper()
	cl := &client{seeds: c.addrs, connect: suite.Deadline, request: suite.Deadline, onChange: func(int64, int64, int64) {}}
	defer cl.close()
	res, err := cl.coordinator(context.Background(), "flume", &offsetcommit.Request{
		GroupID: "flume", GenerationID: -1, RetentionTimeMs: -1,
		Topics: []offsetcommit.RequestTopic{{Name: topic, Partitions: []offsetcommit.RequestPartition{{CommittedOffset: offset, CommittedLeaderEpoch: -1}}}},
	})
	if err != nil || res.(*offsetcommit.Response).Topics[0].Partitions[0].ErrorCode != 0 {
		c.t.Fatalf("%+v %v", res, err)
	}
}

// Members come and go while records come; nothing is lost, and every member
// sends a partition in order.
func TestSourceRebalances(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	const each = 400
	feed := func(from int) {
		var records []*kgo.Record
		for i := range each {
			records = append(records, &kgo.Record{Topic: "t", Partition: int32(i % 4), Value: []byte(fmt.Sprintf("%06d", from+i))})
		}
		c.produce(records)
	}
	outs := []*sourcetest.Outlet{sourcetest.NewOutlet(), sourcetest.NewOutlet(), sourcetest.NewOutlet()}
	var ins []*sourcetest.Instance
	all := func() map[string]bool {
		seen := make(map[string]bool)
		for _, o := range outs {
			for _, b := range o.Bodies() {
				seen[b] = true
			}
		}
		return seen
	}
	for i, o := range outs {
		ins = append(ins, c.start(map[string]string{"kafka.consumer.session.timeout.ms": "5000"}, o))
		feed(2 * i * each)
		feed((2*i + 1) * each)
	}
	suite.Eventually(t, "all have arrived", func() bool { return len(all()) == 6*each })
	ins[0].Close()
	feed(6 * each)
	suite.Eventually(t, "all have arrived at those who are left", func() bool { return len(all()) == 7*each })
	ins[1].Close()
	ins[2].Close()
	total := 0
	for n, o := range outs {
		last := map[string]string{}
		events := o.Events()
		total += len(events)
		for _, e := range events {
			p := e.Headers.Value("partition")
			if body := string(e.Body); body <= last[p] {
				t.Fatalf("member %d: partition %s: %s after %s", n, p, body, last[p])
			}
			last[p] = string(e.Body)
		}
	}
	if total != 7*each {
		t.Errorf("%d events for %d records: all was stored at once, so nothing need come twice", total, 7*each)
	}
}

// The coordinator forgets the member while events are on their way: they are not
// read again, because the partition comes back as it went.
func TestSourceGoesOnAfterALostGeneration(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	out := sourcetest.NewOutlet()
	in := c.start(nil, out)
	c.produce(recordsOf("t", suite.Bodies(0, 10)))
	arrive(t, out, 10)
	out.Hold()
	c.produce(recordsOf("t", suite.Bodies(10, 10)))
	s := in.Source.(*source)
	sent := func() int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.parts[topicPartition{"t", 0}].sent
	}
	suite.Eventually(t, "the second ten are sent", func() bool { return sent() == 20 })
	beats := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID})
	suite.Eventually(t, "a heartbeat fails", func() bool { return beats.Hits() > 0 })
	c.produce(recordsOf("t", suite.Bodies(20, 10)))
	suite.Eventually(t, "reading goes on", func() bool { return sent() == 30 })
	out.Release()
	if arrive(t, out, 30); !slices.Equal(out.Bodies(), suite.Bodies(0, 30)) {
		t.Errorf("%q", out.Bodies())
	}
	in.Close()
	if n := c.committed("t", 0); n != 30 {
		t.Errorf("%d committed", n)
	}
}

// Records of aborted transactions and control records are left out.
func TestSourceReadsCommitted(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for j := range 3 {
			if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i, "-", j))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	for level, want := range map[string][]string{
		"read_committed":   {"0-0", "0-1", "0-2", "2-0", "2-1", "2-2"},
		"read_uncommitted": {"0-0", "0-1", "0-2", "1-0", "1-1", "1-2", "2-0", "2-1", "2-2", "3-0", "3-1", "3-2"},
	} {
		out := sourcetest.NewOutlet()
		in := c.start(map[string]string{"kafka.consumer.isolation.level": level, "kafka.consumer.group.id": level}, out)
		arrive(t, out, len(want))
		in.Close()
		if got := out.Bodies(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", level, got)
		}
	}
}

// Topics that match are read, also one that comes later.
func TestSourcePattern(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "stream1", "xstream2"))
	out := sourcetest.NewOutlet()
	in := c.start(map[string]string{"kafka.topics": "", "kafka.topics.regex": "^stream[0-9]$", "kafka.consumer.metadata.max.age.ms": "100"}, out)
	c.produce(recordsOf("stream1", suite.Bodies(0, 5)))
	c.produce(recordsOf("xstream2", suite.Bodies(5, 5)))
	arrive(t, out, 5)
	if err := c.CreateTopic("stream9", 1, nil); err != nil {
		t.Fatal(err)
	}
	c.produce(recordsOf("stream9", suite.Bodies(10, 5)))
	arrive(t, out, 10)
	in.Close()
	for _, e := range out.Events() {
		if e.Headers.Value("topic") == "xstream2" {
			t.Error("a topic is read that does not match")
		}
	}
}

// A topic that is not there when the source starts, and partitions that it gets later.
//
// flume: TestKafkaSource testProcessItEmpty testNonExistingTopic testMigrateZookeeperOffsetsWhenTopicNotExists
func TestSourceTopicGrows(t *testing.T) {
	c := newCluster(t)
	out := sourcetest.NewOutlet()
	in := c.start(map[string]string{"kafka.consumer.metadata.max.age.ms": "100"}, out)
	suite.Eventually(t, "the source is in its group", func() bool {
		g := c.GroupInfo("flume")
		return g != nil && g.State == "Stable"
	})
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	c.produce(recordsOf("t", suite.Bodies(0, 5)))
	arrive(t, out, 5)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "t", 3
	req.Topics, req.TimeoutMillis = append(req.Topics, topic), 5000
	_, err = req.RequestWith(context.Background(), cl)
	cl.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.produce([]*kgo.Record{{Topic: "t", Partition: 2, Value: []byte("new")}})
	arrive(t, out, 6)
	in.Close()
}

func TestSourceKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string
	}{
		{map[string]string{"kafka.topics": "a, b"}, ""},
		{nil, "at least one Kafka topic must be specified"},
		{map[string]string{"topic": "old.topic", "groupId": "g"}, "old name"},
		{map[string]string{"kafka.topics": "a,b c"}, "not the name of a topic"},
		{map[string]string{"kafka.topics.regex": "["}, "kafka.topics.regex"},
		{map[string]string{"kafka.topics": "a", "kafka.topics.regex": "b"}, "goes before"},
		{map[string]string{"kafka.topics": "a", "kafka.bootstrap.servers": "", "zookeeperConnect": "z:2181"}, "not looked up in ZooKeeper"},
		{map[string]string{"kafka.topics": "a", "kafka.consumer.partition.assignment.strategy": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"}, "not spoken"},
		{map[string]string{"kafka.topics": "a", "kafka.consumer.group.instance.id": "x"}, "no fixed names"},
		{map[string]string{"kafka.topics": "a", "kafka.consumer.heartbeat.interval.ms": "20000"}, "less than session.timeout.ms"},
		{map[string]string{"kafka.topics": "a", "kafka.consumer.fake.property": "x"}, "not a property"},
		{map[string]string{"kafka.topics": "a", "kafka.consumer.auto.offset.reset": "smallest"}, "one of latest"},
	} {
		keys := map[string]string{"kafka.bootstrap.servers": "127.0.0.1:9092"}
		maps.Copy(keys, c.keys)
		_, faults := conf.Bind(Source.New(), keys)
		text := fmt.Sprint(faults)
		if c.want == "" && len(faults) > 0 || !strings.Contains(text, c.want) {
			t.Errorf("%v:\n got %s\nwant %s", c.keys, text, c.want)
		}
	}
	s := new(source)
	if _, faults := conf.Bind(s, map[string]string{
		"kafka.bootstrap.servers": "real:1", "kafka.consumer.bootstrap.servers": "bad:1", "topic": "old", "groupId": "old.group",
		"kafka.consumer.group.id": "override", "kafka.consumer.enable.auto.commit": "true",
	}); faults.HasErrors() {
		t.Fatal(faults)
	}
	if !slices.Equal(s.servers, []string{"real:1"}) || s.group != "override" || !slices.Equal(s.topics, []string{"old"}) {
		t.Errorf("%v %s %v", s.servers, s.group, s.topics)
	}
}

// From Kafka 0.11 to the newest that the broker here knows: what the sink writes, the source reads.
func TestVersions(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{
		"0.11": kversion.V0_11_0(), "1.0": kversion.V1_0_0(), "2.1": kversion.V2_1_0(), "2.8": kversion.V2_8_0(), "3.9": kversion.V3_9_0(), "stable": kversion.Stable(),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "t"), kfake.MaxVersions(versions))
			codec := "lz4"
			if name == "2.8" { // zstd is of 2.1
				codec = "zstd"
			}
			sink := c.openSink(map[string]string{"kafka.topic": "t", "kafka.producer.compression.type": codec, "useFlumeEventFormat": "true"})
			out := sourcetest.NewOutlet()
			in := c.start(map[string]string{"useFlumeEventFormat": "true"}, out)
			var want []string
			for i := range 3 {
				var events []core.Event
				for _, b := range suite.Bodies(10*i, 10) {
					want, events = append(want, b), append(events, event(b, "a", "b"))
				}
				if x := deliver(t, sink, events...); len(x.acked) != 10 {
					t.Fatalf("%v %v", x.rolled, x.refused)
				}
			}
			arrive(t, out, 30)
			in.Close()
			sink.Close()
			if !slices.Equal(out.Bodies(), want) || out.Events()[7].Headers.Value("a") != "b" || c.committed("t", 0) != 30 {
				t.Errorf("%q, %d committed", out.Bodies(), c.committed("t", 0))
			}
		})
	}
}
