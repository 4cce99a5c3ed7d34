package kafka

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Where events go that name their topic, and those that do not.
//
// flume: TestKafkaSink testDefaultTopic testStaticTopic testTopicAndKeyFromHeader testTopicFromConfHeader
// flume: TestKafkaSink testTopicNotFromConfHeader testReplaceSubStringOfTopicWithHeaders testEmptyChannel
func TestSinkTopics(t *testing.T) {
	for _, c := range []struct {
		name   string
		keys   map[string]string
		events []core.Event
		topic  string
	}{
		{"default", nil, []core.Event{event("x")}, "default-flume-topic"},
		{"static", map[string]string{"kafka.topic": "static-topic"}, []core.Event{event("x")}, "static-topic"},
		{"of the event", nil, []core.Event{event("x", "topic", "custom", "key", "k")}, "custom"},
		{"of another header", map[string]string{"topicHeader": "customTopicHeader"}, []core.Event{event("x", "customTopicHeader", "custom", "topic", "other", "key", "k")}, "custom"},
		{"not of the event", map[string]string{"topicHeader": "foo", "allowTopicOverride": "false"}, []core.Event{event("x", "foo", "custom", "topic", "other")}, "default-flume-topic"},
		{"of a part", map[string]string{"kafka.topic": "%{header1}-topic"}, []core.Event{event("x", "header1", "test-avro-header")}, "test-avro-header-topic"},
		{"of none", map[string]string{"kafka.topic": "static-topic"}, nil, "static-topic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			topics := []string{"default-flume-topic", "static-topic", "custom", "other", "test-avro-header-topic"}
			cl := newCluster(t, kfake.SeedTopics(1, topics...))
			in := cl.openSink(c.keys)
			x := deliver(t, in, c.events...)
			in.Close()
			if len(x.acked) != len(c.events) || x.rolled != nil {
				t.Fatalf("%d acked, %v, %v", len(x.acked), x.refused, x.rolled)
			}
			for _, topic := range topics {
				want := 0
				if topic == c.topic {
					want = len(c.events)
				}
				got := cl.records(topic)
				if len(got) != want {
					t.Errorf("%s has %d records, want %d", topic, len(got), want)
				}
				for i, r := range got {
					if key, has := c.events[i].Headers.Get("key"); string(r.Key) != key || (r.Key != nil) != has {
						t.Errorf("key %q, want %q", r.Key, key)
					}
				}
			}
		})
	}
}

// flume: TestKafkaSink testAvroEvent
func TestSinkFlumeFormat(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	in := c.openSink(map[string]string{"kafka.topic": "t", "useFlumeEventFormat": "true"})
	e := event("test-avro-event", "key", "avro-key", "topic", "t", "header1", "v")
	deliver(t, in, e)
	in.Close()
	r := c.records("t")[0]
	headers, body, err := readDatum(r.Value, nil)
	if err != nil || string(body) != "test-avro-event" || string(r.Key) != "avro-key" || !core.NewHeaders(headers...).Equal(e.Headers) {
		t.Errorf("%q %v %q %v", r.Key, headers, body, err)
	}
}

// flume: TestKafkaSink testDefaultSettingsOnReConfigure
// flume: TestBasicFunctionality testDefaultSettingsOnReConfigure
func TestPropertiesThatAreTakenAway(t *testing.T) {
	bind := func(b conf.Binder, keys ...string) {
		t.Helper()
		props := map[string]string{"kafka.bootstrap.servers": "b:1"}
		for i := 0; i < len(keys); i += 2 {
			props[keys[i]] = keys[i+1]
		}
		if _, faults := conf.Bind(b, props); faults.HasErrors() {
			t.Fatal(faults)
		}
	}
	before, after := new(sink), new(sink)
	bind(before, "kafka.producer.compression.type", "snappy")
	bind(after)
	if before.compression != "snappy" || after.compression != "none" {
		t.Errorf("%s, then %s", before.compression, after.compression)
	}
	ch, next := new(channel), new(channel)
	bind(ch, "kafka.producer.compression.type", "snappy", "kafka.consumer.fetch.min.bytes", "99")
	bind(next)
	if ch.out.compression != "snappy" || ch.in.minBytes != 99 || next.out.compression != "none" || next.in.minBytes != 1 {
		t.Errorf("%s %d, then %s %d", ch.out.compression, ch.in.minBytes, next.out.compression, next.in.minBytes)
	}
}

// The channel's keys, and the names that they had.
//
// flume: TestBasicFunctionality testOldConfig
func TestChannelKeys(t *testing.T) {
	bind := func(props map[string]string) (*channel, conf.Faults) {
		ch := new(channel)
		_, faults := conf.Bind(ch, props)
		return ch, faults
	}
	ch, faults := bind(map[string]string{"brokerList": "a:1, b:2", "groupId": "flume-something", "readSmallestOffset": "true", "topic": "t", "zookeeperConnect": "z:1"})
	if faults.HasErrors() || !slices.Equal(ch.out.servers, []string{"a:1", "b:2"}) || !slices.Equal(ch.in.servers, ch.out.servers) ||
		ch.in.group != "flume-something" || ch.in.reset != "earliest" || ch.out.topic != "t" || !slices.Equal(ch.in.topics, []string{"t"}) {
		t.Errorf("%v %+v", faults, ch)
	}
	for _, c := range []struct {
		key, value string
		want       func(*channel) bool
	}{
		{"", "", func(ch *channel) bool {
			return ch.out.topic == "flume-channel" && ch.in.group == "flume" && ch.in.reset == "earliest" && ch.out.acks == "all" && ch.out.flumeFormat && ch.in.flumeFormat
		}},
		{"readSmallestOffset", "false", func(ch *channel) bool { return ch.in.reset == "latest" }},
		{"kafka.consumer.auto.offset.reset", "latest", func(ch *channel) bool { return ch.in.reset == "latest" }},
		{"parseAsFlumeEvent", "false", func(ch *channel) bool { return !ch.out.flumeFormat && !ch.in.flumeFormat }},
	} {
		props := map[string]string{"kafka.bootstrap.servers": "b:1"}
		if c.key != "" {
			props[c.key] = c.value
		}
		if ch, faults := bind(props); faults.HasErrors() || !c.want(ch) {
			t.Errorf("%s = %s: %v %+v", c.key, c.value, faults, ch)
		}
	}
	if ch, _ := bind(map[string]string{"kafka.bootstrap.servers": "b:1", "readSmallestOffset": "false", "kafka.consumer.auto.offset.reset": "earliest"}); ch.in.reset != "earliest" {
		t.Error("the old name goes before")
	}
	for _, bad := range []map[string]string{
		{},
		{"kafka.bootstrap.servers": "b"},
		{"kafka.bootstrap.servers": "b:1", "kafka.topic": "%{x}"},
		{"kafka.bootstrap.servers": "b:1", "defaultPartitionId": "-1"},
		{"kafka.bootstrap.servers": "b:1", "kafka.producer.transactional.id": "x"},
		{"kafka.bootstrap.servers": "b:1", "kafka.consumer.group.instance.id": "x"},
	} {
		if _, faults := bind(bad); len(faults) != 1 || !faults.HasErrors() {
			t.Errorf("%v: %v", bad, faults)
		}
	}
}

// bindSink binds keys that must be right.
func bindSink(t *testing.T, s *sink, keys map[string]string) {
	t.Helper()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
}
