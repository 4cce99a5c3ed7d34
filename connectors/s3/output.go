package s3

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/bucket"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// output is an object that is being written or carried to the store. Its state
// is that of its last commit point.
type output struct {
	state
	bucket.File

	bucket *bucket.Bucket[*output]
	stream string // of its mark

	// Of an open one.
	file     vfs.File // of part at; nil: none is open
	at       int
	whole    []vfs.File // full ones that are not synced
	named    bool       // there are no files with names that are not synced
	recorded bool       // its file of state is made
	stale    bool       // its files have more than is acked

	// What the carrier knows.
	carried  bool // there is a carrier
	pending  int64
	sent     int    // parts in the store, from the first
	parts    []part // of the multipart upload
	resolved bool   // parts are those that the store has
}

// tail is what ends the key of object n: its number, and the id of the spool,
// which makes it nobody else's.
func (s *sink) tail(n int64) string {
	return strconv.FormatInt(n, 10) + "-" + s.spool.id + s.extension
}

// ready makes b's object one that takes events.
func (s *sink) ready(ctx context.Context, b *bucket.Bucket[*output], l *bucket.Lease) error {
	if b.Out != nil {
		return nil
	}
	if err := s.learn(ctx, l); err != nil {
		return err
	}
	if len(s.files.Live) >= s.maxOpen {
		if err := s.endOldest(); err != nil {
			return err
		}
	}
	s.last = max(s.last+1, s.env.Now().UnixMilli()+1)
	o := &output{bucket: b, File: bucket.File{Enc: s.encoding.New(s.env.Now, b.Schema), Begun: time.Now()}, resolved: true}
	o.state = state{
		seq: s.last, part: s.partSize, spool: s.spool.id, where: s.where, target: b.Target,
		key: b.Base + s.tail(s.last), opened: o.Begun.UnixMilli(), format: o.Enc.State(),
	}
	o.stream = s.stream + strconv.FormatInt(o.seq, 10)
	s.files.Begin(b, o)
	s.env.Metrics.ConnectionCreated.Add(1)
	return nil
}

// learn records, through l, a mark that only a channel which keeps marks gives
// back: without it the spool's own word for what is acked is all there is.
func (s *sink) learn(ctx context.Context, l *bucket.Lease) error {
	if s.keeps {
		return nil
	}
	err := resume.Record(ctx, l.Tx, core.Mark{Stream: s.stream + "keeps", State: []byte(s.spool.id)})
	s.keeps = err == nil
	return err
}

const syncsAtOnce = 16

// commit makes what outputs hold durable in the spool, and acks it.
func (s *sink) commit(outputs []*output) error {
	if len(outputs) == 0 {
		return nil
	}
	named := true
	for _, o := range outputs {
		s.files.EndPart(&o.File)
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

// ack acks what o holds, which is synced, with the place where each part of a lease ends.
func (s *sink) ack(o *output) error {
	if err := o.Lost(); err != nil {
		return err
	}
	st := o.state
	st.final, st.format = o.Ended, o.Enc.State()
	var last *bucket.Part
	if n := len(o.Held); n > 0 {
		last = &o.Held[n-1]
		st.length, st.events, st.bodies = last.Length, last.Events, last.Bodies
	}
	if st.events == 0 {
		return nil
	}
	if err := s.spool.record(&st); err != nil {
		return fmt.Errorf("record state in spool: %w", err)
	}
	o.format = st.format
	s.files.Ack(&o.File, func(p *bucket.Part) core.Mark {
		o.length, o.events, o.bodies = p.Length, p.Events, p.Bodies
		o.final = o.Ended && p == last
		return core.Mark{Stream: o.stream, State: o.encode()}
	})
	o.final = st.final
	s.kick(o)
	return nil
}

// end ends objects: nothing more comes into them.
func (s *sink) end(outputs ...*output) error {
	for _, o := range outputs {
		o.Ended = true
	}
	if err := s.commit(outputs); err != nil {
		for _, o := range outputs {
			o.Ended = o.final // those that were acked before it failed have ended
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
		if err := s.spool.forget(o.seq, int(o.Written/o.part)); err != nil {
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
	s.files.Buffered -= len(o.Buf)
	o.Buf, o.Enc = nil, nil
	delete(s.files.Live, o)
	if o.bucket.Out == o {
		o.bucket.Out = nil
	}
	s.env.Metrics.ConnectionClosed.Add(1)
}

// endOldest ends the object that has got no event for the longest time.
func (s *sink) endOldest() error {
	oldest, ok := s.files.Oldest()
	if !ok {
		return nil
	}
	delete(s.files.Buckets, oldest.bucket.Target)
	return s.end(oldest)
}

// rewind goes back to what is acked of o.
func (s *sink) rewind(o *output) {
	if o.Written == o.length && len(o.Held) == 0 {
		return
	}
	s.files.Buffered -= len(o.Buf)
	o.Buf = o.Buf[:0]
	o.LetGo()
	o.closeFiles()
	o.Enc = s.encoding.New(s.env.Now, o.bucket.Schema)
	o.Written, o.Total, o.InBodies, o.stale = o.length, o.events, o.bodies, true
	if o.length == 0 {
		s.files.Head(&o.File)
		return
	}
	o.Enc.Resume(o.format) // it is one of the same configuration
}
