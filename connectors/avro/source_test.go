package avro

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// subject is the source with those keys, fed by d.
func subject(more map[string]string, d rpc.Dialer) sourcetest.Subject {
	d.Connect, d.Request = suite.Deadline, suite.Deadline
	return sourcetest.Subject{
		New: Source.New,
		Keys: func(testing.TB) map[string]string {
			keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
			for k, v := range more {
				keys[k] = v
			}
			return keys
		},
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			return feed(in.Addr().String(), &d, bodies)
		},
	}
}

// feed sends bodies in batches of 7, one after the other, or, with order, all at once.
func feed(addr string, d *rpc.Dialer, bodies []string) (handed []string) {
	c, err := d.Dial(context.Background(), addr)
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
		c.Send(rpc.AppendBatch, func(dst []byte) []byte { return encode(dst, part...) }, func(err error) { answers <- answer{part, err} })
		n++
		if !d.Ordered && !take() {
			break
		}
	}
	for n > 0 {
		take()
	}
	return handed
}

func encode(dst []byte, bodies ...string) []byte {
	b := core.NewBatch()
	defer b.Release()
	for _, x := range bodies {
		b.Copy(core.NewHeaders(core.Header{Key: "k", Value: "v"}), []byte(x))
	}
	return rpc.AppendEvents(dst, b.Events)
}

// flume: TestAvroSource testLifecycle
func TestSuite(t *testing.T) {
	sourcetest.Run(t, subject(nil, rpc.Dialer{}))
}

func TestSuiteOrdered(t *testing.T) {
	sourcetest.Run(t, subject(nil, rpc.Dialer{Ordered: true}))
}

func TestSuiteDeflate(t *testing.T) {
	sourcetest.Run(t, subject(map[string]string{"compression-type": "deflate"}, rpc.Dialer{Deflate: true, Level: 6}))
}

func start(t testing.TB, more map[string]string) *sourcetest.Instance {
	t.Helper()
	s := subject(more, rpc.Dialer{})
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	return in
}

func connect(t testing.TB, in *sourcetest.Instance) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(suite.Deadline)); err != nil {
		t.Fatal(err)
	}
	return c
}

// talk sends what a client has written, each write when the one before is
// answered, and returns all that comes back.
func talk(t testing.TB, in *sourcetest.Instance, text []byte, deflated bool, writes ...int) (answers []byte) {
	t.Helper()
	c := connect(t, in)
	var back io.Reader = c
	if deflated {
		back = inflated(c)
	}
	back = io.TeeReader(back, writerFunc(func(p []byte) { answers = append(answers, p...) }))
	for i, n := range append(writes, len(text)) {
		n = min(n, len(text))
		if _, err := c.Write(text[:n]); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
		if i < len(writes) {
			if _, _, err := readFrame(back); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, back); err != nil {
		t.Fatal(err)
	}
	return answers
}

type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("rpc/testdata", name))
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

// What Flume's own clients have sent is answered as Flume's own source has answered it, byte for byte.
func TestRecorded(t *testing.T) {
	a := []string{
		"host=web-1 timestamp=1700000000000 | hello", "k=v1 | one", "k=v2 topic=t | two é世界", " | ", " | ",
	}
	var b []string
	for i := range 5 {
		b = append(b, fmt.Sprintf("host=web-%d key=k%d timestamp=%d | line %d 世", i%2, i, 1700000000000+1000*i, i))
	}
	for _, x := range []struct {
		name, answers string
		keys          map[string]string
		writes        []int // that are answered
		want          []string
	}{
		{"avro-plain", "avro-plain", nil, []int{102, 72, 26}, a},
		{"avro-deflate", "avro-plain", map[string]string{"compression-type": "deflate"}, []int{84, 63, 16}, a},
		{"avro-sink", "avro-sink", nil, []int{341}, b},
		{"avro-handshake-none", "avro-handshake-none", nil, []int{57}, nil},
		{"log4j2-flume", "log4j2-flume", nil, []int{199, 930}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := start(t, x.keys)
			got := talk(t, in, recorded(t, x.name+".c2s.bin"), x.keys != nil, x.writes...)
			if want := recorded(t, x.answers+".s2c.bin"); !bytes.Equal(got, want) {
				t.Errorf("answer\n% x, Flume's\n% x", got, want)
			}
			events := in.Out.Events()
			if x.name != "log4j2-flume" {
				if got := shown(events); !slices.Equal(got, x.want) {
					t.Errorf("events %q, want %q", got, x.want)
				}
				return
			}
			if len(events) != 2 {
				t.Fatalf("%d events", len(events))
			}
			for _, name := range []string{"timeStamp", "guId", "requestId"} {
				if events[0].Headers.Value(name) == "" {
					t.Errorf("no header %s in %v", name, shown(events))
				}
			}
		})
	}
}

// frame is a frame of those pieces.
func frame(serial uint32, pieces ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, serial)
	b = binary.BigEndian.AppendUint32(b, uint32(len(pieces)))
	for _, p := range pieces {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	return b
}

func hello(client rpc.Hash) []byte {
	b := append(client[:], 0)
	b = append(b, rpc.Own[:]...)
	return append(b, 2, 0)
}

func batch(bodies ...string) []byte {
	return encode(rpc.AppendCall(nil, rpc.AppendBatch), bodies...)
}

// A frame that is none, or no request, ends its connection; another one goes on.
func TestMalformed(t *testing.T) {
	whole := func(text ...[]byte) []byte { return frame(1, slices.Concat(text...)) }
	own := hello(rpc.Own)
	for name, text := range map[string][]byte{
		"no pieces":            frame(1),
		"too many pieces":      {0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff},
		"too long":             {0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff},
		"negative":             {0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
		"longer than allowed":  whole(own, batch(strings.Repeat("x", 5000))),
		"HTTP":                 []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeros":                make([]byte, 64),
		"half a handshake":     whole(own[:20]),
		"no method":            whole(own, []byte{0}),
		"metadata":             whole(own, []byte{0x7f}),
		"a body beyond":        whole(own, batch("x")[:18]),
		"an endless block":     whole(own, rpc.AppendCall(nil, rpc.AppendBatch), []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),
		"the smallest count":   whole(own, rpc.AppendCall(nil, rpc.AppendBatch), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),
		"a foreign protocol":   whole(append(slices.Concat(make([]byte, 16), []byte{2, 4}, []byte("{}"), make([]byte, 16)), 0)),
		"a ping after a hello": slices.Concat(whole(own, batch("fine")), frame(2, []byte{0, 0})),
	} {
		t.Run(name, func(t *testing.T) {
			in := start(t, map[string]string{"maxRequestBytes": "4096"})
			other := connect(t, in)
			if _, err := other.Write(frame(1, own, batch("first"))); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 27)
			if _, err := io.ReadFull(other, answer); err != nil {
				t.Fatal(err)
			}
			c := connect(t, in)
			if _, err := c.Write(text); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			if n := in.Env.Metrics.EventReadFail.Load(); n != 1 {
				t.Errorf("%d counted", n)
			}
			if _, err := other.Write(frame(2, batch("second"))); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(other, answer[:23]); err != nil {
				t.Fatalf("the other connection: %v", err)
			}
			bodies := slices.DeleteFunc(in.Out.Bodies(), func(s string) bool { return s == "fine" })
			if !slices.Equal(bodies, []string{"first", "second"}) {
				t.Errorf("events %q", bodies)
			}
		})
	}
}

// Handshakes: an unknown hash, with its text the next time, which is then known to other connections as well.
func TestHandshake(t *testing.T) {
	in := start(t, nil)
	text := bytes.Replace(own(t), []byte(`"doc":"`), []byte(`"doc":"Ours. `), 1)
	hash := rpc.Hash(md5sum(text))
	with := append(append(slices.Clone(hash[:]), 2), binary.AppendVarint(nil, int64(len(text)))...)
	with = append(append(with, text...), hash[:]...)
	with = append(with, 0)
	c := connect(t, in)
	read := func(c net.Conn) []byte {
		t.Helper()
		_, f, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	send := func(c net.Conn, text []byte) {
		t.Helper()
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	send(c, frame(1, hello(hash), batch("x")))
	if got := read(c); got[0] != 4 || len(got) < 1300 {
		t.Errorf("a hash that is not known is answered % x", got)
	}
	send(c, frame(2, with, batch("x")))
	if got := read(c); got[0] != 2 || !bytes.HasSuffix(got, []byte{0, 0, 0}) {
		t.Errorf("with its text: % x", got) // CLIENT: it asked for another server
	}
	send(c, frame(3, batch("y")))
	if got := read(c); !bytes.Equal(got, []byte{0, 0, 0}) {
		t.Errorf("established: % x", got)
	}
	second := connect(t, in)
	send(second, frame(1, hello(hash), batch("z")))
	if got := read(second); !bytes.Equal(got, []byte{0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("another connection with the hash: % x", got)
	}
	// A message that there is not is an error in words, and the connection goes on.
	send(second, frame(2, append([]byte{0, 6}, "who"...)))
	if got := read(second); got[1] != 1 || !bytes.Contains(got, []byte("no such message")) {
		t.Errorf("an unknown message: % x", got)
	}
	send(second, frame(3, batch()))
	if got := read(second); !bytes.Equal(got, []byte{0, 0, 0}) {
		t.Errorf("an empty batch: % x", got)
	}
	if got := in.Out.Bodies(); !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Errorf("events %q", got)
	}
	m := in.Env.Metrics
	if r, a := m.AppendBatchReceived.Load(), m.AppendBatchAccepted.Load(); r != 4 || a != 4 {
		t.Errorf("%d batches received, %d accepted", r, a)
	}
}

// blocked answers every Put when it is told how.
type blocked struct {
	*sourcetest.Outlet
	puts chan chan error
}

func (b *blocked) Put(_ context.Context, x *core.Batch) error {
	defer x.Release()
	answer := make(chan error)
	b.puts <- answer
	return <-answer
}

// serve runs a source into an outlet of the test's own.
func serve(t testing.TB, out core.Outlet, more map[string]string) (addr string, env core.Env) {
	t.Helper()
	src := Source.New()
	keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
	for k, v := range more {
		keys[k] = v
	}
	if _, faults := conf.Bind(src, keys); faults.HasErrors() {
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
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return addr, env
}

func dialer() *rpc.Dialer {
	return &rpc.Dialer{Connect: suite.Deadline, Request: suite.Deadline}
}

func dial(t testing.TB, d *rpc.Dialer, addr string) *rpc.Conn {
	t.Helper()
	c, err := d.Dial(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-c.Ended()
	})
	return c
}

// Where nobody can listen the source does not start.
//
// flume: TestAvroSource testSourceStoppedOnFlumeExceptionIfPortUsed testInvalidAddress
func TestCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, bind := range []string{"127.0.0.1", "no address", "203.0.113.1"} {
		src := Source.New()
		if _, faults := conf.Bind(src, map[string]string{"bind": bind, "port": port}); faults.HasErrors() {
			t.Fatal(faults)
		}
		if err := src.Open(context.Background(), sourcetest.NewEnv(t, "src")); err == nil || !strings.HasPrefix(err.Error(), "listen on "+bind+":"+port) {
			t.Errorf("%s: %v", bind, err)
		}
	}
}

// Requests of one connection are in the works at once, and answered as they end.
func TestAtOnce(t *testing.T) {
	out := &blocked{sourcetest.NewOutlet(), make(chan chan error)}
	addr, _ := serve(t, out, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(suite.Deadline)); err != nil {
		t.Fatal(err)
	}
	var text []byte
	for i := range 4 {
		pieces := [][]byte{batch("x")}
		if i == 0 {
			pieces = append([][]byte{hello(rpc.Own)}, pieces...)
		}
		text = append(text, frame(uint32(i), pieces...)...)
	}
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	var puts []chan error
	for range 4 {
		puts = append(puts, <-out.puts)
	}
	seen := make(map[uint32]bool)
	for _, put := range puts {
		put <- nil
		serial, answer, err := readFrame(c)
		if err != nil || seen[serial] || !bytes.HasSuffix(answer, []byte{0, 0, 0}) {
			t.Fatalf("answer %d: % x, %v", serial, answer, err)
		}
		seen[serial] = true
	}
}

// What a failed Put is answered with, by its cause and method.
//
// flume: TestAvroSource testErrorCounterChannelWriteFail
func TestAnswers(t *testing.T) {
	out := &blocked{sourcetest.NewOutlet(), make(chan chan error)}
	addr, env := serve(t, out, nil)
	c := dial(t, dialer(), addr)
	for _, x := range []struct {
		cause error
		m     rpc.Method
		want  string
	}{
		{core.ErrChannelFull, rpc.Append, "the far end answers FAILED"},
		{core.ErrChannelFull, rpc.AppendBatch, "the far end answers FAILED"},
		{errors.New("interceptor: no"), rpc.Append, "the far end answers: events not stored: interceptor: no"},
		{errors.New("interceptor: no"), rpc.AppendBatch, "the far end answers FAILED"},
		{core.ErrTooLarge, rpc.AppendBatch, "the far end answers: send fewer events at a time: "},
		{core.PermanentError(errors.New("never")), rpc.AppendBatch, "the far end answers: events not stored: never"},
	} {
		got := make(chan error, 1)
		c.Send(x.m, func(dst []byte) []byte {
			if x.m == rpc.Append {
				return rpc.AppendBytes(rpc.AppendHeaders(dst, core.Headers{}), []byte("x"))
			}
			return encode(dst, "x")
		}, func(err error) { got <- err })
		(<-out.puts) <- x.cause
		if err := <-got; err == nil || !strings.HasPrefix(err.Error(), x.want) || !rpc.Refused(err) {
			t.Errorf("%v: %v, want %s", x.cause, err, x.want)
		}
	}
	if r, a := env.Metrics.AppendReceived.Load(), env.Metrics.AppendAccepted.Load(); r != 2 || a != 0 {
		t.Errorf("%d received, %d accepted", r, a)
	}
}

// A client that minds the order: after a failure nothing of what it has sent is stored.
func TestNothingOvertakes(t *testing.T) {
	out := &blocked{sourcetest.NewOutlet(), make(chan chan error, 8)}
	addr, _ := serve(t, out, nil)
	d := dialer()
	d.Ordered = true
	c := dial(t, d, addr)
	if !c.Ordered() {
		t.Fatal("no order is promised")
	}
	answers := make(chan error, 3)
	for i := range 3 {
		c.Send(rpc.AppendBatch, func(dst []byte) []byte { return encode(dst, fmt.Sprint(i)) }, func(err error) { answers <- err })
	}
	(<-out.puts) <- core.ErrChannelFull
	for i := range 3 {
		if err := <-answers; !errors.Is(err, rpc.Failed) {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if n := len(out.puts); n != 0 {
		t.Errorf("%d requests were stored after one that failed", n)
	}
}
