package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/core"
)

// bucket is where events of one path, prefix and schema go: one object at a time.
// (What S3 calls a bucket is the store here.)
type bucket struct {
	target string
	base   string             // of keys: directory, prefix and dot
	schema *format.BodySchema // of its events; nil: they need none, or none came since a resume
	out    *output            // nil: none is begun
	used   time.Time
}

// lease is a transaction whose events may be in several objects.
type lease struct {
	tx   core.TakeTx
	left int // events that are neither acked nor refused
}

var (
	errLost    = errors.New("lease was taken away")
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
	n := len(tx.Batch().Events)
	if n == 0 {
		tx.Ack(nil)
		return
	}
	l := &lease{tx, n}
	s.leases = append(s.leases, l)
	if err := s.deliver(ctx, l, &events); err != nil {
		s.fail(err)
		return
	}
	if l.left > 0 {
		tx.Unpin() // all is encoded
	}
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

// deliver puts the events of l, in order, into their objects. After an error l
// is among the leases, unless nothing of it is left.
func (s *sink) deliver(ctx context.Context, l *lease, prepared *format.Prepared) error {
	events := l.tx.Batch().Events
	now := s.env.Now()
	var touched []*output
	for from := 0; from < len(events); {
		if why := prepared.Refused(from); why != nil {
			s.refuse(l, from, from+1, why)
			from++
			continue
		}
		h := events[from].Headers
		to := from + 1
		for to < len(events) && events[to].Headers == h && prepared.Refused(to) == nil {
			to++
		}
		b, err := s.bucketOf(h, now, to-from, prepared.Schema(from))
		if err != nil {
			s.refuse(l, from, to, err)
			from = to
			continue
		}
		for from < to {
			if err := s.ready(ctx, b, l); err != nil {
				return err
			}
			o := b.out
			n := s.fit(o, events[from:to])
			if len(o.held) == 0 || o.held[len(o.held)-1].lease != l {
				touched = append(touched, o)
			}
			s.add(o, l, from, events[from:from+n])
			from += n
			switch {
			case s.limits.Full(o.total, o.inBodies), o.written >= o.part*(maxParts*9/10):
				err = s.end(o)
			case len(o.buf) >= writeBytes:
				err = s.write(o)
			case s.buffered > bufferBytes:
				err = s.writeAll()
			}
			if err != nil {
				return err
			}
		}
	}
	var whole []*output
	for _, o := range touched {
		if o.ended {
			continue
		}
		if s.cuttable(o); o.written-o.length >= o.part {
			whole = append(whole, o)
		}
	}
	return s.commit(whole)
}

// refuse says that the events of l from, up to to, can never be stored.
func (s *sink) refuse(l *lease, from, to int, why error) {
	for i := from; i < to; i++ {
		l.left--
		if l.left == 0 { // l ends with this
			s.leases = keep(s.leases, func(other *lease) bool { return other != l })
		}
		l.tx.Refuse(i, why)
	}
}

// chunkBytes is what is encoded at once: no more of a batch of large events is
// in memory twice.
const chunkBytes = 1 << 20

// fit returns how many of events o takes, at least one.
func (s *sink) fit(o *output, events []core.Event) int {
	bodies, chunk := o.inBodies, 0
	for i := range events {
		bodies += int64(len(events[i].Body))
		chunk += len(events[i].Body)
		if s.limits.Full(o.total+int64(i+1), bodies) || chunk >= chunkBytes {
			return i + 1
		}
	}
	return len(events)
}

var errKey = errors.New("its key, made of s3.path and s3.filePrefix, is not one that a store takes")

// bucketOf returns where n events with these headers go. An error: nowhere.
func (s *sink) bucketOf(h core.Headers, now time.Time, n int, schema *format.BodySchema) (*bucket, error) {
	target, split := s.target.Of(h, now, n)
	end := len(target)
	if schema != nil {
		target = append(append(target, 0), schema.ID...)
	}
	if b := s.buckets[string(target)]; b != nil {
		b.schema = schema
		return b, nil
	}
	b := &bucket{target: string(target), schema: schema}
	dir, prefix := string(target[:split]), string(target[split+1:end])
	b.base = strings.TrimPrefix(strings.TrimSuffix(roll.Clean(dir, ""), "/")+roll.Clean(prefix, "")+".", "/")
	if size := len(b.base) + len(s.tail(0)); size > maxKey || !utf8.ValidString(b.base) {
		return nil, fmt.Errorf("%w: it has %d bytes, of %d at most", errKey, size, maxKey)
	}
	if len(s.buckets) >= s.maxOpen {
		s.forgetBucket()
	}
	s.buckets[b.target] = b
	return b, nil
}

// Place implements core.Placer: the bucket, and what the keys of objects begin with.
func (s *sink) Place(e core.Event, now time.Time) (string, error) {
	dir, prefix := s.target.Place(e.Headers, now)
	return "s3://" + s.bucket + strings.TrimSuffix(roll.Clean(dir, ""), "/") + roll.Clean(prefix, ""), nil
}

// forgetBucket drops the oldest bucket without an object.
func (s *sink) forgetBucket() {
	var oldest *bucket
	for _, b := range s.buckets {
		if b.out == nil && (oldest == nil || b.used.Before(oldest.used)) {
			oldest = b
		}
	}
	if oldest != nil {
		delete(s.buckets, oldest.target)
	}
}

// fail goes back to what is acked, everywhere: a lease ends as a whole, so no
// object may keep a part of one. It will all be delivered again.
func (s *sink) fail(cause error) {
	s.env.Metrics.ConnectionFailed.Add(1)
	for o := range s.live {
		s.rewind(o)
	}
	for _, l := range s.leases {
		l.tx.Rollback(cause)
	}
	s.leases = nil
}

// keep returns the elements that ok holds for, in the same memory.
func keep[T any](list []T, ok func(T) bool) []T {
	n := 0
	for _, v := range list {
		if ok(v) {
			list[n] = v
			n++
		}
	}
	clear(list[n:])
	return list[:n]
}
