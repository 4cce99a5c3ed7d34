package null

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

func subject(keys map[string]string, log *slog.Logger) sinktest.Subject {
	return sinktest.Subject{New: Sink.New, Discards: true, Backend: func(testing.TB) sinktest.Backend {
		return sinktest.Backend{Keys: keys, Prepare: func(env *core.Env) {
			if log != nil {
				env.Log = log
			}
		}}
	}}
}

func TestSuite(t *testing.T) { sinktest.Run(t, subject(nil, nil)) }

func TestLogEvery(t *testing.T) {
	var out bytes.Buffer
	in := sinktest.Open(t, subject(map[string]string{"logEveryNEvents": "10"}, slog.New(slog.NewTextHandler(&out, nil))))
	for i := range 7 {
		in.Deliver(suite.Bodies(i*5, 5))
	}
	in.Close()
	for _, want := range []string{"events=10\n", "events=20\n", "events=30\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not logged: %s", want)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d lines logged, want 3:\n%s", n, &out)
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"batchSize", "logEveryNEvents"} {
		if _, faults := conf.Bind(Sink.New(), map[string]string{key: "0"}); !faults.HasErrors() {
			t.Errorf("%s = 0 is accepted", key)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := &sink{every: 10000, env: core.Env{Log: slog.New(slog.DiscardHandler)}}
	batch := core.NewBatch()
	for range 100 {
		batch.Copy(core.Headers{}, []byte("x"))
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Write(context.Background(), batch)
	}
}
