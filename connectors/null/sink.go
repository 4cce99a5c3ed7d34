package null

import (
	"context"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.WriterType(core.Type[core.Writer]{
	Name: "null", Doc: "Takes events and forgets them.",
	Aliases: []string{"org.apache.flume.sink.NullSink"},
	New:     func() core.Writer { return new(sink) },
})

type sink struct {
	batch, every int
	env          core.Env
	events       int64
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	k.Batch(&s.batch, "batchSize", 100, "Events taken at once.")
	k.Int(&s.every, "logEveryNEvents", 10000, "Log the number of events each time that many more have come.").Must(conf.Min(1))
}

// Open implements core.Component.
func (s *sink) Open(_ context.Context, env core.Env) error {
	s.env, s.events = env, 0
	return nil
}

// Write implements core.Writer.
func (s *sink) Write(_ context.Context, b *core.Batch) error {
	before := s.events / int64(s.every)
	s.events += int64(len(b.Events))
	if s.events/int64(s.every) != before {
		s.env.Log.Info("events taken", "events", s.events)
	}
	return nil
}

// Close implements core.Writer.
func (s *sink) Close(context.Context) error { return nil }
