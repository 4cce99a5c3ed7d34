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

// Flume are the limits that Flume's hdfs sink has by default.
var Flume = Limits{Interval: 30 * time.Second, Size: 1024, Count: 10}

// Keys binds l to rollInterval, rollSize, rollCount and idleTimeout below
// prefix; def is what they are by default. A negative limit is none.
func (l *Limits) Keys(k *conf.Keys, prefix string, def Limits) {
	k.Seconds(&l.Interval, prefix+"rollInterval", def.Interval, "Age at which a file ends; 0: none.")
	k.Bytes(&l.Size, prefix+"rollSize", def.Size, "A file ends with the event that brings the bodies in it to this size; 0: none.")
	k.Int64(&l.Count, prefix+"rollCount", def.Count, "Events with which a file ends; 0: none.")
	k.Seconds(&l.Idle, prefix+"idleTimeout", def.Idle, "A file ends when it got no event for this long; 0: none.")
	k.Check(func(*conf.Report) {
		l.Interval, l.Idle = max(l.Interval, 0), max(l.Idle, 0)
		l.Size, l.Count = max(l.Size, 0), max(l.Count, 0)
	})
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
