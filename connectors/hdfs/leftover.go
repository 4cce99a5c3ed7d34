package hdfs

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/millrace/millrace/connectors/internal/pause"
)

// dispose sees to a file whose writer is dead, in the background: it is cut to
// what is acked and published, or removed if that is nothing. HDFS lets nobody
// touch the end of such a file for a minute or more: it tries until that is over.
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

var errRecovering = errors.New("file system is still recovering it")

// settle reports whether nothing is left to do.
func (s *sink) settle(st *state) (bool, error) {
	if st.events == 0 {
		err := s.session.remove(st.temp)
		return err == nil, err
	}
	done, err := s.truncate(st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil // published, or taken away by its reader
	case errors.Is(err, fs.ErrInvalid):
		s.env.Log.Error("file is shorter than what was delivered into it: it is left as it is", "file", st.temp, "delivered", st.length)
	case err != nil:
		return false, err
	case !done:
		return false, errRecovering
	}
	err = s.rename(st)
	return err == nil, err
}

// leaseAge is when HDFS takes a lease that is not renewed for old, its soft limit.
const leaseAge = time.Minute

// truncate cuts a file over a connection of its own, one file at a time. To cut
// is to take the file's lease. Should the data node that cuts it die, HDFS begins
// anew only when somebody else asks for a file whose lease is old, and a lease
// never gets old while the connection that took it lives.
func (s *sink) truncate(st *state) (done bool, err error) {
	if err = s.cutting.Acquire(s.life); err != nil {
		return false, err
	}
	defer s.cutting.Release()
	once := session{dial: s.session.dial, timeout: s.callTimeout}
	defer once.drop()
	done, err = ask(&once, func(f fileSystem) (bool, error) { return f.Truncate(st.temp, st.length) })
	switch {
	case done || err != nil:
		return done, named("truncate", st.temp, err)
	case st.cut.IsZero():
		st.cut = time.Now()
	case time.Since(st.cut) > leaseAge:
		_, err = ask(&once, func(f fileSystem) (struct{}, error) { return struct{}{}, f.Recover(st.temp) })
		return false, named("recover", st.temp, err)
	}
	return false, nil
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
