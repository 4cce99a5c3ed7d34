package http

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// nothing is a transaction that comes to nothing.
type nothing struct{ b *core.Batch }

func (n nothing) Batch() *core.Batch                               { return n.b }
func (n nothing) Ack([]int32, ...core.Mark) (done <-chan struct{}) { return nil }
func (n nothing) Refuse(_ int, why error)                          { panic(why) }
func (n nothing) Rollback(cause error)                             { panic(cause) }
func (n nothing) Unpin() bool                                      { return false }
func (n nothing) Lost() <-chan struct{}                            { return nil }

// benchBatch is 500 events of 200 bytes, in runs of ten with the same headers.
func benchBatch() *core.Batch {
	b := core.NewBatch()
	b.Born = born
	var h core.Headers
	for i := range 500 {
		if i%10 == 0 {
			h = core.NewHeaders(core.Header{Key: "host", Value: fmt.Sprint("web-", i%3)}, core.Header{Key: "app", Value: "shop"})
		}
		b.Copy(h, []byte(plainBody))
	}
	return b
}

func benchSink(b *testing.B, keys map[string]string) *sink {
	s := Sink.New().(*sink)
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		b.Fatal(faults)
	}
	if err := s.Open(b.Context(), sourcetest.NewEnv(b, "sink")); err != nil {
		b.Fatal(err)
	}
	return s
}

var benchFormats = []struct {
	name string
	keys map[string]string
}{
	{"lines", map[string]string{"format": formatLines}},
	{"json_lines", map[string]string{"format": formatJSONLines}},
	{"elasticsearch_bulk", map[string]string{"format": formatBulk, "elasticsearch.index": "logs-%{app}"}},
	{"loki", map[string]string{"format": formatLoki, "loki.labels.app": "%{app}", "loki.labels.host": "%{host}"}},
	{"lines, gzip", map[string]string{"format": formatLines, "compression": "gzip"}},
}

// BenchmarkEncode makes requests and sends none.
func BenchmarkEncode(b *testing.B) {
	for _, c := range benchFormats {
		b.Run(c.name, func(b *testing.B) {
			c.keys["endpoint"] = "http://127.0.0.1:1/_bulk"
			s := benchSink(b, c.keys)
			l, batch := <-s.lanes, benchBatch()
			b.ReportAllocs()
			b.SetBytes(batch.Size().Bytes)
			for b.Loop() {
				l.begin(nothing{batch})
				if l.encode(0, len(l.events)) != len(l.events) || len(l.sent) != len(l.events) {
					b.Fatal("not all of it is in one request")
				}
				if _, err := l.compress(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeliver sends them, to a server in this process that reads and says yes.
func BenchmarkDeliver(b *testing.B) {
	answer := `{"took":1,"errors":false,"items":[` + strings.Repeat(`{"create":{"_index":"logs","_id":"x","status":201}},`, 499) + `{}]}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	for _, c := range benchFormats {
		b.Run(c.name, func(b *testing.B) {
			c.keys["endpoint"] = srv.URL + "/_bulk"
			s := benchSink(b, c.keys)
			batch := benchBatch()
			b.ReportAllocs()
			b.SetBytes(batch.Size().Bytes)
			for b.Loop() {
				s.Deliver(context.Background(), nothing{batch})
			}
			b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			if err := s.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
