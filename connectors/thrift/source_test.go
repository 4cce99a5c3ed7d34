package thrift

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func TestSuite(t *testing.T) {
	for name, e := range protocols {
		t.Run(name, func(t *testing.T) { sourcetest.Run(t, rpctest.Subject(wireOf(e), false, "protocol", name)) })
	}
}

// The suite with a client that sends ahead.
func TestSuiteOrdered(t *testing.T) { sourcetest.Run(t, rpctest.Subject(wire, true)) }

// What Flume's own clients have sent is answered as Flume's own source has answered it, byte for byte.
func TestRecorded(t *testing.T) {
	a := []string{"host=web-1 timestamp=1700000000000 | hello", "k=v1 | one", "k=v2 topic=t | two é世界", " | ", " | "}
	var b []string
	for i := range 5 {
		b = append(b, fmt.Sprintf("host=web-%d key=k%d timestamp=%d | line %d 世", i%2, i, 1700000000000+1000*i, i))
	}
	for _, x := range []struct {
		name, protocol string
		want           []string
	}{{"thrift-compact", "compact", a}, {"thrift-binary", "binary", a}, {"thrift-sink", "compact", b}} {
		t.Run(x.name, func(t *testing.T) {
			in := rpctest.Start(t, wire, "protocol", x.protocol)
			c := rpctest.Connect(t, in.Addr().String())
			if _, err := c.Write(rpctest.Recorded(t, "testdata/"+x.name+".c2s.bin")); err != nil { // requests are in flight: answers keep their order
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if want := rpctest.Recorded(t, "testdata/"+x.name+".s2c.bin"); !bytes.Equal(got, want) {
				t.Errorf("answer\n% x, Flume's\n% x", got, want)
			}
			if got := rpctest.Shown(in.Out.Events()); !slices.Equal(got, x.want) {
				t.Errorf("events %q, want %q", got, x.want)
			}
		})
	}
}

// raw is a frame of those bytes.
func raw(text ...[]byte) []byte { return putLength(append(make([]byte, 4), slices.Concat(text...)...)) }

// Many clients at once, each with events one at a time and in batches.
//
// flume: TestThriftSource testMultipleClients
func TestManyClients(t *testing.T) {
	in := rpctest.Start(t, wire)
	var clients sync.WaitGroup
	for i := range 30 {
		clients.Go(func() {
			for from := range 3 {
				if got := rpctest.Send(wire, false, in.Addr().String(), suite.Bodies(1000*i+100*from, 50)); len(got) != 50 {
					t.Errorf("%d of 50 are taken", len(got))
				}
			}
		})
	}
	clients.Wait()
	got := in.Out.Bodies()
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 30*150 {
		t.Errorf("%d different events", n)
	}
}

// What a client does wrong that is not set up for this source is told in words.
func TestHints(t *testing.T) {
	one := map[bool][]byte{true: encoder{true}.batch(nil, 1, rpctest.Events("x"), false), false: encoder{false}.batch(nil, 1, rpctest.Events("x"), false)}
	for _, x := range []struct {
		compact bool // the source
		text    []byte
		want    string
	}{
		{true, one[true][4:], "without a frame"},
		{false, one[false][4:], "without a frame"},
		{true, []byte{0x16, 3, 1, 2, 0}, "may be TLS"},
		{true, one[false], "a message of the binary protocol; protocol is compact here"},
		{false, one[true], "a message of the compact protocol; protocol is binary here"},
		{false, raw([]byte("hello, world")), "no message of the binary protocol"},
		{true, raw([]byte("hello, world")), "no message of the compact protocol"},
	} {
		in := reader{src: bytes.NewReader(x.text), max: 1 << 20}
		err := in.head()
		if err == nil {
			var frame []byte
			if frame, err = in.body(); err != nil {
				t.Fatal(err)
			}
			_, err = readCall(frame, x.compact)
		}
		in.release()
		if err == nil || !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %s", err, x.want)
		}
	}
}

// A frame that is none, or no request, ends its connection; another one goes on.
func TestMalformed(t *testing.T) {
	e, b := encoder{true}, encoder{false}
	one := e.batch(nil, 1, rpctest.Events("x"), false)
	for name, text := range map[string][]byte{
		"empty":                {0, 0, 0, 0},
		"too long":             {0x7f, 0xff, 0xff, 0xff},
		"negative":             {0xff, 0xff, 0xff, 0xff},
		"longer than allowed":  e.batch(nil, 1, rpctest.Events(strings.Repeat("x", 5000)), false),
		"no frame":             one[4:],
		"TLS":                  {0x16, 3, 1, 2, 0, 1, 0},
		"HTTP":                 []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"binary":               b.batch(nil, 1, rpctest.Events("x"), false),
		"zeros":                raw(make([]byte, 64)),
		"version 2":            raw([]byte{0x82, 0x22, 1, 1, 'x', 0}),
		"a reply":              e.status(nil, methodAppend, 1, statusOK, false),
		"oneway":               raw([]byte{0x82, 4<<5 | 1}, one[6:]),
		"half a request":       raw(one[4 : len(one)-4]),
		"bytes after it":       raw(one[4:], []byte{0}),
		"a long name":          raw(e.message(nil, kindCall, strings.Repeat("x", 300), 1)[4:], []byte{0}),
		"an endless number":    raw(e.message(nil, kindCall, methodBatch, 1)[4:], []byte{0x19, 0xfc}, bytes.Repeat([]byte{0xff}, 20)),
		"a list of 2 GiB":      raw(e.message(nil, kindCall, methodBatch, 1)[4:], []byte{0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7}),
		"a body of 2 GiB":      raw(e.message(nil, kindCall, methodAppend, 1)[4:], []byte{0x1c, 0x1b, 0, 0x18, 0xff, 0xff, 0xff, 0xff, 7}),
		"a map of 2 GiB":       raw(e.message(nil, kindCall, methodAppend, 1)[4:], []byte{0x1c, 0x1b, 0xff, 0xff, 0xff, 0xff, 7, 0x88}),
		"headers of numbers":   raw(e.message(nil, kindCall, methodAppend, 1)[4:], []byte{0x1c, 0x1b, 1, 0x55, 2, 2, 0x18, 0, 0, 0}),
		"a list of numbers":    raw(e.message(nil, kindCall, methodBatch, 1)[4:], []byte{0x19, 0x15, 2, 0}),
		"no such type":         raw(e.message(nil, kindCall, methodBatch, 1)[4:], []byte{0x5e, 0}),
		"deep structs":         raw(e.message(nil, kindCall, methodAppend, 1)[4:], bytes.Repeat([]byte{0x2c}, 3000)),
		"deep lists":           raw(e.message(nil, kindCall, methodAppend, 1)[4:], []byte{0x29}, bytes.Repeat([]byte{0x19}, 3000)),
		"more than 4096 names": raw(e.message(nil, kindCall, methodAppend, 1)[4:], []byte{0x1c, 0x1b, 0x81, 0x20, 0x88}, make([]byte, 8700), []byte{0x18, 0, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			limit := "4096"
			if strings.HasPrefix(name, "more") {
				limit = "16384"
			}
			rpctest.Malformed(t, wire, text, limit)
		})
	}
}

// What is asked for wrongly in good form is answered with an error of Thrift's, and the connection goes on.
func TestExceptions(t *testing.T) {
	for name, e := range protocols {
		t.Run(name, func(t *testing.T) {
			in := rpctest.Start(t, wire, "protocol", name, "maxRequestEvents", "2")
			c := rpctest.Connect(t, in.Addr().String())
			ask := func(method string, args ...byte) []byte {
				return putLength(append(e.message(nil, kindCall, method, 7), args...))
			}
			event := map[bool][2][]byte{ // without headers, without a body
				true:  {{0x1c, 0x28, 0, 0, 0}, {0x1c, 0x1b, 0, 0, 0}},
				false: {{12, 0, 1, 11, 0, 2, 0, 0, 0, 0, 0, 0}, {12, 0, 1, 13, 0, 1, 11, 11, 0, 0, 0, 0, 0, 0}},
			}[e.compact]
			for _, x := range []struct {
				request []byte
				kind    int32
				text    string
			}{
				{ask("getName", 0), unknownMethod, "Invalid method name: 'getName'"},
				{ask(methodAppend, 0), protocolError, "append without its argument"},
				{ask(methodBatch, 0), protocolError, "appendBatch without its argument"},
				{ask(methodAppend, event[0]...), protocolError, "Required field 'headers' was not present!"},
				{ask(methodAppend, event[1]...), protocolError, "Required field 'body' was not present!"},
				{e.batch(nil, 7, rpctest.Events("1", "2", "3"), false), internalError, "batch has more than 2 events (maxRequestEvents): send fewer at a time"},
			} {
				a := exchange(t, c, e, x.request)
				var got *exception
				if a.seq != 7 || !errors.As(a.err, &got) || got.kind != x.kind || got.text != x.text {
					t.Errorf("answer %d: %v, want %d %s", a.seq, a.err, x.kind, x.text)
				}
			}
			if a := exchange(t, c, e, e.batch(nil, -1, nil, false)); a.err != nil || a.seq != -1 {
				t.Errorf("an empty batch: %d %v", a.seq, a.err)
			}
			if a := exchange(t, c, e, e.batch(nil, 9, rpctest.Events("x"), false)); a.err != nil {
				t.Error(a.err)
			}
			if got := in.Out.Bodies(); !slices.Equal(got, []string{"x"}) {
				t.Errorf("events %q", got)
			}
		})
	}
}

// What a failed Put is answered with, by its cause.
//
// flume: TestThriftSource testErrorCounterChannelWriteFail
func TestAnswers(t *testing.T) {
	out := rpctest.NewBlocked(0)
	addr, env := rpctest.Serve(t, wire, out)
	c, e := rpctest.Connect(t, addr), encoder{true}
	for _, x := range []struct {
		cause error
		want  string
	}{
		{core.ErrChannelFull, statusFailed.Error()},
		{fmt.Errorf("channel c1: %w", core.ErrChannelFull), statusFailed.Error()},
		{core.ErrClosed, statusFailed.Error()},
		{core.ErrTooLarge, (&exception{internalError, "send fewer events at a time: " + core.ErrTooLarge.Error()}).Error()},
		{errors.New("boom"), (&exception{internalError, "Internal error processing appendBatch: boom"}).Error()},
		{nil, ""},
	} {
		if _, err := c.Write(e.batch(nil, 1, rpctest.Events("x"), false)); err != nil {
			t.Fatal(err)
		}
		(<-out.Puts).Answer <- x.cause
		if a := receive(t, c, e); (a.err == nil) != (x.want == "") || a.err != nil && a.err.Error() != x.want {
			t.Errorf("%v: %v, want %s", x.cause, a.err, x.want)
		}
	}
	if r, a := env.Metrics.AppendBatchReceived.Load(), env.Metrics.AppendBatchAccepted.Load(); r != 6 || a != 1 {
		t.Errorf("%d received, %d accepted", r, a)
	}
}

// A client that minds the order: after a failure nothing of what it has sent is
// stored. Of any other client each request is for itself.
func TestNothingOvertakes(t *testing.T) {
	for name, e := range protocols {
		for _, ordered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ordered %v", name, ordered), func(t *testing.T) {
				out := rpctest.NewBlocked(0)
				addr, _ := rpctest.Serve(t, wire, out, "protocol", name)
				c := rpctest.Connect(t, addr)
				var text []byte
				for i := range 4 {
					text = append(text, e.batch(nil, int32(i), rpctest.Events(fmt.Sprint(i)), ordered && i == 0)...)
				}
				if _, err := c.Write(text); err != nil {
					t.Fatal(err)
				}
				for i, cause := range []error{nil, core.ErrChannelFull, nil, nil} {
					if i > 1 && ordered {
						if a := receive(t, c, e); a.seq != int32(i) || !errors.Is(a.err, statusFailed) {
							t.Errorf("answer %d: %v", a.seq, a.err)
						}
						continue
					}
					p := <-out.Puts
					if !slices.Equal(p.Bodies, []string{fmt.Sprint(i)}) {
						t.Errorf("%q is stored as number %d", p.Bodies, i)
					}
					p.Answer <- cause
					if a := receive(t, c, e); a.seq != int32(i) || (a.err == nil) != (cause == nil) || i == 0 && a.ordered != ordered {
						t.Errorf("answer %+v", a)
					}
				}
			})
		}
	}
}

func TestSourceChecks(t *testing.T) { suite.Run(t, wire, rpctest.SourceChecks) }

func TestSourceKeys(t *testing.T) {
	for _, c := range []struct {
		more []string
		want string // in a fault; empty: none
	}{
		{nil, ""},
		{[]string{"threads", "x", "protocol", "binary", "agent-principal", "flume/_HOST@X", "agent-keytab", "/k"}, ""},
		{[]string{"protocol", "Compact"}, ""},
		{[]string{"protocol", "BINARY"}, "means compact, as in Flume"},
		{[]string{"protocol", "json"}, "is not one of compact, binary"},
		{[]string{"kerberos", "true"}, "kerberos: is not supported with thrift"},
		{[]string{"port", "70000"}, "between 0 and 65535"},
		{[]string{"ssl", "true"}, "keystore"},
	} {
		if text := rpctest.Faults(Source.New(), rpctest.SourceKeys(c.more...)); c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.more, text, c.want)
		}
	}
}
