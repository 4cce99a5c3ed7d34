package thrift

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// dialer makes connections of a client.
type dialer struct {
	connect time.Duration // for a connection, with its TLS handshake
	request time.Duration // for the answer to a request
	compact bool
	ordered bool        // ask the far end to keep requests in order
	tls     *tls.Config // nil: none. Without a ServerName it is the host's
}

// maxAnswer is the longest answer: a status, or an error in words.
const maxAnswer = 1 << 20

// client is a client's connection. Requests may overlap; they are answered in
// their order. It may be used from several goroutines.
type client struct {
	encoder
	nc      net.Conn
	in      reader
	request time.Duration
	since   time.Time
	ended   chan struct{}

	writing sync.Mutex
	buf     []byte // of one request, with writing
	seq     int32  // of the last request, with writing
	ask     bool   // for order, in the first request

	mu      sync.Mutex
	pending []pending // oldest first
	ordered bool      // the far end has promised it
	err     error     // why it ended
}

type pending struct {
	seq   int32
	done  func(error)
	timer *time.Timer
}

// errEnded is what requests come to that find the connection closed.
var errEnded = errors.New("connection is closed")

// dial connects. addr is host:port.
func (d *dialer) dial(ctx context.Context, addr string) (*client, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.connect)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err // it says dial and the address
	}
	if d.tls != nil {
		conf := d.tls.Clone()
		if conf.ServerName == "" {
			conf.ServerName = host
		}
		t := tls.Client(nc, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close() // the error that matters is there already
			return nil, fmt.Errorf("handshake with %s: %w", addr, err)
		}
		nc = t
	}
	c := &client{
		encoder: encoder{d.compact}, nc: nc, in: reader{src: nc, max: maxAnswer}, request: d.request, since: time.Now(),
		ended: make(chan struct{}), ask: d.ordered,
	}
	go c.read()
	return c, nil
}

// Since is when it was made.
func (c *client) Since() time.Time { return c.since }

// Ended is closed when the connection has ended and every done has been called.
func (c *client) Ended() <-chan struct{} { return c.ended }

// Ordered reports whether the far end stores the requests of the connection
// in order, and none after one that it did not store.
func (c *client) Ordered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ordered
}

// Err is why the connection ended; nil while it has not.
func (c *client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// keptBuffer is how large a request's buffer may be to be kept for the next.
const keptBuffer = 4 << 20

// Send sends a request and returns. done is called once, from any goroutine,
// perhaps before Send returns: nil for OK, what [refused] knows for another
// answer, else why the connection broke. When it breaks, the dones of what was
// not answered are called newest first.
func (c *client) Send(events []core.Event, done func(error)) {
	c.writing.Lock()
	c.seq = c.seq%math.MaxInt32 + 1 // as Java, from 1
	seq := c.seq
	frame := c.batch(c.buf[:0], seq, events, c.ask && seq == 1)
	if c.buf = frame; cap(frame) > keptBuffer {
		c.buf = nil
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		c.writing.Unlock()
		done(fmt.Errorf("%w: %w", errEnded, err))
		return
	}
	timer := time.AfterFunc(c.request, func() {
		c.fail(fmt.Errorf("no answer within %v: %w", c.request, os.ErrDeadlineExceeded))
	})
	c.pending = append(c.pending, pending{seq, done, timer})
	c.mu.Unlock()
	_, err := c.nc.Write(frame) // the timer ends it: fail closes the connection
	c.writing.Unlock()
	if err != nil {
		c.fail(err)
	}
}

// read takes answers until the connection ends.
func (c *client) read() {
	for {
		if err := c.answer(); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the far end closed the connection")
			}
			c.fail(err)
			break
		}
	}
	c.in.release()
	c.finish()
	close(c.ended)
}

func (c *client) answer() error {
	if err := c.in.head(); err != nil {
		return err
	}
	frame, err := c.in.body()
	if err != nil {
		return err
	}
	a, err := readAnswer(frame, c.compact)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	if len(c.pending) == 0 || c.pending[0].seq != a.seq {
		c.mu.Unlock()
		return fmt.Errorf("answer with number %d, which is not that of the oldest request", a.seq)
	}
	p := c.pending[0]
	c.pending = append(c.pending[:0], c.pending[1:]...)
	c.ordered = c.ordered || a.ordered && c.ask
	c.mu.Unlock()
	p.timer.Stop()
	p.done(a.err)
	return nil
}

// fail ends the connection. The reader then tells those who wait.
func (c *client) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	c.mu.Unlock()
	if first {
		_ = c.nc.Close() // nothing is sent any more
	}
}

// finish calls the dones of what was not answered.
func (c *client) finish() {
	c.mu.Lock()
	left, err := c.pending, c.err
	c.pending = nil
	c.mu.Unlock()
	for i := len(left) - 1; i >= 0; i-- {
		left[i].timer.Stop()
		left[i].done(err)
	}
}

// Close ends the connection; what is not answered fails. It does not wait: see Ended.
func (c *client) Close() {
	if c.writing.TryLock() {
		c.mu.Lock()
		idle := c.err == nil && len(c.pending) == 0
		c.mu.Unlock()
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok && idle {
			_ = h.CloseWrite() // in good form; the connection is closed either way
		}
		c.writing.Unlock()
	}
	c.fail(errEnded)
}
