package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Dialer makes connections of a client.
type Dialer struct {
	Connect time.Duration // for a connection with its handshakes
	Request time.Duration // for the answer to a request
	Deflate bool
	Level   int         // of zlib
	TLS     *tls.Config // nil: none. Without a ServerName it is the host's
	Ordered bool        // ask the far end to keep requests in order; see [Conn.Ordered]
}

// maxAnswer is the longest answer: a status, or an error in words.
const maxAnswer = 1 << 20

// Conn is a client's connection. Requests may overlap; each is answered on its
// own. It may be used from several goroutines.
type Conn struct {
	nc      net.Conn
	in      *Reader
	request time.Duration
	ordered bool
	since   time.Time
	ended   chan struct{}

	writing sync.Mutex
	buf     []byte // of one request, with writing

	mu      sync.Mutex
	serial  uint32
	pending []call // oldest first
	err     error  // why it ended
}

type call struct {
	serial uint32
	done   func(error)
	timer  *time.Timer
}

// ErrEnded is what requests come to that find the connection closed.
var ErrEnded = errors.New("connection is closed")

// Dial connects and shakes hands. addr is host:port. An error says what was in
// the works: connect, TLS, handshake.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Connect)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err // it says connect and the address
	}
	c, err := d.establish(ctx, nc, host)
	if err != nil {
		_ = nc.Close() // the error that matters is there already
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	return c, nil
}

func (d *Dialer) establish(ctx context.Context, raw net.Conn, host string) (*Conn, error) {
	// The end of ctx ends reads and writes.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	nc := raw
	if d.Deflate {
		var err error
		if nc, err = DeflateClient(nc, d.Level); err != nil {
			return nil, err
		}
	}
	if d.TLS != nil {
		conf := d.TLS.Clone()
		if conf.ServerName == "" {
			conf.ServerName = host
		}
		t := tls.Client(nc, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		nc = t
	}
	c := &Conn{nc: nc, in: NewReader(nc, maxAnswer), request: d.Request, since: time.Now(), ended: make(chan struct{})}
	h := hello{client: Own, server: Own, ordered: d.Ordered}
	w, err := c.greet(h)
	if err == nil && w.match == matchNone {
		h.text = []byte(protocolText)
		if w.hash != nil {
			h.server = *w.hash
		}
		if w, err = c.greet(h); err == nil && w.match == matchNone {
			err = errors.New("the far end does not take Flume's protocol")
		}
	}
	if err == nil && w.text != nil {
		err = compatible(w.text)
	}
	if err != nil {
		c.in.Release()
		return nil, err
	}
	if !stop() {
		c.in.Release()
		return nil, ctx.Err() // the deadline may be set at any moment
	}
	c.ordered = d.Ordered && w.ordered
	go c.read()
	return c, nil
}

// greet sends an empty message with a handshake and reads the answer.
func (c *Conn) greet(h hello) (w welcome, err error) {
	c.serial++
	ping := appendText(append(appendHello(nil, h), 0), "")
	if _, err := c.nc.Write(appendFrame(nil, c.serial, ping)); err != nil {
		return w, err
	}
	serial, err := c.in.Head()
	if err != nil {
		return w, cut(err)
	}
	if serial != c.serial {
		return w, unexpected(serial)
	}
	frame, err := c.in.Body()
	if err != nil {
		return w, err
	}
	w, _, err = readWelcome(frame)
	w.text = append([]byte(nil), w.text...)
	if len(w.text) == 0 {
		w.text = nil
	}
	return w, err
}

// Ordered reports whether the far end stores the requests of the connection in
// order, and none after one that it did not store.
func (c *Conn) Ordered() bool { return c.ordered }

// Since is when it was made.
func (c *Conn) Since() time.Time { return c.since }

// Err is why the connection ended; nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Ended is closed when the connection has ended and every done has been called.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// keptBuffer is how large a request's buffer may be to be kept for the next.
const keptBuffer = 4 << 20

// Send sends a request, which encode appends, and returns. done is called once,
// from any goroutine, perhaps before Send returns: nil for OK, what [Refused]
// knows for another answer, else why the connection broke. When it breaks, the
// dones of what was not answered are called newest first.
func (c *Conn) Send(m Method, encode func(dst []byte) []byte, done func(error)) {
	c.writing.Lock()
	if c.buf == nil {
		c.buf = make([]byte, 0, 4<<10)
	}
	frame := encode(AppendCall(c.buf[:headBytes], m))
	if c.buf = frame; cap(frame) > keptBuffer {
		c.buf = nil
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		c.writing.Unlock()
		done(fmt.Errorf("%w: %w", ErrEnded, err))
		return
	}
	c.serial++
	serial := c.serial
	putHead(frame, serial)
	timer := time.AfterFunc(c.request, func() {
		c.fail(fmt.Errorf("no answer within %v: %w", c.request, os.ErrDeadlineExceeded))
	})
	c.pending = append(c.pending, call{serial, done, timer})
	c.mu.Unlock()
	_, err := c.nc.Write(frame) // the timer ends it: fail closes the connection
	c.writing.Unlock()
	if err != nil {
		c.fail(err)
	}
}

// read takes answers until the connection ends.
func (c *Conn) read() {
	for {
		err := c.answer()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the far end closed the connection")
			}
			c.fail(err)
			break
		}
	}
	c.in.Release()
	c.finish()
	close(c.ended)
}

func (c *Conn) answer() error {
	serial, err := c.in.Head()
	if err != nil {
		return err
	}
	frame, err := c.in.Body()
	if err != nil {
		return err
	}
	answer := readAnswer(frame)
	if answer != nil && !Refused(answer) {
		return answer
	}
	c.mu.Lock()
	for i := range c.pending {
		if p := c.pending[i]; p.serial == serial && c.err == nil {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			c.mu.Unlock()
			p.timer.Stop()
			p.done(answer)
			return nil
		}
	}
	err = c.err
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return unexpected(serial)
}

// fail ends the connection. The reader then tells those who wait.
func (c *Conn) fail(err error) {
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
func (c *Conn) finish() {
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
func (c *Conn) Close() {
	if c.writing.TryLock() {
		c.mu.Lock()
		idle := c.err == nil && len(c.pending) == 0
		c.mu.Unlock()
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok && idle {
			_ = h.CloseWrite() // in good form; the connection is closed either way
		}
		c.writing.Unlock()
	}
	c.fail(ErrEnded)
}
