package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/bucket"
	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/core"
)

var (
	errClosed  = errors.New("sink is closed")
	errBacklog = errors.New("the store takes nothing and the spool has s3.maxBacklog")
)

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	err := s.room(ctx)
	var events format.Prepared
	if err == nil {
		events, err = s.encoding.Prepare(ctx, tx.Batch().Events)
	}
	if err == nil {
		err = s.lock.Acquire(ctx)
	}
	if err != nil {
		tx.Rollback(err)
		return
	}
	defer s.lock.Release()
	l := s.files.Lease(tx)
	open, err := s.files.Put(ctx, l, &events, s.env.Now())
	if err == nil { // a whole part does not wait
		err = s.commit(slices.DeleteFunc(open, func(o *output) bool { return o.Written-o.length < o.part }))
	}
	if err != nil {
		s.fail(err)
		return
	}
	if l.Left > 0 {
		tx.Unpin() // all is encoded
	}
}

// grown ends an object that is full, and writes much that is in buffers.
func (s *sink) grown(o *output) error {
	switch {
	case s.limits.Full(o.Total, o.InBodies), o.Written >= o.part*(maxParts*9/10):
		return s.end(o)
	case len(o.Buf) >= writeBytes:
		return s.write(o)
	case s.files.Buffered > bufferBytes:
		return s.writeAll()
	}
	return nil
}

// room waits until the spool may grow. After s3.callTimeout in which the store
// has taken nothing it says what the store says.
func (s *sink) room(ctx context.Context) error {
	var end <-chan time.Time
	for {
		if err := s.lock.Acquire(ctx); err != nil {
			return err
		}
		full, trouble := s.backlog > s.maxBacklog || len(s.ends) > maxEnded, s.trouble
		s.lock.Release()
		if !full {
			return nil
		}
		if end == nil {
			t := time.NewTimer(max(s.callTimeout, time.Second))
			defer t.Stop()
			end = t.C
		}
		select {
		case <-s.freed:
		case <-end:
			if trouble != nil {
				return fmt.Errorf("%w: %w", errBacklog, trouble)
			}
			end = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errKey = errors.New("its key, made of s3.path and s3.filePrefix, is not one that a store takes")

// name says what the keys of a bucket's objects begin with.
func (s *sink) name(b *bucket.Bucket[*output], dir, prefix string) error {
	b.Base = strings.TrimPrefix(roll.Join(dir, prefix, "")+".", "/")
	if size := len(b.Base) + len(s.tail(0)); size > maxKey || !utf8.ValidString(b.Base) {
		return fmt.Errorf("%w: it has %d bytes, of %d at most", errKey, size, maxKey)
	}
	return nil
}

// Place implements core.Placer: the bucket, and what the keys of objects begin with.
func (s *sink) Place(e core.Event, now time.Time) (string, error) {
	dir, prefix := s.target.Place(e.Headers, now)
	return "s3://" + s.bucket + roll.Join(dir, prefix, ""), nil
}

// fail goes back to what is acked, everywhere: a lease ends as a whole, so no
// object may keep a part of one. It will all be delivered again.
func (s *sink) fail(cause error) {
	s.env.Metrics.ConnectionFailed.Add(1)
	for o := range s.files.Live {
		s.rewind(o)
	}
	s.files.RollBack(cause)
}
