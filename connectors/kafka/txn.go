package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/addoffsetstotxn"
	"github.com/segmentio/kafka-go/protocol/addpartitionstotxn"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/txnoffsetcommit"

	"github.com/millrace/millrace/core/metric"
)

// transactor is what the sink needs to write each take as one transaction of
// Kafka's. It is used by one goroutine at a time.
type transactor struct {
	p        *producing
	id       string
	timeout  time.Duration
	ready    bool // the producer may begin a transaction
	begun    bool // the coordinator may know of one
	addrs    map[coordinated]string
	progress *progress // nil: the channel keeps no marks
	apart    bool      // it was said that the channel's topic is in another cluster
	between  bool      // it was said that another sink takes from the channel

	committed, aborted *metric.Extra
}

// coordinated is what has a coordinator.
type coordinated struct {
	kind int8
	name string
}

func newTransactor(p *producing, committed, aborted *metric.Extra) *transactor {
	return &transactor{
		p: p, id: p.s.txnID, timeout: p.s.txnTimeout, addrs: make(map[coordinated]string),
		committed: committed, aborted: aborted,
	}
}

// fenced tells whether the coordinator takes nothing more from this producer.
func fenced(code kafkago.Error) bool {
	switch code {
	case kafkago.InvalidProducerEpoch, kafkago.ProducerFenced, kafkago.InvalidTransactionState, kafkago.InvalidProducerIDMapping:
		return true
	}
	return false
}

// passing tells whether an error may go away by itself. One that is no broker's word may.
func passing(err error) bool {
	var code kafkago.Error
	if !errors.As(err, &code) {
		return true
	}
	switch code {
	case kafkago.GroupLoadInProgress, kafkago.GroupCoordinatorNotAvailable, kafkago.NotCoordinatorForGroup, kafkago.ConcurrentTransactions,
		kafkago.UnstableOffsetCommit, kafkago.RequestTimedOut, kafkago.UnknownTopicOrPartition, kafkago.LeaderNotAvailable, kafkago.NotEnoughReplicas,
		kafkago.NetworkException, kafkago.KafkaStorageError:
		return true
	}
	return false
}

// firstWait is short: right after a transaction its coordinator is busy with ending it, for some milliseconds.
const firstWait = 5 * time.Millisecond

// ask sends req to a coordinator until verdict has nothing against the answer, or
// what will not pass. Each of the requests may be sent twice.
func (x *transactor) ask(ctx context.Context, of coordinated, req protocol.Message, verdict func(protocol.Message) error) error {
	var last error
	for b := (backoff{first: firstWait}); ; b.pause(ctx) {
		err := x.once(ctx, of, req, verdict)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil {
			return last
		}
		last = x.explain(fmt.Errorf("transaction %s: %w", x.id, err))
		if ctx.Err() != nil || !passing(err) {
			return last
		}
	}
}

func (x *transactor) once(ctx context.Context, of coordinated, req protocol.Message, verdict func(protocol.Message) error) (err error) {
	addr := x.addrs[of]
	if addr == "" {
		if addr, err = x.p.c.coordinates(ctx, of.kind, of.name); err != nil {
			return err
		}
		x.addrs[of] = addr
	}
	res, err := x.p.c.link(purpose{addr: addr}).do(ctx, req, 0)
	if err == nil {
		err = verdict(res)
	}
	if err != nil && !errors.Is(err, kafkago.ConcurrentTransactions) {
		delete(x.addrs, of)
	}
	return err
}

// explain says what a user can do about err.
func (x *transactor) explain(err error) error {
	switch {
	case errors.Is(err, kafkago.InvalidProducerEpoch), errors.Is(err, kafkago.ProducerFenced):
		return fmt.Errorf("another producer has the transactional.id %s (each sink of each agent needs its own), or transaction.timeout.ms, %v, was over: %w", x.id, x.timeout, err)
	case errors.Is(err, kafkago.InvalidTransactionTimeout):
		return fmt.Errorf("transaction.timeout.ms, %v, is more than the brokers allow (transaction.max.timeout.ms): %w", x.timeout, err)
	}
	return err
}

func verdict(what string, code int16) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, kafkago.Error(code))
}

// prepare gets a producer id. That fences whoever had the transactional.id before,
// and ends its transaction: committed, if that was decided, or aborted.
func (x *transactor) prepare(ctx context.Context) error {
	if x.ready {
		return nil
	}
	x.p.forget()
	req := &initproducerid.Request{
		TransactionalID: x.id, TransactionTimeoutMs: int32(min(x.timeout.Milliseconds(), math.MaxInt32)), ProducerID: -1, ProducerEpoch: -1,
	}
	var got producer
	if err := x.ask(ctx, coordinated{ofTransaction, x.id}, req, func(m protocol.Message) error {
		r := m.(*initproducerid.Response)
		got = producer{r.ProducerID, r.ProducerEpoch, true}
		return verdict("get a producer id", r.ErrorCode)
	}); err != nil {
		return err
	}
	if x.p.c.clusterID() == "" {
		if _, err := x.p.c.metadata(ctx, []string{}, false); err != nil {
			return err
		}
	}
	if x.progress != nil {
		if err := x.progress.resume(ctx); err != nil {
			return err
		}
	}
	x.p.producer, x.ready, x.begun = got, true, false
	return nil
}

// add makes partitions part of the transaction.
func (x *transactor) add(ctx context.Context, queues []*queue) error {
	req := &addpartitionstotxn.Request{TransactionalID: x.id, ProducerID: x.p.producer.id, ProducerEpoch: x.p.producer.epoch}
	byTopic(queues, func(q **queue) string { return (*q).topic }, func(name string, run []*queue) {
		t := addpartitionstotxn.RequestTopic{Name: name}
		for _, q := range run {
			t.Partitions = append(t.Partitions, q.partition)
		}
		req.Topics = append(req.Topics, t)
	})
	x.begun = true
	return x.ask(ctx, coordinated{ofTransaction, x.id}, req, func(m protocol.Message) (err error) {
		for _, t := range m.(*addpartitionstotxn.Response).Results {
			for _, p := range t.Results {
				// Others were not tried because of the one that is at fault.
				if kafkago.Error(p.ErrorCode) != notAttempted || err == nil {
					err = errors.Join(err, verdict(fmt.Sprintf("add partition %s", topicPartition{t.Name, p.PartitionIndex}), p.ErrorCode))
				}
			}
		}
		return err
	})
}

// notAttempted is a code that kafka-go names otherwise.
const notAttempted = kafkago.Error(55)

// addOffsets makes offsets of a group part of the transaction. turn is nil where the group has no members.
func (x *transactor) addOffsets(ctx context.Context, group string, t *turn, offsets []placed) error {
	req := &addoffsetstotxn.Request{TransactionalID: x.id, ProducerID: x.p.producer.id, ProducerEpoch: x.p.producer.epoch, GroupID: group}
	if err := x.ask(ctx, coordinated{ofTransaction, x.id}, req, func(m protocol.Message) error {
		return verdict("add group "+group, m.(*addoffsetstotxn.Response).ErrorCode)
	}); err != nil {
		return err
	}
	commit := &txnoffsetcommit.Request{
		TransactionalID: x.id, GroupID: group, ProducerID: x.p.producer.id, ProducerEpoch: x.p.producer.epoch, GenerationID: -1,
	}
	if t != nil {
		commit.GenerationID, commit.MemberID = t.id, t.member
	}
	byTopic(offsets, func(p *placed) string { return p.topic }, func(name string, run []placed) {
		t := txnoffsetcommit.RequestTopic{Name: name}
		for _, p := range run {
			t.Partitions = append(t.Partitions, txnoffsetcommit.RequestPartition{
				Partition: p.partition, CommittedOffset: p.offset, CommittedLeaderEpoch: -1, CommittedMetadata: p.metadata,
			})
		}
		commit.Topics = append(commit.Topics, t)
	})
	return x.ask(ctx, coordinated{ofGroup, group}, commit, func(m protocol.Message) error {
		for _, t := range m.(*txnoffsetcommit.Response).Topics {
			for _, p := range t.Partitions {
				if err := verdict(fmt.Sprintf("commit offset of %s for group %s", topicPartition{t.Name, p.Partition}, group), p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// end ends the transaction. To say the same again does no harm.
func (x *transactor) end(ctx context.Context, commit bool) error {
	req := &endtxn.Request{TransactionalID: x.id, ProducerID: x.p.producer.id, ProducerEpoch: x.p.producer.epoch, Committed: commit}
	what := "abort"
	if commit {
		what = "commit"
	}
	return x.ask(ctx, coordinated{ofTransaction, x.id}, req, func(m protocol.Message) error {
		return verdict(what, m.(*endtxn.Response).ErrorCode)
	})
}
