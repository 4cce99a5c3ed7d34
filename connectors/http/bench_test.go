package http

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
)

// request is a JSON text of n events with bodies of 200 bytes.
func request(n int, headers func(i int) string, body string) []byte {
	var b bytes.Buffer
	for i := range n {
		b.WriteByte("[,"[min(i, 1)])
		fmt.Fprintf(&b, `{"headers":{%s},"body":"%s"}`, headers(i), body)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func sameHeaders(int) string    { return `"host":"web-17","app":"shop"` }
func otherHeaders(i int) string { return fmt.Sprintf(`"host":"web-17","timestamp":"17000000%05d"`, i) }

var (
	plainBody   = strings.Repeat("GET /index 200 ", 14)[:200]
	escapedBody = strings.Repeat(`\"GET\" \/index\t`, 14)
)

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name    string
		headers func(int) string
		body    string
	}{{"same headers", sameHeaders, plainBody}, {"escapes", sameHeaders, escapedBody}, {"a timestamp each", otherHeaders, plainBody}} {
		b.Run(c.name, func(b *testing.B) {
			const events = 100
			text := request(events, c.headers, c.body)
			d := newDecoder()
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				batch, f := d.batch(text, charset.UTF8, events)
				if f != nil {
					b.Fatal(f.text)
				}
				batch.Release()
			}
			b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// taker stores nothing.
type taker struct{}

func (taker) Put(_ context.Context, b *core.Batch) error {
	b.Release()
	return nil
}
func (o taker) Send(ctx context.Context, b *core.Batch, _ func(error)) error { return o.Put(ctx, b) }
func (taker) Position(string) (int64, bool)                                  { return 0, false }
func (taker) Forget(string)                                                  {}

// BenchmarkRequests sends batches of 100 events over four connections of
// loopback. The client is a bare socket, so that what is measured is the server.
func BenchmarkRequests(b *testing.B) {
	const events = 100
	in := serve(b, taker{}, 0, nil)
	text := request(events, sameHeaders, plainBody)
	whole := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.SetParallelism(2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", in.addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		answers := bufio.NewReader(c)
		for pb.Next() {
			if _, err := c.Write(whole); err != nil {
				b.Error(err)
				return
			}
			for n := 0; n != 2; { // the head ends with an empty line
				line, err := answers.ReadSlice('\n')
				if err != nil || n == 0 && !bytes.Contains(line, []byte(" 200 ")) {
					b.Errorf("answer %q, %v", line, err)
					return
				}
				n = len(line)
			}
		}
	})
	b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(0, "ns/op")
}
