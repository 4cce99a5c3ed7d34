package s3

import (
	"context"
	"time"
)

// idle is how long the clock sleeps when nothing is to come but a wake-up.
const idle = time.Hour

// run commits and ends objects when it is time, events or not.
func (s *sink) run(ctx context.Context) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if s.acquire(ctx) != nil {
			return
		}
		wait := s.tick()
		s.release()
		timer.Reset(wait)
	}
}

// tick does what is due and returns how long until more is.
func (s *sink) tick() time.Duration {
	now, wait := time.Now(), idle
	var due []*output
	for o := range s.live {
		if in, ok := s.limits.Due(o.begun, o.used, now); ok {
			if in <= 0 {
				due = append(due, o)
				continue
			}
			wait = min(wait, in)
		}
		if len(o.held) > 0 && s.commitInterval > 0 {
			if in := o.since.Add(s.commitInterval).Sub(now); in > 0 {
				wait = min(wait, in)
			}
		}
	}
	err := s.endOr(due)
	if err == nil && s.commitInterval > 0 {
		err = s.commitOr(s.holding(now, s.commitInterval))
	}
	if err != nil { // the runner hears of it through the rollbacks
		wait = min(wait, time.Second)
	}
	return max(wait, time.Millisecond)
}
