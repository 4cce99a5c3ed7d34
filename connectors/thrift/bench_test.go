package thrift

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
)

// BenchmarkDecode makes a batch of a frame of 100 events; the library's reader is the peer.
func BenchmarkDecode(b *testing.B) {
	for name, e := range protocols {
		for _, c := range []struct {
			name string
			each bool
		}{{"same headers", false}, {"a timestamp each", true}} {
			frame := e.batch(nil, 1, rpctest.Load(c.each).Events, false)[lengthBytes:]
			report := func(b *testing.B) {
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
			}
			b.Run(fmt.Sprintf("%s, %s", name, c.name), func(b *testing.B) {
				d := decoder{maxEvents: rpctest.LoadEvents}
				report(b)
				for b.Loop() {
					batch := core.NewBatch()
					x, err := readCall(frame, e.compact)
					if err == nil {
						_, err = d.args(&x, batch)
					}
					if err != nil {
						b.Fatal(err)
					}
					batch.Release()
				}
			})
			b.Run(fmt.Sprintf("%s, %s, the library", name, c.name), func(b *testing.B) {
				report(b)
				for b.Loop() {
					if _, _, err := libRequest(frame, e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkHop sends batches of 100 events from a sink to a source over the loopback.
func BenchmarkHop(b *testing.B) {
	size := len(encoder{true}.batch(nil, 1, rpctest.Load(false).Events, false))
	for name, keys := range map[string][]string{"in flight": nil, "one at a time": {"max-in-flight", "1"}} {
		b.Run(name, func(b *testing.B) { rpctest.BenchmarkHop(b, wire, size, nil, keys) })
	}
}
