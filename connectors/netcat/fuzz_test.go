package netcat

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
)

// wire is a connection that gives its text in pieces and keeps the answers.
type wire struct {
	net.Conn
	text    []byte
	piece   int
	answers bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error) {
	if len(w.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), w.piece)], w.text)
	w.text = w.text[n:]
	return n, nil
}

func (w *wire) Write(b []byte) (int, error)     { return w.answers.Write(b) }
func (w *wire) RemoteAddr() net.Addr            { return &net.TCPAddr{} }
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// model is the protocol in its simplest form.
func model(text []byte, maxLine int) (bodies []string, answers string) {
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		units := len(utf16.Encode([]rune(string(line))))
		switch {
		case ended && units+1 > maxLine, !ended && units >= maxLine:
			return bodies, answers + "FAILED: Event exceeds"
		case !ended:
			return bodies, answers
		case !utf8.Valid(line):
			return bodies, answers + "FAILED: line is not valid"
		}
		bodies, answers, text = append(bodies, string(line)), answers+"OK\n", rest
	}
	return bodies, answers
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte("a\nb\n"), uint16(10), uint16(1))
	f.Add([]byte("1234567890\n"), uint16(10), uint16(3))
	f.Add([]byte("é😀\n\xff\xfe\n"), uint16(4), uint16(2))
	f.Add([]byte("part"), uint16(100), uint16(100))
	f.Add([]byte(strings.Repeat("x", 5000)+"\n\ny\n"), uint16(6000), uint16(4096))
	f.Fuzz(func(t *testing.T, text []byte, maxLine, piece uint16) {
		out := sourcetest.NewOutlet()
		env := core.Env{Log: slog.New(slog.DiscardHandler), Metrics: new(metric.Group), Now: time.Now}
		s := &source{maxLine: int(maxLine) + 1, ack: true, charset: charset.UTF8, env: env}
		s.dropped = env.Metrics.Counter("partial_lines_dropped_total", "")
		w := &wire{text: text, piece: int(piece) + 1}
		v := &server{source: s, out: out, puts: t.Context()}
		v.serve(w)
		bodies, answers := model(text, s.maxLine)
		if !utf8.Valid(text) && strings.HasSuffix(answers, "exceeds") {
			return // how many units a malformed line has depends on where it is cut
		}
		got := out.Bodies()
		if strings.Join(got, "\n") != strings.Join(bodies, "\n") || len(got) != len(bodies) {
			t.Fatalf("%q, max %d: events %q, want %q", text, s.maxLine, got, bodies)
		}
		if !strings.HasPrefix(w.answers.String(), answers) || strings.HasSuffix(answers, "\n") && w.answers.String() != answers {
			t.Fatalf("%q, max %d: answers %q, want %q...", text, s.maxLine, &w.answers, answers)
		}
	})
}
