package stdout

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
)

type terminal struct {
	mu     sync.Mutex
	text   strings.Builder
	broken bool
}

func (o *terminal) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken {
		return 0, errors.New("broken pipe")
	}
	return o.text.Write(p)
}

func (o *terminal) set(broken bool) {
	o.mu.Lock()
	o.broken = broken
	o.mu.Unlock()
}

func (o *terminal) bodies() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for line := range strings.Lines(o.text.String()) {
		var e struct{ Body string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			e.Body = err.Error()
		}
		all = append(all, e.Body)
	}
	return all
}

func TestSuite(t *testing.T) {
	var out *terminal
	sinktest.Run(t, sinktest.Subject{
		New: func() core.Sink {
			out = new(terminal)
			return core.WriterSink(&sink{out: out})
		},
		Backend: func(testing.TB) sinktest.Backend {
			return sinktest.Backend{Seen: out.bodies, Break: func() { out.set(true) }, Heal: func() { out.set(false) }}
		},
	})
}

func TestLines(t *testing.T) {
	b := core.NewBatch()
	h := core.NewHeaders(core.Header{Key: "host", Value: "web\n1"}, core.Header{Key: "\xff", Value: ""})
	b.Copy(h, []byte(`say "hi"`))
	b.Copy(h, []byte{0xff})
	b.Copy(core.Headers{}, []byte("<é>"))
	for _, c := range []struct {
		headers bool
		want    string
	}{
		{true, `{"headers":{"host":"web\n1","` + "\uFFFD" + `":""},"body":"say \"hi\""}` + "\n" +
			`{"headers":{"host":"web\n1","` + "\uFFFD" + `":""},"base64":"/w=="}` + "\n" + `{"headers":{},"body":"<é>"}` + "\n"},
		{false, `{"body":"say \"hi\""}` + "\n" + `{"base64":"/w=="}` + "\n" + `{"body":"<é>"}` + "\n"},
	} {
		out := new(terminal)
		s := &sink{out: out, headers: c.headers}
		if err := s.Write(context.Background(), b); err != nil || out.text.String() != c.want {
			t.Errorf("headers %v, %v:\ngot  %swant %s", c.headers, err, &out.text, c.want)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := &sink{out: new(nothing), headers: true}
	batch := core.NewBatch()
	h := core.NewHeaders(core.Header{Key: "host", Value: "web-1"})
	for range 100 {
		batch.Copy(h, []byte(strings.Repeat("x", 199)))
	}
	b.ReportAllocs()
	b.SetBytes(20000)
	for b.Loop() {
		_ = s.Write(context.Background(), batch)
	}
}

type nothing struct{}

func (*nothing) Write(p []byte) (int, error) { return len(p), nil }
