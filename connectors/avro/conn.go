package avro

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/accept"
	"github.com/millrace/millrace/core"
)

// conn is a connection of a client.
type conn struct {
	*service
	raw net.Conn // the socket
	nc  net.Conn // what is spoken on
	in  *rpc.Reader
	dec rpc.Decoder

	greeted  bool // the client's protocol is known
	ordered  bool // the client minds the order of its requests
	refusing bool // such a client's request failed: none after it is stored

	held    int64 // of the budget, by the request that is being read, not yet stored
	slots   chan struct{}
	works   sync.WaitGroup
	running atomic.Int32

	writing sync.Mutex
	buf     []byte
	gone    bool // an answer could not be written
	last    time.Time
}

// together is how many requests of one connection are stored at once, as in Flume.
const together = 16

// handshakeTime is how long a TLS handshake may take.
const handshakeTime = 10 * time.Second

// serve reads requests until the connection ends or ctx does, and closes it
// when all are answered.
func (v *service) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	if v.filterOn && !v.filter.allows(ctx, raw.RemoteAddr()) {
		v.denied.Add(1)
		v.quiet.denied.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "connection denied by ipFilterRules", slog.Any("peer", raw.RemoteAddr()))
		return
	}
	c := &conn{service: v, raw: raw, nc: raw, slots: make(chan struct{}, together)}
	if v.compression == "deflate" {
		c.nc = rpc.DeflateServer(c.nc)
	}
	if v.secure != nil {
		t := tls.Server(c.nc, v.secure)
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
	c.in = rpc.NewReader(c.nc, int(v.maxRequest))
	c.in.Grant = c.take
	c.dec.MaxEvents, c.dec.Grant = v.maxEvents, c.takeHeaders
	// The order to stop ends the wait for the next request.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Unix(1, 0)) })
	err := c.run(ctx)
	c.done()
	waited := c.running.Load() > 0
	c.works.Wait()
	c.in.Release()
	stop()
	switch {
	case ctx.Err() != nil:
		if waited || time.Since(c.last) < recently {
			accept.Linger(c.nc) // the answers must not be lost with requests that nobody reads any more
		}
	case errors.Is(err, io.EOF):
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite() // in good form; the connection is closed either way
		}
	case errors.Is(err, rpc.ErrMalformed):
		v.env.Metrics.EventReadFail.Add(1)
		v.quiet.malformed.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "connection closed: what came is no request",
			slog.Any("peer", raw.RemoteAddr()), slog.Any("error", err), slog.Int64("maxRequestBytes", v.maxRequest))
	default:
		v.env.Metrics.EventReadFail.Add(1)
		v.quiet.broken.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "connection broke", slog.Any("peer", raw.RemoteAddr()), slog.Any("error", err))
	}
}

// recently is how long ago the last answer of a busy client was.
const recently = time.Second

// run reads and handles requests. It returns why there are no more; io.EOF if
// the client has ended them in order.
func (c *conn) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		serial, err := c.in.Head()
		if err != nil {
			return err
		}
		if err := c.deadline(ctx, c.request); err != nil {
			return err
		}
		frame, err := c.in.Body()
		busy := errors.Is(err, rpc.ErrBusy)
		if err != nil && !busy {
			return err
		}
		if err := c.deadline(ctx, 0); err != nil && ctx.Err() == nil {
			return err
		}
		if busy {
			if !c.greeted {
				return fmt.Errorf("its first request: %w (maxPendingBytes)", rpc.ErrBusy)
			}
			c.busy(serial, nil)
		} else if err := c.handle(serial, frame); err != nil {
			return err
		}
		c.done()
		if c.silent() {
			return errors.New("its answers are not read")
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

// take takes bytes of the budget for the request that is being read.
func (c *conn) take(more int) bool {
	if !c.budget.Take(int64(more), c.held) {
		return false
	}
	c.held += int64(more)
	return true
}

// errHeaders is for the client.
var errHeaders = errors.New("the headers of the batch are too large (maxRequestBytes): send fewer events at a time")

// takeHeaders is take for the headers of a request, which can become larger than
// the request: its frame and they may have twice maxRequestBytes.
func (c *conn) takeHeaders(bytes int) error {
	if c.held+int64(bytes) > 2*c.maxRequest {
		return errHeaders
	}
	if !c.take(bytes) {
		return rpc.ErrBusy
	}
	return nil
}

// done gives back what the request that is being read has of the budget.
func (c *conn) done() {
	c.budget.Give(c.held)
	c.held = 0
}

// handle does what a request asks for. What it has of the budget is given back
// when that is done.
func (c *conn) handle(serial uint32, frame []byte) error {
	var greeting []byte
	if !c.greeted {
		rest, answer, known, ordered, err := c.known.Greet(frame)
		if err != nil {
			return err
		}
		if !known {
			c.write(func(dst []byte) []byte { return rpc.AppendGreeting(dst, serial, answer) })
			return nil
		}
		c.greeted, c.ordered, greeting, frame = true, ordered, answer, rest
	}
	m, parameters, err := rpc.ReadCall(frame)
	if err != nil {
		return err
	}
	switch {
	case m == rpc.Ping && greeting != nil:
		c.write(func(dst []byte) []byte { return rpc.AppendGreeting(dst, serial, greeting) })
		return nil
	case m == rpc.Ping:
		return fmt.Errorf("%w: an empty message after the handshake", rpc.ErrMalformed)
	case m == rpc.Other:
		c.error(serial, greeting, "no such message: there are append and appendBatch")
		return nil
	case c.refusing:
		c.status(serial, greeting, rpc.Failed)
		return nil
	}
	r := &request{serial: serial, greeting: greeting, method: m, b: core.NewBatch()}
	if err := c.decode(r, parameters); err != nil {
		r.b.Release()
		switch {
		case errors.As(err, new(*rpc.TooManyError)):
			c.refuse(serial, greeting, err.Error()+" (maxRequestEvents): send fewer at a time")
		case errors.Is(err, errHeaders):
			c.refuse(serial, greeting, err.Error())
		case errors.Is(err, rpc.ErrBusy):
			c.busy(serial, greeting)
		default:
			return err
		}
		return nil
	}
	r.held, c.held = c.held, 0
	if c.ordered || c.running.Load() == 0 && !c.in.More() {
		c.store(r)
		return nil
	}
	c.slots <- struct{}{}
	c.running.Add(1)
	c.works.Go(func() {
		c.store(r)
		c.running.Add(-1)
		<-c.slots
	})
	return nil
}

// request is one that was read.
type request struct {
	serial   uint32
	greeting []byte
	method   rpc.Method
	held     int64
	b        *core.Batch
}

func (c *conn) decode(r *request, parameters []byte) (err error) {
	if r.method == rpc.Append {
		c.env.Metrics.AppendReceived.Add(1)
		_, err = c.dec.Event(r.b, parameters)
	} else {
		c.env.Metrics.AppendBatchReceived.Add(1)
		_, err = c.dec.Events(r.b, parameters)
	}
	if blk := c.in.Block(); blk != nil {
		r.b.Use(blk)
	}
	return err
}

// store puts the events of a request and answers it.
func (c *conn) store(r *request) {
	var err error
	if len(r.b.Events) > 0 {
		err = c.out.Put(c.late, r.b)
	} else {
		r.b.Release()
	}
	c.budget.Give(r.held) // before the answer, which may bring the next request at once
	if err == nil {
		if r.method == rpc.Append {
			c.env.Metrics.AppendAccepted.Add(1)
		} else {
			c.env.Metrics.AppendBatchAccepted.Add(1)
		}
		c.status(r.serial, r.greeting, rpc.OK)
		return
	}
	if c.ordered {
		c.refusing = true
	}
	stopping := c.late.Err() != nil || errors.Is(err, core.ErrClosed)
	if !stopping {
		c.quiet.failed.Say(c.env.Log, c.env.Now(), slog.LevelWarn, "events not stored", slog.Any("error", err))
	}
	switch full := errors.Is(err, core.ErrChannelFull); {
	case errors.Is(err, core.ErrTooLarge):
		c.error(r.serial, r.greeting, "send fewer events at a time: "+err.Error())
	case core.IsPermanent(err), r.method == rpc.Append && !full && !stopping:
		c.error(r.serial, r.greeting, "events not stored: "+err.Error())
	default:
		c.status(r.serial, r.greeting, rpc.Failed)
	}
}

// busy answers a request for which there is no memory now.
func (c *conn) busy(serial uint32, greeting []byte) {
	c.done() // before the answer, which may bring the next request at once
	c.quiet.failed.Say(c.env.Log, c.env.Now(), slog.LevelWarn, "request answered FAILED", slog.Any("error", rpc.ErrBusy))
	c.refusing = c.refusing || c.ordered
	c.status(serial, greeting, rpc.Failed)
}

// refuse answers a request that will never be taken as it is.
func (c *conn) refuse(serial uint32, greeting []byte, text string) {
	c.done()
	c.refusing = c.ordered
	c.error(serial, greeting, text)
}

func (c *conn) status(serial uint32, greeting []byte, s rpc.Status) {
	c.write(func(dst []byte) []byte { return rpc.AppendStatus(dst, serial, greeting, s) })
}

func (c *conn) error(serial uint32, greeting []byte, text string) {
	c.write(func(dst []byte) []byte { return rpc.AppendError(dst, serial, greeting, text) })
}

// write sends an answer. A client that does not read is found out by its deadline.
func (c *conn) write(answer func(dst []byte) []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.last = time.Now()
	if c.gone {
		return
	}
	c.buf = answer(c.buf[:0])
	if _, err := c.nc.Write(c.buf); err != nil {
		c.gone = true
	}
}

func (c *conn) silent() bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.gone
}
