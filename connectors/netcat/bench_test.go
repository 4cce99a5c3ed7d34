package netcat

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"github.com/millrace/millrace/core"
)

// taker stores nothing and counts.
type taker struct{ events int }

func (o *taker) Put(_ context.Context, b *core.Batch) error {
	o.events += len(b.Events)
	b.Release()
	return nil
}

func (o *taker) Send(ctx context.Context, b *core.Batch, _ func(error)) error { return o.Put(ctx, b) }
func (o *taker) Position(string) (int64, bool)                                { return 0, false }
func (o *taker) Forget(string)                                                {}

// BenchmarkLines sends lines of 200 bytes over one connection, and reads the answers.
func BenchmarkLines(b *testing.B) {
	out := new(taker)
	c, err := net.Dial("tcp", run(b, 0, out))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const chunk = 256
	text := bytes.Repeat(append(bytes.Repeat([]byte("x"), 199), '\n'), chunk)
	b.SetBytes(200)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for sent := 0; sent < b.N; sent += chunk {
			if _, err := c.Write(text[:200*min(chunk, b.N-sent)]); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, int64(3*b.N)); err != nil {
		b.Fatal(err)
	}
}
