// Package turn is what sinks that keep files open have in common: one lock for
// deliveries and for a clock of their own, which commits and ends files when it
// is time, events or not.
package turn

import (
	"context"
	"time"
)

// Lock is a mutex whose waiters may give up.
type Lock chan struct{}

// NewLock returns a lock that nobody has.
func NewLock() Lock { return make(Lock, 1) }

// Acquire waits for the lock, or returns ctx's error. A lock that is free goes
// before a ctx that has ended: whoever closes must get in.
func (l Lock) Acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Take waits for the lock, however long.
func (l Lock) Take() { l <- struct{}{} }

// Release gives it back.
func (l Lock) Release() { <-l }

// Wake is how a clock is told that something to do came up; what it was told before it looked is once.
type Wake chan struct{}

// NewWake returns one that was not told of anything.
func NewWake() Wake { return make(Wake, 1) }

// Nudge tells it.
func (w Wake) Nudge() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// Idle is how long a clock sleeps when nothing is to come but a wake-up.
const Idle = time.Hour

// Clock calls tick with the lock held: after first, whenever it is woken, and
// when as much time has passed as tick said last. It ends with ctx.
func Clock(ctx context.Context, l Lock, w Wake, first time.Duration, tick func() time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w:
		case <-timer.C:
		}
		if l.Acquire(ctx) != nil {
			return
		}
		wait := tick()
		l.Release()
		timer.Reset(wait)
	}
}
