package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core/metric"
)

// Pauses of the sink runner after a failed delivery: the first, and the longest.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// SinkRunner moves events from one channel into one sink (or group): it takes
// a lease, hands it over, and pauses after failures. One goroutine.
type SinkRunner struct {
	Name    string
	Log     *slog.Logger
	Channel *ChannelNode
	Sink    Sink
	Dead    *ChannelNode // dead letter channel, or nil
	Take    Take         // how much at once
	// Cells are those of its sinks, which count takes that fail.
	Cells []*metric.Group
	taps  *taps // nil: none

	stay    atomic.Bool  // what the channel holds at the end is for another runner
	held    atomic.Int64 // leases in the sink's hands
	mu      sync.Mutex
	failure error // of the newest rollback since the runner last looked
	streak  int   // rollbacks in a row
	last    error // shown in the status; nil after a success
	refused int   // events, for sampling the log
}

// Run delivers until ctx ends. Then, until drain ends, it delivers what is
// left, flushing the sink, and returns when the channel is empty. Where another
// runner follows it only flushes the sink.
func (r *SinkRunner) Run(ctx, drain context.Context) {
	for ctx.Err() == nil {
		r.step(ctx, drain, false)
	}
	if r.stay.Load() {
		if r.held.Load() > 0 {
			r.flush(drain)
		}
		return
	}
	for drain.Err() == nil {
		if r.step(drain, drain, true) {
			return
		}
	}
}

// step takes and delivers once. It reports whether a drain is complete.
func (r *SinkRunner) step(ctx, deliver context.Context, draining bool) bool {
	want := r.Take
	if n := int(r.Channel.transaction.Load()); n > 0 && (want.Events == 0 || want.Events > n) {
		want.Events = n
	}
	want.Stall = r.held.Load() > 0
	want.NoWait = draining
	if draining {
		want.Linger = 0
	}
	lease, err := r.Channel.Take(ctx, want)
	switch {
	case err == nil:
		r.deliver(deliver, lease)
		r.pause(ctx)
	case errors.Is(err, ErrStalled):
		r.flush(deliver)
		r.pause(ctx)
	case errors.Is(err, ErrEmpty):
		if r.held.Load() > 0 {
			r.flush(deliver)
		}
		if r.Channel.Len().Events == 0 {
			return true
		}
		r.pause(ctx)
		sleep(ctx, 10*time.Millisecond) // leases of others, or of late deliveries, may still come back
	case errors.Is(err, ErrClosed):
		<-ctx.Done()
		return true
	case ctx.Err() == nil:
		for _, c := range r.Cells {
			c.ChannelReadFail.Add(1)
		}
		r.fail(fmt.Errorf("take from channel %s: %w", r.Channel.Name, err))
		r.pause(ctx)
	}
	return false
}

func (r *SinkRunner) deliver(ctx context.Context, lease Lease) {
	b := lease.Batch()
	n := len(b.Events)
	r.Channel.Cells.EventTakeAttempt.Add(int64(n))
	r.held.Add(1)
	r.Sink.Deliver(ctx, &runnerTx{Lease: lease, r: r, ctx: ctx, n: n, left: n, born: b.Born})
}

func (r *SinkRunner) flush(ctx context.Context) {
	if err := r.Sink.Flush(ctx); err != nil && ctx.Err() == nil {
		r.fail(fmt.Errorf("flush: %w", err))
	}
}

func (r *SinkRunner) fail(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = cause
	var now *RetryNow
	if !errors.As(cause, &now) {
		r.failure = cause
	}
}

// note makes err what the status shows, until something succeeds.
func (r *SinkRunner) note(err error) {
	r.mu.Lock()
	r.last = err
	r.mu.Unlock()
}

func (r *SinkRunner) succeed() {
	r.mu.Lock()
	r.last, r.streak = nil, 0
	r.mu.Unlock()
}

// pause waits after a failure, longer each time in a row.
func (r *SinkRunner) pause(ctx context.Context) {
	r.mu.Lock()
	err := r.failure
	r.failure = nil
	if err != nil {
		r.streak++
	}
	n := r.streak
	r.mu.Unlock()
	if err == nil {
		return
	}
	d := min(firstPause<<min(n-1, 10), lastPause)
	r.Log.Warn("delivery failed, will try again", "error", err, "pause", d, "failures", n)
	sleep(ctx, d)
}

// LastError returns the error of the newest delivery, nil if it succeeded.
func (r *SinkRunner) LastError() error { return r.lastError() }

func (r *SinkRunner) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// sayRefused logs the first refused event and every thousandth.
func (r *SinkRunner) sayRefused(e Event, why error) {
	r.mu.Lock()
	n := r.refused
	r.refused++
	r.mu.Unlock()
	if n%1000 == 0 {
		r.Log.Error("event refused by the far end", "error", why, "dead_letter", r.Dead != nil, "bytes", len(e.Body), "refused_before", n)
	}
}

// Headers of a dead letter.
const (
	DeadLetterReason = "millrace.deadletter.reason"
	DeadLetterSink   = "millrace.deadletter.sink"
)

// bury puts e into the dead letter channel and waits until it is stored.
func (r *SinkRunner) bury(ctx context.Context, e Event, born time.Time, why error) bool {
	b := NewBatch()
	defer b.Release()
	b.Born = born
	b.Copy(e.Headers.With(DeadLetterReason, why.Error()).With(DeadLetterSink, r.Name), e.Body)
	for {
		tx, err := r.Dead.TryClaim(b.Size())
		if err == nil {
			answer := make(chan error, 1)
			r.Dead.Cells.EventPutAttempt.Add(1)
			tx.Commit(b, nil, func(err error) { answer <- err })
			if err = <-answer; err != nil {
				return false
			}
			r.Dead.Cells.EventPutSuccess.Add(1)
			r.taps.see(r.Name, r.Dead.Name, b, nil)
			return true
		}
		if !errors.Is(err, ErrChannelFull) {
			return false
		}
		if err := r.Dead.Room(ctx, b.Size()); err != nil {
			return false
		}
	}
}
