package selector

import (
	"context"
	"math/rand/v2"
	"sync/atomic"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// LoadBalancing is the catalogue entry of the selector that spreads events.
// Flume 1.11 documents it and cannot make it from a configuration.
var LoadBalancing = core.Type[core.Selector]{
	Name: "load_balancing", Doc: "Every event goes to one of the channels, in turn or by chance.",
	Aliases: []string{"org.apache.flume.channel.LoadBalancingChannelSelector"},
	New:     func() core.Selector { return new(loadBalancing) },
}

const (
	roundRobin = "ROUND_ROBIN"
	random     = "RANDOM"
)

type loadBalancing struct {
	policy   string
	channels int

	next atomic.Uint64 // channel of the next event, before wrapping
}

// Keys implements core.Component.
func (s *loadBalancing) Keys(k *conf.Keys) {
	k.String(&s.policy, "policy", roundRobin, "In turn, or by chance.").Must(conf.OneOf(roundRobin, random))
	k.Check(func(r *conf.Report) { s.channels = len(r.Members()) })
}

// Open implements core.Component.
func (s *loadBalancing) Open(context.Context, core.Env) error { return nil }

// Select implements core.Selector. It goes event by event: a batch is spread, not sent as a whole.
func (s *loadBalancing) Select(b *core.Batch, r *core.Routes) {
	switch n := len(b.Events); {
	case s.channels == 1:
		r.All(0, false)
	case s.policy == random:
		for i := range n {
			r.Run(rand.IntN(s.channels), i, i+1, false)
		}
	default:
		first := s.next.Add(uint64(n)) - uint64(n)
		for i := range n {
			r.Run(int((first+uint64(i))%uint64(s.channels)), i, i+1, false)
		}
	}
}

// Required implements core.Selector.
func (s *loadBalancing) Required(int) bool { return true }
