package roll

import (
	"time"

	"github.com/millrace/millrace/core/conf"
)

// Limits say when a file ends.
type Limits struct {
	Interval time.Duration // since it was begun; 0: none
	Size     int64         // bytes of bodies; 0: none
	Count    int64         // events; 0: none
	Idle     time.Duration // since its last event; 0: none
}

// Keys binds l to rollInterval, rollSize, rollCount and idleTimeout below prefix.
func (l *Limits) Keys(k *conf.Keys, prefix string) {
	k.Seconds(&l.Interval, prefix+"rollInterval", 30*time.Second, "Age at which a file ends; 0: none.")
	k.Bytes(&l.Size, prefix+"rollSize", 1024, "A file ends with the event that brings the bodies in it to this size; 0: none.")
	k.Int64(&l.Count, prefix+"rollCount", 10, "Events with which a file ends; 0: none.")
	k.Seconds(&l.Idle, prefix+"idleTimeout", 0, "A file ends when it got no event for this long; 0: none.")
}

// Full reports whether a file with so many events, and bytes in their bodies, takes no more.
func (l *Limits) Full(events, bytes int64) bool {
	return l.Count > 0 && events >= l.Count || l.Size > 0 && bytes >= l.Size
}

// Due returns in how long a file ends by itself: one that was begun at opened
// and got its last event at used. False: never.
func (l *Limits) Due(opened, used, now time.Time) (time.Duration, bool) {
	in, ok := time.Duration(0), false
	if l.Interval > 0 {
		in, ok = opened.Add(l.Interval).Sub(now), true
	}
	if l.Idle > 0 {
		if idle := used.Add(l.Idle).Sub(now); !ok || idle < in {
			in, ok = idle, true
		}
	}
	return in, ok
}
