package thrift

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/core"
)

// conn is a connection of a client.
type conn struct {
	*service
	encoder
	raw net.Conn // the socket
	nc  net.Conn // what is spoken on
	in  reader
	dec decoder

	ordered  bool // the client minds the order of its requests
	refusing bool // such a client's request failed: none after it is stored

	held int64 // of the budget, by the request in the works
	buf  []byte
	last time.Time // of the last answer
}

// handshakeTime is how long a TLS handshake may take.
const handshakeTime = 10 * time.Second

// recently is how long ago the last answer of a busy client was.
const recently = time.Second

// serve reads requests until the connection ends or ctx does, and closes it
// when all are answered.
func (v *service) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	c := &conn{service: v, encoder: encoder{v.compact}, raw: raw, nc: raw, dec: decoder{maxEvents: v.maxEvents}}
	if v.secure != nil {
		t := tls.Server(raw, v.secure)
		hctx, cancel := context.WithTimeout(ctx, handshakeTime)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				v.failed.Add(1)
				v.quiet.handshake.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "TLS handshake failed", slog.Any("peer", raw.RemoteAddr()), slog.Any("error", err))
			}
			return
		}
		c.nc = t
	}
	c.in = reader{src: c.nc, max: int(v.maxRequest), grant: c.take}
	c.dec.grant = c.takeHeaders
	// The order to stop ends the wait for the next request.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Unix(1, 0)) })
	err := c.run(ctx)
	c.done()
	c.in.release()
	stop()
	switch {
	case ctx.Err() != nil:
		if time.Since(c.last) < recently {
			accept.Linger(c.nc) // the answers must not be lost with requests that nobody reads any more
		}
	case errors.Is(err, io.EOF):
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite() // in good form; the connection is closed either way
		}
	case errors.Is(err, errMalformed):
		v.env.Metrics.EventReadFail.Add(1)
		v.quiet.malformed.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "connection closed: what came is no request",
			slog.Any("peer", raw.RemoteAddr()), slog.Any("error", err), slog.Int64("maxRequestBytes", v.maxRequest))
	default:
		v.env.Metrics.EventReadFail.Add(1)
		v.quiet.broken.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "connection broke", slog.Any("peer", raw.RemoteAddr()), slog.Any("error", err))
	}
}

// run reads and answers requests, one after the other. It returns why there are
// no more; io.EOF if the client has ended them in order.
func (c *conn) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.in.head(); err != nil {
			return err
		}
		if err := c.deadline(ctx, c.request); err != nil {
			return err
		}
		frame, err := c.in.body()
		busy := errors.Is(err, errBusy)
		if err != nil && !busy {
			return err
		}
		if err := c.deadline(ctx, 0); err != nil && ctx.Err() == nil {
			return err
		}
		if err := c.handle(frame, busy); err != nil {
			return err
		}
	}
}

// deadline says until when the client must have sent what it has begun. The
// order to stop sets one too, perhaps just before: then it is the error.
func (c *conn) deadline(ctx context.Context, d time.Duration) error {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	if c.request > 0 {
		if err := c.raw.SetReadDeadline(t); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take takes bytes of the budget for the request in the works.
func (c *conn) take(more int) bool {
	if !c.budget.Take(int64(more), c.held) {
		return false
	}
	c.held += int64(more)
	return true
}

// takeHeaders is take for the headers of a request, which can become larger than
// the request: its frame and they may have twice maxRequestBytes.
func (c *conn) takeHeaders(bytes int) error {
	if c.held+int64(bytes) > 2*c.maxRequest {
		return &exception{internalError, "the headers of the batch are too large (maxRequestBytes): send fewer events at a time"}
	}
	if !c.take(bytes) {
		return errBusy
	}
	return nil
}

// done gives back what the request in the works has of the budget.
func (c *conn) done() {
	c.budget.Give(c.held)
	c.held = 0
}

// handle does what a request asks for and answers it. An error ends the connection.
func (c *conn) handle(frame []byte, busy bool) error {
	x, err := readCall(frame, c.compact)
	if err != nil {
		return err
	}
	if x.name != methodAppend && x.name != methodBatch {
		return c.except(&x, unknownMethod, fmt.Sprintf("Invalid method name: '%s'", valid(x.name)))
	}
	if busy {
		return c.busy(&x)
	}
	received, accepted := &c.env.Metrics.AppendBatchReceived, &c.env.Metrics.AppendBatchAccepted
	if x.name == methodAppend {
		received, accepted = &c.env.Metrics.AppendReceived, &c.env.Metrics.AppendAccepted
	}
	received.Add(1)
	b := core.NewBatch()
	b.Use(c.in.blk)
	asked, err := c.dec.args(&x, b)
	c.ordered = c.ordered || asked
	if err != nil || c.refusing || len(b.Events) == 0 {
		b.Release()
	}
	var fault *exception
	switch {
	case errors.As(err, &fault):
		return c.except(&x, fault.kind, fault.text)
	case errors.Is(err, errBusy):
		return c.busy(&x)
	case err != nil:
		return err
	case c.refusing:
		return c.fail(&x)
	case len(b.Events) > 0:
		err = c.out.Put(c.late, b)
	}
	if err == nil {
		accepted.Add(1)
		return c.answer(c.status(c.buf[:0], x.name, x.seq, statusOK, asked))
	}
	stopping := c.late.Err() != nil || errors.Is(err, core.ErrClosed)
	if !stopping {
		c.quiet.failed.Say(c.env.Log, c.env.Now(), slog.LevelWarn, "events not stored", slog.Any("error", err))
	}
	switch {
	case errors.Is(err, core.ErrTooLarge):
		return c.except(&x, internalError, "send fewer events at a time: "+err.Error())
	case stopping || errors.Is(err, core.ErrChannelFull):
		return c.fail(&x)
	}
	return c.except(&x, internalError, fmt.Sprintf("Internal error processing %s: %v", x.name, err))
}

// busy answers a request for which there is no memory now.
func (c *conn) busy(x *call) error {
	c.quiet.failed.Say(c.env.Log, c.env.Now(), slog.LevelWarn, "request answered FAILED", slog.Any("error", errBusy))
	return c.fail(x)
}

// fail answers FAILED: try again.
func (c *conn) fail(x *call) error {
	c.refusing = c.ordered
	return c.answer(c.status(c.buf[:0], x.name, x.seq, statusFailed, c.ordered))
}

// except answers that the request can not be carried out.
func (c *conn) except(x *call, kind int32, text string) error {
	c.refusing = c.ordered
	return c.answer(c.exception(c.buf[:0], x.name, x.seq, &exception{kind, text}))
}

// answer sends an answer. A client that does not read is found out by its deadline.
func (c *conn) answer(frame []byte) error {
	c.done() // before the answer, which may bring the next request at once
	c.buf, c.last = frame, time.Now()
	if _, err := c.nc.Write(frame); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
