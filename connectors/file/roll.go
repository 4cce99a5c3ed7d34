package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// current is the file being written. Its state is what it will be when the
// buffer is written; acked is what the channel was told.
type current struct {
	state
	acked   state
	written int64
	begun   int64    // its length when the newest round began
	file    vfs.File // nil: must be opened again
	made    bool     // the file exists
	named   bool     // and its name is synced
	longer  bool     // it was abandoned, perhaps with more in it than is acked
	ended   bool     // nothing more is written: it is to be published
	ser     format.Serializer
	schema  *format.BodySchema // that its events are known to have; nil: they need none, or it is not looked at yet
	stored  <-chan struct{}    // closed when the newest ack is on the channel's disk; nil: there was none since the start
}

func (c *current) path() string { return c.name + c.suffix }

// abandon closes the file and goes back to what is acked.
func (c *current) abandon(s *sink) {
	if c.file != nil {
		_ = c.file.Close() // its content past the last sync is not used
		s.env.Metrics.ConnectionClosed.Add(1)
	}
	c.state, c.file, c.begun = c.acked, nil, c.acked.length
	c.longer = c.made
}

// makeDir makes dir, durably.
func (s *sink) makeDir(dir string) error {
	if err := vfs.MakeDir(s.env.FS, dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// ready makes s.cur a file that takes events of a schema. Its name is recorded, through tx, before it is made.
func (s *sink) ready(ctx context.Context, tx core.TakeTx, schema *format.BodySchema) error {
	if s.cur != nil && s.cur.ended {
		if err := s.publish(ctx); err != nil {
			return err
		}
	}
	if s.cur == nil {
		st, err := s.name()
		if err != nil {
			return err
		}
		if err := resume.Record(ctx, tx, core.Mark{Stream: s.stream, State: st.encode()}); err != nil {
			return fmt.Errorf("record file name: %w", err)
		}
		s.cur = &current{state: st, acked: st, schema: schema}
	}
	if s.cur.file != nil {
		return nil
	}
	err := s.open()
	if err != nil {
		s.env.Metrics.ConnectionFailed.Add(1)
	}
	return err
}

// rollTo ends the current file if events of a schema may not go into it.
func (s *sink) rollTo(schema *format.BodySchema) error {
	if s.cur == nil || s.cur.ended || s.fits(schema) {
		return nil
	}
	return s.end()
}

// fits reports whether events of a schema may go into the current file.
func (s *sink) fits(schema *format.BodySchema) bool {
	c := s.cur
	switch {
	case schema == nil:
		return true
	case c.schema == nil: // gone on with since the start
		if !s.format.Fits(c.format, schema) {
			return false
		}
		c.schema = schema
	}
	return c.schema.ID == schema.ID
}

// name chooses a path where there is no file.
func (s *sink) name() (state, error) {
	for {
		st := state{name: s.names.next(s.env.Now()), suffix: s.suffix, opened: time.Now()}
		free, err := s.free(st.name)
		if free && s.suffix != "" {
			free, err = s.free(st.name + s.suffix)
		}
		if free || err != nil {
			return st, err
		}
	}
}

// free reports whether there is no file at path.
func (s *sink) free(path string) (bool, error) {
	_, err := s.env.FS.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("look for file: %w", err)
	}
	return false, err
}

// open makes the file, or opens it and cuts it to what is acked.
func (s *sink) open() error {
	c := s.cur
	flags := os.O_RDWR
	if !c.made {
		if err := s.makeDir(filepath.Dir(c.name)); err != nil {
			return err
		}
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := s.env.FS.OpenFile(c.path(), flags, 0o644)
	if err == nil {
		c.made = true
		if err = cut(f, c.acked.length); err != nil {
			_ = f.Close() // the error above is what counts
		}
	} else {
		err = fmt.Errorf("open file: %w", err)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errShort) {
		s.cur = nil // it is not ours, or not any more: the next delivery begins another
	}
	if err != nil {
		return err
	}
	c.longer = false
	c.file, c.written, c.ser = f, c.acked.length, s.format.New(c.schema)
	s.env.Metrics.ConnectionCreated.Add(1)
	if c.length == 0 {
		s.buf = c.ser.Begin(s.buf[:0])
		c.length, c.format = int64(len(s.buf)), c.ser.State()
	} else if !c.ser.Resume(c.format) {
		return fmt.Errorf("open file %s: it has another format", c.path())
	}
	return nil
}

var errShort = errors.New("file is shorter than what was delivered into it")

// cut makes f that long.
func cut(f vfs.File, length int64) error {
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Size() < length:
		err = fmt.Errorf("%w: %d bytes of %d", errShort, info.Size(), length)
	case info.Size() > length:
		err = f.Truncate(length)
	}
	if err != nil {
		return fmt.Errorf("cut file %s: %w", f.Name(), err)
	}
	return nil
}

// append serializes events up to the end of the file and returns how many.
func (s *sink) append(events []core.Event) int {
	c := s.cur
	if s.count > 0 {
		events = events[:min(int64(len(events)), s.count-c.events)]
	}
	limit := int64(0)
	if s.size > 0 {
		limit = max(1, s.size-c.length)
	}
	before := len(s.buf)
	var n int
	s.buf, n = c.ser.Append(s.buf, events, limit)
	s.buf = c.ser.Flush(s.buf)
	c.length += int64(len(s.buf) - before)
	c.events += int64(n)
	return n
}

// write writes the buffer.
func (s *sink) write() error {
	if len(s.buf) == 0 {
		return nil
	}
	n, err := s.cur.file.WriteAt(s.buf, s.cur.written)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	s.cur.written += int64(n)
	s.buf = s.buf[:0]
	return nil
}

// syncFile makes what is written of c durable. It runs without the lock: c stays
// open, and nobody else looks at named, until the round is settled.
func (s *sink) syncFile(c *current) error {
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("sync file: %w", err)
	}
	if !c.named {
		if err := s.env.FS.SyncDir(filepath.Dir(c.name)); err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
		c.named = true
	}
	return nil
}

func (s *sink) age() time.Duration { return time.Since(s.cur.opened) }

// full reports whether the current file takes no more.
func (s *sink) full() bool {
	c := s.cur
	return c.events > 0 && (s.count > 0 && c.events >= s.count || s.size > 0 && c.length >= s.size || s.interval > 0 && s.age() >= s.interval)
}

// finish ends the current file and publishes it. After an error it may be
// called again: a file that has ended stays the current one until it is published.
func (s *sink) finish(ctx context.Context) error {
	if err := s.end(); err != nil {
		return err
	}
	return s.publish(ctx)
}

// end commits the current file and closes it.
func (s *sink) end() error {
	if err := s.commit(); err != nil {
		return err
	}
	c := s.cur
	if c.longer && c.acked.events > 0 {
		if err := s.cutBack(c); err != nil {
			return err
		}
	}
	if c.file != nil {
		err := c.file.Close()
		c.file = nil
		s.env.Metrics.ConnectionClosed.Add(1)
		if err != nil && !s.sync { // synced content is safe whatever Close says
			s.env.Log.Warn("close file", "error", err)
		}
	}
	c.ended, c.state, s.buf = true, c.acked, s.buf[:0]
	return nil
}

// publish takes the suffix off the current file, which has ended, once the
// channel has stored all acks; a file without events goes away. Then no file is
// the current one.
func (s *sink) publish(ctx context.Context) error {
	var err error
	switch c := s.cur; {
	case c.acked.events > 0 && c.suffix != "":
		err = s.unsuffix(ctx, c)
	case c.acked.events == 0 && c.made:
		// It must stay away when its name is not the recorded one any more.
		if err = s.env.FS.Remove(c.path()); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = s.env.FS.SyncDir(filepath.Dir(c.name))
		}
	}
	if err != nil {
		return fmt.Errorf("publish file: %w", err)
	}
	s.cur = nil
	return nil
}

func (s *sink) unsuffix(ctx context.Context, c *current) error {
	if c.stored != nil {
		if err := resume.Await(ctx, c.stored, nil); err != nil {
			return fmt.Errorf("wait for the channel: %w", err)
		}
	}
	gone, err := s.free(c.path())
	if err != nil {
		return err
	}
	if !gone {
		to := c.name
		for {
			free, err := s.free(to)
			if err != nil {
				return err
			}
			if free {
				break
			}
			to = s.names.next(s.env.Now())
		}
		if err := s.env.FS.Rename(c.path(), to); err != nil {
			return err
		}
	}
	if s.sync {
		return s.env.FS.SyncDir(filepath.Dir(c.name))
	}
	return nil
}

// resume goes on where the channel's mark says.
func (s *sink) resume() error {
	m, ok := s.env.Marks[s.stream]
	if !ok {
		return nil
	}
	st, err := decodeState(m.State)
	if err != nil {
		s.env.Log.Warn("resume state is not understood: what was written last may be written again", "error", err)
		return nil
	}
	c := &current{state: st, acked: st, made: true, ended: true}
	info, err := s.env.FS.Stat(c.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // never made, published, or taken away by its reader
	case err != nil:
		return fmt.Errorf("look for file: %w", err)
	case info.Size() < st.length:
		s.env.Log.Error("file is shorter than what was delivered into it: it is left as it is", "file", c.path(), "bytes", info.Size(), "delivered", st.length)
	case info.Size() > st.length && st.events > 0:
		if err := s.cutBack(c); err != nil {
			return err
		}
		fallthrough
	default:
		c.ended = !s.goesOn(c)
	}
	s.cur = c
	if !c.ended && !s.full() {
		s.env.Log.Info("going on in file", "file", c.path(), "bytes", c.length, "events", c.events)
		return nil
	}
	c.ended = true
	return s.publish(context.Background())
}

// goesOn reports whether what was recorded fits this configuration.
func (s *sink) goesOn(c *current) bool {
	return c.events > 0 && filepath.Dir(c.name) == filepath.Clean(s.names.dir) && c.suffix == s.suffix && s.format.Fits(c.format, nil)
}

// cutBack removes from a file what was written and not acked.
func (s *sink) cutBack(c *current) error {
	f, err := s.env.FS.OpenFile(c.path(), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open file: %w", err)
	}
	if err = cut(f, c.length); err == nil {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("sync file: %w", err)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = fmt.Errorf("close file: %w", e)
	}
	if err == nil {
		c.longer = false
		s.env.Log.Info("cut off what was not acked", "file", c.path(), "bytes", c.length)
	}
	return err
}
