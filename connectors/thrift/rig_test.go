package thrift

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

var protocols = map[string]encoder{"compact": {true}, "binary": {false}}

// feed is how a test's client sends.
type feed struct {
	dialer
	ahead bool // all at once, else each request when the one before is answered
}

// subject is the source with those keys, fed by f.
func subject(f feed, more ...string) sourcetest.Subject {
	f.connect, f.request = suite.Deadline, suite.Deadline
	return sourcetest.Subject{
		New:  Source.New,
		Keys: func(testing.TB) map[string]string { return keysOf(more...) },
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			return f.send(in.Addr().String(), bodies)
		},
	}
}

// keysOf are the keys of a source, with more.
func keysOf(more ...string) map[string]string {
	keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

// send sends bodies in batches of 7 and returns those that were answered OK.
func (f *feed) send(addr string, bodies []string) (handed []string) {
	c, err := f.dial(context.Background(), addr)
	if err != nil {
		return nil // the source has stopped
	}
	defer func() {
		c.Close()
		<-c.ended
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
		c.Send(events(part...), func(err error) { answers <- answer{part, err} })
		n++
		if (!f.ahead || !c.Ordered()) && !take() {
			break
		}
	}
	for n > 0 {
		take()
	}
	return handed
}

// events are events with those bodies and a header.
func events(bodies ...string) (list []core.Event) {
	h := core.NewHeaders(core.Header{Key: "k", Value: "v"})
	for _, x := range bodies {
		list = append(list, core.Event{Headers: h, Body: []byte(x)})
	}
	return list
}

// start runs a source until the test ends.
func start(t testing.TB, more ...string) *sourcetest.Instance {
	t.Helper()
	s := subject(feed{}, more...)
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	return in
}

func connect(t testing.TB, addr string) net.Conn {
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

// exchange sends what is a request and reads one answer.
func exchange(t testing.TB, c net.Conn, e encoder, request []byte) answer {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	return receive(t, c, e)
}

func receive(t testing.TB, c net.Conn, e encoder) answer {
	t.Helper()
	head := make([]byte, lengthBytes)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, frame); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(frame, e.compact)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ended waits until the far end has closed.
func ended(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shown are events as text, with headers in order of their names.
func shown(events []core.Event) (lines []string) {
	for _, e := range events {
		var h []string
		for k, v := range e.Headers.All() {
			h = append(h, k+"="+v)
		}
		slices.Sort(h)
		lines = append(lines, strings.Join(h, " ")+" | "+string(e.Body))
	}
	return lines
}

// blocked answers every Put when it is told how.
type blocked struct {
	*sourcetest.Outlet
	puts chan put
}

type put struct {
	bodies []string
	answer chan error
}

func newBlocked() *blocked { return &blocked{sourcetest.NewOutlet(), make(chan put)} }

func (b *blocked) Put(_ context.Context, x *core.Batch) error {
	defer x.Release()
	p := put{answer: make(chan error)}
	for _, e := range x.Events {
		p.bodies = append(p.bodies, string(e.Body))
	}
	b.puts <- p
	return <-p.answer
}

// serve runs a source into an outlet of the test's own.
func serve(t testing.TB, out core.Outlet, more ...string) (addr string, env core.Env) {
	t.Helper()
	src := Source.New()
	if _, faults := conf.Bind(src, keysOf(more...)); faults.HasErrors() {
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

// faultsOf are the faults that a component finds in its keys.
func faultsOf(c conf.Binder, keys map[string]string) (text string) {
	_, faults := conf.Bind(c, keys)
	for _, f := range faults {
		text += f.String() + "\n"
	}
	return text
}
