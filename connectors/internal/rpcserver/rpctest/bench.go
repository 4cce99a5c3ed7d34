package rpctest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
)

// taker is an outlet that stores nothing.
type taker struct{}

func (taker) Put(_ context.Context, b *core.Batch) error {
	b.Release()
	return nil
}
func (o taker) Send(ctx context.Context, b *core.Batch, _ func(error)) error { return o.Put(ctx, b) }
func (taker) Position(string) (int64, bool)                                  { return 0, false }
func (taker) Forget(string)                                                  {}

// LoadEvents is how many events Load returns.
const LoadEvents = 100

// Load is a batch of events with bodies of 200 bytes. With each they have
// different headers.
func Load(each bool) *core.Batch {
	b := core.NewBatch()
	body := []byte(strings.Repeat("GET /index 200 ", 14)[:200])
	h := core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "app", Value: "shop"})
	for i := range LoadEvents {
		if each {
			h = core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "timestamp", Value: fmt.Sprintf("17000000%05d", i)})
		}
		b.Copy(h, body)
	}
	return b
}

// BenchmarkHop sends batches, of so many bytes on the wire, from a sink to a
// source over the loopback.
func BenchmarkHop(b *testing.B, w Wire, size int, source, sink []string) {
	addr, _ := Serve(b, w, taker{}, source...)
	end := OpenSink(b, w, SinkKeys(addr, sink...))
	ended := make(chan error, 2*w.InFlight)
	tell := func(rolled error) { ended <- rolled }
	batch := Load(false)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	flying := 0
	for b.Loop() {
		if flying++; flying > w.InFlight {
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			flying--
		}
		end.Sink.Deliver(context.Background(), &Tx{B: batch, Ended: tell})
	}
	b.ReportMetric(LoadEvents*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	end.Close()
}
