package thrift

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

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

// load is a batch of 100 events with bodies of 200 bytes.
func load(each bool) *core.Batch {
	b := core.NewBatch()
	body := []byte(strings.Repeat("GET /index 200 ", 14)[:200])
	h := core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "app", Value: "shop"})
	for i := range 100 {
		if each {
			h = core.NewHeaders(core.Header{Key: "host", Value: "web-17"}, core.Header{Key: "timestamp", Value: fmt.Sprintf("17000000%05d", i)})
		}
		b.Copy(h, body)
	}
	return b
}

// BenchmarkDecode makes a batch of a frame of 100 events; the library's reader is the peer.
func BenchmarkDecode(b *testing.B) {
	for name, e := range protocols {
		for _, c := range []struct {
			name string
			each bool
		}{{"same headers", false}, {"a timestamp each", true}} {
			frame := e.batch(nil, 1, load(c.each).Events, false)[lengthBytes:]
			report := func(b *testing.B) {
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
			}
			b.Run(fmt.Sprintf("%s, %s", name, c.name), func(b *testing.B) {
				d := decoder{maxEvents: 100}
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
	for name, keys := range map[string]map[string]string{"in flight": {}, "one at a time": {"max-in-flight": "1"}} {
		b.Run(name, func(b *testing.B) {
			addr, _ := serve(b, taker{})
			keys["hostname"], keys["port"], _ = net.SplitHostPort(addr)
			end := sinktest.Open(b, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
			batch := load(false)
			ended := make(chan error, 2*defaultInFlight)
			b.SetBytes(int64(len(encoder{true}.batch(nil, 1, batch.Events, false))))
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
			b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			end.Close()
		})
	}
}
