package netcat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "netcat", Doc: "Takes lines over TCP and answers each with OK or FAILED.",
	Aliases: []string{"org.apache.flume.source.NetcatSource"},
	New:     func() core.Source { return new(source) },
}

type source struct {
	bind        string
	port        int
	maxLine     int // UTF-16 units with the newline, as Java counts
	ack         bool
	charset     *charset.Charset
	idle        time.Duration
	connections int

	env     core.Env
	ln      net.Listener
	dropped *metric.Extra
	log     sample.Log
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.String(&s.bind, "bind", "", "Host name or address to listen on.").Required()
	k.Int(&s.port, "port", 0, "Port to listen on; 0 takes any that is free.").Required().Must(conf.Range(0, 65535))
	k.Int(&s.maxLine, "max-line-length", 512, "Longest line, its newline included. A longer one ends the connection.").Must(conf.Min(1)).Unit("characters")
	k.Bool(&s.ack, "ack-every-event", true, "Answer OK to each line. Failures are answered in any case.")
	charset.Key(k, &s.charset, "encoding", "Encoding of the lines and of the answers. Events are UTF-8 always.")
	k.Millis(&s.idle, "idleTimeout", 0, "How long a connection may be silent before it is closed; 0: for ever, as in Flume.").Must(conf.Min(0)).Since("1.0")
	k.Int(&s.connections, "maxConnections", 4096, "Connections open at once; further ones are closed. 0: no limit, as in Flume.").Must(conf.Min(0)).Since("1.0")
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	addr := net.JoinHostPort(s.bind, strconv.Itoa(s.port))
	ln, err := env.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	l := accept.New(ln, env)
	l.Max, l.Refusal = s.connections, "FAILED: too many connections\n"
	s.env, s.ln = env, l
	s.dropped = env.Metrics.Counter("partial_lines_dropped_total", "Connections that ended within a line, which was dropped.")
	return nil
}

// Close implements core.Source.
func (s *source) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// server is one Run of the source.
type server struct {
	*source
	out      core.Outlet
	puts     context.Context // ends when there is no more time to wait for room
	stopping atomic.Bool     // set before the connections get a deadline in the past

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	sessions sync.WaitGroup
}

// Run implements core.Source. When ctx ends nothing more is read; lines that
// were read are put and answered, as long as the drain lasts.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	puts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	v := &server{source: s, out: out, puts: puts, conns: make(map[net.Conn]struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.accept(ctx)
	}()
	<-ctx.Done()
	err := s.Close()
	<-ended
	v.hush()
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.sessions.Wait()
	}()
	drain, end := core.DrainContext(ctx)
	defer end()
	select {
	case <-done:
	case <-drain.Done():
		cut()
		v.each(func(c net.Conn) error { return c.SetWriteDeadline(time.Now().Add(lastWrite)) })
		<-done
	}
	return err
}

const lastWrite = time.Second // for answers when the drain is over

// accept takes connections until the listener is closed.
func (v *server) accept(ctx context.Context) {
	// Its error is that the listener was closed.
	_ = accept.Each(ctx, v.ln, v.env, func(c net.Conn) {
		v.mu.Lock()
		v.conns[c] = struct{}{}
		v.mu.Unlock()
		v.sessions.Go(func() {
			v.serve(c)
			v.mu.Lock()
			delete(v.conns, c)
			v.mu.Unlock()
			_ = c.Close() // all that was to be written is written
		})
	})
}

// hush makes all connections stop reading.
func (v *server) hush() {
	v.stopping.Store(true)
	v.each(func(c net.Conn) error { return c.SetReadDeadline(time.Unix(1, 0)) })
}

// each does f to every open connection; one that fails is closed.
func (v *server) each(f func(net.Conn) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		if f(c) != nil {
			_ = c.Close()
		}
	}
}
