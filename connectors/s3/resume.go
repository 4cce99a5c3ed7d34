package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/bucket"
)

// resume goes on with the objects that the channel's marks, or else the spool's
// own states, speak of.
func (s *sink) resume() error {
	s.lock.Take() // there are carriers before it is over
	defer s.lock.Release()
	found, err := s.spool.read()
	if err != nil {
		return err
	}
	_, s.keeps = s.env.Marks[s.stream+"keeps"]
	var list []*output
	for stream, m := range s.env.Marks {
		if !strings.HasPrefix(stream, s.stream) || stream == s.stream+"keeps" {
			continue
		}
		st, err := decodeState(m.State)
		if err != nil {
			s.env.Log.Warn("resume state is not understood", "mark", stream, "error", err)
			s.files.Forget(stream)
			continue
		}
		s.last = max(s.last, st.seq)
		local, there := found.states[st.seq]
		switch {
		case st.spool != s.spool.id:
			s.env.Log.Error("object was begun with another spool: what of it was not in the store is lost", "object", st.key, "bytes", st.length, "spool", s.spool.dir)
			st.seq, st.final = -st.seq, true // no file has that name
		case !there: // it is published
			s.files.Forget(stream)
			continue
		case local.key == st.key:
			if st.upload == "" || local.lost > st.lost { // it was begun after that ack
				st.upload, st.lost = local.upload, max(st.lost, local.lost)
			}
			st.final = st.final || local.final && local.length == st.length
		}
		list = append(list, &output{state: st, stream: stream})
	}
	if !s.keeps { // else what has no mark was not acked
		for seq, st := range found.states {
			if st.events > 0 && !slices.ContainsFunc(list, func(o *output) bool { return o.seq == seq }) {
				list = append(list, &output{state: st, stream: fmt.Sprint(s.stream, seq)})
			}
		}
	}
	slices.SortFunc(list, func(a, b *output) int { return int(a.seq - b.seq) })
	if err := s.tidy(found, list); err != nil {
		return err
	}
	for _, o := range list {
		s.take(o)
	}
	return nil
}

// tidy removes what no object that is gone on with has.
func (s *sink) tidy(found content, list []*output) error {
	wanted := func(seq int64) bool {
		s.last = max(s.last, seq)
		return slices.ContainsFunc(list, func(o *output) bool { return o.seq == seq })
	}
	for seq, files := range found.files {
		if !wanted(seq) {
			if err := s.spool.forget(seq, slices.Max(files)); err != nil {
				return fmt.Errorf("tidy spool: %w", err)
			}
		}
	}
	for seq := range found.states {
		if !wanted(seq) {
			if err := s.spool.forget(seq, -1); err != nil {
				return fmt.Errorf("tidy spool: %w", err)
			}
		}
	}
	return nil
}

// take goes on with an object.
func (s *sink) take(o *output) {
	o.resolved = o.upload == "" && o.length < o.part // else the store knows more
	o.Begun = time.UnixMilli(o.opened)
	o.Used, o.named, o.recorded = time.Now(), true, true
	o.Written, o.Total, o.InBodies, o.stale = o.length, o.events, o.bodies, true
	if o.where != s.where {
		s.env.Log.Warn("object of another store is finished in this one", "object", o.key, "was", o.where)
	}
	switch off := o.length % o.part; {
	case !o.final && off > 0 && !s.spool.has(o.seq, o.state.parts(), off):
		s.env.Log.Error("bytes of an object are not in the spool: they are lost", "object", o.key, "bytes", off)
		o.length -= off
		o.final = true
	case !o.final && s.goesOn(o):
		o.bucket = &bucket.Bucket[*output]{Target: o.target, Base: strings.TrimSuffix(o.key, s.tail(o.seq)), Out: o}
		s.files.Buckets[o.target], s.files.Live[o] = o.bucket, struct{}{}
		s.env.Log.Info("going on with object", "object", o.key, "bytes", o.length, "events", o.events)
		s.kick(o)
		return
	default:
		o.final = true
	}
	s.ends[o] = struct{}{}
	s.kick(o)
}

// goesOn reports whether what was recorded fits this configuration.
func (s *sink) goesOn(o *output) bool {
	o.Enc = s.encoding.New(s.env.Now, nil)
	_, taken := s.files.Buckets[o.target]
	return !taken && o.where == s.where && strings.HasSuffix(o.key, s.tail(o.seq)) && o.Enc.Resume(o.format) && !s.limits.Full(o.events, o.bodies)
}

// resolve asks the store what it has of an object that was begun before this
// start: those parts are not uploaded again.
func (s *sink) resolve(o *output, st *state) outcome {
	id := st.upload
	if id == "" { // it may have been begun, and the id lost
		ids, err := s.begun(st)
		if err != nil {
			return stopped
		}
		for n, other := range ids {
			if n == 0 {
				id = other
				continue
			}
			if s.try("abort multipart upload", st, func(ctx context.Context) error { return s.store.abort(ctx, st.key, other) }) != nil {
				return stopped
			}
		}
	}
	var parts []part
	gone := false
	if id != "" {
		err := s.try("list parts", st, func(ctx context.Context) (err error) {
			parts, err = s.store.parts(ctx, st.key, id)
			return err
		}, errNoUpload)
		if errors.Is(err, errClosed) {
			return stopped
		}
		gone = err != nil
	}
	if gone && st.final {
		there, err := s.whole(st)
		if err != nil {
			return stopped
		}
		if there {
			return published
		}
	}
	s.lock.Take()
	if o.upload = id; gone {
		o.upload = ""
		s.env.Log.Error("multipart upload is gone: only what is in the spool is left of the object", "object", o.key, "bytes", o.length)
	}
	o.parts, o.sent = nil, int(o.lost)
	for _, p := range parts { // what follows a gap, or is not whole, is uploaded again
		if int(p.number) == len(o.parts)+1 && p.size == o.part && o.sent < o.state.parts() {
			o.parts = append(o.parts, p)
			o.sent++
		}
	}
	o.resolved = true
	sent := o.sent
	s.lock.Release()
	if !s.known(o, st) {
		return stopped
	}
	for n := range sent {
		if err := s.spool.remove(s.spool.part(st.seq, n)); err != nil {
			s.env.Log.Warn("spool is not tidy", "object", st.key, "error", err)
		}
	}
	return moved
}

// begun lists the uploads of an object whose id is not known. A sink that may
// not list begins another; the store's lifecycle rule removes the first.
func (s *sink) begun(st *state) (ids []string, err error) {
	var refused error
	err = s.try("list multipart uploads", st, func(ctx context.Context) (err error) {
		ids, err = s.store.uploads(ctx, st.key)
		var r *refusal
		if errors.As(err, &r) && r.status/100 == 4 {
			refused, err = err, nil
		}
		return err
	})
	if refused != nil {
		s.env.Log.Warn("cannot look for an upload that may have been begun, beginning another", "object", st.key, "error", refused)
	}
	return ids, err
}

// whole reports whether the object is in the store already.
func (s *sink) whole(st *state) (there bool, err error) {
	var size int64
	err = s.try("look for", st, func(ctx context.Context) (err error) {
		size, there, err = s.store.size(ctx, st.key)
		return err
	})
	return there && size == st.length, err
}
