package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

// ErrMalformed is what is wrong with bytes that are not Avro, or not a request.
var ErrMalformed = errors.New("malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// TooManyError is a batch of more events than are taken.
type TooManyError struct{ Max int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("batch has more than %d events", e.Max)
}

// maxHeaders is the most headers that an event may have: each takes two bytes
// at least in a frame, and much more as a string.
const maxHeaders = 4096

// headerBytes is what a header takes besides its text: two strings.
const headerBytes = 32

// long reads an int or a long: zigzag, seven bits a byte, low ones first.
func long(in []byte) (n int64, rest []byte, err error) {
	n, size := binary.Varint(in)
	if size <= 0 {
		return 0, nil, malformed("a number has no end")
	}
	return n, in[size:], nil
}

// blob reads a string or bytes.
func blob(in []byte) (text, rest []byte, err error) {
	n, in, err := long(in)
	if err != nil {
		return nil, nil, err
	}
	if n < 0 || n > int64(len(in)) {
		return nil, nil, malformed("a length reaches beyond the frame")
	}
	return in[:n:n], in[n:], nil
}

// blockOf reads the head of a block of a map or an array: how many items follow,
// 0 at the end. least is the fewest bytes that an item has.
func blockOf(in []byte, least int) (n int, rest []byte, err error) {
	count, in, err := long(in)
	if err != nil {
		return 0, nil, err
	}
	if count < 0 { // then the size of the block follows, for those who skip it
		if count == math.MinInt64 {
			return 0, nil, malformed("a block has a count that is none")
		}
		count = -count
		if _, in, err = long(in); err != nil {
			return 0, nil, err
		}
	}
	if count > int64(len(in)/least) {
		return 0, nil, malformed("a block has more items than the frame has bytes for")
	}
	return int(count), in, nil
}

// skipMap reads over a map of bytes or strings; each, if not nil, sees its entries.
func skipMap(in []byte, each func(key, value []byte)) (rest []byte, err error) {
	for {
		n, next, err := blockOf(in, 2)
		if err != nil {
			return nil, err
		}
		in = next
		if n == 0 {
			return in, nil
		}
		for range n {
			var key, value []byte
			if key, in, err = blob(in); err != nil {
				return nil, err
			}
			if value, in, err = blob(in); err != nil {
				return nil, err
			}
			if each != nil {
				each(key, value)
			}
		}
	}
}

// Decoder makes batches of what requests carry. It remembers the headers of the
// event before: a run of events with equal headers shares one set, also across
// requests. It is used by one goroutine.
type Decoder struct {
	MaxEvents int // in one batch
	// Grant is asked before headers take so many bytes of memory of their own, if
	// it is not nil. If it denies them, so do Event and Events, with its error.
	Grant func(bytes int) error

	text string       // the encoding of the headers before; empty: none yet
	last core.Headers // what it means
	kv   []core.Header
}

// Event reads one event into b; the body stays where it is.
func (d *Decoder) Event(b *core.Batch, in []byte) (rest []byte, err error) {
	h, in, err := d.headers(in)
	if err != nil {
		return nil, err
	}
	body, in, err := blob(in)
	if err != nil {
		return nil, err
	}
	b.Append(h, body)
	return in, nil
}

// Events reads an array of events into b.
func (d *Decoder) Events(b *core.Batch, in []byte) (rest []byte, err error) {
	for {
		n, next, err := blockOf(in, 2)
		if err != nil {
			return nil, err
		}
		in = next
		if n == 0 {
			return in, nil
		}
		if len(b.Events)+n > d.MaxEvents {
			return nil, &TooManyError{d.MaxEvents}
		}
		b.Events = slices.Grow(b.Events, n)
		for range n {
			if in, err = d.Event(b, in); err != nil {
				return nil, err
			}
		}
	}
}

// headers reads a map of strings. No encoding of a map begins another one, so
// that what begins as the last one is the last one.
func (d *Decoder) headers(in []byte) (core.Headers, []byte, error) {
	if n := len(d.text); n > 0 && len(in) >= n && string(in[:n]) == d.text {
		return d.last, in[n:], nil
	}
	if len(in) > 0 && in[0] == 0 { // most often
		d.text, d.last = "\x00", core.Headers{}
		return d.last, in[1:], nil
	}
	count := 0
	rest, err := skipMap(in, func(_, _ []byte) { count++ })
	if err != nil {
		return core.Headers{}, nil, err
	}
	if count > maxHeaders {
		return core.Headers{}, nil, malformed("an event has more headers than 4096")
	}
	if d.Grant != nil {
		if err := d.Grant(len(in) - len(rest) + count*headerBytes); err != nil {
			return core.Headers{}, nil, err
		}
	}
	// All keys and values lie in one string.
	text := string(in[:len(in)-len(rest)])
	d.kv = d.kv[:0]
	off := 0
	for off < len(text) {
		n, size := varint(text[off:])
		off += size
		if n < 0 {
			_, size = varint(text[off:])
			off, n = off+size, -n
		}
		for range n {
			var kv [2]string
			for i := range kv {
				n, size := varint(text[off:])
				off += size
				kv[i] = valid(text[off : off+int(n)])
				off += int(n)
			}
			d.kv = append(d.kv, core.Header{Key: kv[0], Value: kv[1]})
		}
	}
	d.text, d.last = text, core.NewHeaders(d.kv...)
	clear(d.kv)
	return d.last, rest, nil
}

// varint is long for a text that was read before.
func varint(s string) (n int64, size int) {
	var u uint64
	for shift := 0; ; shift += 7 {
		c := s[size]
		size++
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), size
		}
	}
}

// valid replaces what is no UTF-8, as a Java client's peer does.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func appendLong(dst []byte, n int) []byte { return binary.AppendVarint(dst, int64(n)) }

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(appendLong(dst, len(s)), s...)
}

// AppendHeaders appends a map of strings.
func AppendHeaders(dst []byte, h core.Headers) []byte {
	if n := h.Len(); n > 0 {
		dst = appendLong(dst, n)
		for k, v := range h.All() {
			dst = appendText(appendText(dst, valid(k)), valid(v))
		}
	}
	return append(dst, 0)
}

// AppendEvents appends an array of events. Of a run with equal headers the
// second and later ones copy the first one's bytes.
func AppendEvents(dst []byte, events []core.Event) []byte {
	if len(events) > 0 {
		dst = appendLong(dst, len(events))
	}
	from, to := 0, 0 // where the headers of the event before lie in dst
	for i := range events {
		e := &events[i]
		if i > 0 && e.Headers == events[i-1].Headers {
			dst = append(dst, dst[from:to]...)
			to, from = len(dst), len(dst)-(to-from)
		} else {
			from = len(dst)
			dst = AppendHeaders(dst, e.Headers)
			to = len(dst)
		}
		dst = appendText(dst, e.Body)
	}
	return append(dst, 0)
}

// AppendMap appends a map of strings in no order: the headers of an event of the client package.
func AppendMap(dst []byte, m map[string]string) []byte {
	if len(m) > 0 {
		dst = appendLong(dst, len(m))
		for k, v := range m {
			dst = appendText(appendText(dst, valid(k)), valid(v))
		}
	}
	return append(dst, 0)
}

// AppendBytes appends a body.
func AppendBytes(dst, body []byte) []byte { return appendText(dst, body) }

// AppendCount appends the head of an array of n items; after them comes AppendEnd.
func AppendCount(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return appendLong(dst, n)
}

// AppendEnd appends the end of an array.
func AppendEnd(dst []byte) []byte { return append(dst, 0) }
