package s3

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// output is an object that is being written or carried to the store. Its state
// is that of its last commit point.
type output struct {
	state
	bucket *bucket
	stream string // of its mark
	stored <-chan struct{}

	// Of an open one.
	enc      filetype.Encoder
	buf      []byte // encoded, not yet written
	written  int64  // its length, with buf
	total    int64  // events in it
	inBodies int64
	held     []piece
	since    time.Time // of the oldest of them
	begun    time.Time
	used     time.Time // when it got its last event
	file     vfs.File  // of part at; nil: none is open
	at       int
	whole    []vfs.File // full ones that are not synced
	named    bool       // there are no files with names that are not synced
	recorded bool       // its file of state is made
	stale    bool       // its files have more than is acked
	ended    bool

	// What the carrier knows.
	carried  bool // there is a carrier
	pending  int64
	sent     int    // parts in the store, from the first
	parts    []part // of the multipart upload
	resolved bool   // parts are those that the store has
}

// piece is what one object has of a lease.
type piece struct {
	*lease
	pick                   []int32
	length, events, bodies int64 // of the object with it: there it may be cut
}

// tail is what ends the key of object n: its number, and the id of the spool,
// which makes it nobody else's.
func (s *sink) tail(n int64) string {
	return strconv.FormatInt(n, 10) + "-" + s.spool.id + s.extension
}

// ready makes b's object one that takes events.
func (s *sink) ready(ctx context.Context, b *bucket, l *lease) error {
	b.used = time.Now()
	if b.out != nil {
		return nil
	}
	if err := s.learn(ctx, l); err != nil {
		return err
	}
	if len(s.live) >= s.maxOpen {
		if err := s.endOldest(); err != nil {
			return err
		}
	}
	s.last = max(s.last+1, s.env.Now().UnixMilli()+1)
	o := &output{bucket: b, enc: s.encoding.New(s.env.Now, b.schema), begun: time.Now(), resolved: true}
	o.state = state{
		seq: s.last, part: s.partSize, spool: s.spool.id, where: s.where, target: b.target,
		key: b.base + s.tail(s.last), opened: o.begun.UnixMilli(), format: o.enc.State(),
	}
	o.stream = s.stream + strconv.FormatInt(o.seq, 10)
	o.buf = o.enc.Begin(nil)
	o.written, s.buffered = int64(len(o.buf)), s.buffered+len(o.buf)
	b.out = o
	s.live[o] = struct{}{}
	s.env.Metrics.ConnectionCreated.Add(1)
	s.wake.Nudge()
	return nil
}

// learn records, through l, a mark that only a channel which keeps marks gives
// back: without it the spool's own word for what is acked is all there is.
func (s *sink) learn(ctx context.Context, l *lease) error {
	if s.keeps {
		return nil
	}
	stored := l.tx.Ack([]int32{}, core.Mark{Stream: s.stream + "keeps", State: []byte(s.spool.id)})
	select {
	case <-stored:
		s.keeps = true
		return nil
	case <-l.tx.Lost():
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add puts events, which begin at index from of l's batch, into o.
func (s *sink) add(o *output, l *lease, from int, events []core.Event) {
	if len(o.held) == 0 {
		o.since = time.Now()
		s.wake.Nudge()
	}
	if n := len(o.held); n == 0 || o.held[n-1].lease != l {
		o.held = append(o.held, piece{lease: l})
	}
	p := &o.held[len(o.held)-1]
	for i := range events {
		p.pick = append(p.pick, int32(from+i))
		o.inBodies += int64(len(events[i].Body))
	}
	o.total += int64(len(events))
	o.used = time.Now()
	before := len(o.buf)
	o.buf = o.enc.Append(o.buf, events)
	s.grown(o, before)
}

func (s *sink) grown(o *output, before int) {
	n := len(o.buf) - before
	o.written += int64(n)
	s.buffered += n
}

// cuttable ends what o has of the lease that it got last: the object may be cut there.
func (s *sink) cuttable(o *output) {
	if len(o.held) == 0 {
		return
	}
	before := len(o.buf)
	o.buf = o.enc.Flush(o.buf)
	s.grown(o, before)
	p := &o.held[len(o.held)-1]
	p.length, p.events, p.bodies = o.written, o.total, o.inBodies
}

const syncsAtOnce = 16

// commit makes what outputs hold durable in the spool, and acks it.
func (s *sink) commit(outputs []*output) error {
	if len(outputs) == 0 {
		return nil
	}
	named := true
	for _, o := range outputs {
		s.cuttable(o)
		if err := s.write(o); err != nil {
			return err
		}
		if !o.recorded { // its name must be there before a mark speaks of it: see resume
			if err := s.spool.record(&o.state); err != nil {
				return fmt.Errorf("record state in spool: %w", err)
			}
			o.recorded, o.named = true, false
		}
		named = named && o.named
	}
	errs := make([]error, len(outputs))
	var all sync.WaitGroup
	turn := make(chan struct{}, syncsAtOnce)
	for i, o := range outputs {
		turn <- struct{}{}
		all.Go(func() {
			errs[i] = o.sync()
			<-turn
		})
	}
	all.Wait()
	err := errors.Join(errs...)
	if err == nil && !named {
		err = s.env.FS.SyncDir(filepath.Clean(s.spool.dir))
	}
	if err != nil {
		return fmt.Errorf("sync spool: %w", err)
	}
	for _, o := range outputs {
		o.named = true
		if err := s.ack(o); err != nil {
			return err
		}
	}
	return nil
}

// commitOr commits, and goes back if it cannot.
func (s *sink) commitOr(outputs []*output) error {
	err := s.commit(outputs)
	if err != nil {
		s.fail(err)
	}
	return err
}

// ack acks what o holds, which is synced, with the place where each piece ends.
func (s *sink) ack(o *output) error {
	for _, p := range o.held {
		select {
		case <-p.tx.Lost():
			return errLost
		default:
		}
	}
	st := o.state
	st.final, st.format = o.ended, o.enc.State()
	if n := len(o.held); n > 0 {
		p := &o.held[n-1]
		st.length, st.events, st.bodies = p.length, p.events, p.bodies
	}
	if st.events == 0 {
		return nil
	}
	if err := s.spool.record(&st); err != nil {
		return fmt.Errorf("record state in spool: %w", err)
	}
	o.format = st.format
	for i := range o.held {
		p := &o.held[i]
		o.length, o.events, o.bodies = p.length, p.events, p.bodies
		o.final = o.ended && i == len(o.held)-1
		p.left -= len(p.pick)
		o.stored = p.tx.Ack(p.pick, s.marks(core.Mark{Stream: o.stream, State: o.encode()})...)
	}
	o.final = st.final
	clear(o.held)
	o.held = o.held[:0]
	s.leases = keep(s.leases, func(l *lease) bool { return l.left > 0 })
	s.kick(o)
	return nil
}

// end ends objects: nothing more comes into them.
func (s *sink) end(outputs ...*output) error {
	for _, o := range outputs {
		o.ended = true
	}
	if err := s.commit(outputs); err != nil {
		for _, o := range outputs {
			o.ended = o.final // those that were acked before it failed have ended
			if o.final {
				s.detach(o)
			}
		}
		return err
	}
	for _, o := range outputs {
		s.detach(o)
	}
	return nil
}

// endOr ends, and goes back if it cannot.
func (s *sink) endOr(outputs []*output) error {
	err := s.end(outputs...)
	if err != nil {
		s.fail(err)
	}
	return err
}

// detach takes an object that has ended out of those that are open.
func (s *sink) detach(o *output) {
	s.drop(o)
	if o.events == 0 { // nothing was ever acked of it
		if err := s.spool.forget(o.seq, int(o.written/o.part)); err != nil {
			s.env.Log.Warn("spool is not tidy, the next start does it", "error", err)
		}
		return
	}
	s.ends[o] = struct{}{}
	s.kick(o)
}

// drop takes an object out of those that are open.
func (s *sink) drop(o *output) {
	o.closeFiles()
	s.buffered -= len(o.buf)
	o.buf, o.enc = nil, nil
	delete(s.live, o)
	if o.bucket.out == o {
		o.bucket.out = nil
	}
	s.env.Metrics.ConnectionClosed.Add(1)
}

// endOldest ends the object that has got no event for the longest time.
func (s *sink) endOldest() error {
	var oldest *output
	for o := range s.live {
		if oldest == nil || o.used.Before(oldest.used) {
			oldest = o
		}
	}
	delete(s.buckets, oldest.bucket.target)
	return s.end(oldest)
}

// rewind goes back to what is acked of o.
func (s *sink) rewind(o *output) {
	if o.written == o.length && len(o.held) == 0 {
		return
	}
	s.buffered -= len(o.buf)
	o.buf = o.buf[:0]
	clear(o.held)
	o.held = o.held[:0]
	o.closeFiles()
	o.enc = s.encoding.New(s.env.Now, o.bucket.schema)
	o.written, o.total, o.inBodies, o.stale = o.length, o.events, o.bodies, true
	if o.length == 0 {
		o.buf = o.enc.Begin(o.buf)
		s.grown(o, 0)
		return
	}
	o.enc.Resume(o.format) // it is one of the same configuration
}

// holding returns the objects with events that have waited for at least d.
func (s *sink) holding(now time.Time, d time.Duration) (list []*output) {
	for o := range s.live {
		if len(o.held) > 0 && now.Sub(o.since) >= d {
			list = append(list, o)
		}
	}
	return list
}

// marks are those to store with an ack: m, and that objects are done with.
func (s *sink) marks(m core.Mark) []core.Mark {
	list := []core.Mark{m}
	for _, stream := range s.forgotten {
		list = append(list, core.Mark{Stream: stream, Pos: -1})
	}
	s.forgotten = s.forgotten[:0]
	return list
}
