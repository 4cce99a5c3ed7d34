package core

import (
	"context"
	"time"

	"github.com/millrace/millrace/core/metric"
)

// metered counts what a sink does, on its own or in a group.
type metered struct {
	Sink
	cells   *metric.Group
	now     func() time.Time
	batch   int // what a complete batch is
	refused *metric.Extra
	taps    *taps
	channel string // that it takes from
}

func newMetered(s Sink, cells *metric.Group, a *Agent, channel string, batch int) *metered {
	refused := cells.Counter("events_refused_total", "Events the far end refused for good.")
	return &metered{s, cells, a.w.Now, batch, refused, &a.taps, channel}
}

func (m *metered) Deliver(ctx context.Context, tx TakeTx) {
	b := tx.Batch()
	n := len(b.Events)
	m.cells.EventDrainAttempt.Add(int64(n))
	if n < m.batch {
		m.cells.BatchUnderflow.Add(1)
	} else {
		m.cells.BatchComplete.Add(1)
	}
	m.taps.see(m.channel, m.cells.Name, b, nil)
	m.Sink.Deliver(ctx, &meteredTx{TakeTx: tx, m: m, ctx: ctx, left: n, born: b.Born})
}

type meteredTx struct {
	TakeTx
	m    *metered
	ctx  context.Context
	left int
	born time.Time
	mute bool // acks do not count as delivered
}

// CountDelivered says whether the acks of tx count as delivered
// (EventDrainSuccessCount) from now on; they do unless a sink has keys that say otherwise.
func CountDelivered(tx TakeTx, count bool) {
	if m, ok := tx.(*meteredTx); ok {
		m.mute = !count
	}
}

// Unwrap is for Origin.
func (t *meteredTx) Unwrap() Lease { return t.TakeTx }

func (t *meteredTx) Ack(pick []int32, m ...Mark) <-chan struct{} {
	n := len(pick)
	if pick == nil {
		n = t.left
	}
	t.left -= n
	if !t.mute {
		t.m.cells.EventDrainSuccess.Add(int64(n))
	}
	if !t.born.IsZero() {
		t.m.cells.Lag.Observe(t.m.now().Sub(t.born), n)
	}
	return t.TakeTx.Ack(pick, m...)
}

func (t *meteredTx) Refuse(i int, why error) {
	t.left--
	t.m.refused.Add(1)
	t.TakeTx.Refuse(i, why)
}

func (t *meteredTx) Rollback(cause error) {
	if t.ctx.Err() == nil {
		t.m.cells.EventWriteFail.Add(1)
	}
	t.TakeTx.Rollback(cause)
}
