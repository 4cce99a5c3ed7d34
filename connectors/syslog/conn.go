package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/millrace/millrace/connectors/internal/flight"
	"github.com/millrace/millrace/core"
)

const (
	handshakeTimeout = 30 * time.Second
	// lull is how long a connection must be silent to give its memory back.
	lull = time.Second
	// At the end a connection is read until it is dry, or so much: the peer may
	// never stop. Where dryness can not be seen, silence that long is taken for it.
	lastBytes   = 16 << 20
	lastSilence = 50 * time.Millisecond
)

// conn is a connection at work, in one goroutine.
type conn struct {
	*tcp
	nc    net.Conn
	in    input
	w     window
	f     framer
	p     *parser
	b     *core.Batch // nil: empty
	held  bool        // b holds the window's block
	bytes int
	limit int
	send  *flight.Sender
	late  context.Context // for what was read; outlives the order to stop
}

// serve reads nc until it ends or ctx does, and closes it. The error is the
// outlet's; what is wrong with the connection is counted and logged.
func (s *tcp) serve(ctx, late context.Context, at *port, nc net.Conn, send *flight.Sender) error {
	// Cancellation wakes a read; run sees then that ctx has ended.
	wake := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	defer wake()
	defer nc.Close()
	if s.recvBuffer > 0 {
		if c, ok := nc.(interface{ SetReadBuffer(bytes int) error }); ok {
			_ = c.SetReadBuffer(int(s.recvBuffer)) // as much as the system allows
		}
	}
	var headers []core.Header
	if s.peers.wanted() {
		headers = s.peers.headers(addrOf(nc.RemoteAddr()))
	}
	c := &conn{
		tcp: s, nc: nc, in: newInput(nc), p: newParser(s.rules, headers), send: send, late: late,
		f: framer{size: s.eventSize, counted: true, nul: s.path != ""}, limit: s.batchSize(s.env),
	}
	if at.charset != nil {
		c.p, c.f.plain = newPortParser(s.rules, at, headers), true
	}
	c.w.need = s.eventSize + 16
	if s.conf != nil {
		t := tls.Server(nc, s.conf)
		if err := s.handshake(ctx, t); err != nil {
			s.failed.Add(1)
			s.quiet.handshake.Say(s.env.Log, s.env.Now(), slog.LevelWarn, "TLS handshake failed", slog.Any("peer", nc.RemoteAddr()), slog.Any("error", err))
			return nil
		}
		c.nc, c.in = t, plainInput{t}
	}
	err := c.run(ctx)
	c.w.release()
	if c.b != nil {
		c.b.Release()
	}
	return err
}

func (s *tcp) handshake(ctx context.Context, t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return t.HandshakeContext(ctx)
}

// outletError tells an error of the outlet from those of the connection.
type outletError struct{ error }

func (e outletError) Unwrap() error { return e.error }

// errIdle ends a connection that was silent for too long.
var errIdle = errors.New("idle")

// run reads and sends until the connection ends or ctx does.
func (c *conn) run(ctx context.Context) error {
	for {
		err := ctx.Err()
		if err == nil {
			_, err = c.take(false)
		}
		if errors.Is(err, errDry) {
			if err := c.flush(); err != nil {
				return err
			}
			err = c.await(ctx)
		}
		switch {
		case err == nil:
		case errors.As(err, new(outletError)):
			return err
		case ctx.Err() != nil:
			return c.last()
		case errors.Is(err, errIdle):
			return c.end(false)
		default:
			return c.ended(err)
		}
	}
}

// await waits for bytes and takes them, when nothing is left to send. In a lull
// it gives memory back. When it returns nil no deadline is set.
func (c *conn) await(ctx context.Context) error {
	c.w.pauses++
	var end time.Time
	if c.idleTimeout > 0 {
		end = time.Now().Add(c.idleTimeout)
	}
	for {
		until := end
		if c.w.large() || c.p.slots != nil {
			if l := time.Now().Add(lull); end.IsZero() || l.Before(end) {
				until = l
			}
		}
		if err := c.deadline(ctx, until); err != nil {
			return err
		}
		_, err := c.take(true)
		switch {
		case err == nil:
			return c.deadline(ctx, time.Time{})
		case ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case !end.IsZero() && !time.Now().Before(end):
			return errIdle
		}
		c.w.shrink()
		c.p.forget()
	}
}

// deadline sets when a read gives up. The order to stop does so too, perhaps
// just before: then it is the error.
func (c *conn) deadline(ctx context.Context, t time.Time) error {
	if err := c.nc.SetReadDeadline(t); err != nil {
		return err
	}
	return ctx.Err()
}

// ended ends a connection that can not be read any more.
func (c *conn) ended(err error) error {
	clean := errors.Is(err, io.EOF)
	if !clean {
		c.env.Metrics.EventReadFail.Add(1)
		c.quiet.read.Say(c.env.Log, c.env.Now(), slog.LevelWarn, "connection broke", slog.Any("peer", c.nc.RemoteAddr()), slog.Any("error", err))
	}
	return c.end(clean)
}

// last takes what the kernel still has, when the source is told to stop.
func (c *conn) last() error {
	_, wait := c.in.(plainInput)
	for n := 0; n < lastBytes; {
		deadline := time.Time{}
		if wait {
			deadline = time.Now().Add(lastSilence)
		}
		if err := c.nc.SetReadDeadline(deadline); err != nil {
			break
		}
		m, err := c.take(wait)
		if errors.As(err, new(outletError)) {
			return err
		}
		if err != nil {
			return c.end(errors.Is(err, io.EOF))
		}
		n += m
	}
	return c.end(false)
}

// end sends all that is left. A message without its end is an event too: whole,
// if the peer has ended the connection in order, else cut.
func (c *conn) end(clean bool) error {
	if err := c.split(true, !clean); err != nil {
		return err
	}
	return c.flush()
}

// take reads once and makes events of what has come. n counts bytes read.
func (c *conn) take(wait bool) (n int, err error) {
	before := c.w.blk
	n, err = c.in.read(&c.w, wait)
	if c.w.blk != before {
		c.held = false
	}
	if n > 0 {
		c.w.end += n
		if failed := c.split(false, false); failed != nil {
			return n, failed
		}
	}
	return n, err
}

// split makes events of the messages in the window, and batches of the events.
// With end the rest is a message; then it is cut if broken.
func (c *conn) split(end, broken bool) error {
	for {
		rest := c.w.rest()
		line, used, cut, ok := c.f.next(rest, end)
		c.w.start += used
		if !ok {
			if c.w.start == c.w.end && c.w.blk != nil && c.w.end == len(c.w.blk.Buf) {
				c.w.release()
				c.held = false
			}
			return nil
		}
		if len(line) == 0 {
			continue
		}
		cut = cut || broken && used == len(rest)
		if cut {
			c.cut.Add(1)
		}
		if err := c.add(line, cut); err != nil {
			return err
		}
	}
}

func (c *conn) add(line []byte, cut bool) error {
	if c.b == nil {
		c.b, c.held, c.bytes = core.NewBatch(), false, 0
	}
	if !c.held {
		c.b.Use(c.w.blk)
		c.held = true
	}
	c.p.event(c.b, line, cut)
	c.bytes += len(line)
	if len(c.b.Events) >= c.limit || c.bytes >= flight.BatchBytes {
		return c.flush()
	}
	return nil
}

// flush sends the batch. It waits as long as the channel has no room: the peer
// is not read meanwhile.
func (c *conn) flush() error {
	b := c.b
	if b == nil {
		return nil
	}
	c.b = nil
	if err := c.send.Send(c.late, b); err != nil {
		return outletError{err}
	}
	return nil
}
