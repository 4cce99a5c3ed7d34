package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// failing answers Produce while it is told to.
type failing struct {
	code atomic.Int32 // 0: not; -1: the connection breaks
}

func (f *failing) in(c *cluster) {
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		switch code := f.code.Load(); code {
		case 0:
			return nil, nil, false
		case -1:
			return nil, errors.New("breaks"), true
		default:
			r := req.(*kmsg.ProduceRequest)
			res := r.ResponseKind().(*kmsg.ProduceResponse)
			for _, t := range r.Topics {
				topic := kmsg.NewProduceResponseTopic()
				topic.Topic = t.Topic
				for _, p := range t.Partitions {
					part := kmsg.NewProduceResponseTopicPartition()
					part.Partition, part.ErrorCode = p.Partition, int16(code)
					topic.Partitions = append(topic.Partitions, part)
				}
				res.Topics = append(res.Topics, topic)
			}
			return res, nil, true
		}
	})
}

// hasty is a sink that gives up soon where the brokers fail, and has all the time
// of a busy machine where they do not.
type hasty struct {
	sink
	clusters *sync.Map // what fails, by servers
}

func (h *hasty) Deliver(ctx context.Context, tx core.TakeTx) {
	f, _ := h.clusters.Load(strings.Join(h.servers, ", "))
	h.turn <- struct{}{} // the one before has ended
	if h.timeout = suite.Deadline; f.(*failing).code.Load() != 0 {
		h.timeout = 300 * time.Millisecond
	}
	<-h.turn
	h.sink.Deliver(ctx, tx)
}

func TestSinkSuite(t *testing.T) {
	for _, c := range []struct {
		name string
		code int32
		keys map[string]string
	}{
		{"breaks", -1, nil},
		{"no leader", int32(kafkago.NotLeaderForPartition), map[string]string{"kafka.producer.compression.type": "zstd"}},
		{"too few replicas", int32(kafkago.NotEnoughReplicas), map[string]string{"kafka.producer.acks": "1"}},
		{"not allowed", int32(kafkago.TopicAuthorizationFailed), map[string]string{"kafka.producer.compression.type": "lz4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clusters := new(sync.Map)
			sinktest.Run(t, sinktest.Subject{New: func() core.Sink { return &hasty{clusters: clusters} }, Backend: func(t testing.TB) sinktest.Backend {
				f := new(failing)
				cl := newCluster(t, kfake.SeedTopics(1, "t"))
				f.in(cl)
				clusters.Store(cl.servers(), f)
				keys := map[string]string{
					"kafka.bootstrap.servers": cl.servers(), "kafka.topic": "t", "kafka.producer.retry.backoff.ms": "10",
				}
				maps.Copy(keys, c.keys)
				return sinktest.Backend{
					Keys: keys, Seen: func() []string { return bodies(cl.records("t")) },
					Break: func() { f.code.Store(c.code) }, Heal: func() { f.code.Store(0) },
				}
			}})
		})
	}
}

// Every codec, with headers, keys and times, as another client reads them.
//
// flume: TestKafkaSink testTimestampAndHeaders
func TestSinkRecords(t *testing.T) {
	for _, codec := range codecNames {
		t.Run(codec, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "a", "b-x"))
			in := c.openSink(map[string]string{
				"kafka.topic": "%{app}", "kafka.producer.compression.type": codec, "timestampHeader": "when",
				"header.correlator": "FLUME_CORRELATOR", "header.method": "FLUME_METHOD",
			})
			x := deliver(t, in, event("one", "app", "a", "when", "1700000000000", "correlator", "12345", "other", "x"),
				event("", "app", "a", "key", "k", "when", "1700000000001", "method", ""),
				event(strings.Repeat("long ", 1000), "app", "other", "topic", "b-x", "key", ""))
			if len(x.acked) != 3 || x.rolled != nil {
				t.Fatalf("%+v", x)
			}
			in.Close()
			a, b := c.records("a"), c.records("b-x")
			if len(a) != 2 || len(b) != 1 {
				t.Fatalf("%d and %d records", len(a), len(b))
			}
			if r := a[0]; string(r.Value) != "one" || r.Key != nil || r.Timestamp.UnixMilli() != 1700000000000 ||
				len(r.Headers) != 1 || r.Headers[0].Key != "FLUME_CORRELATOR" || string(r.Headers[0].Value) != "12345" {
				t.Errorf("%+v", r)
			}
			if r := a[1]; r.Value == nil || len(r.Value) != 0 || string(r.Key) != "k" || r.Timestamp.UnixMilli() != 1700000000001 ||
				len(r.Headers) != 1 || r.Headers[0].Key != "FLUME_METHOD" || len(r.Headers[0].Value) != 0 {
				t.Errorf("%+v", r)
			}
			if r := b[0]; string(r.Value) != strings.Repeat("long ", 1000) || r.Key == nil || len(r.Key) != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Conformance T10 to T13, and the Java client's partitioner.
//
// flume: TestKafkaSink testPartitionHeaderSet testPartitionHeaderNotSet testStaticPartitionAndHeaderSet testStaticPartitionHeaderNotSet testPartitionHeaderMissing
func TestSinkPartitions(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(5, "header", "static", "both", "key", "none", "missing"))
	count := func(topic string) (n [5]int) {
		for _, r := range c.records(topic) {
			n[r.Partition]++
		}
		return n
	}
	var events, keyed, plain []core.Event
	for i := range 50 {
		events = append(events, event("x", "p", fmt.Sprint(2+i%3)))
		keyed = append(keyed, event("x", "key", fmt.Sprint("k", i)))
		plain = append(plain, event(strings.Repeat("x", 1000)))
	}
	for _, run := range []struct {
		topic  string
		keys   map[string]string
		events []core.Event
		want   func([5]int) bool
	}{
		{"header", map[string]string{"partitionIdHeader": "p"}, events, func(n [5]int) bool { return n == [5]int{0, 0, 17, 17, 16} }},
		{"static", map[string]string{"defaultPartitionId": "3"}, events, func(n [5]int) bool { return n == [5]int{0, 0, 0, 50, 0} }},
		{"both", map[string]string{"defaultPartitionId": "0", "partitionIdHeader": "p"}, append(plain[:10:10], events...), func(n [5]int) bool { return n == [5]int{10, 0, 17, 17, 16} }},
		{"none", map[string]string{"kafka.producer.batch.size": "4000"}, plain, func(n [5]int) bool { return n[0]+n[1]+n[2]+n[3]+n[4] == 50 && slices.Max(n[:]) < 50 }},
		{"missing", map[string]string{"partitionIdHeader": "p"}, plain, func(n [5]int) bool { return n[0]+n[1]+n[2]+n[3]+n[4] == 50 }},
		{"key", nil, keyed, func([5]int) bool { return true }},
	} {
		run.keys = maps.Clone(run.keys)
		if run.keys == nil {
			run.keys = map[string]string{}
		}
		run.keys["kafka.topic"] = run.topic
		in := c.openSink(run.keys)
		if x := deliver(t, in, run.events...); len(x.acked) != len(run.events) {
			t.Fatalf("%s: %d acked, %v, %v", run.topic, len(x.acked), x.refused, x.rolled)
		}
		in.Close()
		if n := count(run.topic); !run.want(n) {
			t.Errorf("%s: %v", run.topic, n)
		}
	}
	for _, r := range c.records("key") {
		if want := partitionOf(r.Key, 5); r.Partition != want {
			t.Errorf("key %s is in partition %d, Java's client puts it in %d", r.Key, r.Partition, want)
		}
	}
}

// What can never be written is refused, alone; the rest is written.
func TestSinkRefuses(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "t"))
	for _, keys := range []map[string]string{{"kafka.producer.max.request.size": "100000"}, {}} {
		keys["kafka.topic"], keys["partitionIdHeader"] = "t", "p"
		in := c.openSink(keys)
		before := len(c.records("t"))
		huge := strings.Repeat("x", 1<<20)
		x := deliver(t, in, event("good 1"), event(huge), event("no number", "p", "not-a-number"), event("no partition", "p", "9"),
			event("no topic", "topic", "a b"), event("empty topic", "topic", ""), event("good 2"))
		for i, want := range map[int]string{
			1: "large", 2: "non integer partition id", 3: "has 2 partitions", 4: "not the name of a topic", 5: "not the name of a topic",
		} {
			if why := x.refused[i]; why == nil || !strings.Contains(strings.ToLower(why.Error()), want) {
				t.Errorf("event %d: %v, want %s", i, why, want)
			}
		}
		if !x.acked[0] || !x.acked[6] || x.rolled != nil {
			t.Errorf("acked %v, rolled back %v", x.acked, x.rolled)
		}
		in.Close()
		if n := len(c.records("t")) - before; n != 2 {
			t.Errorf("%d records written", n)
		}
	}
}

// A batch that the broker finds too large is halved until its records fit.
func TestSinkHalves(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	var most atomic.Int64
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		size := int64(len(r.Topics[0].Partitions[0].Records))
		if size < 2000 {
			most.Store(max(most.Load(), size))
			return nil, nil, false
		}
		res := r.ResponseKind().(*kmsg.ProduceResponse)
		topic, part := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
		topic.Topic, part.ErrorCode = "t", int16(kafkago.MessageSizeTooLarge)
		topic.Partitions = append(topic.Partitions, part)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	in := c.openSink(map[string]string{"kafka.topic": "t"})
	var events []core.Event
	var want []string
	for i := range 100 {
		body := fmt.Sprintf("%d %s", i, strings.Repeat("x", 100))
		events, want = append(events, event(body)), append(want, body)
	}
	if x := deliver(t, in, events...); len(x.acked) != 100 {
		t.Fatalf("%d acked, %d refused, %v", len(x.acked), len(x.refused), x.rolled)
	}
	in.Close()
	if got := bodies(c.records("t")); !slices.Equal(got, want) {
		t.Errorf("%d records, or in another order", len(got))
	}
	if most.Load() == 0 {
		t.Error("no batch was ever small enough")
	}
}

// An answer that gets lost makes no second copy, and no hole: the batch is sent
// again as it was, and the broker knows it. Without numbers, it is there twice.
func TestSinkIsIdempotent(t *testing.T) {
	for acks, want := range map[string]int{"all": 120, "1": 140} {
		c := newCluster(t, kfake.SeedTopics(2, "t"))
		in := c.openSink(map[string]string{"kafka.topic": "t", "partitionIdHeader": "p", "kafka.producer.acks": acks, "kafka.producer.retry.backoff.ms": "5"})
		for i := range 6 {
			var events []core.Event
			for j := range 20 {
				events = append(events, event(fmt.Sprint(i, "-", j), "p", fmt.Sprint(j%2)))
			}
			if i == 3 { // the brokers write the batches, and say that they did not come round to it
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 2, Topic: "t"})
			}
			if x := deliver(t, in, events...); len(x.acked) != 20 {
				t.Fatalf("%d acked, %v", len(x.acked), x.rolled)
			}
		}
		in.Close()
		got := bodies(c.records("t"))
		if len(got) < want-10 || acks == "all" && len(got) != want || acks == "1" && len(got) == 120 {
			t.Errorf("acks = %s: %d records, want %d", acks, len(got), want)
		}
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != 120 {
			t.Errorf("%d different records", n)
		}
	}
}

// Part of a transaction is written and part is not: the written part is acked, the rest comes back.
func TestSinkAcksWhatIsWritten(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "t"))
	in := c.openSink(map[string]string{
		"kafka.topic": "t", "partitionIdHeader": "p",
		"kafka.producer.delivery.timeout.ms": "1000", "kafka.producer.retry.backoff.ms": "5",
	})
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1, Topic: "t", Partitions: []int32{1}})
	x := deliver(t, in, event("a", "p", "0"), event("b", "p", "1"), event("c", "p", "0"))
	if !x.acked[0] || x.acked[1] || !x.acked[2] || !errors.Is(x.rolled, kafkago.NotEnoughReplicas) {
		t.Errorf("acked %v, %v", x.acked, x.rolled)
	}
	fault.Remove()
	if x = deliver(t, in, event("b", "p", "1")); !x.acked[0] {
		t.Errorf("%v", x.rolled)
	}
	in.Close()
	if got := bodies(c.records("t")); !slices.Equal(got, []string{"a", "c", "b"}) {
		t.Errorf("%q", got)
	}
}

// Leaders move while transactions are on their way; the order of every partition stays.
func TestSinkKeepsOrderWhileLeadersMove(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "t"))
	in := c.openSink(map[string]string{"kafka.topic": "t", "partitionIdHeader": "p", "kafka.producer.retry.backoff.ms": "5"})
	var want [4][]string
	for i := range 60 {
		var events []core.Event
		for j := range 40 {
			body := fmt.Sprintf("%d-%d", i, j)
			events = append(events, event(body, "p", fmt.Sprint(j%4)))
			want[j%4] = append(want[j%4], body)
		}
		if i%7 == 3 {
			c.ShufflePartitionLeaders()
		}
		if x := deliver(t, in, events...); len(x.acked) != 40 {
			t.Fatalf("transaction %d: %d acked, %v", i, len(x.acked), x.rolled)
		}
	}
	in.Close()
	var got [4][]string
	for _, r := range c.records("t") {
		got[r.Partition] = append(got[r.Partition], string(r.Value))
	}
	for p := range want {
		if !slices.Equal(got[p], want[p]) {
			t.Errorf("partition %d: %d records, want %d, or in another order", p, len(got[p]), len(want[p]))
		}
	}
}

// No broker at all: Open succeeds, the transaction comes back, Close ends one under way.
func TestSinkWithoutBroker(t *testing.T) {
	c := newCluster(t)
	keys := map[string]string{"kafka.producer.delivery.timeout.ms": "50"}
	in := c.openSink(keys)
	c.Close()
	x := deliver(t, in, event("x"))
	if x.rolled == nil || !strings.Contains(x.rolled.Error(), "connect to") {
		t.Errorf("%v", x.rolled)
	}
	in.Close()
	keys["kafka.producer.delivery.timeout.ms"] = "600000"
	in = c.openSink(keys)
	ended := make(chan *tx)
	go func() { ended <- deliver(t, in, event("x")) }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := in.Sink.Close(ctx); err != nil {
		t.Error(err)
	}
	if x := <-ended; x.rolled == nil {
		t.Error("not rolled back")
	}
}

func TestSinkKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"kafka.bootstrap.servers": "", "brokerList": "b:9092"}, "old name"},
		{map[string]string{"kafka.bootstrap.servers": ""}, "kafka.bootstrap.servers: is required"},
		{map[string]string{"kafka.bootstrap.servers": "b"}, "not host:port"},
		{map[string]string{"kafka.flumeBatchSize": "10"}, "write flumeBatchSize"},
		{map[string]string{"kafka.flumeBatchSize": "99999999999"}, "the default 100 is used"},
		{map[string]string{"kafka.topic": "a b"}, "not the name of a topic"},
		{map[string]string{"kafka.topic": "%{x"}, "does not end"},
		{map[string]string{"kafka.topic": "%{x}", "allowTopicOverride": "false"}, "not the name of a topic"},
		{map[string]string{"defaultPartitionId": "-1"}, "not the number of a partition"},
		{map[string]string{"kafka.producer.acks": "0"}, "1 is taken"},
		{map[string]string{"kafka.producer.acks": "1", "kafka.producer.enable.idempotence": "true"}, "needs acks = all"},
		{map[string]string{"kafka.producer.acks": "2"}, "one of"},
		{map[string]string{"kafka.producer.transactional.id": "x"}, ""},
		{map[string]string{"kafka.producer.transactional.id": "x", "kafka.producer.acks": "1"}, "transactional.id: needs acks = all"},
		{map[string]string{"kafka.producer.transactional.id": "x", "kafka.producer.enable.idempotence": "false"}, "leave that out"},
		{map[string]string{"kafka.producer.transaction.timeout.ms": "5000"}, "without transactional.id"},
		{map[string]string{"kafka.producer.interceptor.classes": "x"}, "Java code"},
		{map[string]string{"kafka.producer.sasl.kerberos.kinit.cmd": "x"}, ""},
		{map[string]string{"kafka.producer.sasl.mechanism": "AWS_MSK_IAM"}, "one of"},
		{map[string]string{"kafka.producer.sasl.login.callback.handler.class": "com.example.Mine"}, "one of"},
		{map[string]string{"kafka.producer.sasl.oauthbearer.assertion.file": "x"}, "not made here"},
		{map[string]string{"kafka.producer.fake.property": "x"}, "not a property"},
		{map[string]string{"kafka.producer.partitioner.class": "com.example.Mine"}, "one of"},
		{map[string]string{"kafka.producer.compression.type": "brotli"}, "one of"},
		{map[string]string{"kafka.producer.sasl.jaas.config": "x"}, "has no effect"},
		{map[string]string{"kafka.producer.security.protocol": "SASL_SSL"}, "is required with security.protocol = SASL_SSL and sasl.mechanism = GSSAPI: com.sun.security.auth.module.Krb5LoginModule"},
		{map[string]string{"kafka.producer.security.protocol": "SASL_SSL", "kafka.producer.sasl.mechanism": "PLAIN"}, "is required"},
		{map[string]string{"kafka.producer.security.protocol": "SASL_SSL", "kafka.producer.sasl.mechanism": "PLAIN", "kafka.producer.sasl.jaas.config": "swordfish"}, "not a login module"},
		{map[string]string{"kafka.producer.ssl.truststore.location": "x"}, "no effect"},
		{map[string]string{"kafka.producer.ssl.keystore.key": "x"}, "into a file"},
	} {
		keys := map[string]string{"kafka.bootstrap.servers": "127.0.0.1:9092"}
		maps.Copy(keys, c.keys)
		_, faults := conf.Bind(Sink.New(), keys)
		text := fmt.Sprint(faults)
		if c.want == "" && len(faults) > 0 || !strings.Contains(text, c.want) {
			t.Errorf("%v:\n got %s\nwant %s", c.keys, text, c.want)
		}
		if strings.Contains(text, "swordfish") {
			t.Errorf("%v shows a secret: %s", c.keys, text)
		}
	}
}

// Conformance K11 to K13: which of two names goes before.
//
// flume: TestKafkaSink testOldProperties
func TestSinkOldNames(t *testing.T) {
	bind := func(keys map[string]string) *sink {
		t.Helper()
		s := new(sink)
		if _, faults := conf.Bind(s, keys); faults.HasErrors() {
			t.Fatal(faults)
		}
		return s
	}
	s := bind(map[string]string{"kafka.bootstrap.servers": "real:9092", "brokerList": "bad:9092", "kafka.topic": "", "kafka.producer.value.serializer": "override"})
	if !slices.Equal(s.servers, []string{"real:9092"}) || s.topic != "default-flume-topic" || s.batch != 100 || s.acks != "all" || !s.idempotent {
		t.Errorf("%+v", s)
	}
	s = bind(map[string]string{"topic": "test-topic", "batchSize": "300", "brokerList": "a:1, b:2", "requiredAcks": "-1"})
	if !slices.Equal(s.servers, []string{"a:1", "b:2"}) || s.topic != "test-topic" || s.batch != 300 || s.acks != "all" {
		t.Errorf("%+v", s)
	}
	if s = bind(map[string]string{"brokerList": "a:1", "requiredAcks": "1"}); s.acks != "1" || s.idempotent {
		t.Errorf("%+v", s)
	}
}
