// Package accept is a listener for sources with clients: it counts the
// connections that are open and refuses those beyond a limit.
package accept

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// Listener accepts connections up to a limit. What is beyond it is closed at
// once: a client that is told can try another agent, one that waits in the
// kernel's queue can not.
type Listener struct {
	net.Listener
	Max   int           // connections open at once; 0: no limit
	Write time.Duration // how long one write to a peer that does not read may take; 0: for ever
	// Refusal is what a refused client is told, where it can be told in clear text.
	Refusal string

	env     core.Env
	refused *metric.Extra
	log     sample.Log
}

// New wraps ln. Close closes ln.
func New(ln net.Listener, env core.Env) *Listener {
	return &Listener{
		Listener: ln, env: env,
		refused: env.Metrics.Counter("connections_refused_total", "Connections closed because too many were open."),
	}
}

// refusalTime is how long telling a refused client may hold up the others. Its
// socket is new, so that the kernel takes the few bytes at once.
const refusalTime = 100 * time.Millisecond

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		open := &l.env.Metrics.OpenConnection
		open.Add(1)
		if l.Max <= 0 || open.Load() <= int64(l.Max) {
			return &conn{Conn: c, l: l}, nil
		}
		open.Add(-1)
		l.refused.Add(1)
		l.log.Say(l.env.Log, l.env.Now(), slog.LevelWarn, "connection refused: too many are open", slog.Int("maxConnections", l.Max))
		if l.Refusal != "" && c.SetDeadline(time.Now().Add(refusalTime)) == nil {
			_, _ = c.Write([]byte(l.Refusal)) // a courtesy: the connection is closed either way
		}
		_ = c.Close()
	}
}

type conn struct {
	net.Conn
	l    *Listener
	once sync.Once
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.l.Write > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.l.Write)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// CloseWrite ends what the peer reads, where the connection can.
func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// Linger ends c so that the peer can still read what was written last: closing
// a socket that holds unread input would throw that away. It reads on for a
// moment; whoever calls it closes c.
func Linger(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, lingerBytes)
}

const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.l.env.Metrics.OpenConnection.Add(-1) })
	return c.Conn.Close()
}
