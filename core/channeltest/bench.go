package channeltest

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// Bench measures what an event costs on its way through a channel, by the way
// it comes and goes. One operation is 100 events.
func Bench(b *testing.B, s Subject) {
	for _, x := range []struct {
		name      string
		put, take int
	}{{"whole", 100, 100}, {"split", 100, 10}, {"joined", 10, 100}} {
		b.Run("lockstep/"+x.name, func(b *testing.B) {
			ch, batch := Open(b, s), events(x.put)
			stored := make(chan error, 1)
			done := func(err error) { stored <- err }
			b.ReportAllocs()
			for b.Loop() {
				for range 100 / x.put {
					claim(b, ch, batch).Commit(batch, nil, done)
					if err := <-stored; err != nil {
						b.Fatal(err)
					}
				}
				for range 100 / x.take {
					l, err := ch.Take(context.Background(), core.Take{Events: x.take})
					if err != nil {
						b.Fatal(err)
					}
					l.Ack(nil)
				}
			}
		})
	}
	b.Run("flow", func(b *testing.B) { // a source that is ahead, a sink behind it
		ch, batch := Open(b, s), events(100)
		n := 0
		go func() {
			for {
				claim(b, ch, batch).Commit(batch, nil, func(error) {})
				if n++; n == b.N {
					return
				}
			}
		}()
		b.ReportAllocs()
		b.ResetTimer()
		for got := 0; got < 100*b.N; {
			l, err := ch.Take(context.Background(), core.Take{Events: 100})
			if err != nil {
				b.Fatal(err)
			}
			got += len(l.Batch().Events)
			l.Ack(nil)
		}
	})
}

// events is a batch of n bodies of 256 bytes.
func events(n int) *core.Batch {
	b := core.NewBatch()
	for _, body := range suite.Bodies(0, n) {
		b.Copy(core.Headers{}, append([]byte(body), make([]byte, 256-len(body))...))
	}
	return b
}

// claim waits for room as a source does.
func claim(b *testing.B, ch core.Channel, batch *core.Batch) core.PutTx {
	for {
		tx, err := ch.TryClaim(batch.Size())
		if err == nil {
			return tx
		}
		if !errors.Is(err, core.ErrChannelFull) {
			b.Error(err)
			return nil
		}
		_ = ch.Room(context.Background(), batch.Size()) // the claim tells
	}
}
