package file

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/connectors/internal/turn"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "file_roll", Doc: "Writes events into files of a directory, a new one after a time, a size or a count.",
	Aliases: []string{"org.apache.flume.sink.RollingFileSink"},
	New:     func() core.Sink { return new(sink) },
}

const (
	writeBytes  = 256 << 10 // of the buffer when it is written
	commitBytes = 8 << 20   // written since the last commit point when the next comes
	retryPause  = time.Second
)

type sink struct {
	names          namer
	format         format.Config
	interval       time.Duration
	size, count    int64
	suffix         string
	sync           bool
	commitInterval time.Duration
	batch          int

	env    core.Env
	stream string
	stop   context.CancelFunc
	work   sync.WaitGroup
	wake   turn.Wake // something to do came up

	lock  turn.Lock // guards what follows
	cur   *current  // nil: no file is begun
	buf   []byte    // of cur, not yet written
	held  []held    // leases whose events are in cur or buf and in no round
	since time.Time // of the oldest of them
	round round
}

// round is a commit point on its way: a sync that runs beside the deliveries.
// A goroutine of its own does it, which needs no lock; whoever has the lock
// settles it.
type round struct {
	held []held
	done chan struct{} // closed when err is set; nil: no round
	err  error
}

// held is the part of a lease that is in the current file.
type held struct {
	tx   core.TakeTx
	pick []int32 // nil: all that is left
	mark state   // where the file ends with it
}

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	s.names.keys(k)
	k.Seconds(&s.interval, "sink.rollInterval", 30*time.Second, "Age at which a file ends; 0: none.")
	k.Int64(&s.count, "sink.rollCount", 0, "Events with which a file ends, exactly; 0: none.").Must(conf.Min(0))
	k.Bytes(&s.size, "sink.rollSize", 0, "A file ends with the event that brings it to this size; 0: none.").Must(conf.Min(0))
	k.Batch(&s.batch, "sink.batchSize", 100, "Events taken at once.")
	format.Keys(k, "sink.serializer", &s.format)
	k.String(&s.suffix, "sink.inUseSuffix", "", "What the name of the file being written ends with, such as .tmp; empty: its final name from the start.")
	k.Bool(&s.sync, "sink.sync", true, "Sync each file before its events count as delivered; false: a crash of the machine may lose some.")
	k.Millis(&s.commitInterval, "sink.commitInterval", 100*time.Millisecond, "How long events that are written may wait to be synced together; 0: each batch by itself.").Must(conf.Min(0))
}

// Open implements core.Component.
func (s *sink) Open(_ context.Context, env core.Env) error {
	s.env, s.stream = env, env.Name+":file_roll"
	s.format.Open(env, nil)
	s.lock, s.wake = turn.NewLock(), turn.NewWake()
	s.cur, s.buf, s.held = nil, nil, nil
	s.names.begin(env.Now())
	if err := s.resume(); err != nil {
		return err
	}
	if err := s.makeDir(s.names.dir); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { turn.Clock(ctx, s.lock, s.wake, 0, func() time.Duration { return s.tick(ctx) }) })
	return nil
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	events, err := s.format.Prepare(ctx, tx.Batch().Events)
	if err == nil {
		err = s.lock.Acquire(ctx)
	}
	if err != nil {
		tx.Rollback(err)
		return
	}
	defer s.lock.Release()
	if err := s.deliver(ctx, tx, &events); err != nil {
		s.fail(err)
	}
}

// deliver returns an error with tx among the held.
func (s *sink) deliver(ctx context.Context, tx core.TakeTx, prepared *format.Prepared) error {
	events := tx.Batch().Events
	if len(events) == 0 {
		tx.Ack(nil)
		return nil
	}
	for from := 0; from < len(events); {
		if why := prepared.Refused(from); why != nil {
			tx.Refuse(from, why)
			from++
			continue
		}
		schema := prepared.Schema(from)
		if err := s.rollTo(schema); err != nil {
			s.hold(tx)
			return err
		}
		// Until its events are in a file the lease is held at the old place: that is how fail finds it.
		h := s.hold(tx)
		if err := s.ready(ctx, tx, schema); err != nil {
			return err
		}
		if len(s.held) == 1 {
			s.since = time.Now()
			s.wake.Nudge()
		}
		n := s.append(events[from:prepared.Run(from, len(events))])
		h.add(from, from+n, len(events))
		h.mark = s.cur.state
		from += n
		if len(s.buf) >= writeBytes {
			if err := s.write(); err != nil {
				return err
			}
		}
		if s.full() {
			if err := s.end(); err != nil {
				return err
			}
			if err := s.publish(ctx); err != nil { // all in it is acked: the next delivery, or the clock, tries again
				s.env.Log.Warn("file is not finished, will try again", "error", err)
				s.wake.Nudge()
			}
		}
	}
	switch {
	case s.cur == nil, s.cur.ended: // its last event filled the file
		return nil
	case s.commitInterval == 0:
		return s.commit()
	case s.cur.length-s.cur.begun >= commitBytes, time.Since(s.since) >= s.commitInterval:
		return s.begin()
	default:
		return s.settle(false)
	}
}

// hold returns what is held of tx, which is nothing at first.
func (s *sink) hold(tx core.TakeTx) *held {
	if n := len(s.held); n == 0 || s.held[n-1].tx != tx {
		s.held = append(s.held, held{tx: tx})
	}
	return &s.held[len(s.held)-1]
}

// add says that events [from, to) of n are in the file too; with the last one
// all that are left are.
func (h *held) add(from, to, n int) {
	if to == n {
		h.pick = nil
		return
	}
	for i := from; i < to; i++ {
		h.pick = append(h.pick, int32(i))
	}
}

// commit makes what is held durable and acks it.
func (s *sink) commit() error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.settle(true)
}

// begin starts a round for what is held, when the one before it is over.
func (s *sink) begin() error {
	if err := s.settle(true); err != nil || len(s.held) == 0 {
		return err
	}
	if err := s.write(); err != nil {
		return err
	}
	r, c := &s.round, s.cur
	r.held, s.held = s.held, r.held[:0]
	r.done, c.begun = make(chan struct{}), c.length
	if !s.sync {
		close(r.done)
		return s.settle(true)
	}
	done := r.done
	go func() {
		r.err = s.syncFile(c)
		close(done)
		s.wake.Nudge()
	}()
	return nil
}

// settle ends a round that is synced: it acks each lease with the place where
// it ends, so that the file can be cut there if a crash takes the acks behind
// it. After an error the leases of the round are held as before.
func (s *sink) settle(wait bool) error {
	r := &s.round
	if r.done == nil {
		return nil
	}
	select {
	case <-r.done:
	default:
		if !wait {
			return nil
		}
		<-r.done
	}
	err := r.err
	r.done, r.err = nil, nil
	for _, h := range r.held {
		select {
		case <-h.tx.Lost():
			err = resume.ErrLost
		default:
		}
	}
	if err != nil {
		s.held = append(r.held, s.held...)
		r.held = nil
		return err
	}
	for i := range r.held {
		h := &r.held[i]
		s.cur.stored = h.tx.Ack(h.pick, core.Mark{Stream: s.stream, State: h.mark.encode()})
		s.cur.acked = h.mark
		*h = held{}
	}
	r.held = r.held[:0]
	return nil
}

// fail rolls back what is not acked. The next delivery cuts the file where that begins.
func (s *sink) fail(cause error) {
	_ = s.settle(true) // its leases are acked now, or held again
	for i := range s.held {
		s.held[i].tx.Rollback(cause)
		s.held[i] = held{}
	}
	s.held, s.buf = s.held[:0], s.buf[:0]
	if s.cur != nil {
		s.cur.abandon(s)
	}
}

// failed is err, after a rollback where it is one.
func (s *sink) failed(err error) error {
	if err != nil {
		s.fail(err)
	}
	return err
}

// Flush implements core.Sink.
func (s *sink) Flush(ctx context.Context) error {
	if err := s.lock.Acquire(ctx); err != nil {
		return err
	}
	defer s.lock.Release()
	return s.failed(s.commit())
}

// tick does what is due and returns how long until more is.
func (s *sink) tick(ctx context.Context) time.Duration {
	// The runner hears of a failure through the rollbacks.
	_ = s.failed(s.settle(false))
	now := time.Now()
	if len(s.held) > 0 && s.round.done == nil && now.Sub(s.since) >= s.commitInterval {
		_ = s.failed(s.begin())
	}
	if s.cur != nil && (s.cur.ended || s.full()) {
		if err := s.failed(s.finish(ctx)); err != nil {
			if ctx.Err() == nil {
				s.env.Log.Warn("file is not finished, will try again", "error", err)
			}
			return retryPause
		}
	}
	pause := turn.Idle
	if len(s.held) > 0 && s.round.done == nil { // the end of a round wakes the clock
		pause = s.commitInterval - now.Sub(s.since)
	}
	if s.cur != nil && s.interval > 0 && s.cur.events > 0 {
		pause = min(pause, s.interval-s.age())
	}
	return max(pause, time.Millisecond)
}

// Close implements core.Sink: it acks what is held and finishes the file.
func (s *sink) Close(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.stop = nil
	s.work.Wait()
	if err := s.lock.Acquire(ctx); err != nil {
		return fmt.Errorf("finish file: %w", err)
	}
	defer s.lock.Release()
	if s.cur == nil {
		return nil
	}
	err := s.failed(s.finish(ctx))
	if s.cur != nil {
		s.cur.abandon(s)
		s.cur = nil
	}
	return err
}

// Place implements core.Placer: the directory, and what the names of files in it begin with.
func (s *sink) Place(core.Event, time.Time) (string, error) {
	return filepath.Join(s.names.dir, s.names.prefix), nil
}
