package charset

import "unicode/utf8"

// Chars takes text apart character by character, for readers that must know
// where in the bytes each character lies. A Charset with a byte order mark
// needs Begin first. The zero value is not usable: see [Charset.Chars].
type Chars struct{ d decoder }

// Chars returns a Chars of c.
func (c *Charset) Chars() Chars { return Chars{decoder{c: c}} }

// MarkBytes is how many bytes of a text [Chars.Begin] wants to see.
const MarkBytes = 4

// Begin looks at the first bytes of a text and returns how many of them are a
// byte order mark that tells the order. Encodings without one: 0.
func (c *Chars) Begin(head []byte) int {
	if c.d.c.kind != kindUTF16 && c.d.c.kind != kindUTF32 || c.d.c.order != marked {
		return 0
	}
	c.d.order = marked
	if r, n := c.d.next(head); n > 0 && r == skip {
		return n
	}
	c.d.order = big
	return 0
}

// Next returns the first character of src, which is not empty, and its length.
// A length of 0: more bytes are needed. ok is false for bytes that mean
// nothing: in UTF-8 as many as Java replaces by one U+FFFD.
func (c *Chars) Next(src []byte) (r rune, n int, ok bool) {
	if c.d.order == marked && c.d.c.order != marked {
		c.d.order = c.d.c.order
	}
	r, n = c.d.next(src)
	if r != bad {
		return r, n, true
	}
	if c.d.c.kind == kindUTF8 {
		n = illFormed(src)
	}
	return utf8.RuneError, n, false
}

// illFormed is the length of what can not be a character at the beginning of
// src: the longest part of it that could have begun one, at least one byte.
func illFormed(src []byte) int {
	low, high, want := byte(0x80), byte(0xBF), 0
	switch b := src[0]; {
	case b >= 0xC2 && b <= 0xDF:
		want = 2
	case b == 0xE0:
		low, want = 0xA0, 3
	case b == 0xED:
		high, want = 0x9F, 3
	case b >= 0xE1 && b <= 0xEF:
		want = 3
	case b == 0xF0:
		low, want = 0x90, 4
	case b == 0xF4:
		high, want = 0x8F, 4
	case b >= 0xF1 && b <= 0xF3:
		want = 4
	}
	n := 1
	for n < want && n < len(src) && src[n] >= low && src[n] <= high {
		n, low, high = n+1, 0x80, 0xBF
	}
	return n
}
