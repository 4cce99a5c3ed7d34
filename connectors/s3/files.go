package s3

import (
	"fmt"

	"github.com/millrace/millrace/core/vfs"
)

func (s *sink) writeAll() error {
	for o := range s.files.Live {
		if err := s.write(o); err != nil {
			return err
		}
		if cap(o.Buf) > writeBytes { // a batch of large events must not stay for ever
			o.Buf = nil
		}
	}
	return nil
}

// write writes the buffer into the spool.
func (s *sink) write(o *output) error {
	if o.stale {
		if err := s.cut(o); err != nil {
			return fmt.Errorf("cut in spool: %w", err)
		}
	}
	at := o.Written - int64(len(o.Buf))
	for buf := o.Buf; len(buf) > 0; {
		off := at % o.part
		f, err := s.open(o, int(at/o.part))
		if err != nil {
			return fmt.Errorf("write into spool: %w", err)
		}
		n := min(int64(len(buf)), o.part-off)
		if _, err := f.WriteAt(buf[:n], off); err != nil {
			return fmt.Errorf("write into spool: %w", err)
		}
		at, buf = at+n, buf[n:]
	}
	s.files.Buffered -= len(o.Buf)
	o.Buf = o.Buf[:0]
	return nil
}

// open returns the file of a part, which is the last one or the next.
func (s *sink) open(o *output, n int) (vfs.File, error) {
	if o.file != nil {
		if o.at == n {
			return o.file, nil
		}
		o.whole = append(o.whole, o.file)
		o.file = nil
	}
	f, err := s.env.FS.OpenFile(s.spool.part(o.seq, n), partFlags, 0o644)
	if err != nil {
		return nil, err
	}
	o.file, o.at, o.named = f, n, false
	return f, nil
}

// cut takes out of the files of o what is not acked.
func (s *sink) cut(o *output) error {
	n := o.state.parts()
	for k := n + 1; ; k++ {
		name := s.spool.part(o.seq, k)
		if _, err := s.env.FS.Stat(name); err != nil {
			break // they have no gaps
		}
		if err := s.env.FS.Remove(name); err != nil {
			return err
		}
	}
	f, err := s.open(o, n)
	if err != nil {
		return err
	}
	if err := f.Truncate(o.length % o.part); err != nil {
		return err
	}
	o.stale = false
	return nil
}

// sync makes what is written of o durable. It touches nothing that others do.
func (o *output) sync() error {
	for len(o.whole) > 0 {
		f := o.whole[0]
		err := f.Sync()
		if e := f.Close(); err == nil {
			err = e
		}
		if o.whole = o.whole[1:]; err != nil {
			return err
		}
	}
	if o.file != nil {
		return o.file.Sync()
	}
	return nil
}

// closeFiles lets go of the files; what is not synced may be gone.
func (o *output) closeFiles() {
	for _, f := range o.whole {
		_ = f.Close() // nobody relies on what is not synced
	}
	if o.file != nil {
		_ = o.file.Close()
	}
	o.whole, o.file = nil, nil
}
