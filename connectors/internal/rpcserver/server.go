// Package rpcserver is what sources that answer the requests of RPC clients have
// in common, whatever is spoken on the wire:
//
//	Server   a source: its keys, its listener, its counters and log lines
//	Service  one Run of it: the outlet, and the budget of bytes
//	Conn     a client's connection: TLS, deadlines, its part of the budget, its end
//
// A source embeds a Server, a connection of it a Conn.
package rpcserver

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

// Server listens, and limits what clients may do. It implements Open and Close
// of core.Source.
type Server struct {
	TLS        tlsconf.Config
	MaxRequest int64 // bytes of a request
	MaxEvents  int   // in a request
	Env        core.Env
	// NotStored is said of requests that are answered FAILED or with an error.
	NotStored sample.Log

	bind        string
	port        int
	pending     int64 // bytes of all requests
	connections int
	request     time.Duration

	ln       net.Listener
	secure   *tls.Config // nil: no TLS
	unsecure *metric.Extra
	quiet    struct{ handshake, malformed, broken sample.Log }
}

// AddressKeys binds where to listen.
func (s *Server) AddressKeys(k *conf.Keys) {
	k.String(&s.bind, "bind", "", "Host name or address to listen on.").Required()
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
}

// LimitKeys binds the limits. longest says what maxRequestBytes is.
func (s *Server) LimitKeys(k *conf.Keys, longest string) {
	k.Bytes(&s.MaxRequest, "maxRequestBytes", 64<<20, longest+" A longer one ends its connection.").Must(conf.Range(1024, 1<<30)).Since("1.0")
	k.Bytes(&s.pending, "maxPendingBytes", 128<<20, "Bytes of all requests that are being read or stored; requests beyond are answered FAILED: try again. One request alone is always let in.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.MaxEvents, "maxRequestEvents", 100_000, "Most events in one request. It must also fit into each of its channels: transactionCapacity.").Must(conf.Min(1)).Since("1.0")
	k.Int(&s.connections, "maxConnections", 4096, "Connections open at once; further ones are closed. 0: no limit.").Must(conf.Min(0)).Since("1.0")
	k.Millis(&s.request, "requestTimeout", time.Minute, "How long a request that has begun may take to arrive; 0: for ever.").Must(conf.Min(0)).Since("1.0")
}

// answerTime is how long a peer may take to read an answer.
const answerTime = 10 * time.Second

// Open implements core.Component.
func (s *Server) Open(_ context.Context, env core.Env) (err error) {
	s.Env = env
	s.unsecure = env.Metrics.Counter("tls_handshake_failures_total", "Connections that did not get through the TLS handshake.")
	if s.secure, err = s.TLS.Server(env); err != nil {
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
func (s *Server) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// Service is one Run of a Server.
type Service struct {
	*Server
	Out  core.Outlet
	Late context.Context // ends when there is no more time to wait for room

	budget accept.Budget
}

// Serve accepts connections until ctx ends and has serve serve each in a
// goroutine of its own; then they are closed. It returns when all have returned:
// serve ends with ctx, when the requests that it has read are answered. An error
// is why there are no more connections before that.
func (s *Server) Serve(ctx context.Context, out core.Outlet, serve func(context.Context, Conn)) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	v := &Service{Server: s, Out: out, Late: late, budget: accept.Budget{Max: s.pending}}
	// The listener is closed to end Accept; the socket itself may outlive it.
	defer context.AfterFunc(ctx, func() { _ = s.ln.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	err := accept.Each(ctx, s.ln, s.Env, func(nc net.Conn) {
		conns.Go(func() {
			defer nc.Close()
			serve(ctx, Conn{Service: v, Raw: nc, Wire: nc})
		})
	})
	if err != nil {
		cancel()
	}
	return err
}
