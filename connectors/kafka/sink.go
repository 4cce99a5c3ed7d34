package kafka

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "kafka", Doc: "Writes events to topics of Apache Kafka, in order within a partition.",
	Aliases: []string{"org.apache.flume.sink.kafka.KafkaSink"},
	New:     func() core.Sink { return new(sink) },
}

type sink struct {
	output
	batch   int
	headers map[string]string

	p       *producing
	turn    chan struct{} // held while a transaction is delivered
	closing context.Context
	cut     context.CancelFunc

	prepared sync.WaitGroup
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	serversKey(k, &s.servers, "brokerList")
	k.String(&s.topic, "kafka.topic", "default-flume-topic",
		"Topic of events that name none; may have escapes: %{header}, and of the time in the header timestamp %Y, %m, %d and so on.").Alias("topic")
	k.Batch(&s.batch, "flumeBatchSize", 100, "Events taken in one transaction. They are sent at once, and must be acknowledged before the next ones are.").
		Alias("batchSize").Unread("kafka.flumeBatchSize")
	k.Bool(&s.flumeFormat, "useFlumeEventFormat", false, "A value is an Avro datum of headers and body, as Flume's Kafka source and channel read it, instead of the body alone.")
	k.Bool(&s.override, "allowTopicOverride", true, "An event may name its topic, in the header topicHeader.")
	k.String(&s.topicHeader, "topicHeader", "topic", "Header that names an event's topic.")
	s.partitionKeys(k)
	k.String(&s.timeHeader, "timestampHeader", "", "Header with the time of the record, in ms; absent, it is the time of sending.")
	k.Map(&s.headers, "header.", "Name of a record header that gets the value of the event header <name>.")
	for _, old := range []string{"serializer.class", "key.serializer.class"} {
		k.Inert(old, "has no effect, as in Flume: a key is text and a value the event's bytes")
	}
	k.Inert(producerPrefix+"buffer.memory", "has no effect: a transaction is in memory, and no more")
	s.output.keys(k, "Flume's default is 1.", "requiredAcks")
	k.String(&s.txnID, producerPrefix+"transactional.id", "",
		"Each take is written as one transaction of Kafka's under this name, which no other sink may have: readers with isolation.level=read_committed see all of it or nothing, and with a Kafka channel of the same cluster, or a file channel, every event once. Needs acks = all.")
	k.Millis(&s.txnTimeout, producerPrefix+"transaction.timeout.ms", time.Minute,
		"After so long without an end the brokers abort a transaction; a take is not tried longer. At most their transaction.max.timeout.ms.").Must(conf.Min(1))
	k.Check(s.check)
}

func (s *sink) check(r *conf.Report) {
	switch {
	case s.txnID == "" && r.IsSet(producerPrefix+"transaction.timeout.ms"):
		r.Warn(producerPrefix+"transaction.timeout.ms", "has no effect without transactional.id")
	case s.txnID != "" && s.acks != "all":
		r.Error(producerPrefix+"transactional.id", "needs acks = all")
	case s.txnID != "" && !s.idempotent:
		r.Error(producerPrefix+"transactional.id", "needs enable.idempotence: leave that out")
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
func (s *sink) Open(_ context.Context, env core.Env) (err error) {
	if s.p, err = s.open(env); err != nil {
		return err
	}
	committed := env.Metrics.Counter("transactions_committed_total", "Transactions of Kafka's that were committed.")
	aborted := env.Metrics.Counter("transactions_aborted_total", "Transactions of Kafka's that were aborted, or of which it was not known at first whether they were committed.")
	s.turn = make(chan struct{}, 1)
	s.closing, s.cut = context.WithCancel(context.Background())
	if s.txnID != "" {
		x := newTransactor(s.p, committed, aborted)
		if s.p.txn = x; env.Marks != nil {
			full := s.batch
			if env.MaxEvents > 0 {
				full = min(full, env.MaxEvents)
			}
			x.progress = newProgress(x, env.Marks, full)
		}
		s.prepared.Go(func() { s.prepare(x) })
	}
	return nil
}

// prepare ends what a crashed predecessor has left, also where nothing comes to be
// delivered: readers wait for it, and so does the group of a Kafka channel.
func (s *sink) prepare(x *transactor) {
	for b := (backoff{first: s.backoff}); s.closing.Err() == nil; b.pause(s.closing) {
		s.turn <- struct{}{}
		ctx, cancel := context.WithTimeout(s.closing, leaving)
		err := x.prepare(ctx)
		cancel()
		<-s.turn
		if err == nil || !passing(err) {
			return // a delivery says it
		}
	}
}

// Deliver implements core.Sink. It returns when tx has ended: that is what keeps
// the order of a partition from one transaction to the next.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(s.closing, end)()
	s.p.deliver(ctx, tx)
}

// Flush implements core.Sink. What is held are events that may have been written
// before a crash; if no more of them come, they were not.
func (s *sink) Flush(ctx context.Context) error {
	if s.p.txn == nil || s.p.txn.progress == nil {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if p := s.p.txn.progress; len(p.held) > 0 {
		p.owed = nil
		p.release(ctx)
	}
	return nil
}

// Close implements core.Sink.
func (s *sink) Close(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.cut() // what is in flight is rolled back
		s.turn <- struct{}{}
	}
	s.cut()
	if x := s.p.txn; x != nil && x.progress != nil {
		x.progress.release(s.closing)
	}
	s.p.c.close()
	<-s.turn
	s.prepared.Wait()
	return nil
}

// Place implements core.Placer: the topic.
func (s *sink) Place(e core.Event, _ time.Time) (string, error) { return s.route(e.Headers) }
