package stdout

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.WriterType(core.Type[core.Writer]{
	Name: "stdout", Doc: "Writes each event to standard output, as a line of JSON.",
	New: func() core.Writer { return &sink{out: os.Stdout} },
})

type sink struct {
	headers bool
	out     io.Writer
	buf     []byte
	last    core.Headers // whose JSON is in shown
	shown   []byte
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	k.Bool(&s.headers, "headers", true, "Write the headers too.")
}

// Open implements core.Component.
func (s *sink) Open(context.Context, core.Env) error { return nil }

// keep is the largest buffer that stays from batch to batch.
const keep = 1 << 20

// Write implements core.Writer: one write a batch.
func (s *sink) Write(_ context.Context, b *core.Batch) error {
	s.buf = s.buf[:0]
	for i := range b.Events {
		s.event(&b.Events[i])
	}
	_, err := s.out.Write(s.buf)
	if cap(s.buf) > keep {
		s.buf = nil
	}
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

func (s *sink) event(e *core.Event) {
	s.buf = append(s.buf, '{')
	if s.headers {
		if e.Headers != s.last || len(s.shown) == 0 {
			s.last = e.Headers
			s.shown = object(s.shown[:0], e.Headers)
		}
		s.buf = append(s.buf, s.shown...)
	}
	if utf8.Valid(e.Body) {
		s.buf = append(s.buf, `"body":`...)
		s.buf, _ = jsontext.AppendQuote(s.buf, e.Body) // fails on invalid UTF-8 only
	} else {
		s.buf = append(s.buf, `"base64":"`...)
		s.buf = base64.StdEncoding.AppendEncode(s.buf, e.Body)
		s.buf = append(s.buf, '"')
	}
	s.buf = append(s.buf, "}\n"...)
}

func object(dst []byte, h core.Headers) []byte {
	dst = append(dst, `"headers":{`...)
	first := true
	for k, v := range h.All() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(quote(dst, k), ':')
		dst = quote(dst, v)
	}
	return append(dst, "},"...)
}

func quote(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
	return dst
}

// Close implements core.Writer.
func (s *sink) Close(context.Context) error { return nil }
