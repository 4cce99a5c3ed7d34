package wal

import (
	"errors"
	"io"

	"github.com/millrace/millrace/core/vfs"
)

// scanner walks the frames of a part of a segment, past damaged places.
type scanner struct {
	f    vfs.File
	salt uint32 // 0: that of the first valid frame
	off  int64  // of the next frame
	end  int64
	buf  []byte // what is read ahead
	at   int64  // offset of buf[0]
	tail int64  // after io.EOF: the end of the last byte that is not zero, at least the frames' end
}

// window returns the bytes from off on, at least need of them unless the part ends.
func (s *scanner) window(off, need int64) ([]byte, error) {
	if off < s.at || off+need > s.at+int64(len(s.buf)) {
		n := min(s.end-off, max(need, readTarget))
		if n <= 0 {
			return nil, nil
		}
		if int64(cap(s.buf)) < n {
			s.buf = make([]byte, n)
		}
		s.buf, s.at = s.buf[:n], off
		got, err := s.f.ReadAt(s.buf, off)
		s.buf = s.buf[:got]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return s.buf[off-s.at:], nil
}

// next returns the next frame, its offset and its size. Its memory is valid
// until the next call. The error is errFrame or errPayload for a damaged place
// of that offset and size (with errPayload the frame's header is good), io.EOF
// where no more frames are found, or one of reading.
func (s *scanner) next() (f frame, off, size int64, err error) {
	off = s.off
	b, err := s.window(off, frameHead)
	if err != nil {
		return f, off, 0, err
	}
	f, size, err = parseFrame(b, s.salt)
	if errors.Is(err, errShort) && off+size <= s.end {
		if b, err = s.window(off, size); err != nil {
			return f, off, 0, err
		}
		f, size, err = parseFrame(b, s.salt)
	}
	if err == nil || errors.Is(err, errPayload) {
		s.salt = f.salt
		s.off += size
		return f, off, size, err
	}
	// Anything else is a damaged place, also a length beyond the end.
	s.off, err = s.search(off + align)
	if err != nil {
		return f, off, 0, err
	}
	return f, off, s.off - off, errFrame
}

// search looks for a frame header from off on.
func (s *scanner) search(off int64) (int64, error) {
	s.tail = off - align
	for ; ; off += align {
		b, err := s.window(off-align, frameHead+align)
		if err != nil {
			return 0, err
		}
		for i, c := range b[:min(align, len(b))] {
			if c != 0 {
				s.tail = off - align + int64(i) + 1
			}
		}
		if len(b) <= align {
			return 0, io.EOF
		}
		_, size, err := parseFrame(b[align:min(len(b), align+frameHead)], s.salt)
		if (err == nil || errors.Is(err, errShort)) && size >= frameHead && off+size <= s.end && len(b) >= align+frameHead {
			return off, nil
		}
	}
}
