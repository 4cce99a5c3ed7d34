package sinkgroup

import (
	"context"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Default is the catalogue entry of the group of one.
var Default = core.Type[core.SinkProcessor]{
	Name: "default", Doc: "A group of exactly one sink.",
	Aliases: []string{"org.apache.flume.sink.DefaultSinkProcessor"},
	New:     func() core.SinkProcessor { return new(single) },
}

type single struct{ core.Sink }

// Keys implements core.Component.
func (s *single) Keys(k *conf.Keys) {
	k.Check(func(r *conf.Report) {
		if n := len(r.Members()); n != 1 {
			r.Error("type", "the default processor takes exactly one sink, this group has %d: use failover or load_balance", n)
		}
	})
}

// Group implements core.SinkProcessor.
func (s *single) Group(sinks []core.Sink) { s.Sink = sinks[0] }

// Open implements core.Component; the sink itself is open.
func (s *single) Open(context.Context, core.Env) error { return nil }

// Close implements core.Sink; the agent closes the sink itself.
func (s *single) Close(context.Context) error { return nil }
