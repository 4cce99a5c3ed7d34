// Package datagram reads a datagram socket into batches, for sources whose
// senders hear no answer and can not be made to wait.
//
//	socket ─ Reader ─ datagram ─ the source's function ─ Begin, events, End ─┐
//	                                              the batch that grows ◄─────┘
//	another goroutine:  takes it ─ flight.Sender ─ Outlet.Send
//
// While one batch is sent the next one grows, so nothing waits for company. If
// that is full too, nothing is read; then the kernel's queue fills and at last
// drops, which is counted where the system tells.
package datagram

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/flight"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
)

const (
	// Max is the longest datagram.
	Max = 64 << 10
	// Buffer is the kernel's receive buffer to ask for where the user does not say.
	Buffer = 1 << 20

	block = 256 << 10
	// At the end the kernel's queue is read until it is empty, or so much: the
	// senders may never stop. Silence that long is taken for the end.
	lastDatagrams = 1 << 16
	lastSilence   = 10 * time.Millisecond
)

// Handle makes events of a datagram, with Reader.Begin and End. data is memory
// that the batch holds. An error of Begin is to be returned.
type Handle func(late context.Context, data []byte, from netip.AddrPort) error

// Reader reads one socket.
type Reader struct {
	conn  net.PacketConn
	env   core.Env
	recv  func([]byte) (int, netip.AddrPort, error)
	limit int
	quiet sample.Log

	// Of the reading goroutine.
	blk  *core.Block
	end  int
	held bool // b holds blk

	// The batch that grows while the one before is being sent.
	mu    sync.Mutex
	b     *core.Batch // nil: empty
	bytes int
	ready chan struct{} // b is not empty
	taken chan struct{} // b was taken
}

// New returns a reader of conn, which stays the caller's to close. buffer is
// the kernel's receive buffer to ask for, 0: the system's default; limit is how
// many events a batch may have. Without senders Handle need not be told where a
// datagram came from, which costs an allocation on unix sockets.
func New(conn net.PacketConn, env core.Env, buffer int64, limit int, senders bool) *Reader {
	if buffer > 0 {
		if c, ok := conn.(interface{ SetReadBuffer(bytes int) error }); ok {
			_ = c.SetReadBuffer(int(buffer)) // as much as the system allows
		}
	}
	watchDrops(env.Metrics, conn)
	return &Reader{
		conn: conn, env: env, limit: limit, recv: receiver(conn, senders),
		ready: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
}

// receiver returns how to read a datagram, and where it came from, without
// allocating, as far as c can do that.
func receiver(c net.PacketConn, senders bool) func([]byte) (int, netip.AddrPort, error) {
	if u, ok := c.(interface {
		ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	}); ok {
		return func(b []byte) (int, netip.AddrPort, error) {
			n, from, err := u.ReadFromUDPAddrPort(b)
			return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
		}
	}
	if r, ok := c.(net.Conn); ok && !senders {
		return func(b []byte) (int, netip.AddrPort, error) {
			n, err := r.Read(b)
			return n, netip.AddrPort{}, err
		}
	}
	return func(b []byte) (int, netip.AddrPort, error) {
		n, from, err := c.ReadFrom(b)
		if err != nil || from == nil {
			return n, netip.AddrPort{}, err
		}
		at, _ := netip.ParseAddrPort(from.String()) // a unix socket has none
		return n, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
	}
}

// Run reads until ctx ends, and then what the kernel has queued. An error of
// the outlet ends it too.
func (r *Reader) Run(ctx context.Context, out core.Outlet, handle Handle) error {
	late, cancel := core.LateContext(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := r.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) })()
	done := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := r.sendAll(late, &flight.Sender{Out: out}, done); err != nil {
			fail(err)
			cancel() // nobody takes what the reader has
		}
	})
	err := r.readAll(ctx, late, handle)
	close(done)
	sending.Wait()
	if r.blk != nil {
		r.blk.Release()
		r.blk = nil
	}
	if r.b != nil {
		r.b.Release()
		r.b = nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (r *Reader) readAll(ctx, late context.Context, handle Handle) error {
	for {
		err := r.read(late, handle)
		switch {
		case err == nil:
		case errors.Is(context.Cause(ctx), context.Canceled):
			r.readLast(late, handle)
			return nil
		case ctx.Err() != nil: // nobody sends any more
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("read: %w", err)
		default:
			// An ICMP answer to somebody, or the like: the socket goes on.
			r.env.Metrics.EventReadFail.Add(1)
			r.quiet.Say(r.env.Log, r.env.Now(), slog.LevelWarn, "read failed", slog.Any("error", err))
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (r *Reader) readLast(late context.Context, handle Handle) {
	for range lastDatagrams {
		if r.conn.SetReadDeadline(time.Now().Add(lastSilence)) != nil || r.read(late, handle) != nil {
			return
		}
	}
}

// read takes a datagram.
func (r *Reader) read(late context.Context, handle Handle) error {
	if r.blk == nil || len(r.blk.Buf)-r.end < Max {
		if r.blk != nil {
			r.blk.Release()
		}
		r.blk, r.end, r.held = core.NewBlock(block), 0, false
	}
	n, from, err := r.recv(r.blk.Buf[r.end : r.end+Max])
	if err != nil {
		return err
	}
	data := r.blk.Buf[r.end : r.end+n : r.end+n]
	r.end += n
	return handle(late, data, from)
}

// Begin returns the batch that events of the datagram at hand go to. While it
// is full it waits. End must follow.
func (r *Reader) Begin(late context.Context) (*core.Batch, error) {
	r.mu.Lock()
	for r.b != nil && (len(r.b.Events) >= r.limit || r.bytes >= flight.BatchBytes) {
		r.mu.Unlock()
		select {
		case <-r.taken:
		case <-late.Done():
			return nil, late.Err()
		}
		r.mu.Lock()
	}
	if r.b == nil {
		r.b, r.held, r.bytes = core.NewBatch(), false, 0
	}
	if !r.held {
		r.b.Use(r.blk)
		r.held = true
	}
	return r.b, nil
}

// End says that an event of n bytes was added to what Begin has returned.
func (r *Reader) End(n int) {
	r.bytes += n
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// sendAll sends batches until done is closed and nothing is left.
func (r *Reader) sendAll(late context.Context, send *flight.Sender, done <-chan struct{}) error {
	for more := true; more; {
		select {
		case <-r.ready:
		case <-done:
			more = false
		}
		r.mu.Lock()
		b := r.b
		r.b = nil
		r.mu.Unlock()
		if b == nil {
			continue
		}
		select {
		case r.taken <- struct{}{}:
		default:
		}
		if err := send.Send(late, b); err != nil {
			return err
		}
	}
	return nil
}
