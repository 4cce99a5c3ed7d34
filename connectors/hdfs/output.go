package hdfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/core"
)

// bucket is where events of one path, prefix and schema go: one file at a time.
type bucket struct {
	key     string
	dir     string
	prefix  string
	schema  *format.BodySchema // of its events; nil: they need none
	counter *int64             // of the newest file: Flume's, which begins with the time
	out     *output            // nil: none is begun
	used    time.Time
}

// output is a file that is being written, or closed. Its state is that of its
// last commit point.
type output struct {
	state
	bucket *bucket
	stream string // of its mark
	w      writer // nil: closed, at a commit point
	enc    filetype.Encoder
	buf    []byte // encoded, not yet written

	written int64 // its length, with buf
	total   int64 // events in it
	bytes   int64 // in their bodies: what rollSize counts
	held    []part
	since   time.Time // of the oldest of them
	opened  time.Time
	used    time.Time // when it got its last event
	stored  <-chan struct{}

	done   chan struct{} // closed when its end has come
	ending bool          // a goroutine of its own closes it
	dead   bool          // what is not acked in it was rolled back
}

// lease is a transaction whose events may be in several files.
type lease struct {
	tx   core.TakeTx
	left int // events that are not acked
}

// part is what one file has of a lease.
type part struct {
	*lease
	pick   []int32
	length int64 // of the file with it: there it may be cut
	events int64
}

// names sets the paths of the bucket's next file.
func (s *sink) names(b *bucket, o *output) {
	if *b.counter == 0 {
		*b.counter = s.env.Now().UnixMilli()
	}
	*b.counter++
	o.number = *b.counter
	name := ""
	o.base = strings.TrimSuffix(b.dir, "/") + "/" + b.prefix + "."
	if b.prefix != "" {
		name = path.Base(b.prefix)
	}
	o.ext, o.where = s.extension, s.where.scheme+"://"+s.where.authority
	o.temp = path.Join(path.Dir(o.base), s.inUsePrefix+name+"."+strconv.FormatInt(o.number, 10)+o.ext+s.inUseSuffix)
	o.stream = s.stream + o.temp
}

// begin makes the bucket's file. Its name is recorded, through l, before it is
// made: if all ends here, the next start removes it.
func (s *sink) begin(ctx context.Context, b *bucket, l *lease) error {
	if s.open >= s.maxOpen {
		s.endOldest()
	}
	for {
		o := &output{bucket: b, enc: s.encoding.New(s.env.Now, b.schema), opened: time.Now()}
		s.names(b, o)
		// Who records a name will remove what has it: so it must be nobody's.
		taken, err := s.taken(&o.state)
		if err != nil {
			s.env.Metrics.ConnectionFailed.Add(1)
			return err
		}
		if taken {
			continue
		}
		stored := l.tx.Ack([]int32{}, s.marks(core.Mark{Stream: o.stream, State: o.encode()})...)
		select {
		case <-stored:
		case <-l.tx.Lost():
			return errLost
		case <-ctx.Done():
			return ctx.Err()
		}
		w, err := s.session.create(o.temp)
		if errors.Is(err, fs.ErrExist) { // another agent was faster
			s.forget(o.stream)
			continue
		}
		if err != nil {
			s.env.Metrics.ConnectionFailed.Add(1)
			s.dispose(o.state, o.stream) // it may have been made all the same
			return err
		}
		s.env.Metrics.ConnectionCreated.Add(1)
		o.w, o.buf = w, o.enc.Begin(nil)
		o.written, s.buffered = int64(len(o.buf)), s.buffered+len(o.buf)
		b.out = o
		s.live[o] = struct{}{}
		s.open++
		s.wake.Nudge()
		return nil
	}
}

// taken reports whether there is a file of that name, in use or final.
func (s *sink) taken(st *state) (bool, error) {
	_, taken, err := s.session.size(st.temp)
	if !taken && err == nil && st.final() != st.temp {
		_, taken, err = s.session.size(st.final())
	}
	return taken, err
}

// ready makes b's file one that takes events.
func (s *sink) ready(ctx context.Context, b *bucket, l *lease) error {
	b.used = time.Now()
	if o := b.out; o != nil && o.w == nil {
		w, err := s.session.append(o.temp)
		if err == nil {
			o.w = w
			return nil
		}
		// All that is in it is acked: it is as good as ended.
		s.env.Log.Warn("file cannot be gone on with, beginning another", "file", o.temp, "error", err)
		s.env.Metrics.ConnectionFailed.Add(1)
		s.detach(o)
		s.dispose(o.state, o.stream)
	}
	if b.out != nil {
		return nil
	}
	return s.begin(ctx, b, l)
}

// detach takes o out of what is open; what is in its buffer is written elsewhere.
func (s *sink) detach(o *output) {
	if o.bucket.out == o {
		o.bucket.out = nil
		s.open--
	}
	delete(s.live, o)
	s.buffered -= len(o.buf)
	o.buf = nil
}

// add puts events, which begin at index from of l's batch, into o.
func (s *sink) add(o *output, l *lease, from int, events []core.Event) {
	if len(o.held) == 0 {
		o.since = time.Now()
		s.wake.Nudge()
	}
	if n := len(o.held); n == 0 || o.held[n-1].lease != l {
		o.held = append(o.held, part{lease: l})
	}
	p := &o.held[len(o.held)-1]
	for i := range events {
		p.pick = append(p.pick, int32(from+i))
		o.bytes += int64(len(events[i].Body))
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

// cuttable ends what o has of the lease that it got last: the file may be cut there.
func (s *sink) cuttable(o *output) {
	if len(o.held) == 0 {
		return
	}
	before := len(o.buf)
	o.buf = o.enc.Flush(o.buf)
	s.grown(o, before)
	p := &o.held[len(o.held)-1]
	p.length, p.events = o.written, o.total
}

// write writes the buffer. After an error the buffer is gone: the call may still read it.
func (s *sink) write(o *output) error {
	if len(o.buf) == 0 {
		return nil
	}
	buf := o.buf
	_, err := call(s.callTimeout, func() (struct{}, error) { return struct{}{}, o.w.Write(buf) }, nil)
	o.buf = buf[:0]
	if err != nil {
		o.buf = nil
	}
	return named("write", o.temp, err)
}

// close writes what is left and closes o: a commit point, if it returns nil. It
// does not touch what the lock guards.
func (s *sink) close(o *output) error {
	if o.w == nil {
		return nil
	}
	if err := s.write(o); err != nil {
		return err
	}
	_, err := call(s.callTimeout, func() (struct{}, error) { return struct{}{}, o.w.Close() }, nil)
	if err == nil {
		o.w = nil
		s.env.Metrics.ConnectionClosed.Add(1)
	}
	return named("close", o.temp, err)
}

// ack acks what o holds, after close, with the place where each part ends.
func (s *sink) ack(o *output) error {
	for _, p := range o.held {
		select {
		case <-p.tx.Lost():
			return errLost
		default:
		}
	}
	for i := range o.held {
		p := &o.held[i]
		o.length, o.events = p.length, p.events
		o.stored = p.tx.Ack(p.pick, s.marks(core.Mark{Stream: o.stream, State: o.encode()})...)
		p.left -= len(p.pick)
	}
	clear(o.held)
	o.held = o.held[:0]
	s.leases = keep(s.leases, func(l *lease) bool { return l.left > 0 })
	return nil
}

// end closes o in a goroutine of its own, acks what is in it and publishes it.
func (s *sink) end(o *output) {
	s.cuttable(o)
	if o.bucket.out == o {
		o.bucket.out = nil
		s.open--
	}
	o.ending = true
	s.buffered -= len(o.buf)
	s.slots <- struct{}{} // the goroutines that have one need no lock to give it back
	o.done = make(chan struct{})
	s.ends[o] = struct{}{}
	go func() {
		defer func() {
			s.lock.Take()
			delete(s.ends, o)
			s.lock.Release()
			close(o.done)
		}()
		err := s.close(o)
		<-s.slots
		s.lock.Take()
		delete(s.live, o)
		if err == nil && !o.dead {
			err = s.ack(o)
		}
		if err != nil && !o.dead {
			o.dead = true
			s.fail(err)
		}
		s.lock.Release()
		if o.dead {
			s.bury(o)
			return
		}
		s.publish(o)
	}()
}

// endOldest ends the file that has got no event for the longest time.
func (s *sink) endOldest() {
	var oldest *output
	for o := range s.live {
		if !o.ending && (oldest == nil || o.used.Before(oldest.used)) {
			oldest = o
		}
	}
	if oldest != nil {
		delete(s.buckets, oldest.bucket.key)
		s.end(oldest)
	}
}

// bury gets rid of a file that failed, or of what in it is not acked.
func (s *sink) bury(o *output) {
	if w := o.w; w != nil {
		go w.Abandon() // it may wait for a call that hangs
	}
	s.env.Metrics.ConnectionFailed.Add(1)
	s.dispose(o.state, o.stream)
}

// publish gives o, which is closed and acked, its final name once the acks are
// on the channel's disk.
func (s *sink) publish(o *output) {
	if o.events == 0 {
		s.dispose(o.state, o.stream)
		return
	}
	if o.stored != nil {
		select {
		case <-o.stored:
		case <-s.life.Done():
			return // the next start does it
		}
	}
	if err := s.rename(&o.state); err != nil {
		s.work.Go(func() { s.goOn(o.state, o.stream, false, err) })
		return
	}
	s.forgetLocked(o.stream)
}

// rename gives a file its final name, or the next one that is free.
func (s *sink) rename(st *state) error {
	if st.temp == st.final() {
		return nil
	}
	for {
		_, taken, err := s.session.size(st.final())
		if err != nil {
			return err
		}
		if !taken {
			break
		}
		st.number++
	}
	if err := s.session.makeDir(path.Dir(st.final())); err != nil {
		return err
	}
	return s.session.rename(st.temp, st.final())
}
