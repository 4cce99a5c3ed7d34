package datagram

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// rig is a reader that makes an event of each datagram, and a socket to send to it.
type rig struct {
	*Reader
	out   *sourcetest.Outlet
	peer  net.Conn
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, limit int, out *sourcetest.Outlet) *rig {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	peer, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	r := &rig{Reader: New(conn, sourcetest.NewEnv(t, "src"), Buffer, limit, true), out: out, peer: peer, ended: make(chan error, 1)}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	t.Cleanup(r.stop)
	go func() {
		r.ended <- r.Run(ctx, out, func(late context.Context, data []byte, from netip.AddrPort) error {
			if from.String() != peer.LocalAddr().String() {
				t.Errorf("from %s, want %s", from, peer.LocalAddr())
			}
			b, err := r.Begin(late)
			if err != nil {
				return err
			}
			b.Append(core.Headers{}, data)
			r.End(len(data))
			return nil
		})
	}()
	return r
}

func (r *rig) send(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if _, err := fmt.Fprint(r.peer, i); err != nil {
			t.Fatal(err)
		}
	}
}

// While a batch is sent the next one grows, up to its limit; stopped, the rest
// of the kernel's queue is read as well.
func TestBatches(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Shut()
	r := start(t, 10, out)
	r.send(t, 100)
	out.Open()
	suite.Eventually(t, "all arrive", func() bool { return out.Len() == 100 })
	if n := out.Biggest(); n < 2 || n > 10 {
		t.Errorf("a batch of %d", n)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	for i, b := range out.Bodies() {
		if b != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, b)
		}
	}
}

// When nobody takes what is read the reader ends, also one that waits for room.
func TestOutletFails(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Close(core.ErrClosed)
	r := start(t, 1, out)
	r.send(t, 10)
	if err := <-r.ended; !errors.Is(err, core.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
