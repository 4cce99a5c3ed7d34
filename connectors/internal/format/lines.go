package format

import (
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

// lines is TEXT and HEADER_AND_TEXT.
type lines struct {
	kind    kind
	newline bool
	last    core.Headers // whose text is in shown: lines of one file share their headers
	shown   []byte
}

func (l *lines) Begin(dst []byte) []byte { return dst }

func (l *lines) Append(dst []byte, events []core.Event, limit int64) ([]byte, int) {
	begin := len(dst)
	for i := range events {
		if l.kind == headerAndText {
			dst = l.headers(dst, events[i].Headers)
		}
		dst = append(dst, events[i].Body...)
		if l.newline {
			dst = append(dst, '\n')
		}
		if limit > 0 && int64(len(dst)-begin) >= limit {
			return dst, i + 1
		}
	}
	return dst, len(events)
}

func (l *lines) headers(dst []byte, h core.Headers) []byte {
	if h != l.last || len(l.shown) == 0 {
		l.last = h
		l.shown = append(AppendHeaders(l.shown[:0], h), ' ')
	}
	return append(dst, l.shown...)
}

func (l *lines) Flush(dst []byte) []byte { return dst }

func (l *lines) State() string { return names[l.kind][0] }

func (l *lines) Resume(state string) bool { return state == l.State() }

// AppendHeaders appends h as Java prints a map: {k=v, k2=v2}, in the order of
// a HashMap that was made by copying, which is that of Flume's events.
func AppendHeaders(dst []byte, h core.Headers) []byte {
	type entry struct {
		slot       uint32
		key, value string
	}
	var room [16]entry
	sorted := room[:0]
	size := uint32(1) // of the hash table: the power of two from n/0.75+1
	for int(size) < int(float32(h.Len())/0.75+1) {
		size *= 2
	}
	for k, v := range h.All() {
		hash := javaHash(k)
		e := entry{(hash ^ hash>>16) & (size - 1), k, v}
		at := len(sorted)
		sorted = append(sorted, e)
		for ; at > 0 && sorted[at-1].slot > e.slot; at-- {
			sorted[at] = sorted[at-1]
		}
		sorted[at] = e
	}
	dst = append(dst, '{')
	for i, e := range sorted {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, e.key...)
		dst = append(dst, '=')
		dst = append(dst, e.value...)
	}
	return append(dst, '}')
}

// javaHash is String.hashCode: over the units of UTF-16.
func javaHash(s string) uint32 {
	var h uint32
	for _, r := range s {
		if r >= 0x10000 {
			h = 31*h + uint32(0xD800+(r-0x10000)>>10)
			r = 0xDC00 + (r-0x10000)&0x3FF
		}
		h = 31*h + uint32(r)
	}
	return h
}

// validText returns s as Avro demands its strings: valid UTF-8.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}
