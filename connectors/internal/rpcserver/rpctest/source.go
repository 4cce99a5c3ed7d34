package rpctest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// Subject is a source with those keys, fed by a client that sends all at once or,
// if not ahead, each request when the one before is answered.
func Subject(w Wire, ahead bool, more ...string) sourcetest.Subject {
	return sourcetest.Subject{
		New:  w.Source,
		Keys: func(testing.TB) map[string]string { return SourceKeys(more...) },
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			return Send(w, ahead, in.Addr().String(), bodies)
		},
	}
}

// Send sends bodies in batches of 7 and returns those that were answered OK.
func Send(w Wire, ahead bool, addr string, bodies []string) (handed []string) {
	c, err := w.Dial(addr, ahead)
	if err != nil {
		return nil // the source has stopped
	}
	defer func() {
		c.Close()
		<-c.Ended()
	}()
	type answer struct {
		bodies []string
		err    error
	}
	answers := make(chan answer, len(bodies))
	n := 0
	take := func() bool {
		a := <-answers
		if n--; a.err == nil {
			handed = append(handed, a.bodies...)
		}
		return a.err == nil
	}
	for part := range slices.Chunk(bodies, 7) {
		c.Send(Events(part...), func(err error) { answers <- answer{part, err} })
		n++
		if (!ahead || !c.Ordered()) && !take() {
			break
		}
	}
	for n > 0 {
		take()
	}
	return handed
}

// Start runs a source until the test ends.
func Start(t testing.TB, w Wire, more ...string) *sourcetest.Instance {
	t.Helper()
	s := Subject(w, false, more...)
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	return in
}

// Serve runs a source into an outlet of the test's own until the test ends.
func Serve(t testing.TB, w Wire, out core.Outlet, more ...string) (addr string, env core.Env) {
	t.Helper()
	src := w.Source()
	if _, faults := conf.Bind(src, SourceKeys(more...)); faults.HasErrors() {
		t.Fatal(faults)
	}
	env = sourcetest.NewEnv(t, "src")
	env.Listen = func(network, a string) (net.Listener, error) {
		l, err := net.Listen(network, a)
		if err == nil {
			addr = l.Addr().String()
		}
		return l, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := src.Open(ctx, env); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- src.Run(ctx, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return addr, env
}

// Blocked is an outlet of which every Put waits until the test answers it.
type Blocked struct {
	*sourcetest.Outlet
	Puts chan Put
}

// Put is one that waits. Nothing is stored, whatever the answer is.
type Put struct {
	Bodies []string
	Answer chan<- error
}

// NewBlocked makes an outlet on which so many Puts are noted before the test asks for them.
func NewBlocked(ahead int) *Blocked {
	return &Blocked{sourcetest.NewOutlet(), make(chan Put, ahead)}
}

// Put implements core.Outlet.
func (b *Blocked) Put(ctx context.Context, x *core.Batch) error {
	defer x.Release()
	answer := make(chan error)
	p := Put{Answer: answer}
	for _, e := range x.Events {
		p.Bodies = append(p.Bodies, string(e.Body))
	}
	select {
	case b.Puts <- p:
		return <-answer
	case <-ctx.Done(): // nobody asks any more: the test has failed
		return ctx.Err()
	}
}

// Connect connects a socket, on which nothing takes longer than the suite's deadline.
func Connect(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(suite.Deadline)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Ended waits until the far end has closed.
func Ended(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// Client connects a client until the test ends.
func Client(t testing.TB, w Wire, addr string, ordered bool) lane.Conn {
	t.Helper()
	c, err := w.Dial(addr, ordered)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-c.Ended()
	})
	return c
}

// Call sends a request and waits for its answer; nil is OK.
func Call(c lane.Conn, events []core.Event) error {
	got := make(chan error, 1)
	c.Send(events, func(err error) { got <- err })
	return <-got
}
