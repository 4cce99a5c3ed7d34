package avro

import (
	"context"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/rpcserver"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "avro", Doc: "Takes events by Avro RPC from other agents and from Flume's clients.",
	Aliases: []string{"org.apache.flume.source.AvroSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	rpcserver.Server
	compression string
	filterOn    bool
	filter      filter

	known   *rpc.Known
	denied  *metric.Extra
	refusal sample.Log // of a connection that was denied
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	s.AddressKeys(k)
	k.String(&s.compression, "compression-type", "none", "none or deflate; clients must have the same.").Must(conf.OneOf("none", "deflate")).OrDefault()
	tlsconf.ServerKeys(k, &s.TLS)
	k.Bool(&s.filterOn, "ipFilter", false, "Let only those connect whom ipFilterRules allow.")
	var rules string
	var fault error
	s.filter = nil
	k.Func("ipFilterRules", "comma list", "",
		"Rules allow|deny:ip|name:pattern, of which the first that fits decides; who fits none may connect. In a pattern * is any text and ? any character; name:localhost is this machine.",
		func(text string) error {
			rules = text
			s.filter, fault = parseFilter(text)
			return nil
		})
	k.Inert("threads", "has no effect, as in Flume since 1.10: a connection has its own goroutine")
	k.Inert("maxIoWorkers", "has no effect: a connection has its own goroutine")
	s.LimitKeys(k, "Longest request, unzipped.")
	k.Check(func(r *conf.Report) {
		switch {
		case s.filterOn && fault != nil:
			r.Error("ipFilterRules", "%q %v", rules, fault)
		case s.filterOn && len(s.filter) == 0:
			r.Error("ipFilterRules", "is required with ipFilter = true")
		case !s.filterOn && r.IsSet("ipFilterRules"):
			r.Warn("ipFilterRules", "has no effect without ipFilter = true")
		}
	})
}

// Open implements core.Component.
func (s *source) Open(ctx context.Context, env core.Env) error {
	s.known = rpc.NewKnown()
	s.denied = env.Metrics.Counter("connections_denied_total", "Connections closed because ipFilterRules deny them.")
	return s.Server.Open(ctx, env)
}

// Run implements core.Source: this goroutine accepts, and one serves each
// connection. They end when their requests are answered.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	return s.Serve(ctx, out, s.serve)
}
