package avro

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// flume: TestAvroSource testLifecycle
func TestSuite(t *testing.T) { sourcetest.Run(t, rpctest.Subject(wire, false)) }

func TestSuiteOrdered(t *testing.T) { sourcetest.Run(t, rpctest.Subject(wire, true)) }

func TestSuiteDeflate(t *testing.T) {
	packed := wire
	packed.Dial = dialWith(rpc.Dialer{Deflate: true, Level: 6})
	sourcetest.Run(t, rpctest.Subject(packed, false, "compression-type", "deflate"))
}

// talk sends what a client has written, each write when the one before is
// answered, and returns all that comes back.
func talk(t testing.TB, in *sourcetest.Instance, text []byte, deflated bool, writes ...int) (answers []byte) {
	t.Helper()
	c := rpctest.Connect(t, in.Addr().String())
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
		keys          []string
		writes        []int // that are answered
		want          []string
	}{
		{"avro-plain", "avro-plain", nil, []int{102, 72, 26}, a},
		{"avro-deflate", "avro-plain", []string{"compression-type", "deflate"}, []int{84, 63, 16}, a},
		{"avro-sink", "avro-sink", nil, []int{341}, b},
		{"avro-handshake-none", "avro-handshake-none", nil, []int{57}, nil},
		{"log4j2-flume", "log4j2-flume", nil, []int{199, 930}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := rpctest.Start(t, wire, x.keys...)
			got := talk(t, in, rpctest.Recorded(t, "rpc/testdata/"+x.name+".c2s.bin"), x.keys != nil, x.writes...)
			if want := rpctest.Recorded(t, "rpc/testdata/"+x.answers+".s2c.bin"); !bytes.Equal(got, want) {
				t.Errorf("answer\n% x, Flume's\n% x", got, want)
			}
			events := in.Out.Events()
			if x.name != "log4j2-flume" {
				if got := rpctest.Shown(events); !slices.Equal(got, x.want) {
					t.Errorf("events %q, want %q", got, x.want)
				}
				return
			}
			if len(events) != 2 {
				t.Fatalf("%d events", len(events))
			}
			for _, name := range []string{"timeStamp", "guId", "requestId"} {
				if events[0].Headers.Value(name) == "" {
					t.Errorf("no header %s in %v", name, rpctest.Shown(events))
				}
			}
		})
	}
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
			var before []string
			if name == "a ping after a hello" {
				before = []string{"fine"}
			}
			rpctest.Malformed(t, wire, text, "4096", before...)
		})
	}
}

// Handshakes: an unknown hash, with its text the next time, which is then known to other connections as well.
func TestHandshake(t *testing.T) {
	in := rpctest.Start(t, wire)
	text := bytes.Replace(rpctest.Recorded(t, "rpc/protocol.json"), []byte(`"doc":"`), []byte(`"doc":"Ours. `), 1)
	hash := rpc.Hash(md5.Sum(text))
	with := append(append(slices.Clone(hash[:]), 2), binary.AppendVarint(nil, int64(len(text)))...)
	with = append(append(with, text...), hash[:]...)
	with = append(with, 0)
	c := rpctest.Connect(t, in.Addr().String())
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
	second := rpctest.Connect(t, in.Addr().String())
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
	out := rpctest.NewBlocked(0)
	addr, _ := rpctest.Serve(t, wire, out)
	c := rpctest.Connect(t, addr)
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
	var puts []rpctest.Put
	for range 4 {
		puts = append(puts, <-out.Puts)
	}
	seen := make(map[uint32]bool)
	for _, put := range puts {
		put.Answer <- nil
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
	out := rpctest.NewBlocked(0)
	addr, env := rpctest.Serve(t, wire, out)
	c := rpctest.Client(t, wire, addr, false).(batches)
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
		c.Conn.Send(x.m, func(dst []byte) []byte {
			if x.m == rpc.Append {
				return rpc.AppendBytes(rpc.AppendHeaders(dst, core.Headers{}), []byte("x"))
			}
			return encode(dst, "x")
		}, func(err error) { got <- err })
		(<-out.Puts).Answer <- x.cause
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
	out := rpctest.NewBlocked(8)
	addr, _ := rpctest.Serve(t, wire, out)
	c := rpctest.Client(t, wire, addr, true)
	if !c.Ordered() {
		t.Fatal("no order is promised")
	}
	answers := make(chan error, 3)
	for i := range 3 {
		c.Send(rpctest.Events(fmt.Sprint(i)), func(err error) { answers <- err })
	}
	(<-out.Puts).Answer <- core.ErrChannelFull
	for i := range 3 {
		if err := <-answers; !errors.Is(err, rpc.Failed) {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if n := len(out.Puts); n != 0 {
		t.Errorf("%d requests were stored after one that failed", n)
	}
}
