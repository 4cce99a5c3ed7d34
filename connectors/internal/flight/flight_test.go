package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
)

func batch(n int) *core.Batch {
	b := core.NewBatch()
	b.Append(core.Headers{}, b.Block(n))
	return b
}

// What is on its way stays within the limit, and goes on when something is stored.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := sourcetest.NewOutlet()
		out.Hold()
		s := Sender{Out: out}
		sent, ended := 0, false
		go func() {
			for range 3 * limit / BatchBytes {
				if err := s.Send(t.Context(), batch(BatchBytes)); err != nil {
					t.Error(err)
				}
				sent++
			}
			ended = true
		}()
		synctest.Wait()
		if sent != limit/BatchBytes {
			t.Errorf("%d batches are on their way", sent)
		}
		for !ended {
			out.Release()
			out.Hold()
			synctest.Wait()
		}
		out.Release()
		if out.Len() != 3*limit/BatchBytes {
			t.Errorf("%d batches arrived", out.Len())
		}
	})
}

// A batch larger than all of it goes alone; a context ends the wait.
func TestLargeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := sourcetest.NewOutlet()
		out.Hold()
		s := Sender{Out: out}
		if err := s.Send(t.Context(), batch(limit+1)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Send(ctx, batch(1)) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		out.Release()
	})
}

// A batch that was not sent is not on its way.
func TestSendFails(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Close(core.ErrClosed)
	s := Sender{Out: out}
	for range 2 * limit / BatchBytes {
		if err := s.Send(t.Context(), batch(BatchBytes)); !errors.Is(err, core.ErrClosed) {
			t.Fatal(err)
		}
	}
}
