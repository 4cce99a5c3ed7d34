package selector

import (
	"context"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Replicating is the catalogue entry of Flume's default selector.
var Replicating = core.Type[core.Selector]{
	Name: "replicating", Doc: "Every event goes to every channel.",
	Aliases: []string{"org.apache.flume.channel.ReplicatingChannelSelector"},
	New:     func() core.Selector { return new(replicating) },
}

type replicating struct {
	channels []string
	optional []string
	isOpt    []bool
}

// Keys implements core.Component.
func (s *replicating) Keys(k *conf.Keys) {
	k.Words(&s.optional, "optional", "Channels that never block nor fail the source: what they have no room for is dropped and counted.")
	k.Check(func(r *conf.Report) {
		s.channels = r.Members()
		for _, name := range s.optional {
			if !slices.Contains(s.channels, name) {
				// Flume goes on without it, and logs an error with every event.
				r.Warn("optional", "%q is not a channel of this source: it is left out", name)
			}
		}
	})
}

// Open implements core.Component.
func (s *replicating) Open(context.Context, core.Env) error {
	s.isOpt = make([]bool, len(s.channels))
	for i, name := range s.channels {
		s.isOpt[i] = slices.Contains(s.optional, name)
	}
	return nil
}

// Select implements core.Selector.
func (s *replicating) Select(_ *core.Batch, r *core.Routes) {
	for c, opt := range s.isOpt {
		r.All(c, opt)
	}
}

// Required implements core.Selector.
func (s *replicating) Required(c int) bool { return !s.isOpt[c] }
