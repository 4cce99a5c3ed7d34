package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "kafka", Doc: "Writes events to topics of Apache Kafka, in order within a partition.",
	Aliases: []string{"org.apache.flume.sink.kafka.KafkaSink"},
	New:     func() core.Sink { return new(sink) },
}

type sink struct {
	connection
	topic         string
	batch         int
	flumeFormat   bool
	override      bool
	topicHeader   string
	partHeader    string
	partition     int
	timeHeader    string
	headers       map[string]string
	acks          string
	idempotent    bool
	compression   string
	levels        [len(levelled)]int
	maxRequest    int64
	sticky        int64
	timeout       time.Duration
	maxBlock      time.Duration
	partitioner   string
	ignoreKeys    bool
	fixed         bool // defaultPartitionId is set
	idempotentSet bool

	env       core.Env
	template  *template
	mapped    []recordHeader // event header, record header
	p         *producing
	turn      chan struct{} // held while a transaction is delivered
	closing   context.Context
	cut       context.CancelFunc
	noKeyFrom map[string]*spread // by topic
	badTime   sample.Log
	again     *metric.Extra
	timer     *metric.Extra
}

// levelled are the codecs whose level is a key of its own.
var levelled = [...]string{"gzip", "zstd"}

// Partitioners of Java's that are known.
const (
	defaultPartitioner    = "org.apache.kafka.clients.producer.internals.DefaultPartitioner"
	stickyPartitioner     = "org.apache.kafka.clients.producer.UniformStickyPartitioner"
	roundRobinPartitioner = "org.apache.kafka.clients.producer.RoundRobinPartitioner"
)

const producerPrefix = "kafka.producer."

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	s.connection.keys(k, producerPrefix, "brokerList")
	k.String(&s.topic, "kafka.topic", "default-flume-topic",
		"Topic of events that name none; may have escapes: %{header}, and of the time in the header timestamp %Y, %m, %d and so on.").Alias("topic")
	k.Batch(&s.batch, "flumeBatchSize", 100, "Events taken in one transaction. They are sent at once, and must be acknowledged before the next ones are.").
		Alias("batchSize").Unread("kafka.flumeBatchSize")
	k.Bool(&s.flumeFormat, "useFlumeEventFormat", false, "A value is an Avro datum of headers and body, as Flume's Kafka source and channel read it, instead of the body alone.")
	k.Bool(&s.override, "allowTopicOverride", true, "An event may name its topic, in the header topicHeader.")
	k.String(&s.topicHeader, "topicHeader", "topic", "Header that names an event's topic.")
	k.String(&s.partHeader, "partitionIdHeader", "", "Header that has the number of an event's partition.")
	k.Func("defaultPartitionId", "int", "", "Partition of events without that header; absent, the key decides.", func(text string) error {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return errors.New("is not the number of a partition")
		}
		s.partition, s.fixed = int(n), true
		return nil
	})
	k.String(&s.timeHeader, "timestampHeader", "", "Header with the time of the record, in ms; absent, it is the time of sending.")
	k.Map(&s.headers, "header.", "Name of a record header that gets the value of the event header <name>.")
	for _, old := range []string{"serializer.class", "key.serializer.class"} {
		k.Inert(old, "has no effect, as in Flume: a key is text and a value the event's bytes")
	}
	s.producerKeys(k)
	k.Check(s.check)
}

func (s *sink) producerKeys(k *conf.Keys) {
	p := func(name string) string { return producerPrefix + name }
	k.String(&s.acks, p("acks"), "all",
		"all: a record is written when all replicas in sync have it; 1: when its leader has, which may lose it. Flume's default is 1. 0, never to know, is taken as 1.").
		Alias("requiredAcks").Must(conf.OneOf("all", "-1", "1", "0"))
	k.Bool(&s.idempotent, p("enable.idempotence"), true, "Number the records, so that one which is sent again is written once. Needs acks = all.")
	k.String(&s.compression, p("compression.type"), "none", "Compression of record batches.").Must(conf.OneOf(codecNames...))
	for i, name := range levelled {
		k.Int(&s.levels[i], p("compression."+name+".level"), 0, "Level of "+name+"; 0: its default.").Must(conf.Range(0, 22))
	}
	k.Bytes(&s.maxRequest, p("max.request.size"), 1<<20, "Largest request, and largest record, before compression.").Must(conf.Range(1<<10, 1<<30))
	k.Bytes(&s.sticky, p("batch.size"), 16<<10, "Events without key and partition go to one partition until there are so many bytes for it, then to another.").Must(conf.Min(0))
	k.Millis(&s.timeout, p("delivery.timeout.ms"), 2*time.Minute, "How long a transaction is tried before it goes back to the channel.").Must(conf.Min(1))
	k.Millis(&s.maxBlock, p("max.block.ms"), time.Minute, "How long to wait for the partitions of a topic; once for all events of a transaction.").Must(conf.Min(1))
	k.String(&s.partitioner, p("partitioner.class"), defaultPartitioner, "Java's default partitioner, or its RoundRobinPartitioner; others are code.").
		Must(conf.OneOf(defaultPartitioner, stickyPartitioner, roundRobinPartitioner))
	k.Bool(&s.ignoreKeys, p("partitioner.ignore.keys"), false, "Spread events with a key as those without.")
	for _, i := range []struct{ name, why string }{
		{"retries", "has no effect: delivery.timeout.ms bounds how long a transaction is tried, and it is tried again after that"},
		{"linger.ms", "has no effect: a transaction is sent at once, and its size is flumeBatchSize"},
		{"buffer.memory", "has no effect: a transaction is in memory, and no more"},
		{"max.in.flight.requests.per.connection", "has no effect: one, which is what keeps the order"},
		{"compression.lz4.level", "has no effect: lz4 has one level here"},
		{"metadata.max.idle.ms", "has no effect: topics are looked up when they are written to"},
		{"partitioner.adaptive.partitioning.enable", "has no effect: partitions without a leader are passed over, others are equal"},
		{"partitioner.availability.timeout.ms", "has no effect: partitions without a leader are passed over, others are equal"},
		{"transaction.timeout.ms", "has no effect: transactions are not used here"},
	} {
		k.Inert(p(i.name), i.why)
	}
}

func (s *sink) check(r *conf.Report) {
	s.idempotentSet = r.IsSet(producerPrefix + "enable.idempotence")
	switch s.acks {
	case "-1":
		s.acks = "all"
	case "0":
		r.Warn(producerPrefix+"acks", "0 would lose events unseen: 1 is taken")
		s.acks = "1"
	}
	if s.acks != "all" {
		if s.idempotent && s.idempotentSet {
			r.Error(producerPrefix+"enable.idempotence", "needs acks = all")
		}
		s.idempotent = false
	}
	var err error
	if s.template, err = parseTemplate(s.topic); err != nil {
		r.Error("kafka.topic", "%q %v", s.topic, err)
		return
	}
	if !s.override {
		s.template = &template{text: s.topic} // literally, as in Flume
	}
	if s.template.parts == nil {
		if err := topicName(s.template.text); err != nil {
			r.Error("kafka.topic", "%v", err)
		}
	}
	for from, to := range s.headers {
		s.mapped = append(s.mapped, recordHeader{from, to})
	}
	slices.SortFunc(s.mapped, func(a, b recordHeader) int { return strings.Compare(a.key, b.key) })
}

// Open implements core.Component. The brokers need not be there yet.
func (s *sink) Open(_ context.Context, env core.Env) error {
	c, err := s.connection.client(env)
	if err != nil {
		return err
	}
	s.env = env
	s.again = env.Metrics.Counter("batches_resent_total", "Record batches that were sent again, after an error or without an answer.")
	s.timer = env.Metrics.Counter("send_milliseconds_total", "Time from the first send of a transaction to its end.")
	s.timer.Flume = "KafkaEventSendTimer"
	s.p = newProducing(s, c)
	if _, err = s.newCodec(); err != nil {
		return fmt.Errorf("compression %s: %w", s.compression, err)
	}
	s.noKeyFrom = make(map[string]*spread)
	s.turn = make(chan struct{}, 1)
	s.closing, s.cut = context.WithCancel(context.Background())
	return nil
}

func (s *sink) newCodec() (*codec, error) {
	level := 0
	if i := slices.Index(levelled[:], s.compression); i >= 0 {
		level = s.levels[i]
	}
	return newCodec(slices.Index(codecNames, s.compression), level)
}

// Deliver implements core.Sink. It returns when tx has ended: that is what keeps
// the order of a partition from one transaction to the next.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(s.closing, end)()
	began := s.env.Now()
	s.p.deliver(ctx, tx)
	s.timer.Add(s.env.Now().Sub(began).Milliseconds())
}

// Flush implements core.Sink: nothing is held.
func (s *sink) Flush(context.Context) error { return nil }

// Close implements core.Sink.
func (s *sink) Close(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.cut() // what is in flight is rolled back
		s.turn <- struct{}{}
	}
	s.cut()
	s.p.c.close()
	<-s.turn
	return nil
}

// route says where an event goes. An error refuses it.
func (s *sink) route(h core.Headers) (topic string, err error) {
	if name, has := h.Get(s.topicHeader); has && s.override {
		topic = name
	} else if topic, err = s.template.of(h); err != nil {
		return "", err
	}
	return topic, topicName(topic)
}

// place chooses the partition of an event. An error refuses it.
func (s *sink) place(name string, t *known, e *core.Event) (int32, error) {
	n := len(t.leaders)
	if s.partHeader != "" {
		if text, has := e.Headers.Get(s.partHeader); has {
			p, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("non integer partition id specified: header %s is %q", s.partHeader, text)
			}
			return inRange(name, p, n)
		}
	}
	if s.fixed {
		return inRange(name, int64(s.partition), n)
	}
	if key, has := e.Headers.Get("key"); has && !s.ignoreKeys && s.partitioner == defaultPartitioner {
		return partitionOf([]byte(key), n), nil
	}
	f := s.noKeyFrom[name]
	if f == nil {
		f = &spread{at: -1}
		s.noKeyFrom[name] = f
	}
	limit := s.sticky
	if s.partitioner == roundRobinPartitioner {
		limit = 0
	}
	return f.next(t.leaders, int64(len(e.Body)), limit, s.partitioner == roundRobinPartitioner), nil
}

func inRange(name string, p int64, n int) (int32, error) {
	if p < 0 || p >= int64(n) {
		return 0, fmt.Errorf("topic %s has %d partitions, and the event is for partition %d", name, n, p)
	}
	return int32(p), nil
}

// spread is where events without a key go: to one partition for a while.
type spread struct {
	at    int32
	bytes int64
}

func (f *spread) next(leaders []int32, size, limit int64, inTurn bool) int32 {
	if f.at >= 0 && int(f.at) < len(leaders) && leaders[f.at] >= 0 && f.bytes < limit {
		f.bytes += size
		return f.at
	}
	step := 1
	if !inTurn {
		step += rand.IntN(len(leaders))
	}
	for range leaders {
		f.at = (f.at + int32(step)) % int32(len(leaders))
		if step = 1; leaders[f.at] >= 0 {
			break
		}
	}
	f.bytes = size
	return f.at
}

// record makes the record of an event. value is memory for the datum.
func (s *sink) record(e *core.Event, now int64, r *record, value []byte) []byte {
	r.time, r.key, r.value, r.headers = now, nil, e.Body, r.headers[:0]
	if r.value == nil {
		r.value = []byte{}
	}
	if s.timeHeader != "" {
		if text, has := e.Headers.Get(s.timeHeader); has {
			if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
				r.time = ms
			} else {
				s.badTime.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "header is not a time in ms; the record has the time of sending",
					slog.String("header", s.timeHeader), slog.String("value", text))
			}
		}
	}
	if key, has := e.Headers.Get("key"); has {
		r.setKey(key)
	}
	for _, m := range s.mapped {
		if v, has := e.Headers.Get(m.key); has {
			r.headers = append(r.headers, recordHeader{m.value, v})
		}
	}
	if s.flumeFormat {
		value = appendDatum(value[:0], e.Headers, e.Body)
		r.value = value
	}
	return value
}

// Place implements core.Placer: the topic.
func (s *sink) Place(e core.Event, _ time.Time) (string, error) { return s.route(e.Headers) }
