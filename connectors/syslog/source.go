package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/flight"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// TCP is the catalogue entry of syslogtcp.
var TCP = core.Type[core.Source]{
	Name: "syslogtcp", Doc: "Takes syslog messages (RFC 3164, RFC 5424) over TCP, TLS, or a unix stream socket.",
	Aliases: []string{"org.apache.flume.source.SyslogTcpSource"},
	New:     func() core.Source { return new(tcp) },
}

// tcp serves connections. It is also what multiport_syslogtcp is made of.
type tcp struct {
	settings
	eventSize   int
	maxConns    int
	idleTimeout time.Duration
	tls         tlsconf.Config

	env     core.Env
	rules   *rules
	conf    *tls.Config // nil: no TLS
	ports   []*port
	peers   *peers
	open    atomic.Int64 // connections
	refused *metric.Extra
	failed  *metric.Extra
	cut     *metric.Extra
	quiet   struct{ refused, handshake, read sample.Log }
}

// Keys implements core.Component.
func (s *tcp) Keys(k *conf.Keys) {
	s.keys(k, 0)
	s.connKeys(k)
}

// connKeys are the keys of connections.
func (s *tcp) connKeys(k *conf.Keys) {
	k.Int(&s.eventSize, "eventSize", 2500, "Longest message; the rest of a longer one becomes further events.").Must(conf.Range(1, 64<<20)).Unit("bytes")
	k.Int(&s.maxConns, "maxConnections", 10000, "Connections at a time; more are closed at once.").Must(conf.Min(1)).Since("1.0")
	k.Seconds(&s.idleTimeout, "idleTimeout", 24*time.Hour, "A connection that sends nothing for so long is closed; 0: never.").Must(conf.Min(0)).Since("1.0")
	tlsconf.ServerKeys(k, &s.tls)
}

// Open implements core.Component.
func (s *tcp) Open(_ context.Context, env core.Env) error {
	network := "tcp"
	if s.path != "" {
		network = "unix"
	}
	return s.listen(env, network, &port{addr: s.address()})
}

// listen opens the source on those ports.
func (s *tcp) listen(env core.Env, network string, ports ...*port) (err error) {
	s.env, s.rules = env, s.settings.rules(env)
	s.refused = env.Metrics.Counter("connections_refused_total", "Connections closed because too many were open.")
	s.failed = env.Metrics.Counter("tls_handshake_failures_total", "Connections that did not get through the TLS handshake.")
	s.cut = env.Metrics.Counter("events_cut_total", "Events that are not the whole message: it was longer than eventSize, or the connection broke.")
	if s.conf, err = s.tls.Server(env); err != nil {
		return err
	}
	if s.conf != nil {
		// A syslog client never reads. A session ticket that it leaves unread
		// makes its kernel reset the connection at close, and what we have not
		// read yet is gone with it.
		s.conf.SessionTicketsDisabled = true
	}
	s.ports = nil
	var failed []error
	for _, p := range ports {
		if p.listener, err = listen(network, p.addr, env.Listen); err != nil {
			failed = append(failed, err)
			continue
		}
		s.ports = append(s.ports, p)
	}
	if len(failed) > 0 {
		return errors.Join(append(failed, s.unlisten())...)
	}
	s.peers = newPeers(&s.settings, env.Now)
	return nil
}

// unlisten closes the listeners.
func (s *tcp) unlisten() error {
	var failed []error
	for _, p := range s.ports {
		if err := p.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failed = append(failed, fmt.Errorf("close listener: %w", err))
		}
	}
	return errors.Join(failed...)
}

// Close implements core.Source.
func (s *tcp) Close() error {
	s.peers.close()
	return s.unlisten()
}

// Run implements core.Source: a goroutine for each port, which accepts, and one
// for each connection. An error of the outlet ends all of them.
func (s *tcp) Run(ctx context.Context, out core.Outlet) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	send := &flight.Sender{Out: out}
	// Listeners are closed to end Accept; the sockets themselves may outlive them.
	defer context.AfterFunc(ctx, func() { _ = s.unlisten() })()
	var ports, conns sync.WaitGroup
	for _, p := range s.ports {
		ports.Go(func() {
			err := s.accept(ctx, p, func(nc net.Conn) {
				conns.Go(func() {
					s.env.Metrics.OpenConnection.Add(1)
					defer func() {
						s.env.Metrics.OpenConnection.Add(-1)
						s.open.Add(-1)
					}()
					if err := s.serve(ctx, late, p, nc, send); err != nil {
						fail(err)
						cancel()
					}
				})
			})
			if err != nil {
				fail(err)
			}
		})
	}
	ports.Wait()
	conns.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// accept hands over the connections of a port, counted, until ctx ends.
func (s *tcp) accept(ctx context.Context, p *port, start func(net.Conn)) error {
	return accept.Each(ctx, p.listener, s.env, func(nc net.Conn) {
		if s.open.Add(1) > int64(s.maxConns) && ctx.Err() == nil {
			s.open.Add(-1)
			_ = nc.Close()
			s.refused.Add(1)
			s.quiet.refused.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "connection refused: too many are open", slog.Int("maxConnections", s.maxConns))
			return
		}
		start(nc)
	})
}
