package syslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/millrace/millrace/connectors/internal/datagram"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// UDP is the catalogue entry of syslogudp.
var UDP = core.Type[core.Source]{
	Name: "syslogudp", Doc: "Takes syslog messages (RFC 3164, RFC 5424) over UDP or a unix datagram socket, such as /dev/log.",
	Aliases: []string{"org.apache.flume.source.SyslogUDPSource"},
	New:     func() core.Source { return new(udp) },
}

const maxSenders = 1024

type udp struct {
	settings

	env    core.Env
	rules  *rules
	conn   net.PacketConn
	reader *datagram.Reader
	peers  *peers

	// Parsing, by the reader only.
	f       framer
	one     *parser // where senders are not told apart
	parsers map[netip.Addr]*parser
}

// Keys implements core.Component.
func (s *udp) Keys(k *conf.Keys) { s.keys(k, datagram.Buffer) }

// Open implements core.Component.
func (s *udp) Open(_ context.Context, env core.Env) (err error) {
	s.env, s.rules = env, s.settings.rules(env)
	network := "udp"
	if s.path != "" {
		network = "unixgram"
	}
	if s.conn, err = listen(network, s.address(), env.ListenPacket); err != nil {
		return err
	}
	s.peers = newPeers(&s.settings, env.Now)
	s.reader = datagram.New(s.conn, env, s.recvBuffer, s.batchSize(env), s.peers.wanted())
	s.f = framer{size: datagram.Max, nul: s.path != ""}
	s.one, s.parsers = nil, make(map[netip.Addr]*parser)
	return nil
}

// Close implements core.Source.
func (s *udp) Close() error {
	s.peers.close()
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// Run implements core.Source.
func (s *udp) Run(ctx context.Context, out core.Outlet) error { return s.reader.Run(ctx, out, s.take) }

// take makes events of a datagram.
func (s *udp) take(late context.Context, data []byte, from netip.AddrPort) error {
	p, events := s.parser(from.Addr()), false
	for len(data) > 0 {
		line, used, cut, ok := s.f.next(data, true)
		data = data[used:]
		if !ok {
			break
		}
		events = true
		b, err := s.reader.Begin(late)
		if err != nil {
			return err
		}
		p.event(b, line, cut)
		s.reader.End(len(line))
	}
	if !events {
		s.env.Metrics.EventReadFail.Add(1)
	}
	return nil
}

// parser returns the one for messages of that sender.
func (s *udp) parser(from netip.Addr) *parser {
	if !s.peers.wanted() {
		if s.one == nil {
			s.one = newParser(s.rules, nil)
		}
		return s.one
	}
	p := s.parsers[from]
	if p == nil || p.stale(s.env.Now()) {
		if len(s.parsers) >= maxSenders {
			clear(s.parsers)
		}
		p = newParser(s.rules, s.peers.headers(from))
		p.until = s.env.Now().Add(nameAge)
		s.parsers[from] = p
	}
	return p
}
