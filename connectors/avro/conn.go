package avro

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/rpcserver"
	"github.com/millrace/millrace/core"
)

// conn is a connection of a client.
type conn struct {
	rpcserver.Conn
	src *source
	in  *rpc.Reader
	dec rpc.Decoder

	greeted  bool // the client's protocol is known
	ordered  bool // the client minds the order of its requests
	refusing bool // such a client's request failed: none after it is stored

	slots   chan struct{}
	works   sync.WaitGroup
	running atomic.Int32

	writing sync.Mutex
	buf     []byte
	gone    bool // an answer could not be written
}

// together is how many requests of one connection are stored at once, as in Flume.
const together = 16

// serve reads requests until the connection ends or ctx does, and returns when
// all are answered.
func (s *source) serve(ctx context.Context, nc rpcserver.Conn) {
	if s.filterOn && !s.filter.allows(ctx, nc.Raw.RemoteAddr()) {
		s.denied.Add(1)
		s.refusal.Say(s.Env.Log, s.Env.Now(), slog.LevelWarn, "connection denied by ipFilterRules", slog.Any("peer", nc.Raw.RemoteAddr()))
		return
	}
	c := &conn{Conn: nc, src: s, slots: make(chan struct{}, together)}
	if s.compression == "deflate" {
		c.Wire = rpc.DeflateServer(c.Wire)
	}
	if !c.Handshake(ctx) {
		return
	}
	c.in = rpc.NewReader(c.Wire, int(s.MaxRequest))
	c.in.Grant = c.Take
	c.dec.MaxEvents = s.MaxEvents
	c.dec.Grant = func(bytes int) error { return c.TakeHeaders(bytes, rpc.ErrBusy) }
	stop := c.Interrupt(ctx)
	err := c.run(ctx)
	c.Done()
	waited := c.running.Load() > 0
	c.works.Wait()
	c.in.Release()
	stop()
	c.End(ctx, err, errors.Is(err, rpc.ErrMalformed), waited)
}

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
		if err := c.Begun(ctx); err != nil {
			return err
		}
		frame, err := c.in.Body()
		busy := errors.Is(err, rpc.ErrBusy)
		if err != nil && !busy {
			return err
		}
		if err := c.Arrived(ctx); err != nil {
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
		c.Done()
		if c.silent() {
			return errors.New("its answers are not read")
		}
	}
}

// handle does what a request asks for. What it has of the budget is given back
// when that is done.
func (c *conn) handle(serial uint32, frame []byte) error {
	var greeting []byte
	if !c.greeted {
		rest, answer, known, ordered, err := c.src.known.Greet(frame)
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
		case errors.Is(err, rpcserver.ErrHeaders):
			c.refuse(serial, greeting, err.Error())
		case errors.Is(err, rpc.ErrBusy):
			c.busy(serial, greeting)
		default:
			return err
		}
		return nil
	}
	r.held = c.Keep()
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
		c.Env.Metrics.AppendReceived.Add(1)
		_, err = c.dec.Event(r.b, parameters)
	} else {
		c.Env.Metrics.AppendBatchReceived.Add(1)
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
		err = c.Out.Put(c.Late, r.b)
	} else {
		r.b.Release()
	}
	c.Give(r.held) // before the answer, which may bring the next request at once
	if err == nil {
		if r.method == rpc.Append {
			c.Env.Metrics.AppendAccepted.Add(1)
		} else {
			c.Env.Metrics.AppendBatchAccepted.Add(1)
		}
		c.status(r.serial, r.greeting, rpc.OK)
		return
	}
	if c.ordered {
		c.refusing = true
	}
	stopping := c.Late.Err() != nil || errors.Is(err, core.ErrClosed)
	if !stopping {
		c.NotStored.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "events not stored", slog.Any("error", err))
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
	c.Done() // before the answer, which may bring the next request at once
	c.NotStored.Say(c.Env.Log, c.Env.Now(), slog.LevelWarn, "request answered FAILED", slog.Any("error", rpc.ErrBusy))
	c.refusing = c.refusing || c.ordered
	c.status(serial, greeting, rpc.Failed)
}

// refuse answers a request that will never be taken as it is.
func (c *conn) refuse(serial uint32, greeting []byte, text string) {
	c.Done()
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
	c.Last = time.Now()
	if c.gone {
		return
	}
	c.buf = answer(c.buf[:0])
	if _, err := c.Wire.Write(c.buf); err != nil {
		c.gone = true
	}
}

func (c *conn) silent() bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.gone
}
