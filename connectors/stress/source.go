package stress

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/connectors/internal/pause"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Source is the catalogue entry. Flume has no alias for it.
var Source = core.Type[core.Source]{
	Name: "stress", Doc: "Makes events of one size, to load a flow with.",
	Aliases: []string{"org.apache.flume.source.StressSource"},
	New:     func() core.Source { return new(source) },
}

const (
	filling = 0x7F    // Flume's Byte.MAX_VALUE
	largest = 1 << 30 // bytes in a body
)

type source struct {
	size, batch       int
	total, successful int64 // limits; below 0: none
	rate              int   // events per second; 0: no limit
	step, pause       time.Duration

	env    core.Env
	failed *metric.Extra
	block  *core.Block
	sent   int64     // events tried, over all runs
	stored int64     // of them
	next   time.Time // when the rate allows the next batch
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.Int(&s.size, "size", 500, "Size of a body; its bytes are all 0x7F.").Must(conf.Range(0, largest)).Unit("bytes")
	k.Int64(&s.total, "maxTotalEvents", -1, "Events to try before stopping, stored or not; -1: no limit.")
	k.Int64(&s.successful, "maxSuccessfulEvents", -1, "Events to store before stopping; -1: no limit.")
	k.Batch(&s.batch, "batchSize", 1, "Events put in one transaction.")
	k.Int(&s.rate, "maxEventsPerSecond", 0, "Events to try in a second, evenly; 0: no limit.")
	k.Millis(&s.step, "backoffSleepIncrement", time.Second, "Pause after a failure, once for each failure in a row.").Must(conf.Min(0))
	k.Millis(&s.pause, "maxBackoffSleep", 5*time.Second, "The longest pause.").Must(conf.Min(0))
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	s.env = env
	s.failed = env.Metrics.Counter("events_failed_total", "Events for which a channel had no room within its keep-alive.")
	s.block = core.NewBlock(s.size)
	copy(s.block.Buf, bytes.Repeat([]byte{filling}, s.size))
	return nil
}

// Run implements core.Source. What was counted goes on over its runs, as in Flume.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	failures := 0
	for {
		n := s.left()
		if n == 0 {
			return nil
		}
		if !s.wait(ctx, n) {
			return nil
		}
		switch err := out.Put(ctx, s.events(n)); {
		case err == nil:
			s.sent += n
			s.stored += n
			failures = 0
			if n > 1 {
				s.env.Metrics.AppendBatchAccepted.Add(1)
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, core.ErrChannelFull):
			s.sent += n
			s.failed.Add(n)
			failures++
			if !pause.For(ctx, min(time.Duration(failures)*s.step, s.pause)) {
				return nil
			}
		default:
			return err
		}
	}
}

// left is the size of the next batch; 0 at the end.
func (s *source) left() int64 {
	n := int64(s.batch)
	if limit := int64(s.env.MaxEvents); limit > 0 {
		n = min(n, limit)
	}
	if s.total >= 0 {
		n = min(n, s.total-s.sent)
	}
	if s.successful >= 0 {
		n = min(n, s.successful-s.stored)
	}
	return max(0, n)
}

// events is a batch of n, whose bodies are one piece of memory.
func (s *source) events(n int64) *core.Batch {
	b := core.NewBatch()
	b.Use(s.block)
	body := s.block.Buf[:s.size:s.size]
	for range n {
		b.Append(core.Headers{}, body)
	}
	return b
}

// wait waits until n more events keep the rate; false: ctx has ended. A batch pays for itself afterwards: the first
// goes at once.
func (s *source) wait(ctx context.Context, n int64) bool {
	if s.rate <= 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	if s.next.Before(now) {
		s.next = now
	}
	wait := s.next.Sub(now)
	s.next = s.next.Add(time.Duration(float64(n) / float64(s.rate) * float64(time.Second)))
	return pause.For(ctx, wait)
}

// Close implements core.Source.
func (s *source) Close() error {
	if s.block != nil {
		s.block.Release()
		s.block = nil
	}
	return nil
}
