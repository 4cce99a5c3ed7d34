package avro

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/accept"
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
	bind        string
	port        int
	compression string
	filterOn    bool
	filter      filter
	tls         tlsconf.Config

	maxRequest, maxPending int64
	maxEvents, connections int
	request                time.Duration

	env    core.Env
	ln     net.Listener
	secure *tls.Config // nil: no TLS
	known  *rpc.Known
	quiet  struct{ handshake, denied, malformed, broken, failed sample.Log }
	denied *metric.Extra
	failed *metric.Extra
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.String(&s.bind, "bind", "", "Host name or address to listen on.").Required()
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
	k.String(&s.compression, "compression-type", "none", "none or deflate; clients must have the same.").Must(conf.OneOf("none", "deflate")).OrDefault()
	tlsconf.ServerKeys(k, &s.tls)
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
	k.Bytes(&s.maxRequest, "maxRequestBytes", 64<<20, "Longest request, unzipped. A longer one ends its connection.").Must(conf.Range(1024, 1<<30)).Since("1.0")
	k.Bytes(&s.maxPending, "maxPendingBytes", 128<<20, "Bytes of all requests that are being read or stored; requests beyond are answered FAILED: try again. One request alone is always let in.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.maxEvents, "maxRequestEvents", 100_000, "Most events in one request. It must also fit into each of its channels: transactionCapacity.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.connections, "maxConnections", 4096, "Connections open at once; further ones are closed. 0: no limit.").Must(conf.Min(0)).Since("1.0")
	k.Millis(&s.request, "requestTimeout", time.Minute, "How long a request that has begun may take to arrive; 0: for ever.").Must(conf.Min(0)).Since("1.0")
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

// answerTime is how long a peer may take to read an answer.
const answerTime = 10 * time.Second

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) (err error) {
	s.env, s.known = env, rpc.NewKnown()
	s.denied = env.Metrics.Counter("connections_denied_total", "Connections closed because ipFilterRules deny them.")
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
