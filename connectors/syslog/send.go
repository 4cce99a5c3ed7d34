package syslog

import (
	"context"
	"sync"

	"github.com/millrace/millrace/core"
)

const (
	maxBatchBytes = 1 << 20
	// maxFlight is how much may be sent and not stored: what a crash can lose
	// beyond the kernel's buffers, since no sender hears of it.
	maxFlight = 16 << 20
)

// sender puts batches into an outlet and keeps what is on its way in bounds.
type sender struct {
	out core.Outlet

	mu     sync.Mutex
	flight int64
	room   chan struct{} // closed when flight falls; nil while nobody waits
}

// send waits for room and sends b, which it takes over.
func (s *sender) send(ctx context.Context, b *core.Batch) error {
	n := b.Size().Bytes
	if err := s.acquire(ctx, n); err != nil {
		b.Release()
		return err
	}
	err := s.out.Send(ctx, b, func(error) { s.give(n) })
	if err != nil {
		s.give(n)
	}
	return err
}

func (s *sender) acquire(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		if s.flight == 0 || s.flight+n <= maxFlight {
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

func (s *sender) give(n int64) {
	s.mu.Lock()
	s.flight -= n
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
}
