package hdfs

import (
	"time"

	"github.com/millrace/millrace/connectors/internal/turn"
)

// tick does what is due and returns how long until more is.
func (s *sink) tick() time.Duration {
	now, wait := time.Now(), turn.Idle
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
