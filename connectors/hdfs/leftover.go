package hdfs

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/pause"
)

// dispose sees to a file whose writer is dead, in the background: it is cut to
// what is acked and published, or removed if that is nothing.
func (s *sink) dispose(st state, stream string) {
	s.work.Go(func() {
		done, err := s.settle(&st)
		s.goOn(st, stream, done, err)
	})
}

// goOn tries until it is done, after a first try that was made.
func (s *sink) goOn(st state, stream string, done bool, err error) {
	for try, wait := 1, time.Second; ; try, wait = try+1, min(2*wait, s.retryInterval) {
		if done {
			s.forgetLocked(stream)
			return
		}
		if try >= s.tries {
			s.env.Log.Error("file keeps its name as in use", "file", st.temp, "tries", try, "error", err)
			return
		}
		s.env.Log.Info("file is not finished, will try again", "file", st.temp, "pause", wait, "error", err)
		if !pause.For(s.life, wait) {
			return // the mark is there at the next start
		}
		done, err = s.settle(&st)
	}
}

var errRecovering = errors.New("file system is recovering it")

// stallAfter is when a cut that has not ended is begun anew: the data node that
// did it may have died, and HDFS itself does nothing about that for 20 minutes.
const stallAfter = 10 * time.Second

// settle reports whether nothing is left to do.
func (s *sink) settle(st *state) (bool, error) {
	if st.events == 0 {
		err := s.session.remove(st.temp)
		return err == nil, err
	}
	done, err := s.session.truncate(st.temp, st.length)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil // published, or taken away by its reader
	case errors.Is(err, fs.ErrInvalid):
		s.env.Log.Error("file is shorter than what was delivered into it: it is left as it is", "file", st.temp, "delivered", st.length)
	case err != nil || !done:
		return false, s.recover(st, err)
	}
	err = s.rename(st)
	return err == nil, err
}

// recover sees to a file that could not be cut, or that is being cut if cause is
// nil, and returns why it is not finished.
func (s *sink) recover(st *state, cause error) error {
	if cause == nil {
		if st.cut.IsZero() {
			st.cut = time.Now()
		}
		if time.Since(st.cut) < stallAfter {
			return errRecovering
		}
	}
	// Whoever HDFS takes for its writer is dead: nobody else knows of this file.
	if err := s.session.recover(st.temp); err != nil {
		return errors.Join(cause, err)
	}
	return errRecovering
}

// resume sees to the files that the channel's marks speak of.
func (s *sink) resume() {
	for stream, m := range s.env.Marks {
		if !strings.HasPrefix(stream, s.stream) {
			continue
		}
		st, err := decodeState(m.State)
		switch {
		case err != nil:
			s.env.Log.Warn("resume state is not understood: its file keeps its name as in use", "mark", stream, "error", err)
		case st.where != s.where.scheme+"://"+s.where.authority:
			s.env.Log.Warn("file of another file system keeps its name as in use", "file", st.temp, "file_system", st.where)
		default:
			s.dispose(st, stream)
			continue
		}
		s.files.Forget(stream)
	}
}

func (s *sink) forgetLocked(stream string) {
	s.lock.Take()
	s.files.Forget(stream)
	s.lock.Release()
}
