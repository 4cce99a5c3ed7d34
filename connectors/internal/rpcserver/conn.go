package rpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
)

// Conn is a connection of a client. One goroutine at a time uses it.
type Conn struct {
	*Service
	Raw  net.Conn  // the socket
	Wire net.Conn  // what is spoken on: at first the socket
	Last time.Time // of the last answer; the source sets it

	held int64 // of the budget, by the request that is being read
}

// handshakeTime is how long a TLS handshake may take.
const handshakeTime = 10 * time.Second

// Handshake puts TLS on the wire, if it is configured. It reports whether the
// connection can be used.
func (c *Conn) Handshake(ctx context.Context) bool {
	if c.secure == nil {
		return true
	}
	t := tls.Server(c.Wire, c.secure)
	hctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := t.HandshakeContext(hctx); err != nil {
		if ctx.Err() == nil {
			c.unsecure.Add(1)
			c.quiet.handshake.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "TLS handshake failed", slog.Any("peer", c.Raw.RemoteAddr()), slog.Any("error", err))
		}
		return false
	}
	c.Wire = t
	return true
}

// Interrupt makes the end of ctx end the wait for the next request, until stop is called.
func (c *Conn) Interrupt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.Raw.SetReadDeadline(time.Unix(1, 0)) })
}

// Begun says that a request has begun to come: it has requestTimeout to arrive.
// An error ends the connection.
func (c *Conn) Begun(ctx context.Context) error { return c.deadline(ctx, time.Now().Add(c.request)) }

// Arrived says that it is there. The end of ctx does not keep it from being answered.
func (c *Conn) Arrived(ctx context.Context) error {
	if err := c.deadline(ctx, time.Time{}); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// deadline says until when the client must have sent what it has begun. The
// order to stop sets one too, perhaps just before: then it is the error.
func (c *Conn) deadline(ctx context.Context, t time.Time) error {
	if c.request > 0 {
		if err := c.Raw.SetReadDeadline(t); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Take takes bytes of the budget for the request that is being read, and reports
// whether there were as many.
func (c *Conn) Take(more int) bool {
	if !c.budget.Take(int64(more), c.held) {
		return false
	}
	c.held += int64(more)
	return true
}

// ErrHeaders is for the client.
var ErrHeaders = errors.New("the headers of the batch are too large (maxRequestBytes): send fewer events at a time")

// TakeHeaders is Take for the headers of a request, which can become larger than
// the request: its frame and they may have twice maxRequestBytes, else the error
// is ErrHeaders. It is busy where the budget has not as many.
func (c *Conn) TakeHeaders(bytes int, busy error) error {
	if c.held+int64(bytes) > 2*c.MaxRequest {
		return ErrHeaders
	}
	if !c.Take(bytes) {
		return busy
	}
	return nil
}

// Done gives back what the request that is being read has of the budget.
func (c *Conn) Done() { c.Give(c.Keep()) }

// Keep leaves what the request that was read has of the budget to the caller,
// who gives it back; the next request begins with nothing.
func (c *Conn) Keep() (held int64) {
	held, c.held = c.held, 0
	return held
}

// Give gives bytes back to the budget. It may be called from any goroutine.
func (v *Service) Give(bytes int64) { v.budget.Give(bytes) }

// recently is how long ago the last answer of a busy client was.
const recently = time.Second

// End ends the connection in good form where it can be, counts and says why it
// could not. err is why no more requests are read: io.EOF, if the client ended
// in order. malformed: what came is no request. answering: answers have just been
// written. Whoever called serve closes the connection.
func (c *Conn) End(ctx context.Context, err error, malformed, answering bool) {
	switch {
	case ctx.Err() != nil:
		if answering || time.Since(c.Last) < recently {
			accept.Linger(c.Wire) // the answers must not be lost with requests that nobody reads any more
		}
	case errors.Is(err, io.EOF):
		if h, ok := c.Wire.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite() // in good form; the connection is closed either way
		}
	case malformed:
		c.Env.Metrics.EventReadFail.Add(1)
		c.quiet.malformed.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "connection closed: what came is no request",
			slog.Any("peer", c.Raw.RemoteAddr()), slog.Any("error", err), slog.Int64("maxRequestBytes", c.MaxRequest))
	default:
		c.Env.Metrics.EventReadFail.Add(1)
		c.quiet.broken.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "connection broke", slog.Any("peer", c.Raw.RemoteAddr()), slog.Any("error", err))
	}
}
