package hdfs

import (
	"context"
	"time"
)

// idle is how long the clock sleeps when nothing is to come but a wake-up.
const idle = time.Hour

// run commits and ends files when it is time, events or not.
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
		if o.ending {
			continue
		}
		if in, ok := s.limits.Due(o.opened, o.used, now); ok {
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
	for _, o := range due { // its bucket goes too: the next file takes its number from the time
		delete(s.buckets, o.bucket.key)
		s.end(o)
	}
	if s.commitInterval > 0 {
		// The runner hears of a failure through the rollbacks.
		_ = s.commit(s.holding(now, s.commitInterval))
	}
	return max(wait, time.Millisecond)
}
