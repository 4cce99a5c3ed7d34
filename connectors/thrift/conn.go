package thrift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/connectors/internal/rpcserver"
	"github.com/millrace/millrace/core"
)

// conn is a connection of a client.
type conn struct {
	rpcserver.Conn
	encoder
	in  reader
	dec decoder

	ordered  bool // the client minds the order of its requests
	refusing bool // such a client's request failed: none after it is stored

	buf []byte
}

// serve reads requests until the connection ends or ctx does, and returns when
// all are answered.
func (s *source) serve(ctx context.Context, nc rpcserver.Conn) {
	c := &conn{Conn: nc, encoder: encoder{s.compact}, dec: decoder{maxEvents: s.MaxEvents}}
	if !c.Handshake(ctx) {
		return
	}
	c.in = reader{src: c.Wire, max: int(s.MaxRequest), grant: c.Take}
	c.dec.grant = func(bytes int) error { return c.TakeHeaders(bytes, errBusy) }
	stop := c.Interrupt(ctx)
	err := c.run(ctx)
	c.Done()
	c.in.release()
	stop()
	c.End(ctx, err, errors.Is(err, errMalformed), false)
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
		if err := c.Begun(ctx); err != nil {
			return err
		}
		frame, err := c.in.body()
		busy := errors.Is(err, errBusy)
		if err != nil && !busy {
			return err
		}
		if err := c.Arrived(ctx); err != nil {
			return err
		}
		if err := c.handle(frame, busy); err != nil {
			return err
		}
	}
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
	received, accepted := &c.Env.Metrics.AppendBatchReceived, &c.Env.Metrics.AppendBatchAccepted
	if x.name == methodAppend {
		received, accepted = &c.Env.Metrics.AppendReceived, &c.Env.Metrics.AppendAccepted
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
	case errors.Is(err, rpcserver.ErrHeaders):
		return c.except(&x, internalError, err.Error())
	case errors.Is(err, errBusy):
		return c.busy(&x)
	case err != nil:
		return err
	case c.refusing:
		return c.fail(&x)
	case len(b.Events) > 0:
		err = c.Out.Put(c.Late, b)
	}
	if err == nil {
		accepted.Add(1)
		return c.answer(c.status(c.buf[:0], x.name, x.seq, statusOK, asked))
	}
	stopping := c.Late.Err() != nil || errors.Is(err, core.ErrClosed)
	if !stopping {
		c.NotStored.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "events not stored", slog.Any("error", err))
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
	c.NotStored.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "request answered FAILED", slog.Any("error", errBusy))
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
	c.Done() // before the answer, which may bring the next request at once
	c.buf, c.Last = frame, time.Now()
	if _, err := c.Wire.Write(frame); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
