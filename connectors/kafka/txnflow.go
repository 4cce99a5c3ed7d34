package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/core"
)

// deliver writes what tx holds as one transaction, and ends it.
func (x *transactor) deliver(ctx context.Context, tx core.TakeTx) {
	ctx, cancel := context.WithTimeout(ctx, min(x.p.s.timeout, x.timeout))
	defer cancel()
	if err := x.prepare(ctx); err != nil {
		tx.Rollback(err)
		return
	}
	switch l := x.beneath(tx); {
	case l != nil:
		done, err := l.settled(ctx, x.p.producer)
		if err != nil {
			tx.Rollback(fmt.Errorf("is not known what is delivered already: %w", err))
			return
		}
		if len(done) > 0 {
			tx.Ack(done)
		}
		x.carry(ctx, tx, l, done)
	case x.progress != nil:
		x.progress.deliver(ctx, tx)
	default:
		x.carry(ctx, tx, nil, nil)
	}
}

// beneath is the lease of a Kafka channel in the same cluster, or nil.
func (x *transactor) beneath(tx core.TakeTx) *lease {
	l, ok := core.Origin(tx).(*lease)
	if !ok {
		return nil
	}
	if ours, theirs := x.p.c.clusterID(), l.s.c.c.clusterID(); ours != theirs {
		if !x.apart {
			x.apart = true
			x.p.s.env.Log.Warn("the channel's topic is in another cluster than the sink's: its offsets can not be in the sink's transactions, and what was under way at a crash comes twice",
				"cluster", ours, "channel_cluster", theirs)
		}
		return nil
	}
	return l
}

// carry writes the events of tx, but for those that are done already, and ends tx.
// l is the lease beneath, where its offsets go into the transaction; nil: they do not.
func (x *transactor) carry(ctx context.Context, tx core.TakeTx, l *lease, done []int32) {
	b, events, pick := tx.Batch(), []core.Event(nil), []int32(nil)
	switch {
	case b == nil:
		return // all are done, and with that it has ended
	case len(done) == 0:
		events = b.Events
	default:
		for i := range b.Events {
			if _, is := slices.BinarySearch(done, int32(i)); !is {
				events, pick = append(events, b.Events[i]), append(pick, int32(i))
			}
		}
	}
	t := x.p.write(ctx, events)
	written, left := len(t.acked), t.left()
	if written == 0 || left > 0 {
		x.abort(ctx, t.unsure() || t.reset, t.err)
	}
	for i, why := range t.refused {
		if pick != nil {
			i = int(pick[i])
		}
		tx.Refuse(i, why)
	}
	switch {
	case left > 0:
		err := t.err
		if t.reset {
			err = x.explain(err)
		}
		tx.Rollback(fmt.Errorf("%d of %d events not written: %w", left, len(events), err))
		return
	case written == 0:
		return // all are refused
	}
	marks, err := x.commit(ctx, tx, l, t)
	if err != nil {
		tx.Rollback(fmt.Errorf("%d events not written: %w", written, err))
		return
	}
	stored := tx.Ack(nil, marks...)
	if len(marks) > 0 {
		x.progress.acked(stored)
	}
}

var errStuck = errors.New("the dead letter channel takes nothing")

// commit commits what t has written, with what says so for good. It returns what
// the ack is to have with it. After an error the transaction is over.
func (x *transactor) commit(ctx context.Context, tx core.TakeTx, l *lease, t *transaction) (marks []core.Mark, err error) {
	ending := false
	defer func() {
		if err != nil {
			x.abort(ctx, ending, err)
		}
	}()
	switch {
	case l != nil:
		c, refused := l.claim(ctx)
		if errors.Is(refused, errBetween) {
			if !x.between {
				x.between = true
				x.p.s.env.Log.Warn("another sink takes from the channel: its offsets can not be in the transactions, and what was under way at a crash comes twice", "error", refused)
			}
			break
		}
		if refused != nil {
			return nil, refused
		}
		defer func() { c.release(err == nil) }()
		if c.left != len(t.acked) {
			return nil, errStuck
		}
		if len(c.offsets) > 0 {
			if err := x.addOffsets(ctx, c.group, c.turn, c.offsets); err != nil {
				return nil, err
			}
		}
	case x.progress != nil:
		if marks, err = x.progress.write(ctx, tx, t); err != nil {
			return nil, err
		}
	}
	ending = true
	if err := x.end(ctx, true); err != nil {
		return nil, err
	}
	x.begun = false
	x.committed.Add(1)
	return marks, nil
}

// abort ends the transaction that has failed with err. Where something may still be
// on its way to the brokers (unsure), or it is not known whether they have
// committed, only a producer of a new epoch can: what comes late is then refused.
func (x *transactor) abort(ctx context.Context, unsure bool, err error) {
	var code kafkago.Error
	lost := errors.As(err, &code) && fenced(code)
	if !x.begun && !lost {
		return
	}
	x.aborted.Add(1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	if !unsure && !lost && x.end(ctx, false) == nil {
		x.begun = false
		return
	}
	x.ready = false
	if !lost {
		_ = x.prepare(ctx) // at once, since readers wait for it; else with the next delivery
	}
}

// begin makes the partitions of t part of a transaction. It is no use to write
// only some of the events.
func (t *transaction) begin(ctx context.Context) bool {
	queued := 0
	for _, q := range t.queues {
		for _, c := range q.chunks {
			queued += len(c.events)
		}
	}
	if queued == 0 || queued < t.left() {
		return false
	}
	t.first = t.queues[0].topicPartition
	if err := t.p.txn.add(ctx, t.queues); err != nil {
		t.fail(err)
		return false
	}
	return true
}

// unsure tells whether a record batch may still be on its way.
func (t *transaction) unsure() bool {
	return slices.ContainsFunc(t.queues, func(q *queue) bool { return q.unsure })
}
