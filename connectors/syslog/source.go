package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

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

type tcp struct {
	settings
	eventSize   int
	maxConns    int
	idleTimeout time.Duration
	tls         tlsconf.Config

	env      core.Env
	rules    *rules
	conf     *tls.Config // nil: no TLS
	listener net.Listener
	peers    *peers
	refused  *metric.Extra
	failed   *metric.Extra
	cut      *metric.Extra
	quiet    struct{ refused, handshake, read, accept sample.Log }
}

// Keys implements core.Component.
func (s *tcp) Keys(k *conf.Keys) {
	s.keys(k, 0)
	k.Int(&s.eventSize, "eventSize", 2500, "Longest message; the rest of a longer one becomes further events.").Must(conf.Range(1, 64<<20)).Unit("bytes")
	k.Int(&s.maxConns, "maxConnections", 10000, "Connections at a time; more are closed at once.").Must(conf.Min(1)).Since("1.0")
	k.Seconds(&s.idleTimeout, "idleTimeout", 24*time.Hour, "A connection that sends nothing for so long is closed; 0: never.").Must(conf.Min(0)).Since("1.0")
	tlsconf.ServerKeys(k, &s.tls)
}

// Open implements core.Component.
func (s *tcp) Open(_ context.Context, env core.Env) (err error) {
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
	network := "tcp"
	if s.path != "" {
		network = "unix"
	}
	if s.listener, err = listen(network, s.address(), env.Listen); err != nil {
		return err
	}
	s.peers = newPeers(&s.settings, env.Now)
	return nil
}

// Close implements core.Source.
func (s *tcp) Close() error {
	s.peers.close()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// Run implements core.Source: a goroutine a connection, and this one accepts.
// An error of the outlet ends all of them.
func (s *tcp) Run(ctx context.Context, out core.Outlet) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	send := &sender{out: out}
	// The listener is closed to end Accept; the socket itself may outlive it.
	defer context.AfterFunc(ctx, func() { _ = s.listener.Close() })()
	var conns sync.WaitGroup
	err := s.accept(ctx, func(nc net.Conn) {
		s.env.Metrics.OpenConnection.Add(1)
		conns.Go(func() {
			defer s.env.Metrics.OpenConnection.Add(-1)
			if err := s.serve(ctx, late, nc, send); err != nil {
				fail(err)
				cancel()
			}
		})
	})
	fail(err)
	conns.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// accept hands over connections until ctx ends.
func (s *tcp) accept(ctx context.Context, start func(net.Conn)) error {
	for pause := time.Duration(0); ; {
		nc, err := s.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			// Too many open files, or a peer that is gone: others are served meanwhile.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.quiet.accept.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "accept failed, trying again", slog.Any("error", err))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		if s.env.Metrics.OpenConnection.Load() >= int64(s.maxConns) {
			_ = nc.Close()
			s.refused.Add(1)
			s.quiet.refused.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "connection refused: too many are open", slog.Int("maxConnections", s.maxConns))
			continue
		}
		start(nc)
	}
}
