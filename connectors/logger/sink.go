package logger

import (
	"context"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.WriterType(core.Type[core.Writer]{
	Name: "logger", Doc: "Writes each event into the agent's log.",
	Aliases: []string{"org.apache.flume.sink.LoggerSink"},
	New:     func() core.Writer { return new(sink) },
})

type sink struct {
	most int
	env  core.Env
	buf  []byte
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	k.Int(&s.most, "maxBytesToLog", 16, "Bytes of the body that are shown.").Must(conf.Min(0)).OrDefault()
}

// Open implements core.Component.
func (s *sink) Open(_ context.Context, env core.Env) error {
	s.env = env
	return nil
}

// Write implements core.Writer.
func (s *sink) Write(_ context.Context, b *core.Batch) error {
	for i := range b.Events {
		s.buf = append(s.buf[:0], "Event: "...)
		s.buf = dump(s.buf, &b.Events[i], s.most)
		s.env.Log.Info(string(s.buf))
	}
	return nil
}

// Close implements core.Writer.
func (s *sink) Close(context.Context) error { return nil }

// dump appends e in Flume's form: { headers:{k=v} body: 48 65 … He… }, 16 bytes
// a line, with an offset before each line but the first.
func dump(dst []byte, e *core.Event, most int) []byte {
	dst = append(dst, "{ headers:"...)
	dst = format.AppendHeaders(dst, e.Headers)
	dst = append(dst, " body:"...)
	body := e.Body[:min(len(e.Body), most)]
	for at := 0; at < len(body); at += 16 {
		if at > 0 {
			dst = append(dst, '\n')
			for shift := 28; shift >= 0; shift -= 4 {
				dst = append(dst, digits[at>>shift&15])
			}
		}
		dst = append(dst, ' ')
		line := body[at:min(at+16, len(body))]
		for _, c := range line {
			dst = append(dst, digits[c>>4], digits[c&15], ' ')
		}
		for range 16 - len(line) {
			dst = append(dst, "   "...)
		}
		for _, c := range line {
			if c < ' ' || c > '~' {
				c = '.'
			}
			dst = append(dst, c)
		}
	}
	return append(dst, " }"...)
}

const digits = "0123456789ABCDEF"
