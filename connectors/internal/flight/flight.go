// Package flight bounds what a source has sent and its channels have not
// stored. A source whose senders hear no answer loses that much when the
// machine dies; the rest is still with the senders, or with the kernel.
package flight

import (
	"context"
	"sync"

	"github.com/millrace/millrace/core"
)

const (
	// BatchBytes is when such a source sends a batch even if it has few events.
	BatchBytes = 1 << 20
	// limit is how much may be on its way. One batch alone may be larger.
	limit = 16 << 20
)

// Sender sends batches into an outlet and keeps what is on its way in bounds.
// It may be used from several goroutines.
type Sender struct {
	Out core.Outlet

	mu     sync.Mutex
	flight int64
	room   chan struct{} // closed when flight falls; nil while nobody waits
}

// Send waits for room and sends b, which it takes over.
func (s *Sender) Send(ctx context.Context, b *core.Batch) error {
	n := b.Size().Bytes
	if err := s.acquire(ctx, n); err != nil {
		b.Release()
		return err
	}
	err := s.Out.Send(ctx, b, func(error) { s.give(n) })
	if err != nil {
		s.give(n)
	}
	return err
}

func (s *Sender) acquire(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		if s.flight == 0 || s.flight+n <= limit {
			s.flight += n
			s.mu.Unlock()
			return nil
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Sender) give(n int64) {
	s.mu.Lock()
	s.flight -= n
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
}
