package thrift

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "thrift", Doc: "Takes events by Thrift RPC from other agents, Flume's clients and programs in any language.",
	Aliases: []string{"org.apache.flume.source.ThriftSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	bind    string
	port    int
	compact bool
	tls     tlsconf.Config

	maxRequest, maxPending int64
	maxEvents, connections int
	request                time.Duration

	env    core.Env
	ln     net.Listener
	secure *tls.Config // nil: no TLS
	quiet  struct{ handshake, malformed, broken, failed sample.Log }
	failed *metric.Extra
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.String(&s.bind, "bind", "", "Host name or address to listen on.").Required()
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
	protocolKey(k, &s.compact, "compact or binary; clients must have the same.")
	k.Inert("threads", "has no effect: a connection has its own goroutine; maxConnections and maxPendingBytes bound the load")
	tlsconf.ServerKeys(k, &s.tls)
	kerberosKeys(k, "agent-principal", "agent-keytab")
	k.Bytes(&s.maxRequest, "maxRequestBytes", 64<<20, "Longest request. A longer one ends its connection.").Must(conf.Range(1024, 1<<30)).Since("1.0")
	k.Bytes(&s.maxPending, "maxPendingBytes", 128<<20, "Bytes of all requests that are being read or stored; requests beyond are answered FAILED: try again. One request alone is always let in.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.maxEvents, "maxRequestEvents", 100_000, "Most events in one request. It must also fit into each of its channels: transactionCapacity.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.connections, "maxConnections", 4096, "Connections open at once; further ones are closed. 0: no limit.").Must(conf.Min(0)).Since("1.0")
	k.Millis(&s.request, "requestTimeout", time.Minute, "How long a request that has begun may take to arrive; 0: for ever.").Must(conf.Min(0)).Since("1.0")
}

// answerTime is how long a peer may take to read an answer.
const answerTime = 10 * time.Second

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) (err error) {
	s.env = env
	s.failed = env.Metrics.Counter("tls_handshake_failures_total", "Connections that did not get through the TLS handshake.")
	if s.secure, err = s.tls.Server(env); err != nil {
		return err
	}
	addr := net.JoinHostPort(s.bind, strconv.Itoa(s.port))
	ln, err := env.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	l := accept.New(ln, env)
	l.Max, l.Write = s.connections, answerTime
	s.ln = l
	return nil
}

// Close implements core.Source.
func (s *source) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// Run implements core.Source: this goroutine accepts, and one serves each
// connection. They end when their requests are answered.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	v := &service{source: s, out: out, late: late, budget: accept.Budget{Max: s.maxPending}}
	// The listener is closed to end Accept; the socket itself may outlive it.
	defer context.AfterFunc(ctx, func() { _ = s.ln.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	err := accept.Each(ctx, s.ln, s.env, func(nc net.Conn) { conns.Go(func() { v.serve(ctx, nc) }) })
	if err != nil {
		cancel()
	}
	return err
}

// service is one Run of the source.
type service struct {
	*source
	out    core.Outlet
	late   context.Context // ends when there is no more time to wait for room
	budget accept.Budget
}
