package s3

import "time"

// tick does what is due and returns how long until more is.
func (s *sink) tick() time.Duration {
	now := time.Now()
	due, wait := s.files.Due(now, s.commitInterval)
	err := s.endOr(due)
	if err == nil && s.commitInterval > 0 {
		err = s.commitOr(s.files.Holding(now, s.commitInterval))
	}
	if err != nil { // the runner hears of it through the rollbacks
		wait = min(wait, time.Second)
	}
	return max(wait, time.Millisecond)
}
