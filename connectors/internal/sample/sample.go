// Package sample logs what may happen with every event at most once in a while.
package sample

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Every is how long one kind of message rests after it was logged.
const Every = 10 * time.Second

// Log says one kind of message. The zero value is ready; it may be used from
// several goroutines.
type Log struct {
	next    atomic.Int64 // epoch ns from when on it may speak again
	skipped atomic.Int64
}

// Say logs the message, unless it was logged less than Every before now; then
// it counts it, and says the number the next time.
func (l *Log) Say(to *slog.Logger, now time.Time, level slog.Level, msg string, attrs ...slog.Attr) {
	next := l.next.Load()
	if now.UnixNano() < next || !l.next.CompareAndSwap(next, now.Add(Every).UnixNano()) {
		l.skipped.Add(1)
		return
	}
	if n := l.skipped.Swap(0); n > 0 {
		attrs = append(attrs, slog.Int64("not_logged", n))
	}
	to.LogAttrs(context.Background(), level, msg, attrs...)
}
