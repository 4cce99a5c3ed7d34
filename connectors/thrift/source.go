package thrift

import (
	"context"

	"github.com/millrace/millrace/connectors/internal/rpcserver"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "thrift", Doc: "Takes events by Thrift RPC from other agents, Flume's clients and programs in any language.",
	Aliases: []string{"org.apache.flume.source.ThriftSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	rpcserver.Server
	compact bool
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	s.AddressKeys(k)
	protocolKey(k, &s.compact, "compact or binary; clients must have the same.")
	k.Inert("threads", "has no effect: a connection has its own goroutine; maxConnections and maxPendingBytes bound the load")
	tlsconf.ServerKeys(k, &s.TLS)
	kerberosKeys(k, "agent-principal", "agent-keytab")
	s.LimitKeys(k, "Longest request.")
}

// Run implements core.Source: this goroutine accepts, and one serves each
// connection. They end when their requests are answered.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	return s.Serve(ctx, out, s.serve)
}
