package kafka

import (
	"context"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// lane is what is on its way to one broker: one request at a time, with at most
// one record batch of a partition.
type lane struct {
	id    int32
	p     *producing
	codec *codec
	enc   encoder
	rec   record
	datum []byte
	req   produceRequest

	// Of the round.
	t         *transaction
	queues    []*queue
	sequences map[topicPartition]int32
	acked     []int32
	refused   map[int32]error
	err       error
	fatal     bool
	reset     bool
}

func (l *lane) begin(t *transaction, queues []*queue) {
	l.t, l.queues = t, queues
	l.acked, l.refused, l.err, l.fatal, l.reset = l.acked[:0], make(map[int32]error), nil, false, false
	l.sequences = make(map[topicPartition]int32, len(queues))
	for _, q := range queues {
		l.sequences[q.topicPartition] = t.p.sequences[q.topicPartition]
	}
}

// end lets go of the transaction's memory.
func (l *lane) end() {
	l.t, l.queues, l.rec = nil, nil, record{headers: l.rec.headers[:0]}
	if int64(cap(l.req.buf)) > 2*l.p.s.maxRequest {
		l.req.buf = nil
	}
}

// run sends until the queues are empty. A queue that fails is out of the round;
// a request without an answer, or something fatal, ends it.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil && !l.fatal && !l.reset {
		sent := l.request()
		if len(sent) == 0 {
			return
		}
		res, err := l.p.c.node(ctx, l.id, &l.req, 0)
		if err != nil {
			for _, q := range sent {
				q.unsure = true
			}
			l.err = err
			return
		}
		l.settle(sent, res.(*produceAnswer))
	}
}

// request makes the next request and returns the queues whose first chunk is in it.
func (l *lane) request() (sent []*queue) {
	l.req.parts = l.req.parts[:0]
	total := 0
	for _, q := range l.queues {
		if len(q.chunks) == 0 {
			continue
		}
		c := q.chunks[0]
		if c.batch == nil {
			c.batch = l.encode(c, l.sequences[q.topicPartition])
		}
		if total > 0 && int64(total+len(c.batch)) > l.p.s.maxRequest {
			break
		}
		total += len(c.batch)
		l.req.parts = append(l.req.parts, producePart{q.topicPartition, c.batch})
		sent = append(sent, q)
	}
	l.req.clientID, l.req.txn, l.req.acks, l.req.timeout = l.p.c.id, l.p.s.txnID, l.p.acks, int32(min(l.p.s.request, time.Hour)/time.Millisecond)
	return sent
}

// encode makes the record batch of a chunk.
func (l *lane) encode(c *chunk, sequence int32) []byte {
	l.enc.begin()
	for _, i := range c.events {
		l.datum = l.p.s.record(&l.t.events[i], l.t.now, &l.rec, l.datum)
		l.enc.add(&l.rec)
	}
	if !l.p.s.idempotent {
		sequence = -1
	}
	return l.enc.finish(nil, l.codec, l.p.producer, sequence)
}

// settle takes the answer. A queue that is to be tried again is out of the round.
func (l *lane) settle(sent []*queue, a *produceAnswer) {
	answers := make(map[topicPartition]*produced, len(a.parts))
	for i := range a.parts {
		answers[a.parts[i].topicPartition] = &a.parts[i]
	}
	for _, q := range sent {
		p := answers[q.topicPartition]
		if p == nil {
			q.unsure = true
			l.fail(q, fmt.Errorf("partition %s: the answer does not speak of it", q.topicPartition))
			continue
		}
		l.one(q, p)
	}
}

// fail takes q out of the round.
func (l *lane) fail(q *queue, err error) {
	if l.err == nil {
		l.err = err
	}
	for i := range l.queues {
		if l.queues[i] == q {
			l.queues = append(l.queues[:i:i], l.queues[i+1:]...)
			return
		}
	}
}

// Codes of Produce that kafka-go has no name for.
const (
	unknownProducerID = kafkago.Error(59)
	invalidRecord     = kafkago.Error(87)
)

// one takes the answer for the first chunk of q.
func (l *lane) one(q *queue, p *produced) {
	c := q.chunks[0]
	code := kafkago.Error(p.code)
	err := fmt.Errorf("partition %s: %w", q.topicPartition, code)
	if p.message != "" {
		err = fmt.Errorf("%w: %s", err, p.message)
	}
	switch {
	case p.code == 0, code == kafkago.DuplicateSequenceNumber:
		l.acked = append(l.acked, c.events...)
		l.sequences[q.topicPartition] = (l.sequences[q.topicPartition] + int32(len(c.events))) & 0x7fffffff
		l.drop(q)
	case code == kafkago.MessageSizeTooLarge, code == kafkago.RecordListTooLarge, code == invalidRecord,
		code == kafkago.InvalidTimestamp, code == kafkago.UnsupportedForMessageFormat:
		// One of the records is at fault, or there are too many: halve until it is alone.
		if n := len(c.events); n > 1 {
			first, second := &chunk{events: c.events[:n/2]}, &chunk{events: c.events[n/2:]}
			q.chunks = append([]*chunk{first, second}, q.chunks[1:]...)
			q.unsure = false
			l.renumber(q)
			return
		}
		l.refused[c.events[0]] = err
		l.drop(q)
	case code == kafkago.InvalidTopic:
		for _, i := range c.events {
			l.refused[i] = err
		}
		l.drop(q)
	case code == kafkago.OutOfOrderSequenceNumber, code == unknownProducerID, fenced(code):
		l.reset = true
		l.fail(q, err)
	case code.Temporary():
		q.unsure = q.unsure || code == kafkago.RequestTimedOut || code == kafkago.NotEnoughReplicasAfterAppend
		l.fail(q, err)
	default: // such as a missing right: whoever runs the agent can help, and the events wait
		l.fatal = true
		l.fail(q, err)
	}
}

// drop takes the first chunk off q.
func (l *lane) drop(q *queue) {
	q.chunks[0] = nil
	q.chunks, q.unsure = q.chunks[1:], false
	l.renumber(q)
}

// renumber makes the batches of q anew when they are sent: none but the first
// has ever been sent, and its number has changed.
func (l *lane) renumber(q *queue) {
	for _, c := range q.chunks {
		c.batch = nil
	}
}
