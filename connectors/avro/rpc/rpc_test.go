package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The samples of Avro's binary encoding, both ways.
func TestEvents(t *testing.T) {
	kv := core.NewHeaders(core.Header{Key: "k", Value: "v"})
	for _, c := range []struct {
		name, hex string
		events    []core.Event
		encodes   bool // to the same bytes
	}{
		{"none", "00", nil, true},
		{"one", "02 02026b0276000468 69 00", []core.Event{{Headers: kv, Body: []byte("hi")}}, true},
		{"a run", "04 02026b0276000468 69 02026b02760000 00", []core.Event{{Headers: kv, Body: []byte("hi")}, {Headers: kv}}, true},
		{"empty", "02 0000 00", []core.Event{{}}, true},
		{"blocks of one", "02 0002 61 02 0002 62 00", []core.Event{{Body: []byte("a")}, {Body: []byte("b")}}, false},
		{"a block with its size", "03 0c 0002 61 0002 62 00", []core.Event{{Body: []byte("a")}, {Body: []byte("b")}}, false},
		{"headers in blocks", "02 02 026b 0276 01 08 026c 0277 00 0468 69 00", []core.Event{{Headers: kv.With("l", "w"), Body: []byte("hi")}}, false},
		{"a key twice", "02 04 026b 0276 026b 0277 00 00 00", []core.Event{{Headers: core.NewHeaders(core.Header{Key: "k", Value: "w"})}}, false},
		{"what is no UTF-8", "02 02 026b 04ff41 00 00 00", []core.Event{{Headers: core.NewHeaders(core.Header{Key: "k", Value: "\uFFFDA"})}}, false},
	} {
		in := unhex(t, c.hex)
		d := Decoder{MaxEvents: 10}
		b := core.NewBatch()
		rest, err := d.Events(b, in)
		if err != nil || len(rest) != 0 {
			t.Errorf("%s: %v, %d bytes left", c.name, err, len(rest))
		}
		if !slices.EqualFunc(b.Events, c.events, func(x, y core.Event) bool { return x.Headers.Equal(y.Headers) && bytes.Equal(x.Body, y.Body) }) {
			t.Errorf("%s: %v, want %v", c.name, b.Events, c.events)
		}
		if got := AppendEvents(nil, c.events); c.encodes && !bytes.Equal(got, in) {
			t.Errorf("%s: encoded % x, want % x", c.name, got, in)
		}
		b.Release()
	}
}

// Events with equal headers share one set, in a batch and across batches.
func TestHeadersAreShared(t *testing.T) {
	d := Decoder{MaxEvents: 10}
	text := unhex(t, "04 02026b027600 00 02026b027600 00 00")
	a, b := core.NewBatch(), core.NewBatch()
	for _, x := range []*core.Batch{a, b} {
		if _, err := d.Events(x, text); err != nil {
			t.Fatal(err)
		}
	}
	if h := a.Events[0].Headers; a.Events[1].Headers != h || b.Events[0].Headers != h || b.Events[1].Headers != h {
		t.Error("equal headers are several sets")
	}
}

func TestMalformedEvents(t *testing.T) {
	d := Decoder{MaxEvents: 3}
	for text, want := range map[string]string{
		"":                          "no end",
		"80":                        "no end",
		"ffffffffffffffffffffff01":  "no end",
		"04 0000":                   "more items",
		"02 00 08 6162":             "beyond the frame",
		"02 00 01":                  "beyond the frame",
		"c801 0000":                 "more items",
		"ffffffffffffffffff01 00":   "a count that is none",
		"08 0000 0000 0000 0000 00": "more than 3 events",
		"02" + "c2bf04" + strings.Repeat("0000", 40000): "more headers",
	} {
		b := core.NewBatch()
		_, err := d.Events(b, unhex(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
		if many := errors.As(err, new(*TooManyError)); many == errors.Is(err, ErrMalformed) {
			t.Errorf("%.40s: %v is of both kinds, or of none", text, err)
		}
		b.Release()
	}
}

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Flume's clients send, taken apart and put together again, is the same
// bytes, but for where Java cuts frames.
func TestRecordedRequests(t *testing.T) {
	for _, name := range []string{"avro-plain.c2s.bin", "avro-sink.c2s.bin", "log4j2-flume.c2s.bin"} {
		text := recorded(t, name)
		in := NewReader(iotest.OneByteReader(bytes.NewReader(text)), 1<<20)
		d := Decoder{MaxEvents: 100}
		for first := true; ; first = false {
			serial, err := in.Head()
			if errors.Is(err, io.EOF) {
				if first {
					t.Errorf("%s: no requests", name)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			frame, err := in.Body()
			if err != nil {
				t.Fatal(err)
			}
			whole, again := frame, []byte(nil)
			if first {
				h, rest, err := readHello(frame)
				if err != nil || h.client != Own || h.server != Own || h.text != nil || h.ordered {
					t.Fatalf("%s: handshake %+v, %v", name, h, err)
				}
				again, frame = appendHello(again, h), rest
			}
			m, parameters, err := ReadCall(frame)
			if err != nil {
				t.Fatal(err)
			}
			again = AppendCall(again, m)
			b := core.NewBatch()
			if m == Append {
				_, err = d.Event(b, parameters)
				again = AppendBytes(AppendHeaders(again, b.Events[0].Headers), b.Events[0].Body)
			} else {
				_, err = d.Events(b, parameters)
				again = AppendEvents(again, b.Events)
			}
			if err != nil || !bytes.Equal(again, whole) {
				t.Errorf("%s, request %d: %v\n% x\n% x", name, serial, err, again, whole)
			}
			b.Release()
		}
		in.Release()
	}
}

// What Flume's source answers is understood: OK, and the protocol it offers.
func TestRecordedAnswers(t *testing.T) {
	in := NewReader(bytes.NewReader(recorded(t, "avro-plain.s2c.bin")), 1<<20)
	for i := range 3 {
		if serial, err := in.Head(); err != nil || serial != uint32(i+1) {
			t.Fatalf("answer %d, %v", serial, err)
		}
		frame, err := in.Body()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			w, rest, err := readWelcome(frame)
			if err != nil || w.match != matchBoth || w.ordered {
				t.Fatalf("%+v, %v", w, err)
			}
			frame = rest
		}
		if err := readAnswer(frame); err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	in = NewReader(bytes.NewReader(recorded(t, "avro-handshake-none.s2c.bin")), 1<<20)
	if _, err := in.Head(); err != nil {
		t.Fatal(err)
	}
	frame, err := in.Body()
	if err != nil {
		t.Fatal(err)
	}
	w, rest, err := readWelcome(frame)
	if err != nil || len(rest) != 0 || w.match != matchNone || *w.hash != Own || string(w.text) != protocolText {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"00 00 00":                   "<nil>",
		"00 00 02":                   "the far end answers FAILED",
		"00 00 04":                   "the far end answers UNKNOWN",
		"00 01 00 08 626f6f6d":       "the far end answers: boom",
		"00 00 06":                   "malformed: a status that there is not",
		"00 02 00":                   "malformed: an answer has no error flag",
		"00":                         "malformed: an answer has no error flag",
		"00 01 02 00":                "malformed: an error is not a text",
		"02 026b 0276 00 00 00":      "<nil>", // metadata of somebody
		"":                           "malformed: a number has no end",
		"00 01 00 ffffffff0f 626f6f": "malformed: a length reaches beyond the frame",
	} {
		if got := fmt.Sprint(readAnswer(unhex(t, text))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestProtocol(t *testing.T) {
	if got := hex.EncodeToString(Own[:]); got != "86aadae2c45474c0fe93ffd0f2350a65" {
		t.Errorf("the hash is %s", got)
	}
	if err := compatible([]byte(protocolText)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ old, now, want string }{
		{`"FAILED"`, `"BROKEN"`, "Status is not the enum"},
		{`"name":"body","type":"bytes"`, `"name":"body","type":"string"`, "AvroFlumeEvent is not"},
		{`"values":"string"`, `"values":{"type":"string","avro.java.string":"String"}`, ""},
		{`"values":"string"`, `"values":"bytes"`, "AvroFlumeEvent is not"},
		{`"items":"AvroFlumeEvent"`, `"items":"org.apache.flume.source.avro.AvroFlumeEvent"`, ""},
		{`"items":"AvroFlumeEvent"`, `"items":"string"`, "message appendBatch"},
		{`"append":`, `"own":`, ""},
		{`"name":"AvroFlumeEvent"`, `"name":"Event"`, "not Flume's"},
		{`{"protocol"`, `["protocol"`, "read protocol"},
		{`"values":"string"`, `"values":` + strings.Repeat(`{"items":`, 2000) + `1` + strings.Repeat(`}`, 2000), "AvroFlumeEvent is not"},
		{`"doc":"`, `"doc":"` + strings.Repeat("x", maxProtocol), "longer than 65536 bytes"},
	} {
		text := strings.Replace(protocolText, c.old, c.now, 1)
		if text == protocolText {
			t.Fatalf("%s is not in the protocol", c.old)
		}
		err := compatible([]byte(text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s", c.now, err, c.want)
		}
	}
}

// Clients cannot fill the memory of what is known.
func TestKnownIsBounded(t *testing.T) {
	k := NewKnown()
	for i := range 2 * maxKnown {
		text := []byte(strings.Replace(protocolText, `"doc":"`, fmt.Sprintf(`"doc":"%d`, i), 1))
		if err := k.learn(Hash{}, text); err != nil {
			t.Fatal(err)
		}
		if k.Has(Hash{}) {
			t.Fatal("a text is known by a hash that is not its own")
		}
		if err := k.learn(hashOf(text), text); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(k.hashes); n != maxKnown {
		t.Errorf("%d are known", n)
	}
}

// Frames in pieces of any size, however they arrive.
func TestFrames(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	var pieces [][]byte
	for p := range slices.Chunk(big, 8192) {
		pieces = append(pieces, p)
	}
	text := appendFrame(nil, 1, []byte("ab"), nil, []byte("c"))
	text = appendFrame(text, 2, pieces...)
	text = appendFrame(text, 3, big)
	text = appendFrame(text, 4, nil)
	text = appendFrame(text, 5, []byte("end"))
	for name, src := range map[string]io.Reader{"whole": bytes.NewReader(text), "half": iotest.HalfReader(bytes.NewReader(text)), "with the end": iotest.DataErrReader(bytes.NewReader(text))} {
		in := NewReader(src, len(big))
		for i, want := range [][]byte{[]byte("abc"), big, big, nil, []byte("end")} {
			serial, err := in.Head()
			if err != nil || serial != uint32(i+1) {
				t.Fatalf("%s: frame %d: %d, %v", name, i, serial, err)
			}
			if got, err := in.Body(); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: frame %d: %d bytes, %v", name, i, len(got), err)
			}
		}
		if _, err := in.Head(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v at the end", name, err)
		}
		in.Release()
	}
}

// A frame for which there is no memory is read over, and the next one is read.
func TestNoMemory(t *testing.T) {
	text := appendFrame(nil, 1, make([]byte, 100_000), make([]byte, 100_000))
	text = appendFrame(text, 2, []byte("x"))
	in := NewReader(bytes.NewReader(text), 1<<20)
	held := 0
	in.Grant = func(more int) bool {
		held += more
		return held < 120_000
	}
	if _, err := in.Head(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Body(); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v", err)
	}
	held = 0
	if serial, err := in.Head(); err != nil || serial != 2 {
		t.Fatalf("%d, %v", serial, err)
	}
	if got, err := in.Body(); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	in.Release()
}

// An announced length alone gets little memory.
func TestAnnouncedLength(t *testing.T) {
	in := NewReader(bytes.NewReader([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0x3f, 0, 0, 0, 'x'}), 1<<30)
	granted := 0
	in.Grant = func(more int) bool {
		granted += more
		return true
	}
	if _, err := in.Head(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Body(); !errors.Is(err, io.ErrUnexpectedEOF) || granted > minStep || len(in.Block().Buf) > minStep {
		t.Errorf("%v, %d bytes for one byte", err, granted)
	}
	in.Release()
}

// What one side writes the other reads at once, in both directions, to the end.
func TestDeflate(t *testing.T) {
	a, b := net.Pipe()
	client, err := DeflateClient(a, 6)
	if err != nil {
		t.Fatal(err)
	}
	server := DeflateServer(b)
	long := strings.Repeat("long ", 40_000)
	got := make(chan string)
	go func() {
		buf := make([]byte, len(long))
		for _, want := range []string{"ping", long} {
			if _, err := io.ReadFull(server, buf[:len(want)]); err != nil {
				t.Error(err)
			}
			if _, err := server.Write(buf[:len(want)]); err != nil {
				t.Error(err)
			}
		}
		if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		rest, err := io.ReadAll(server)
		if err != nil {
			t.Error(err)
		}
		got <- string(rest)
	}()
	for _, text := range []string{"ping", long} {
		sent := make(chan error, 1)
		go func() {
			_, err := client.Write([]byte(text))
			sent <- err
		}()
		back := make([]byte, len(text))
		if _, err := io.ReadFull(client, back); err != nil || string(back) != text || <-sent != nil {
			t.Fatalf("%d bytes: %v", len(text), err)
		}
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v at the end", rest, err)
	}
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if rest := <-got; rest != "" {
		t.Errorf("%q", rest)
	}
}

// The orders of Flume's clients.
func TestOrder(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	o := &Order{Kind: LoadBalance, Hosts: 3}
	for _, want := range [][]int{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {0, 1, 2}} {
		if got := o.Next(at); !slices.Equal(got, want) {
			t.Errorf("round robin: %v, want %v", got, want)
		}
	}
	o = &Order{Kind: LoadBalance, Hosts: 2, Backoff: true}
	for i, want := range []time.Duration{2, 4, 8, 16, 30, 30} { // seconds
		o.Failed(0, at)
		if got := o.Next(at.Add(want * time.Second)); !slices.Equal(got, []int{1}) {
			t.Errorf("failure %d: %v before the time is over", i, got)
		}
		at = at.Add(want*time.Second + 1)
		if got := o.Next(at); len(got) != 2 {
			t.Errorf("failure %d: %v afterwards", i, got)
		}
	}
	at = at.Add(2 * time.Hour) // forgotten
	o.Failed(0, at)
	if got := o.Next(at.Add(2*time.Second + 1)); len(got) != 2 {
		t.Errorf("after two hours: %v", got)
	}
	o.Failed(0, at)
	o.Failed(1, at)
	if got := o.Next(at); len(got) != 0 {
		t.Errorf("all failed: %v", got)
	}
	o = &Order{Kind: LoadBalance, Hosts: 10, Random: true}
	seen := map[int]bool{}
	for range 200 {
		got := o.Next(at)
		seen[got[0]] = true
		if slices.Sort(got); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Fatalf("random: %v", got)
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %v are first", seen)
	}
	o = &Order{Kind: Failover, Hosts: 3, Attempts: 4}
	if got := o.Next(at); !slices.Equal(got, []int{0, 1, 2, 0}) {
		t.Errorf("failover: %v", got)
	}
	o.Failed(0, at)
	o.Failed(0, at) // a late answer: the next is in use already
	if got := o.Next(at); !slices.Equal(got, []int{1, 2, 0, 1}) {
		t.Errorf("failover, the first failed: %v", got)
	}
}

// A server that answers what it likes: a dial, or a request, fails and never hangs.
func TestServersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":           "",
		"HTTP":              "HTTP/1.1 400 Bad Request\r\n\r\n",
		"another serial":    string(appendFrame(nil, 7, []byte{0, 0, 0, 0})),
		"half":              string(appendFrame(nil, 1, []byte{0, 0, 0, 0})[:14]),
		"a match too many":  string(appendFrame(nil, 1, []byte{8, 0, 0, 0})),
		"another protocol":  string(appendFrame(nil, 1, appendWelcome(nil, welcome{match: matchClient, text: []byte(`{"protocol":"Mail"}`)}))),
		"never enough":      string(appendFrame(nil, 1, []byte{4, 0, 0, 0})) + string(appendFrame(nil, 2, []byte{4, 0, 0, 0})),
		"too long a answer": string([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0, 0, 0}),
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
		d := &Dialer{Connect: suite.Deadline, Request: suite.Deadline}
		if _, err := d.Dial(context.Background(), l.Addr().String()); err == nil || !strings.HasPrefix(err.Error(), "handshake with "+l.Addr().String()) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		_ = l.Close()
	}
}
