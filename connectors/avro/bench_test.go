package avro

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
)

// taker stores nothing.
type taker struct{}

func (taker) Put(_ context.Context, b *core.Batch) error {
	b.Release()
	return nil
}
func (o taker) Send(ctx context.Context, b *core.Batch, _ func(error)) error { return o.Put(ctx, b) }
func (taker) Position(string) (int64, bool)                                  { return 0, false }
func (taker) Forget(string)                                                  {}

// load is a batch of events with bodies of 200 bytes.
func load(n int, each bool) *core.Batch {
	b := core.NewBatch()
	body := []byte(strings.Repeat("GET /index 200 ", 14)[:200])
	h := core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "app", Value: "shop"})
	for i := range n {
		if each {
			h = core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "timestamp", Value: fmt.Sprintf("17000000%05d", i)})
		}
		b.Copy(h, body)
	}
	return b
}

// BenchmarkDecode makes a batch of a frame of 100 events.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		each bool
	}{{"same headers", false}, {"a timestamp each", true}} {
		b.Run(c.name, func(b *testing.B) {
			const events = 100
			text := rpc.AppendEvents(nil, load(events, c.each).Events)
			d := rpc.Decoder{MaxEvents: events}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				batch := core.NewBatch()
				if _, err := d.Events(batch, text); err != nil {
					b.Fatal(err)
				}
				batch.Release()
			}
			b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// instantTx is a transaction that only says that it has ended.
type instantTx struct {
	core.TakeTx
	b     *core.Batch
	ended chan error
}

func (x *instantTx) Batch() *core.Batch { return x.b }
func (x *instantTx) Ack([]int32, ...core.Mark) <-chan struct{} {
	x.ended <- nil
	return nil
}
func (x *instantTx) Rollback(cause error) { x.ended <- cause }

// BenchmarkHop sends batches of 100 events from a sink to a source over the loopback.
func BenchmarkHop(b *testing.B) {
	for _, c := range []struct {
		name string
		keys map[string]string
	}{{"plain", nil}, {"one at a time", map[string]string{"max-in-flight": "1"}}, {"deflate", map[string]string{"compression-type": "deflate"}}} {
		b.Run(c.name, func(b *testing.B) {
			addr, _ := serve(b, taker{}, map[string]string{"compression-type": c.keys["compression-type"]})
			host, port, _ := net.SplitHostPort(addr)
			keys := map[string]string{"hostname": host, "port": port}
			for k, v := range c.keys {
				keys[k] = v
			}
			end := sinktest.Open(b, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
			batch := load(100, false)
			ended := make(chan error, 2*defaultInFlight)
			b.SetBytes(int64(len(rpc.AppendEvents(nil, batch.Events))))
			b.ReportAllocs()
			flying := 0
			for b.Loop() {
				if flying++; flying > defaultInFlight {
					if err := <-ended; err != nil {
						b.Fatal(err)
					}
					flying--
				}
				end.Sink.Deliver(context.Background(), &instantTx{b: batch, ended: ended})
			}
			b.ReportMetric(float64(100)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			end.Close()
		})
	}
}
