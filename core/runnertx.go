package core

import (
	"context"
	"errors"
	"slices"
	"time"
)

// runnerTx adds to a lease what the runner does for every sink: failures,
// refusals, the end of the lease.
type runnerTx struct {
	Lease
	r     *SinkRunner
	ctx   context.Context
	n     int
	left  int // neither acked nor refused
	born  time.Time
	stuck []int32 // refused, but the dead letter channel could not take them; part of left
	done  []bool  // acked or refused one by one; nil until the first
	state txState
}

type txState uint8

const (
	txOpen    txState = iota
	txSettled         // every event was acked or refused by its index
	txEnded           // Ack(nil) or Rollback
)

// Unwrap is for Origin.
func (t *runnerTx) Unwrap() Lease { return t.Lease }

func (t *runnerTx) Ack(pick []int32, m ...Mark) <-chan struct{} {
	switch {
	case t.state == txEnded, t.state == txSettled && len(pick) > 0:
		panic("core: transaction ended twice")
	case t.state == txSettled:
		t.state = txEnded
		return closedChan
	case pick != nil:
		t.note(pick)
	case len(t.stuck) > 0:
		pick = t.unsettled()
	}
	n := len(pick)
	if pick == nil {
		n, t.state = t.left, txEnded
	}
	t.r.Channel.Cells.EventTakeSuccess.Add(int64(n))
	stored := t.Lease.Ack(pick, m...)
	if len(m) > 0 {
		t.r.Channel.acked(stored)
	}
	if n > 0 {
		t.r.succeed()
	}
	t.settle(n)
	return stored
}

// unsettled is every event that is left and not stuck.
func (t *runnerTx) unsettled() []int32 {
	pick := make([]int32, 0, t.left)
	for i := range int32(t.n) {
		if !t.done[i] && !slices.Contains(t.stuck, i) {
			pick = append(pick, i)
		}
	}
	return pick
}

func (t *runnerTx) note(pick []int32) {
	if t.done == nil {
		t.done = make([]bool, t.n)
	}
	for _, i := range pick {
		t.done[i] = true
	}
}

// settle takes n events off what is left. When only stuck ones are left they go back.
func (t *runnerTx) settle(n int) {
	t.left -= n
	switch {
	case t.left == 0:
		if t.state == txOpen {
			t.state = txSettled
		}
		t.r.held.Add(-1)
	case t.left == len(t.stuck):
		t.Rollback(errors.New("dead letter channel takes nothing"))
	}
}

func (t *runnerTx) Rollback(cause error) {
	if t.state != txOpen {
		panic("core: transaction ended twice")
	}
	if cause == nil {
		cause = errors.New("rolled back")
	}
	if t.ctx.Err() == nil {
		t.r.fail(cause)
	}
	t.state = txEnded
	t.r.held.Add(-1)
	t.Lease.Rollback(cause)
}

func (t *runnerTx) Refuse(i int, why error) {
	e := t.Batch().Events[i]
	t.note(nil)
	if t.r.Dead != nil && !t.r.bury(t.ctx, e, t.born, why) {
		t.stuck = append(t.stuck, int32(i))
		t.settle(0)
		return
	}
	t.r.sayRefused(e, why)
	pick := []int32{int32(i)}
	t.note(pick)
	t.Lease.Ack(pick)
	t.settle(1)
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
