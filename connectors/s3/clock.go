package s3

import (
	"time"

	"github.com/millrace/millrace/connectors/internal/turn"
)

// tick does what is due and returns how long until more is.
func (s *sink) tick() time.Duration {
	now, wait := time.Now(), turn.Idle
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
