package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"

	"github.com/millrace/millrace/connectors/internal/pause"
)

// kick counts what of o could be in the store, and sees that somebody carries it.
func (s *sink) kick(o *output) {
	pending := int64(o.state.parts()-o.sent) * o.part
	if o.final {
		pending = o.length - int64(o.sent)*o.part
	}
	pending = max(pending, 0)
	s.backlog += pending - o.pending
	o.pending = pending
	if o.carried || !o.work() {
		return
	}
	o.carried = true
	s.work.Go(func() { s.carry(o) })
}

// work reports whether there is something to do for a carrier.
func (o *output) work() bool {
	return o.final || !o.resolved || o.state.parts() > o.sent
}

// carry brings what is acked of o into the store, one request at a time, until
// nothing is left to do. What it brings never changes, so any request may be
// made twice.
func (s *sink) carry(o *output) {
	for {
		s.lock.Take()
		st, stored, sent, resolved := o.state, o.Stored, o.sent, o.resolved
		if !o.work() {
			o.carried = false
			s.lock.Release()
			return
		}
		s.lock.Release()
		// What readers may see, and what is no more in the spool, must not be undone.
		if stored != nil {
			select {
			case <-stored:
			case <-s.life.Done():
				return
			}
		}
		var did outcome
		switch {
		case !resolved:
			did = s.resolve(o, &st)
		case st.final && st.upload == "" && sent == 0 && st.length <= st.part:
			did = s.putWhole(o, &st)
		case st.upload == "" && (sent < st.parts() || !st.final || st.length > int64(sent)*st.part):
			did = s.create(o, &st)
		case sent < st.parts():
			did = s.carryPart(o, &st, sent, st.part)
		case st.length > int64(sent)*st.part:
			did = s.carryPart(o, &st, sent, st.length-int64(sent)*st.part)
		default:
			did = s.complete(o, &st)
		}
		if did == stopped {
			return
		}
		s.lock.Take()
		if did == published {
			s.done(o)
		} else {
			s.kick(o) // it is carried: this counts only
		}
		s.lock.Release()
		s.freed.Nudge()
		if did == published {
			return
		}
	}
}

// outcome is what a step of a carrier comes to.
type outcome uint8

const (
	stopped   outcome = iota // the sink is closed: the next start goes on
	moved                    // there may be more to do
	published                // the object is in the store, or will never be
)

// done forgets an object that is published. With the lock held.
func (s *sink) done(o *output) {
	s.backlog -= o.pending
	o.pending = 0
	delete(s.ends, o)
	s.files.Forget(o.stream)
	s.freed.Nudge()
	if err := s.spool.forget(o.seq, o.state.parts()); err != nil {
		s.env.Log.Warn("spool is not tidy, the next start does it", "object", o.key, "error", err)
	}
}

// try makes a request until it goes well, the sink is closed (errClosed), the
// answer is one of ends, or it says that this object will never be taken (a
// refusal).
func (s *sink) try(what string, st *state, do func(ctx context.Context) error, ends ...error) error {
	for n := 0; ; n++ {
		select {
		case s.slots <- struct{}{}:
		case <-s.life.Done():
			return errClosed
		}
		ctx, cancel := s.life, context.CancelFunc(func() {})
		if s.callTimeout > 0 {
			ctx, cancel = context.WithTimeout(s.life, s.callTimeout)
		}
		err := do(ctx)
		cancel()
		<-s.slots
		for _, end := range ends {
			if errors.Is(err, end) {
				return end
			}
		}
		if err != nil && s.life.Err() != nil {
			return errClosed
		}
		if r := (*refusal)(nil); errors.As(err, &r) && r.forGood() {
			return r
		}
		if err != nil {
			err = fmt.Errorf("%s %s: %w", what, st.key, err)
		}
		s.lock.Take()
		s.trouble = err
		s.lock.Release()
		if err == nil {
			return nil
		}
		s.failed.Add(1)
		wait := min(firstPause<<min(n, 20), s.retryInterval)
		wait = wait/2 + rand.N(wait/2+1) // agents that failed together must not come back together
		s.env.Log.Warn("request failed, will try again", "error", err, "pause", wait, "failures", n+1)
		if !pause.For(s.life, wait) {
			return errClosed
		}
	}
}

// putWhole publishes an object of one request.
func (s *sink) putWhole(o *output, st *state) outcome {
	// Nothing more comes, durably: after a crash the object that may be there by then must not be gone on with.
	if !s.known(o, st) {
		return stopped
	}
	err := s.conditionally(func(b *store) error {
		return s.try("put", st, func(ctx context.Context) error {
			return s.reading(st, 0, st.length, func(body io.ReadSeeker) error { return b.put(ctx, st.key, body, st.length) })
		}, errExists, errNotThere, errConditions)
	})
	return s.answered(o, st, err)
}

// answered is what the answer to a request that publishes an object comes to.
func (s *sink) answered(o *output, st *state, err error) outcome {
	switch r := (*refusal)(nil); {
	case err == nil:
		return published
	case errors.Is(err, errClosed):
		return stopped
	case errors.As(err, &r):
		return s.setAside(o, err)
	}
	return s.already(st, err) // by a request whose answer was lost
}

var errConditions = errors.New("the store has no conditional writes")

// conditionally makes a request that must not replace an object; once more
// without that condition, if the store does not know it.
func (s *sink) conditionally(do func(*store) error) error {
	s.lock.Take()
	b := *s.store
	s.lock.Release()
	err := do(&b)
	if errors.Is(err, errConditions) && !b.unconditional {
		s.env.Log.Info("the store has no conditional writes: names that are used once must do")
		s.lock.Take()
		s.store.unconditional = true
		s.lock.Release()
		b.unconditional = true
		err = do(&b)
	}
	return err
}

var errNotThere = errors.New("its bytes are not in the spool")

// reading gives the first bytes of a part's file.
func (s *sink) reading(st *state, n int, size int64, do func(io.ReadSeeker) error) error {
	f, err := s.env.FS.OpenFile(s.spool.part(st.seq, n), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errNotThere
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() < size {
		return errNotThere
	}
	return do(io.NewSectionReader(f, 0, size))
}

// create begins the multipart upload and records its id.
func (s *sink) create(o *output, st *state) outcome {
	var id string
	again := false
	err := s.try("create multipart upload", st, func(ctx context.Context) (err error) {
		if again { // perhaps it was done, and the answer got lost
			if ids, err := s.store.uploads(ctx, st.key); err == nil && len(ids) > 0 {
				id = ids[0]
				return nil
			}
		}
		again = true
		id, err = s.store.create(ctx, st.key)
		return err
	})
	if err != nil {
		return s.answered(o, st, err)
	}
	s.lock.Take()
	o.upload = id
	s.lock.Release()
	// Parts leave the spool only when this is on disk.
	if !s.known(o, st) {
		return stopped
	}
	return moved
}

// known records o's state, durably, as it is now: with the lock held, for what
// an ack records meanwhile must not be undone.
func (s *sink) known(o *output, st *state) bool {
	return s.try("record", st, func(context.Context) error {
		s.lock.Take()
		defer s.lock.Release()
		return s.spool.sync(&o.state)
	}) == nil
}

// carryPart brings part n, from 0.
func (s *sink) carryPart(o *output, st *state, n int, size int64) outcome {
	var p part
	err := s.try("upload part", st, func(ctx context.Context) error {
		return s.reading(st, n, size, func(body io.ReadSeeker) (err error) {
			p, err = s.store.upload(ctx, st.key, st.upload, int32(n+1-int(st.lost)), body, size)
			return err
		})
	}, errNoUpload, errNotThere)
	switch r := (*refusal)(nil); {
	case errors.Is(err, errClosed):
		return stopped
	case errors.As(err, &r):
		return s.setAside(o, err)
	case errors.Is(err, errNoUpload):
		return s.lost(o, "its multipart upload was aborted by somebody: is there a lifecycle rule that is shorter than s3.rollInterval?", st.upload)
	case err != nil:
		return s.skip(o, st, n)
	}
	s.lock.Take()
	o.parts = append(o.parts, p)
	o.sent = n + 1
	s.lock.Release()
	if size < st.part { // the last one: another start could not tell it from half of one
		return moved
	}
	if err := s.spool.remove(s.spool.part(st.seq, n)); err != nil {
		s.env.Log.Warn("spool is not tidy", "object", st.key, "error", err)
	}
	return moved
}

// lost says that parts of an object are gone, and goes on with those that are
// in the spool, in another upload.
func (s *sink) lost(o *output, why, upload string) outcome {
	s.lock.Take()
	defer s.lock.Release()
	if o.upload != upload {
		return moved
	}
	if n := len(o.parts); n > 0 {
		s.env.Log.Error("object has lost its beginning", "object", o.key, "bytes", int64(n)*o.part, "reason", why)
	}
	o.upload, o.parts, o.lost = "", nil, int64(o.sent)
	return moved
}

// skip goes on after a part that is nowhere.
func (s *sink) skip(o *output, st *state, n int) outcome {
	s.env.Log.Error("object lacks a part", "object", st.key, "part", n+1, "bytes", st.part, "reason", errNotThere)
	s.lock.Take()
	o.sent = n + 1
	o.lost++ // the numbers of an upload have no gaps: there are stores that want it so
	s.lock.Release()
	if !s.known(o, st) { // before what follows goes by these numbers
		return stopped
	}
	return moved
}

// complete publishes an object of parts.
func (s *sink) complete(o *output, st *state) outcome {
	if !s.known(o, st) { // as for an object of one request
		return stopped
	}
	s.lock.Take()
	parts := o.parts
	s.lock.Release()
	if len(parts) == 0 { // all of it was lost, which was said
		return published
	}
	err := s.conditionally(func(b *store) error {
		return s.try("complete", st, func(ctx context.Context) error {
			return b.complete(ctx, st.key, st.upload, parts)
		}, errExists, errNoUpload, errConditions)
	})
	return s.answered(o, st, err)
}

// setAside takes an object that the store refuses for good out of the way. What
// was acked of it stays in the spool, for a person to look at; the rest comes
// again, into another object.
func (s *sink) setAside(o *output, cause error) outcome {
	s.lock.Take()
	defer s.lock.Release()
	if _, live := s.files.Live[o]; live {
		s.fail(cause)
		s.drop(o)
	}
	dir, err := s.spool.setAside(o.seq, o.state.parts())
	if err != nil {
		s.env.Log.Warn("spool is not tidy", "object", o.key, "error", err)
	}
	s.refused.Add(1)
	s.env.Log.Error("object is refused for good: what of it was not uploaded is set aside", "object", o.key, "directory", dir, "events", o.events, "error", cause)
	return published
}

// already reports whether the object is in the store, by a request whose answer
// was lost. Nobody else uses its key.
func (s *sink) already(st *state, cause error) outcome {
	there, err := s.whole(st)
	if err != nil {
		return stopped
	}
	if !there {
		s.env.Log.Error("object is not as it was delivered, or was taken away", "object", st.key, "delivered", st.length, "error", cause)
	}
	return published
}
