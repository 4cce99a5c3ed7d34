package syslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// UDP is the catalogue entry of syslogudp.
var UDP = core.Type[core.Source]{
	Name: "syslogudp", Doc: "Takes syslog messages (RFC 3164, RFC 5424) over UDP or a unix datagram socket, such as /dev/log.",
	Aliases: []string{"org.apache.flume.source.SyslogUDPSource"},
	New:     func() core.Source { return new(udp) },
}

const (
	maxDatagram = 64 << 10
	udpBuffer   = 1 << 20
	udpBlock    = 256 << 10
	maxSenders  = 1024
	// lastDatagrams bounds what is still read from the kernel's queue at the end.
	lastDatagrams = 1 << 16
)

type udp struct {
	settings

	env   core.Env
	rules *rules
	conn  net.PacketConn
	recv  func([]byte) (int, netip.Addr, error)
	peers *peers
	quiet sample.Log

	// Parsing, by the reader only.
	blk     *core.Block
	end     int
	held    bool
	f       framer
	one     *parser // where senders are not told apart
	parsers map[netip.Addr]*parser

	// The batch that grows while the one before is being sent.
	mu    sync.Mutex
	b     *core.Batch
	bytes int
	limit int
	ready chan struct{} // b is not empty
	taken chan struct{} // b was taken
}

// Keys implements core.Component.
func (s *udp) Keys(k *conf.Keys) { s.keys(k, udpBuffer) }

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
	if s.recvBuffer > 0 {
		if c, ok := s.conn.(interface{ SetReadBuffer(bytes int) error }); ok {
			_ = c.SetReadBuffer(int(s.recvBuffer)) // as much as the system allows
		}
	}
	watchDrops(env.Metrics, s.conn)
	s.peers = newPeers(&s.settings, env.Now)
	s.recv = receiver(s.conn, s.peers.wanted())
	s.f = framer{size: maxDatagram, nul: s.path != ""}
	s.one, s.parsers = nil, make(map[netip.Addr]*parser)
	s.b, s.bytes, s.limit = nil, 0, s.batchSize(env)
	s.ready, s.taken = make(chan struct{}, 1), make(chan struct{}, 1)
	return nil
}

// receiver returns how to read a datagram, and where it came from, without
// allocating, as far as c can do that.
func receiver(c net.PacketConn, wanted bool) func([]byte) (int, netip.Addr, error) {
	if u, ok := c.(interface {
		ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	}); ok {
		return func(b []byte) (int, netip.Addr, error) {
			n, from, err := u.ReadFromUDPAddrPort(b)
			return n, from.Addr().Unmap(), err
		}
	}
	if r, ok := c.(net.Conn); ok && !wanted {
		return func(b []byte) (int, netip.Addr, error) {
			n, err := r.Read(b)
			return n, netip.Addr{}, err
		}
	}
	return func(b []byte) (int, netip.Addr, error) {
		n, from, err := c.ReadFrom(b)
		return n, addrOf(from), err
	}
}

// Close implements core.Source.
func (s *udp) Close() error {
	s.peers.close()
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// Run implements core.Source: this goroutine reads and parses, another one
// sends. While the channel has no room, one more batch is read; then the
// kernel's queue fills, and at last drops, which is counted.
func (s *udp) Run(ctx context.Context, out core.Outlet) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })()
	done := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := s.sendAll(late, &sender{out: out}, done); err != nil {
			fail(err)
			cancel() // nobody takes what the reader has
		}
	})
	err := s.readAll(ctx, late)
	close(done)
	sending.Wait()
	if s.blk != nil {
		s.blk.Release()
		s.blk = nil
	}
	if s.b != nil {
		s.b.Release()
		s.b = nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// readAll reads until ctx ends, and then what the kernel has queued.
func (s *udp) readAll(ctx, late context.Context) error {
	for {
		err := s.read(late)
		switch {
		case err == nil:
		case errors.Is(context.Cause(ctx), context.Canceled):
			s.readLast(late)
			return nil
		case ctx.Err() != nil: // nobody sends any more
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("read: %w", err)
		default:
			// An ICMP answer to somebody, or the like: the socket goes on.
			s.env.Metrics.EventReadFail.Add(1)
			s.quiet.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "read failed", slog.Any("error", err))
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (s *udp) readLast(late context.Context) {
	for range lastDatagrams {
		if s.conn.SetReadDeadline(time.Now().Add(lastSilence/5)) != nil || s.read(late) != nil {
			return
		}
	}
}

// read takes a datagram and adds its events to the batch.
func (s *udp) read(late context.Context) error {
	if s.blk == nil || len(s.blk.Buf)-s.end < maxDatagram {
		if s.blk != nil {
			s.blk.Release()
		}
		s.blk, s.end, s.held = core.NewBlock(udpBlock), 0, false
	}
	n, from, err := s.recv(s.blk.Buf[s.end : s.end+maxDatagram])
	if err != nil {
		return err
	}
	data := s.blk.Buf[s.end : s.end+n]
	s.end += n
	p, events := s.parser(from), false
	for len(data) > 0 {
		line, used, cut, ok := s.f.next(data, true)
		data = data[used:]
		if !ok {
			break
		}
		events = true
		if err := s.add(late, p, line, cut); err != nil {
			return err
		}
	}
	if !events {
		s.env.Metrics.EventReadFail.Add(1)
	}
	return nil
}

// add adds an event to the batch. While that is full it waits.
func (s *udp) add(late context.Context, p *parser, line []byte, cut bool) error {
	s.mu.Lock()
	for s.b != nil && (len(s.b.Events) >= s.limit || s.bytes >= maxBatchBytes) {
		s.mu.Unlock()
		select {
		case <-s.taken:
		case <-late.Done():
			return late.Err()
		}
		s.mu.Lock()
	}
	if s.b == nil {
		s.b, s.held, s.bytes = core.NewBatch(), false, 0
	}
	if !s.held {
		s.b.Use(s.blk)
		s.held = true
	}
	p.event(s.b, line, cut)
	s.bytes += len(line)
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
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

// sendAll sends batches until done is closed and nothing is left.
func (s *udp) sendAll(late context.Context, send *sender, done <-chan struct{}) error {
	for more := true; more; {
		select {
		case <-s.ready:
		case <-done:
			more = false
		}
		s.mu.Lock()
		b := s.b
		s.b = nil
		s.mu.Unlock()
		if b == nil {
			continue
		}
		select {
		case s.taken <- struct{}{}:
		default:
		}
		if err := send.send(late, b); err != nil {
			return err
		}
	}
	return nil
}
