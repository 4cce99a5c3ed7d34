package hdfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/bucket"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/core"
)

// output is a file that is being written, or closed. Its state is that of its
// last commit point.
type output struct {
	state
	bucket.File // Ended: a goroutine of its own closes it

	bucket *bucket.Bucket[*output]
	stream string        // of its mark
	w      writer        // nil: closed, at a commit point
	done   chan struct{} // closed when its end has come
	dead   bool          // what is not acked in it was rolled back
}

// name says what the files of a bucket are called. Buckets whose files have the
// same names but for their numbers share these: Flume's, which begin with the
// time. A number is not used again, since the file that had it may still be about
// to be removed.
func (s *sink) name(b *bucket.Bucket[*output], dir, prefix string) error {
	b.Base, b.Number = join(dir, prefix)+".", new(int64)
	for _, other := range s.files.Buckets {
		if other.Base == b.Base {
			b.Number = other.Number
		}
	}
	return nil
}

// names sets the paths of the bucket's next file.
func (s *sink) names(b *bucket.Bucket[*output], o *output) {
	if *b.Number == 0 {
		*b.Number = s.env.Now().UnixMilli()
	}
	*b.Number++
	o.number, o.base = *b.Number, b.Base
	o.ext, o.where = s.extension, s.where.scheme+"://"+s.where.authority
	dir, name := path.Split(o.base)
	o.temp = path.Join(dir, s.inUsePrefix+name+strconv.FormatInt(o.number, 10)+o.ext+s.inUseSuffix)
	o.stream = s.stream + o.temp
}

// begin makes the bucket's file. Its name is recorded, through l, before it is
// made: if all ends here, the next start removes it.
func (s *sink) begin(ctx context.Context, b *bucket.Bucket[*output], l *bucket.Lease) error {
	if s.open >= s.maxOpen {
		s.endOldest()
	}
	for {
		o := &output{bucket: b, File: bucket.File{Enc: s.encoding.New(s.env.Now, b.Schema), Begun: time.Now()}}
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
		if err := resume.Record(ctx, l.Tx, s.files.Marks(o.mark())...); err != nil {
			return err
		}
		w, err := s.session.create(o.temp)
		if errors.Is(err, fs.ErrExist) { // another agent was faster
			s.files.Forget(o.stream)
			continue
		}
		if err != nil {
			s.env.Metrics.ConnectionFailed.Add(1)
			s.dispose(o.state, o.stream) // it may have been made all the same
			return err
		}
		s.env.Metrics.ConnectionCreated.Add(1)
		o.w = w
		s.files.Begin(b, o)
		s.open++
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
func (s *sink) ready(ctx context.Context, b *bucket.Bucket[*output], l *bucket.Lease) error {
	if o := b.Out; o != nil && o.w == nil {
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
	if b.Out != nil {
		return nil
	}
	return s.begin(ctx, b, l)
}

// mark says where o is acked.
func (o *output) mark() core.Mark { return core.Mark{Stream: o.stream, State: o.encode()} }

// detach takes o out of what is open; what is in its buffer is written elsewhere.
func (s *sink) detach(o *output) {
	if o.bucket.Out == o {
		o.bucket.Out = nil
		s.open--
	}
	delete(s.files.Live, o)
	s.files.Buffered -= len(o.Buf)
	o.Buf = nil
}

// write writes the buffer. After an error the buffer is gone: the call may still read it.
func (s *sink) write(o *output) error {
	if len(o.Buf) == 0 {
		return nil
	}
	buf := o.Buf
	_, err := call(s.callTimeout, func() (struct{}, error) { return struct{}{}, o.w.Write(buf) }, nil)
	o.Buf = buf[:0]
	if err != nil {
		o.Buf = nil
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
	if err := o.Lost(); err != nil {
		return err
	}
	s.files.Ack(&o.File, func(p *bucket.Part) core.Mark {
		o.length, o.events = p.Length, p.Events
		return o.mark()
	})
	return nil
}

// end closes o in a goroutine of its own, acks what is in it and publishes it.
func (s *sink) end(o *output) {
	s.files.EndPart(&o.File)
	if o.bucket.Out == o {
		o.bucket.Out = nil
		s.open--
	}
	o.Ended = true
	s.files.Buffered -= len(o.Buf)
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
		delete(s.files.Live, o)
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
	if oldest, ok := s.files.Oldest(); ok {
		delete(s.files.Buckets, oldest.bucket.Target)
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
	if o.Stored != nil {
		select {
		case <-o.Stored:
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
