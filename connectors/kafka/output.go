package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// output is how events become records: what the sink and the channel write with.
type output struct {
	connection
	topic         string
	flumeFormat   bool
	override      bool
	topicHeader   string
	partHeader    string
	partition     int
	timeHeader    string
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
	txnID         string        // transactional.id; empty: no transactions
	txnTimeout    time.Duration // of one
	keepAll       bool          // an event for a partition that is not there goes to another

	env       core.Env
	template  *template
	mapped    []recordHeader     // event header, record header
	noKeyFrom map[string]*spread // by topic
	badTime   sample.Log
	badPlace  sample.Log
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

// partitionKeys binds what says an event's partition.
func (s *output) partitionKeys(k *conf.Keys) {
	k.String(&s.partHeader, "partitionIdHeader", "", "Header that has the number of an event's partition.")
	k.Func("defaultPartitionId", "int", "", "Partition of events without that header; absent, the key decides.", func(text string) error {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return errors.New("is not the number of a partition")
		}
		s.partition, s.fixed = int(n), true
		return nil
	})
}

// keys binds the properties of Kafka's producer. Of acks it says besides what was Flume's default, and an old name.
func (s *output) keys(k *conf.Keys, flumes string, old ...string) {
	s.connection.keys(k, producerPrefix)
	p := func(name string) string { return producerPrefix + name }
	k.String(&s.acks, p("acks"), "all",
		"all: a record is written when all replicas in sync have it; 1: when its leader has, which may lose it. "+flumes+" 0, never to know, is taken as 1.").
		Alias(old...).Must(conf.OneOf("all", "-1", "1", "0"))
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
		{"max.in.flight.requests.per.connection", "has no effect: one, which is what keeps the order"},
		{"compression.lz4.level", "has no effect: lz4 has one level here"},
		{"metadata.max.idle.ms", "has no effect: topics are looked up when they are written to"},
		{"partitioner.adaptive.partitioning.enable", "has no effect: partitions without a leader are passed over, others are equal"},
		{"partitioner.availability.timeout.ms", "has no effect: partitions without a leader are passed over, others are equal"},
	} {
		k.Inert(p(i.name), i.why)
	}
	k.Check(s.checkAcks)
}

func (s *output) checkAcks(r *conf.Report) {
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
}

// open makes ready what needs no broker.
func (s *output) open(env core.Env) (*producing, error) {
	c, err := s.connection.client(env)
	if err != nil {
		return nil, err
	}
	if _, err = s.newCodec(); err != nil {
		return nil, fmt.Errorf("compression %s: %w", s.compression, err)
	}
	s.env = env
	s.again = env.Metrics.Counter("batches_resent_total", "Record batches that were sent again, after an error or without an answer.")
	s.timer = env.Metrics.Counter("send_milliseconds_total", "Time from the first send of a transaction to its end.")
	s.timer.Flume = "KafkaEventSendTimer"
	s.noKeyFrom = make(map[string]*spread)
	return newProducing(s, c), nil
}

func (s *output) newCodec() (*codec, error) {
	level := 0
	if i := slices.Index(levelled[:], s.compression); i >= 0 {
		level = s.levels[i]
	}
	return newCodec(slices.Index(codecNames, s.compression), level)
}

// route says where an event goes. An error refuses it.
func (s *output) route(h core.Headers) (topic string, err error) {
	if name, has := h.Get(s.topicHeader); has && s.override {
		topic = name
	} else if topic, err = s.template.of(h); err != nil {
		return "", err
	}
	return topic, topicName(topic)
}

// place chooses the partition of an event. An error refuses it.
func (s *output) place(name string, t *known, e *core.Event) (int32, error) {
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
	return s.byKey(name, t, e), nil
}

// anywhere is where an event goes that must not be lost, and has no place where it should go: its partition is said by its key.
func (s *output) anywhere(t *known, name string, e *core.Event, why error) int32 {
	s.badPlace.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "event goes to another partition", slog.Any("error", why))
	return s.byKey(name, t, e)
}

func (s *output) byKey(name string, t *known, e *core.Event) int32 {
	n := len(t.leaders)
	if key, has := e.Headers.Get("key"); has && !s.ignoreKeys && s.partitioner == defaultPartitioner {
		return partitionOf([]byte(key), n)
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
	return f.next(t.leaders, int64(len(e.Body)), limit, s.partitioner == roundRobinPartitioner)
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
func (s *output) record(e *core.Event, now int64, r *record, value []byte) []byte {
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
