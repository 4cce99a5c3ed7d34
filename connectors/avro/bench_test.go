package avro

import (
	"testing"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
)

// BenchmarkDecode makes a batch of a frame of 100 events.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		each bool
	}{{"same headers", false}, {"a timestamp each", true}} {
		b.Run(c.name, func(b *testing.B) {
			text := rpc.AppendEvents(nil, rpctest.Load(c.each).Events)
			d := rpc.Decoder{MaxEvents: rpctest.LoadEvents}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				batch := core.NewBatch()
				if _, err := d.Events(batch, text); err != nil {
					b.Fatal(err)
				}
				batch.Release()
			}
			b.ReportMetric(rpctest.LoadEvents*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkHop sends batches of 100 events from a sink to a source over the loopback.
func BenchmarkHop(b *testing.B) {
	size := len(rpc.AppendEvents(nil, rpctest.Load(false).Events))
	packed := []string{"compression-type", "deflate"}
	for _, c := range []struct {
		name         string
		source, sink []string
	}{{"plain", nil, nil}, {"one at a time", nil, []string{"max-in-flight", "1"}}, {"deflate", packed, packed}} {
		b.Run(c.name, func(b *testing.B) { rpctest.BenchmarkHop(b, wire, size, c.source, c.sink) })
	}
}
