package logger

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
)

// log keeps messages.
type log struct {
	slog.Handler
	mu       sync.Mutex
	messages []string
}

func (l *log) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Level != slog.LevelInfo {
		r.Message = "level: " + r.Level.String()
	}
	l.messages = append(l.messages, r.Message)
	return nil
}

func (l *log) Enabled(context.Context, slog.Level) bool { return true }

// bodies reads the text columns of the dumps.
func (l *log) bodies() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, m := range l.messages {
		_, rest, _ := strings.Cut(m, " body:")
		body := ""
		for i, line := range strings.Split(strings.TrimSuffix(rest, " }"), "\n") {
			if i > 0 {
				line = line[8:]
			}
			body += line[1+16*3:]
		}
		all = append(all, body)
	}
	return all
}

func TestSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
		l := new(log)
		return sinktest.Backend{
			Keys:    map[string]string{"maxBytesToLog": "64"},
			Prepare: func(env *core.Env) { env.Log = slog.New(l) },
			Seen:    l.bodies,
		}
	}})
}

// flume: TestLoggerSink testAppend testAppendWithCustomSize
// flume: TestEventHelper testPrintable testNonPrintable
func TestDump(t *testing.T) {
	for _, c := range []struct {
		headers core.Headers
		body    string
		most    int
		want    string
	}{
		{core.NewHeaders(core.Header{Key: "a", Value: "b"}), "Hello world!\r", 16, "{ headers:{a=b} body: 48 65 6C 6C 6F 20 77 6F 72 6C 64 21 0D          Hello world!. }"},
		{core.Headers{}, "0123456789abcdefXYZ", 16, "{ headers:{} body: 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 0123456789abcdef }"},
		{core.Headers{}, "0123456789abcdefXYZ", 32, "{ headers:{} body: 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 0123456789abcdef\n00000010 58 59 5A                                        XYZ }"},
		{core.Headers{}, "", 16, "{ headers:{} body: }"},
		{core.Headers{}, "x", 0, "{ headers:{} body: }"},
	} {
		if got := string(dump(nil, &core.Event{Headers: c.headers, Body: []byte(c.body)}, c.most)); got != c.want {
			t.Errorf("%q, at most %d:\ngot  %s\nwant %s", c.body, c.most, got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	s := new(sink)
	if _, faults := conf.Bind(s, map[string]string{"maxBytesToLog": "many"}); faults.HasErrors() || len(faults) != 1 || s.most != 16 {
		t.Errorf("a bad number: %v, %d bytes", faults, s.most)
	}
}
