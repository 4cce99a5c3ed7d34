package spooldir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
)

// Values of decodeErrorPolicy.
const (
	fail    = "fail"
	replace = "replace"
	ignore  = "ignore"
)

const (
	blockBytes = 256 << 10 // one read
	spare      = 16        // bytes of a line beyond what its characters can need
)

// lineReader is the deserializer LINE. Lines are slices of blocks that were
// read into; what has to be converted is copied.
type lineReader struct {
	c    *source
	in   *input
	head core.Headers
	join *lines.Joiner // nil: a line is an event

	max   int // characters of a line
	chars charset.Chars
	ascii bool // ASCII is text of the input's encoding as it stands

	blk  *core.Block
	p, n int   // blk.Buf[p:n] is not cut yet
	at   int64 // where that begins in the input
	more bool  // the line before at was cut
	hint int64 // bytes that are left, about

	text []byte // of one line, converted
	out  []byte
}

// newLineReader makes one that begins behind done.
func newLineReader(s *source, in *input, head core.Headers, done lines.Positions, size int64) (*lineReader, error) {
	r := &lineReader{
		c: s, in: in, head: head, at: done[lines.Raw], max: s.maxLine,
		chars: s.inputCharset.Chars(), ascii: s.inputCharset.HasASCII(),
	}
	if !s.lines.Plain() {
		r.max = int(s.lines.Longest(int64(s.maxLine)))
		r.join = s.lines.Joiner(s.joined, int64(s.maxLine), false, done)
		r.at = done.Safe()
	}
	mark := int64(0)
	if !s.inputCharset.IsUTF8() {
		var head [charset.MarkBytes]byte
		n, err := io.ReadFull(in, head[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		mark = int64(r.chars.Begin(head[:n]))
	}
	if r.at = max(r.at, mark); in.gz != nil && in.at > r.at {
		var err error
		if in, err = newInput(in.f, true); err != nil {
			return nil, err
		}
		r.in = in
	}
	r.hint = max(0, size-r.at)
	if err := r.in.skip(r.at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r, nil
}

// fill implements deserializer.
func (r *lineReader) fill(c *collector) error {
	for {
		if err := r.cut(c, false); err != nil || c.full {
			return err
		}
		if err := r.read(); err != nil {
			return err
		}
	}
}

// rest implements deserializer.
func (r *lineReader) rest(c *collector) error {
	for r.p < r.n {
		if err := r.cut(c, true); err != nil {
			return err
		}
		c.full = false // these last ones go together
	}
	r.flush(c)
	return nil
}

// flush adds what waits for its next line: there is none.
func (r *lineReader) flush(c *collector) {
	if r.join == nil {
		return
	}
	for _, e := range r.join.Flush() {
		r.event(c, &e)
	}
}

func (r *lineReader) close() {
	if r.blk != nil {
		r.blk.Release()
		r.blk = nil
	}
}

// positions implements deserializer.
func (r *lineReader) positions() lines.Positions {
	if r.join != nil {
		return r.join.Positions(r.at)
	}
	return lines.At(r.at)
}

// mark implements deserializer.
func (r *lineReader) mark() int64 {
	p := r.positions()
	return p.Safe()
}

// read reads on behind what is there. A full block is followed by another one,
// into which the rest of the last line is copied.
func (r *lineReader) read() error {
	if r.blk == nil || r.n == len(r.blk.Buf) {
		rest := r.n - r.p
		want := min(max(r.hint+1, 4<<10), blockBytes)
		if r.in.gz != nil {
			want = max(want, 64<<10)
		}
		blk := core.NewBlock(max(int(want), 2*rest))
		if r.blk != nil {
			copy(blk.Buf, r.blk.Buf[r.p:r.n])
			r.blk.Release()
		}
		r.blk, r.p, r.n = blk, 0, rest
	}
	n, err := r.in.Read(r.blk.Buf[r.n:])
	r.n += n
	r.hint = max(0, r.hint-int64(n))
	return err
}

// cut makes events of the lines in the block; with end, of the last one too,
// which has no newline.
func (r *lineReader) cut(c *collector, end bool) error {
	for r.p < r.n && !c.full {
		data := r.blk.Buf[r.p:r.n]
		body, size, more, err := r.line(data, end)
		if err != nil {
			r.flush(c)
			return err
		}
		if size == 0 {
			return nil
		}
		if more && !r.more {
			r.c.splits.Add(1)
		}
		from := r.at
		r.at += int64(size)
		r.p += size
		r.more = more
		switch {
		case r.join != nil:
			for _, e := range r.join.Add(lines.Line{Text: body, Begin: from, End: r.at, More: more}, time.Time{}) {
				r.event(c, &e)
			}
		case r.c.outputCharset.IsUTF8() && inside(body, data):
			c.add(r.blk, r.head, body, r.at)
		default:
			c.copy(lines.Raw, r.head, r.encoded(body), r.at)
		}
	}
	return nil
}

// inside reports whether body is a part of data, and no copy. That of an empty
// one is as good.
func inside(body, data []byte) bool { return len(body) == 0 || &body[0] == &data[0] }

// event puts an event of several lines.
func (r *lineReader) event(c *collector, e *lines.Event) {
	c.copy(e.Stream, r.join.Headers(r.head, e), r.encoded(e.Body), e.End)
}

func (r *lineReader) encoded(text []byte) []byte {
	if r.c.outputCharset.IsUTF8() {
		return text
	}
	r.out = r.c.outputCharset.Encode(r.out[:0], text)
	return r.out
}

// line takes the first line off data: its text in UTF-8, and its length with the
// newline; 0 if its end has not been read. more: it was cut, as too long.
func (r *lineReader) line(data []byte, end bool) (body []byte, size int, more bool, err error) {
	if r.ascii {
		limit := 4*r.max + spare
		i := bytes.IndexByte(data[:min(len(data), limit)], '\n')
		switch {
		case i >= 0:
			body, size = data[:i:i], i+1
		case len(data) >= limit || end:
			body = data[:min(len(data), limit)]
			size = len(body)
		default:
			return nil, 0, false, nil
		}
		if len(body) <= r.max && (isASCII(body) || r.c.inputCharset.IsUTF8() && utf8.Valid(body)) {
			return body, size, false, nil
		}
	}
	return r.decode(data, end)
}

func isASCII(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if binary.LittleEndian.Uint64(text)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, b := range text {
		if b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decode is line for what is long, malformed, or in another encoding.
func (r *lineReader) decode(data []byte, end bool) (body []byte, size int, more bool, err error) {
	same := r.c.inputCharset.IsUTF8() // so far the text is data[:p]
	text := r.text[:0]
	keep := func() { // a line that must be told from data again
		if same {
			same, text = false, append(text, data[:size]...)
		}
	}
	units, bad := 0, int64(0) // units of UTF-16, as Java counts characters
	defer func() {
		r.text = text[:0]
		if size > 0 {
			r.c.malformed.Add(bad)
		}
	}()
	for size < len(data) {
		ch, n, ok := r.chars.Next(data[size:])
		switch {
		case n == 0 && !end:
			return nil, 0, false, nil
		case n == 0:
			n, ok = len(data)-size, false // the end of the file, within a character
		case ok && ch == '\n':
			if same {
				return data[:size:size], size + n, false, nil
			}
			return text, size + n, false, nil
		}
		if !ok && r.c.policy == fail {
			return nil, 0, false, fmt.Errorf("byte %d is no character in %s (decodeErrorPolicy = fail)", r.at+int64(size), r.c.inputCharset)
		}
		width := 1
		switch {
		case !ok && r.c.policy == ignore:
			width = 0
		case ch > 0xFFFF:
			width = 2
		}
		if units+width > r.max && units > 0 || size >= 4*r.max+spare {
			if same {
				return data[:size:size], size, true, nil
			}
			return text, size, true, nil
		}
		units += width
		if !ok {
			bad++
			keep()
			if width > 0 {
				text = utf8.AppendRune(text, utf8.RuneError)
			}
		} else if !same {
			text = utf8.AppendRune(text, ch)
		}
		size += n
	}
	if !end {
		return nil, 0, false, nil
	}
	if same {
		return data[:size:size], size, false, nil
	}
	return text, size, false, nil
}
