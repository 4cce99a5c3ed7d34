package roll

import (
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// Target says in which directory an event's file is, and what its name begins with.
type Target struct {
	Path   Template
	Prefix Template // of the names of files
	Clock  Clock

	env    core.Env
	hint   string
	noTime *metric.Extra
	said   bool
	buf    []byte
}

// Open prepares t. keys is what the names of its keys begin with, such as "hdfs.".
func (t *Target) Open(env core.Env, keys string) {
	t.env, t.said = env, false
	t.hint = "event goes by the time of delivery: use a timestamp interceptor, or " + keys + "useLocalTimeStamp"
	t.noTime = env.Metrics.Counter("events_without_time_total", "Events whose header timestamp is no time, in a path that shows it: they went by the time of delivery.")
}

// Of returns the target of n events with these headers: the path, a byte 0, the
// prefix, both expanded. split is where the 0 is. It is valid until the next call.
func (t *Target) Of(h core.Headers, now time.Time, n int) (target []byte, split int) {
	var at Moment
	if t.Path.Timed() || t.Prefix.Timed() {
		var err error
		if at, err = t.Clock.Of(h, now); err != nil {
			t.noTime.Add(int64(n))
			if !t.said {
				t.said = true
				t.env.Log.Warn(t.hint, "error", err)
			}
		}
	}
	t.buf = t.Path.Append(t.buf[:0], h, at)
	split = len(t.buf)
	t.buf = append(t.buf, 0)
	t.buf = t.Prefix.Append(t.buf, h, at)
	return t.buf, split
}

// Place returns the path and the prefix for an event, of a t that is not open and
// counts nothing. Where the event has no time of its own they show now.
func (t *Target) Place(h core.Headers, now time.Time) (path, prefix string) {
	at, _ := t.Clock.Of(h, now) // the error says that it is now
	return string(t.Path.Append(nil, h, at)), string(t.Prefix.Append(nil, h, at))
}

// Join returns what the names of files begin with: a path and a prefix, each cleaned.
func Join(path, prefix, refused string) string {
	return strings.TrimSuffix(Clean(path, refused), "/") + Clean(prefix, refused)
}

// Clean makes of a path with headers in it one that a store takes, and that
// begins with '/': ".." and "." are no steps, and control characters, what is
// not UTF-8, and the characters of refused become '_'.
func Clean(p, refused string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			part = "__"
		}
		b.WriteByte('/')
		for _, r := range part {
			if r < ' ' || r == 0x7F || r == '\uFFFD' || strings.ContainsRune(refused, r) {
				r = '_'
			}
			b.WriteRune(r)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}
