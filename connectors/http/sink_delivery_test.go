package http

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// delivery is a transaction that records its fate, event by event.
type delivery struct {
	t testing.TB
	b *core.Batch

	mu      sync.Mutex
	acked   []int // in the order of their acks
	refused map[int]error
	rolled  error
	ended   chan struct{}
}

// event makes one with headers of pairs.
func event(body string, pairs ...string) core.Event {
	var kv []core.Header
	for i := 0; i < len(pairs); i += 2 {
		kv = append(kv, core.Header{Key: pairs[i], Value: pairs[i+1]})
	}
	return core.Event{Headers: core.NewHeaders(kv...), Body: []byte(body)}
}

func texts(bodies ...string) (events []core.Event) {
	for _, b := range bodies {
		events = append(events, event(b))
	}
	return events
}

// born is when test batches come in.
var born = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

// hand gives events to the sink in one transaction.
func hand(ctx context.Context, t testing.TB, s core.Sink, events ...core.Event) *delivery {
	b := core.NewBatch()
	b.Born = born
	for _, e := range events {
		b.Copy(e.Headers, e.Body)
	}
	d := &delivery{t: t, b: b, refused: map[int]error{}, ended: make(chan struct{})}
	s.Deliver(ctx, d)
	return d
}

// deliver is hand, and waits for the end.
func deliver(t testing.TB, in *sinktest.Instance, events ...core.Event) *delivery {
	t.Helper()
	d := hand(context.Background(), t, in.Sink, events...)
	d.wait()
	return d
}

func (d *delivery) wait() {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(suite.Deadline):
		d.t.Fatal("the transaction does not end")
	}
}

func (d *delivery) fate() fate {
	d.mu.Lock()
	defer d.mu.Unlock()
	var now *core.RetryNow
	return fate{len(d.acked), len(d.refused), d.rolled != nil, errors.As(d.rolled, &now)}
}

func (d *delivery) Batch() *core.Batch { return d.b }

func (d *delivery) settle(i int, why error) {
	for _, j := range d.acked {
		if i == j {
			d.t.Errorf("event %d is settled twice", i)
		}
	}
	if d.refused[i] != nil || d.rolled != nil {
		d.t.Errorf("event %d is settled twice", i)
	}
	if why != nil {
		d.refused[i] = why
	} else {
		d.acked = append(d.acked, i)
	}
	if len(d.acked)+len(d.refused) == len(d.b.Events) {
		close(d.ended)
	}
}

func (d *delivery) Ack(pick []int32, _ ...core.Mark) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if pick != nil {
		for _, i := range pick {
			d.settle(int(i), nil)
		}
		return nil
	}
	done := make(map[int]bool)
	for _, i := range d.acked {
		done[i] = true
	}
	for i := range d.b.Events {
		if !done[i] && d.refused[i] == nil {
			d.settle(i, nil)
		}
	}
	return nil
}

func (d *delivery) Refuse(i int, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(i, why)
}

func (d *delivery) Rollback(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rolled != nil || cause == nil || len(d.acked)+len(d.refused) == len(d.b.Events) {
		d.t.Errorf("rollback (%v) of a transaction that has ended, or without a cause", cause)
		return
	}
	d.rolled = cause
	close(d.ended)
}

func (d *delivery) Unpin() bool           { return false }
func (d *delivery) Lost() <-chan struct{} { return nil }
