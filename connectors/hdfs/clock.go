package hdfs

import "time"

// tick does what is due and returns how long until more is.
func (s *sink) tick() time.Duration {
	now := time.Now()
	due, wait := s.files.Due(now, s.commitInterval)
	for _, o := range due { // its bucket goes too: the next file takes its number from the time
		delete(s.files.Buckets, o.bucket.Target)
		s.end(o)
	}
	if s.commitInterval > 0 {
		// The runner hears of a failure through the rollbacks.
		_ = s.commit(s.files.Holding(now, s.commitInterval))
	}
	return max(wait, time.Millisecond)
}
