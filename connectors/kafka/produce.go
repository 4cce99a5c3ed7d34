package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/initproducerid"

	"github.com/millrace/millrace/core"
)

// producing writes transactions, one after the other.
type producing struct {
	s         *output
	c         *client
	acks      int16
	topics    map[string]*known
	lanes     map[int32]*lane // by broker
	producer  producer
	txn       *transactor              // nil: without transactions
	sequences map[topicPartition]int32 // the next one
	lost      bool                     // what became of a batch is not known: its sequence may be taken
}

// known is what was last heard of a topic.
type known struct {
	leaders []int32
	at      time.Time
}

// chunk is a run of events that is sent as one record batch.
type chunk struct {
	events []int32
	bytes  int64  // about
	batch  []byte // as it was sent; nil: not yet
}

// queue is what a transaction has for one partition, in order.
type queue struct {
	topicPartition
	chunks []*chunk
	unsure bool // the first chunk was sent, and may be there
}

// transaction is one on its way.
type transaction struct {
	p       *producing
	events  []core.Event
	names   []string // topic by event; empty: refused
	acked   []int32
	refused core.EventErrors
	queues  []*queue
	first   topicPartition // of queues
	err     error          // why the rest is rolled back
	fatal   bool           // and trying again now is of no use
	reset   bool           // the broker no longer knows the producer
	now     int64
}

func newProducing(s *output, c *client) *producing {
	p := &producing{s: s, c: c, acks: -1, topics: make(map[string]*known), lanes: make(map[int32]*lane)}
	if s.acks == "1" {
		p.acks = 1
	}
	p.forget()
	return p
}

// forget gives up the producer id.
func (p *producing) forget() {
	p.producer, p.sequences, p.lost = producer{id: -1, epoch: -1}, make(map[topicPartition]int32), false
}

// deliver ends tx.
func (p *producing) deliver(ctx context.Context, tx core.TakeTx) {
	if len(tx.Batch().Events) == 0 {
		tx.Ack(nil)
		return
	}
	if p.txn != nil {
		p.txn.deliver(ctx, tx)
		return
	}
	p.write(ctx, tx.Batch().Events).end(tx)
}

// write writes events. What it returns says what became of them.
func (p *producing) write(ctx context.Context, events []core.Event) *transaction {
	t := &transaction{p: p, events: events, refused: core.EventErrors{}}
	began := p.s.env.Now()
	ctx, cancel := context.WithTimeout(ctx, p.s.timeout)
	defer cancel()
	if p.lost {
		p.forget()
	}
	t.now = began.UnixMilli()
	t.route(ctx)
	t.place(ctx)
	if p.txn == nil || t.begin(ctx) {
		t.send(ctx)
	}
	for _, q := range t.queues {
		p.lost = p.lost || q.unsure
	}
	p.s.timer.Add(p.s.env.Now().Sub(began).Milliseconds())
	return t
}

func (t *transaction) refuse(i int32, why error) { t.refused[int(i)] = why }

// route finds the topic of every event, and the partitions of every topic.
func (t *transaction) route(ctx context.Context) {
	t.names = make([]string, len(t.events))
	var missing []string
	for i := range t.events {
		name, err := t.p.s.route(t.events[i].Headers)
		if err != nil {
			t.refuse(int32(i), err)
			continue
		}
		t.names[i] = name
		if k := t.p.topics[name]; (k == nil || t.p.s.env.Now().Sub(k.at) > t.p.s.metadata) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return
	}
	for name, err := range t.p.lookUp(ctx, missing) {
		if errors.Is(err, kafkago.InvalidTopic) {
			for i := range t.names {
				if t.names[i] == name {
					t.refuse(int32(i), fmt.Errorf("topic %s: %w", name, err))
					t.names[i] = ""
				}
			}
			continue
		}
		t.fail(fmt.Errorf("topic %s: %w", name, err))
	}
}

var errNotAsked = errors.New("no broker was asked")

// lookUp asks for topics until they have partitions or max.block.ms is over, and
// returns those that have none.
func (p *producing) lookUp(ctx context.Context, names []string) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, p.s.maxBlock)
	defer cancel()
	failed := make(map[string]error, len(names))
	for _, name := range names {
		failed[name] = errNotAsked
	}
	for b := (backoff{first: p.s.backoff}); ; b.pause(ctx) {
		wait := p.ask(ctx, failed)
		if !wait || ctx.Err() != nil {
			break
		}
	}
	for name := range failed {
		if p.topics[name] != nil && !errors.Is(failed[name], kafkago.InvalidTopic) {
			delete(failed, name) // what was known of it will do
		}
	}
	return failed
}

// ask asks once for the topics in failed, and takes out what it learns of. It
// reports whether it is worth asking again.
func (p *producing) ask(ctx context.Context, failed map[string]error) (again bool) {
	names := make([]string, 0, len(failed))
	for name := range failed {
		names = append(names, name)
	}
	found, err := p.c.metadata(ctx, names, true)
	for _, name := range names {
		t := found[name]
		switch {
		case err != nil:
			if ctx.Err() == nil || errors.Is(failed[name], errNotAsked) {
				failed[name] = err
			}
			again = true
		case t == nil:
			failed[name] = kafkago.UnknownTopicOrPartition
			again = true
		case t.err != nil && !errors.Is(t.err, kafkago.LeaderNotAvailable):
			failed[name] = t.err
			again = again || errors.Is(t.err, kafkago.UnknownTopicOrPartition)
		case !slices.ContainsFunc(t.leaders, func(l int32) bool { return l >= 0 }):
			failed[name] = kafkago.LeaderNotAvailable
			again = true
		default:
			p.topics[name] = &known{leaders: t.leaders, at: p.s.env.Now()}
			delete(failed, name)
		}
	}
	return again
}

// fail notes why events go back.
func (t *transaction) fail(err error) {
	if t.err == nil || errors.Is(t.err, context.DeadlineExceeded) {
		t.err = err
	}
}

// place puts every event into the queue of its partition.
func (t *transaction) place(ctx context.Context) {
	s := t.p.s
	queues := make(map[topicPartition]*queue)
	renewed := make(map[string]bool)
	for i := range t.events {
		name, e := t.names[i], &t.events[i]
		k := t.p.topics[name]
		if name == "" || k == nil {
			continue
		}
		partition, err := s.place(name, k, e)
		if err != nil && !renewed[name] && k.at.UnixMilli() < t.now { // there may be more partitions by now
			renewed[name] = true
			t.p.ask(ctx, map[string]error{name: errNotAsked})
			partition, err = s.place(name, t.p.topics[name], e)
		}
		if err != nil && s.keepAll {
			partition = s.anywhere(t.p.topics[name], name, e, err)
		} else if err != nil {
			t.refuse(int32(i), err)
			continue
		}
		size := about(s, e)
		if size+batchHead > s.maxRequest {
			t.refuse(int32(i), fmt.Errorf("record of %d bytes is larger than max.request.size, %d", size, s.maxRequest))
			continue
		}
		at := topicPartition{name, partition}
		q := queues[at]
		if q == nil {
			q = &queue{topicPartition: at}
			queues[at] = q
			t.queues = append(t.queues, q)
		}
		last := len(q.chunks) - 1
		if last < 0 || q.chunks[last].bytes+size+batchHead > s.maxRequest {
			q.chunks = append(q.chunks, new(chunk))
			last++
		}
		c := q.chunks[last]
		c.events, c.bytes = append(c.events, int32(i)), c.bytes+size
	}
	slices.SortFunc(t.queues, func(a, b *queue) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.partition - b.partition)
	})
}

// about is the most that a record of e takes, before compression.
func about(s *output, e *core.Event) int64 {
	n := 36 + len(e.Body)
	if s.flumeFormat {
		for k, v := range e.Headers.All() {
			n += 10 + len(k) + len(v)
		}
	}
	for _, m := range s.mapped {
		n += 10 + len(m.value) + len(e.Headers.Value(m.key))
	}
	return int64(n + len(e.Headers.Value("key")))
}

// send sends the queues, in rounds: all brokers at once, and what failed again
// after a pause, until ctx ends.
func (t *transaction) send(ctx context.Context) {
	b := backoff{first: t.p.s.backoff}
	for {
		t.queues = slices.DeleteFunc(t.queues, func(q *queue) bool { return len(q.chunks) == 0 })
		if len(t.queues) == 0 || t.fatal {
			return
		}
		if ctx.Err() != nil {
			t.fail(ctx.Err())
			return
		}
		if err := t.p.identify(ctx); err != nil {
			t.fail(err)
			b.pause(ctx)
			continue
		}
		if t.round(ctx) {
			b.n = 0 // something went through
		}
		if len(t.queues) == 0 || t.fatal {
			continue
		}
		if t.reset && t.p.txn != nil {
			return // the transaction is lost with the producer
		}
		if t.reset {
			t.reset = false
			t.p.forget()
			for _, q := range t.queues {
				for _, c := range q.chunks {
					c.batch = nil
				}
			}
		}
		if slices.ContainsFunc(t.queues, func(q *queue) bool { return len(q.chunks) > 0 }) {
			t.p.s.again.Add(1)
			b.pause(ctx)
			t.renew(ctx)
		}
	}
}

// renew looks the topics up that are left: a leader may have changed.
func (t *transaction) renew(ctx context.Context) {
	left := make(map[string]error)
	for _, q := range t.queues {
		if len(q.chunks) > 0 {
			left[q.topic] = errNotAsked
		}
	}
	t.p.ask(ctx, left)
}

// identify gets a producer id where one is wanted.
func (p *producing) identify(ctx context.Context) error {
	if !p.s.idempotent || p.producer.id >= 0 {
		return nil
	}
	res, err := p.c.any(ctx, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1, TransactionTimeoutMs: 60000})
	if err != nil {
		return fmt.Errorf("get a producer id: %w", err)
	}
	r := res.(*initproducerid.Response)
	switch code := kafkago.Error(r.ErrorCode); {
	case r.ErrorCode == 0:
		p.producer = producer{id: r.ProducerID, epoch: r.ProducerEpoch}
	case code == kafkago.ClusterAuthorizationFailed && !p.s.idempotentSet:
		p.s.idempotent = false
		p.s.env.Log.Warn("not allowed to write idempotently (the ACL IdempotentWrite): records that are sent again may be there twice", "error", code)
	default:
		return fmt.Errorf("get a producer id: %w", code)
	}
	return nil
}

// round lets every broker have its queues once. It reports whether any chunk
// was settled.
func (t *transaction) round(ctx context.Context) bool {
	by := make(map[int32][]*queue)
	for _, q := range t.queues {
		leader := int32(-1)
		if k := t.p.topics[q.topic]; int(q.partition) < len(k.leaders) {
			leader = k.leaders[q.partition]
		}
		if leader < 0 {
			t.fail(fmt.Errorf("partition %s: %w", q.topicPartition, kafkago.LeaderNotAvailable))
			continue
		}
		by[leader] = append(by[leader], q)
	}
	var wait sync.WaitGroup
	lanes := make([]*lane, 0, len(by))
	for id, queues := range by {
		l := t.p.lanes[id]
		if l == nil {
			l = &lane{id: id, p: t.p}
			l.codec, _ = t.p.s.newCodec() // Open has made one
			t.p.lanes[id] = l
		}
		lanes = append(lanes, l)
		l.begin(t, queues)
		wait.Go(func() { l.run(ctx) })
	}
	wait.Wait()
	settled := false
	for _, l := range lanes {
		for at, next := range l.sequences {
			t.p.sequences[at] = next
		}
		settled = settled || len(l.acked) > 0 || len(l.refused) > 0
		t.acked = append(t.acked, l.acked...)
		for i, why := range l.refused {
			t.refuse(i, why)
		}
		if l.err != nil {
			t.fail(l.err)
		}
		t.fatal, t.reset = t.fatal || l.fatal, t.reset || l.reset
		l.end()
	}
	return settled
}

// left is how many events are neither written nor refused.
func (t *transaction) left() int { return len(t.events) - len(t.acked) - len(t.refused) }

// end says what became of the events.
func (t *transaction) end(tx core.TakeTx) {
	if len(t.refused) == 0 && len(t.acked) == len(t.events) {
		tx.Ack(nil)
		return
	}
	if len(t.acked) > 0 {
		tx.Ack(t.acked)
	}
	left := t.left()
	for i, why := range t.refused {
		tx.Refuse(i, why)
	}
	if left > 0 {
		tx.Rollback(fmt.Errorf("%d of %d events not written: %w", left, len(t.events), t.err))
	}
}

// rest are the events that are left, in order.
func (t *transaction) rest() []core.Event {
	settled := make([]bool, len(t.events))
	for _, i := range t.acked {
		settled[i] = true
	}
	for i := range t.refused {
		settled[i] = true
	}
	rest := make([]core.Event, 0, t.left())
	for i := range t.events {
		if !settled[i] {
			rest = append(rest, t.events[i])
		}
	}
	return rest
}
