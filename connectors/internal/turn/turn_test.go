package turn

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Nudges that nobody has taken yet are one.
func TestWake(t *testing.T) {
	w := NewWake()
	w.Nudge()
	w.Nudge()
	if len(w) != 1 {
		t.Errorf("%d", len(w))
	}
}

func TestLock(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l := NewLock()
	if err := l.Acquire(ended); err != nil {
		t.Errorf("a free lock, to whoever closes: %v", err)
	}
	if err := l.Acquire(ended); err == nil {
		t.Error("a lock that is taken is waited for after the end")
	}
	l.Release()
	l.Take()
	l.Release()
}

// The clock ticks when its time has come and when it is woken, with the lock held.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l, w := NewLock(), NewWake()
		began := time.Now()
		var at []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			Clock(ctx, l, w, time.Second, func() time.Duration {
				select {
				case l <- struct{}{}:
					t.Error("ticks without the lock")
				default:
				}
				at = append(at, time.Since(began))
				return 5 * time.Second
			})
		}()
		time.Sleep(2 * time.Second)
		w.Nudge()
		time.Sleep(6 * time.Second)
		cancel()
		<-done
		if len(at) != 3 || at[0] != time.Second || at[1] != 2*time.Second || at[2] != 7*time.Second {
			t.Errorf("ticks at %v", at)
		}
	})
}
