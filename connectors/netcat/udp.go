package netcat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/millrace/millrace/connectors/internal/datagram"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// UDP is the catalogue entry of netcatudp.
var UDP = core.Type[core.Source]{
	Name: "netcatudp", Doc: "Takes lines in UDP datagrams.",
	Aliases: []string{"org.apache.flume.source.NetcatUdpSource"},
	New:     func() core.Source { return new(udp) },
}

type udp struct {
	bind       string
	port       int
	remote     string // header for the sender's address
	batch      int
	recvBuffer int64

	env    core.Env
	conn   net.PacketConn
	reader *datagram.Reader

	// Of the reader only: the last sender, and its headers.
	from    netip.AddrPort
	headers core.Headers
}

// Keys implements core.Component.
func (s *udp) Keys(k *conf.Keys) {
	k.String(&s.bind, "bind", "", "Host name or address to listen on; absent: all addresses.")
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
	k.String(&s.remote, "remoteAddress", "", "Header for the sender's address, in the form that Java writes: /192.0.2.1:42415. Absent: no header.").Alias("remoteAddressHeader")
	k.Int(&s.batch, "batchSize", 1000, "Events put in one transaction, at most. A batch never waits for more.").Must(conf.Min(1)).Unit("events").Since("1.0")
	k.Bytes(&s.recvBuffer, "receiveBufferBytes", datagram.Buffer, "Size of the kernel's receive buffer to ask for; 0: the system's default.").Must(conf.Range(0, 1<<30)).Since("1.0")
}

// Open implements core.Component.
func (s *udp) Open(_ context.Context, env core.Env) (err error) {
	addr := net.JoinHostPort(s.bind, strconv.Itoa(s.port))
	if s.conn, err = env.ListenPacket("udp", addr); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	limit := s.batch
	if env.MaxEvents > 0 {
		limit = min(limit, env.MaxEvents)
	}
	s.env, s.from, s.headers = env, netip.AddrPort{}, core.Headers{}
	s.reader = datagram.New(s.conn, env, s.recvBuffer, limit, s.remote != "")
	return nil
}

// Close implements core.Source.
func (s *udp) Close() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// Run implements core.Source.
func (s *udp) Run(ctx context.Context, out core.Outlet) error { return s.reader.Run(ctx, out, s.take) }

// take makes an event of each line of a datagram; an empty datagram is an empty
// line, as in Flume.
func (s *udp) take(late context.Context, data []byte, from netip.AddrPort) error {
	if s.remote != "" && (from != s.from || s.headers.Len() == 0) {
		s.from, s.headers = from, core.NewHeaders(core.Header{Key: s.remote, Value: javaAddress(from)})
	}
	for more := true; more; {
		var line []byte
		line, data, more = bytes.Cut(data, []byte("\n"))
		b, err := s.reader.Begin(late)
		if err != nil {
			return err
		}
		b.Append(s.headers, line)
		s.reader.End(len(line))
		more = more && len(data) > 0
	}
	return nil
}

// javaAddress writes a as Java's InetSocketAddress does: a slash stands where
// the host's name would, and IPv6 addresses have all their groups.
func javaAddress(a netip.AddrPort) string {
	port := ":" + strconv.Itoa(int(a.Port()))
	ip := a.Addr()
	if !ip.Is6() {
		return "/" + ip.String() + port
	}
	text, bytes := []byte("/["), ip.As16()
	for i := 0; i < len(bytes); i += 2 {
		if i > 0 {
			text = append(text, ':')
		}
		text = strconv.AppendUint(text, uint64(bytes[i])<<8|uint64(bytes[i+1]), 16)
	}
	if zone := ip.Zone(); zone != "" {
		text = append(append(text, '%'), zone...)
	}
	return string(text) + "]" + port
}
