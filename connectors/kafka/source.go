package kafka

import (
	"context"
	"slices"

	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "kafka", Doc: "Reads topics of Apache Kafka as a member of a consumer group; offsets are committed when events are stored.",
	Aliases: []string{"org.apache.flume.source.kafka.KafkaSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	consumer
	headers map[string]string
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	serversKey(k, &s.servers)
	k.Commas(&s.topics, "kafka.topics", "Topics to read.").Alias("topic")
	javaregex.WholeKey(k, &s.pattern, "kafka.topics.regex", "", "Read all topics whose whole name matches; goes before kafka.topics. New ones are looked for every metadata.max.age.ms.")
	k.Batch(&s.batch, "batchSize", 1000, "Events put in one transaction at most.")
	k.Inert("batchDurationMillis", "has no effect: records are sent on as they arrive, and none waits for a batch to fill")
	for _, name := range []string{"backoffSleepIncrement", "maxBackoffSleep"} {
		k.Inert(name, "has no effect: the broker answers as soon as there are records")
	}
	k.Bool(&s.flumeFormat, "useFlumeEventFormat", false, "A value is an Avro datum of headers and body, as Flume's Kafka sink and channel write it. What is none is skipped and counted.")
	k.Bool(&s.setTopic, "setTopicHeader", true, "Put the topic into the header topicHeader, if the event has none.")
	k.String(&s.topicHeader, "topicHeader", "topic", "Header that gets the topic.")
	k.Map(&s.headers, "header.", "Name of a record header whose value the event header <name> gets.")
	k.Inert("migrateZookeeperOffsets", "has no effect: offsets are not looked for in ZooKeeper, where Kafka has not put them since 0.9")
	k.Inert("zookeeperConnect", "has no effect: brokers and offsets are not looked for in ZooKeeper")
	s.consumer.keys(k, "latest", "How long the group waits for its members to come together again. A full channel does not cost the membership.")
	k.Check(s.check)
}

func (s *source) check(r *conf.Report) {
	if s.pattern == nil && len(s.topics) == 0 {
		r.Error("kafka.topics", "at least one Kafka topic must be specified, or kafka.topics.regex")
	}
	if s.pattern != nil && len(s.topics) > 0 {
		r.Warn("kafka.topics", "is ignored: kafka.topics.regex goes before")
	}
	slices.Sort(s.topics)
	s.topics = slices.Compact(s.topics)
	for _, name := range s.topics {
		if err := topicName(name); err != nil {
			r.Error("kafka.topics", "%v", err)
		}
	}
	for to, from := range s.headers {
		s.mapped = append(s.mapped, recordHeader{from, to})
	}
}

// Open implements core.Component. The brokers need not be there yet.
func (s *source) Open(_ context.Context, env core.Env) error { return s.open(env) }

// Close implements core.Source.
func (s *source) Close() error {
	s.leave()
	s.c.close()
	return nil
}
