package netcat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func subject(more map[string]string) sourcetest.Subject {
	return sourcetest.Subject{
		New: Source.New,
		Keys: func(testing.TB) map[string]string {
			keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
			for k, v := range more {
				keys[k] = v
			}
			return keys
		},
		Feed: feed,
	}
}

// feed sends bodies and reads an answer for each.
func feed(t testing.TB, in *sourcetest.Instance, bodies []string) (handed []string) {
	c, err := net.Dial("tcp", in.Addr().String())
	if err != nil {
		return nil // the source has stopped
	}
	defer func() { _ = c.Close() }()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write([]byte(strings.Join(bodies, "\n") + "\n"))
	}()
	answers := bufio.NewReader(c)
	for _, b := range bodies {
		a, err := answers.ReadString('\n')
		if err != nil {
			break
		}
		if a == "OK\n" {
			handed = append(handed, b)
		} else if !strings.HasPrefix(a, "FAILED: ") {
			t.Errorf("answer %q", a)
		}
	}
	_ = c.SetDeadline(time.Unix(1, 0))
	<-sent
	return handed
}

// flume: TestNetcatSource testLifecycle
func TestSuite(t *testing.T) { sourcetest.Run(t, subject(nil)) }

func start(t *testing.T, more map[string]string) *sourcetest.Instance {
	t.Helper()
	s := subject(more)
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	return in
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(suite.Deadline)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// talk sends text in pieces, ends sending, and returns all answers.
func talk(t testing.TB, addr string, pieces ...string) string {
	t.Helper()
	c := dial(t, addr)
	sent := make(chan error, 1)
	go func() { // the answers of a long text must be read meanwhile
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.CloseWrite()
	}()
	answers, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	return string(answers)
}

// What Flume answers, byte for byte, but for the rows that say "ours".
//
// flume: TestNetcatSource testUTF16BEencoding testUTF16LEencoding testUTF8encoding testIS88591encoding testAck
// flume: TestNetcatSource testMaxLineLength testMaxLineLengthwithAck
func TestConformance(t *testing.T) {
	const tooLong = "FAILED: Event exceeds the maximum length (10 chars, including newline)\n"
	for _, c := range []struct {
		name, sent, reply string
		bodies            []string
		keys              map[string]string
	}{
		{"carriage return", "abc\r\n", "OK\n", []string{"abc\r"}, nil},
		{"longest", "123456789\n", "OK\n", []string{"123456789"}, nil},
		{"too long", "1234567890\n", tooLong, nil, nil},
		{"too long without acks", "1234567890\n", tooLong, nil, map[string]string{"ack-every-event": "false"}},
		{"too long unended", "1234567890", tooLong, nil, nil},
		{"too long behind good ones", "a\nb\n12345678901234\nc\n", "OK\nOK\n" + tooLong, []string{"a", "b"}, nil},
		{"two", "a\nb\n", "OK\nOK\n", []string{"a", "b"}, nil},
		{"no acks", "a\nb\n", "", []string{"a", "b"}, map[string]string{"ack-every-event": "false"}},
		{"empty", "\n", "OK\n", []string{""}, nil},
		{"no newline", "nonl", "", nil, nil},
		{"characters count, not bytes", "ééééééééé\n", "OK\n", []string{"ééééééééé"}, nil},
		{"one of two units", "😀😀😀😀é\n", "OK\n", []string{"😀😀😀😀é"}, nil},
		{"ten units", "😀😀😀😀😀\n", tooLong, nil, nil},
		{"ours: malformed", "\xff\xfe\n", "FAILED: line is not valid UTF-8\n", nil, nil},
		{"ours: malformed behind good ones", "a\n\xff\nb\n", "OK\nFAILED: line is not valid UTF-8\n", []string{"a"}, nil},
		{"latin 1", "\xe9\n", "OK\n", []string{"é"}, map[string]string{"encoding": "ISO-8859-1"}},
		{"utf-16", "\xfe\xff\x00\xe9\x00\n\x00a\x00\n", "\xfe\xff\x00O\x00K\x00\n\x00O\x00K\x00\n", []string{"é", "a"}, map[string]string{"encoding": "utf-16"}},
		{"utf-16be", "\x00\xe9\x00\n", "\x00O\x00K\x00\n", []string{"é"}, map[string]string{"encoding": "UTF-16BE"}},
		{"utf-16le", "\xe9\x00\n\x00", "O\x00K\x00\n\x00", []string{"é"}, map[string]string{"encoding": "utf-16le"}},
		{"ours: malformed ascii", "a\n\x80\n", "OK\nFAILED: line is not valid US-ASCII\n", []string{"a"}, map[string]string{"encoding": "us-ascii"}},
		{"NULs", "\x00\x00\n", "OK\n", []string{"\x00\x00"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := map[string]string{"max-line-length": "10"}
			for k, v := range c.keys {
				keys[k] = v
			}
			in := start(t, keys)
			if got := talk(t, in.Addr().String(), c.sent); got != c.reply {
				t.Errorf("answers %q, want %q", got, c.reply)
			}
			if got := in.Out.Bodies(); !slices.Equal(got, c.bodies) {
				t.Errorf("events %q, want %q", got, c.bodies)
			}
		})
	}
}

// Lines of every length up to the limit come through whatever the pieces are.
func TestPieces(t *testing.T) {
	in := start(t, map[string]string{"max-line-length": "30000"})
	var want []string
	var text strings.Builder
	for i := range 60 {
		line := strings.Repeat(string(rune('a'+i%26)), i*499) + "é"
		want = append(want, line)
		text.WriteString(line + "\n")
	}
	var pieces []string
	for rest := text.String(); len(rest) > 0; {
		n := min(len(rest), 1+len(rest)%7919)
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	if got := talk(t, in.Addr().String(), pieces...); got != strings.Repeat("OK\n", len(want)) {
		t.Errorf("answers %.200q", got)
	}
	if got := in.Out.Bodies(); !slices.Equal(got, want) {
		t.Errorf("%d events are not the %d lines sent", len(got), len(want))
	}
}

// A peer that sends one byte at a time is a peer like any other.
func TestByteByByte(t *testing.T) {
	in := start(t, nil)
	if got := talk(t, in.Addr().String(), strings.Split("one\ntwö\n", "")...); got != "OK\nOK\n" {
		t.Errorf("answers %q", got)
	}
	if got := in.Out.Bodies(); !slices.Equal(got, []string{"one", "twö"}) {
		t.Errorf("events %q", got)
	}
}

// A line without an end is refused as soon as it is too long, and the client
// can read why while it still sends.
func TestHugeLine(t *testing.T) {
	in := start(t, nil)
	c := dial(t, in.Addr().String())
	if _, err := io.CopyN(c, endless{}, 8<<20); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), "exceeds the maximum length (512 chars") {
		t.Errorf("answer %q, %v", answer, err)
	}
	if n := in.Env.Metrics.EventReadFail.Load(); n != 1 {
		t.Errorf("EventReadFail %d, want 1", n)
	}
}

// endless never has a newline.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// run runs the source into out and returns its address.
func run(t testing.TB, maxEvents int, out core.Outlet) string {
	t.Helper()
	src := Source.New()
	if _, faults := conf.Bind(src, map[string]string{"bind": "127.0.0.1", "port": "0"}); faults.HasErrors() {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	env.MaxEvents = maxEvents
	var addr string
	env.Listen = func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err == nil {
			addr = l.Addr().String()
		}
		return l, err
	}
	if err := src.Open(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := src.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return addr
}

// tight has room for one event at a time, and never for "no".
type tight struct{ *sourcetest.Outlet }

func (o tight) Put(ctx context.Context, b *core.Batch) error {
	switch {
	case len(b.Events) > 1:
		b.Release()
		return fmt.Errorf("channel c1: %w", core.ErrTooLarge)
	case string(b.Events[0].Body) == "no":
		b.Release()
		return fmt.Errorf("channel c1: %w", core.ErrChannelFull)
	}
	return o.Outlet.Put(ctx, b)
}

// A batch that does not fit is put line by line, as Flume does it always.
func TestEachLineHasItsAnswer(t *testing.T) {
	out := tight{sourcetest.NewOutlet()}
	got := talk(t, run(t, 0, out), "a\nno\nb\nno\nc\n")
	if want := "OK\nFAILED: channel c1: channel is full\nOK\nFAILED: channel c1: channel is full\nOK\n"; got != want {
		t.Errorf("answers %q, want %q", got, want)
	}
	if got := out.Bodies(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("events %q", got)
	}
}

func TestMaxEvents(t *testing.T) {
	out := sourcetest.NewOutlet()
	got := talk(t, run(t, 7, out), strings.Repeat("x\n", 1000))
	if got != strings.Repeat("OK\n", 1000) || out.Len() != 1000 {
		t.Errorf("%d events, answers %.50q", out.Len(), got)
	}
	if n := out.Biggest(); n > 7 {
		t.Errorf("a batch of %d events, at most 7 fit", n)
	}
}

func TestConnections(t *testing.T) {
	in := start(t, map[string]string{"maxConnections": "1"})
	first := dial(t, in.Addr().String())
	if _, err := io.WriteString(first, "a\n"); err != nil {
		t.Fatal(err)
	}
	if a, err := bufio.NewReader(first).ReadString('\n'); a != "OK\n" {
		t.Fatalf("answer %q, %v", a, err)
	}
	told, err := io.ReadAll(dial(t, in.Addr().String()))
	if err != nil || string(told) != "FAILED: too many connections\n" {
		t.Errorf("a connection too many reads %q, %v", told, err)
	}
}

func TestIdle(t *testing.T) {
	in := start(t, map[string]string{"idleTimeout": "300"})
	c := dial(t, in.Addr().String())
	if _, err := io.WriteString(c, "part"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("an idle connection reads %q, %v", rest, err)
	}
	suite.Eventually(t, "the part of a line is counted", func() bool { return in.Source.(*source).dropped.Load() == 1 })
}

// Idle connections end with the source, and what they said counts.
func TestStopWithIdleConnections(t *testing.T) {
	s := subject(nil)
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	var all []net.Conn
	for i := range 50 {
		c := dial(t, in.Addr().String())
		if _, err := io.WriteString(c, strconv.Itoa(i)+"\nrest"); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	suite.Eventually(t, "all lines are put", func() bool { return in.Out.Len() == len(all) })
	in.Close()
	for _, c := range all {
		if got, err := io.ReadAll(c); err != nil || string(got) != "OK\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if n := in.Env.Metrics.OpenConnection.Load(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// flume: TestNetcatSource testSourceStoppedOnFlumeException
func TestPortInUse(t *testing.T) {
	in := start(t, nil)
	_, port, _ := net.SplitHostPort(in.Addr().String())
	second := Source.New()
	if _, faults := conf.Bind(second, map[string]string{"bind": "127.0.0.1", "port": port}); faults.HasErrors() {
		t.Fatal(faults)
	}
	err := second.Open(t.Context(), sourcetest.NewEnv(t, "second"))
	if err == nil || !strings.HasPrefix(err.Error(), "listen on 127.0.0.1:"+port) {
		t.Errorf("open: %v", err)
	}
}

func TestKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys map[string]string
		want string
	}{
		"nothing":  {nil, "bind"},
		"port":     {map[string]string{"bind": "h", "port": "65536"}, "port"},
		"length":   {map[string]string{"bind": "h", "port": "1", "max-line-length": "0"}, "max-line-length"},
		"encoding": {map[string]string{"bind": "h", "port": "1", "encoding": "klingon"}, "encoding"},
	} {
		_, faults := conf.Bind(Source.New(), c.keys)
		if !faults.HasErrors() || faults[0].Key != c.want {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
