package http

import "bytes"

// strictJSON turns the dialect that Gson's lenient reader accepts into JSON:
// single quotes or none, comments, ; for a comma, = and => for a colon,
// elements left out, control characters in strings. What follows the first
// value is kept as it is. It reports whether text is of that dialect; the
// result is no longer than limit.
func strictJSON(text []byte, limit int) ([]byte, bool) {
	l := loose{text: bytes.TrimPrefix(text, byteOrderMark), limit: limit}
	if l.space() && bytes.HasPrefix(l.text[l.i:], []byte(")]}'\n")) {
		l.i += len(")]}'\n") // a guard that some put before JSON, so that no browser runs it
	}
	if !l.value(0) {
		return nil, false
	}
	return append(l.out, l.text[l.i:]...), true
}

// loose reads text from i and writes out. Its methods report whether all is well.
type loose struct {
	text  []byte
	i     int
	out   []byte
	limit int
}

// space skips blanks and comments, and reports whether there is text behind them.
func (l *loose) space() bool {
	for l.i < len(l.text) {
		rest := l.text[l.i:]
		switch c := rest[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			l.i++
		case c == '#' || bytes.HasPrefix(rest, []byte("//")):
			n := bytes.IndexAny(rest, "\r\n")
			if n < 0 {
				n = len(rest)
			}
			l.i += n
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return false
			}
			l.i += 2 + n + 2
		default:
			return true
		}
	}
	return false
}

// next skips blanks and returns the character behind them, 0 if there is none.
func (l *loose) next() byte {
	if !l.space() {
		return 0
	}
	return l.text[l.i]
}

// step writes c in place of the character at i.
func (l *loose) step(c byte) bool {
	l.out = append(l.out, c)
	l.i++
	return len(l.out) <= l.limit
}

func (l *loose) value(depth int) bool {
	switch c := l.next(); {
	case depth > maxDepth:
		return false
	case c == '[':
		return l.array(depth)
	case c == '{':
		return l.object(depth)
	case c == '"' || c == '\'':
		return l.quoted(c)
	}
	return l.literal(true)
}

func (l *loose) array(depth int) bool {
	l.step('[')
	if l.next() == ']' {
		return l.step(']')
	}
	for {
		switch l.next() {
		case ',', ';', ']':
			l.out = append(l.out, "null"...)
		default:
			if !l.value(depth + 1) {
				return false
			}
		}
		switch l.next() {
		case ']':
			return l.step(']')
		case ',', ';':
			if !l.step(',') {
				return false
			}
		default:
			return false
		}
	}
}

func (l *loose) object(depth int) bool {
	l.step('{')
	if l.next() == '}' {
		return l.step('}')
	}
	for {
		if c := l.next(); c == '"' || c == '\'' {
			if !l.quoted(c) {
				return false
			}
		} else if !l.literal(false) {
			return false
		}
		switch l.next() {
		case ':':
			l.step(':')
		case '=':
			l.step(':')
			if l.i < len(l.text) && l.text[l.i] == '>' {
				l.i++
			}
		default:
			return false
		}
		if !l.value(depth + 1) {
			return false
		}
		switch l.next() {
		case '}':
			return l.step('}')
		case ',', ';':
			if !l.step(',') {
				return false
			}
		default:
			return false
		}
	}
}

// literal reads a word without quotes. All but null, true and false, which are
// these as values only, become strings: the handler makes strings of numbers anyway.
func (l *loose) literal(value bool) bool {
	n := bytes.IndexAny(l.text[l.i:], "/\\;#={}[]:, \t\f\r\n")
	if n < 0 {
		n = len(l.text) - l.i
	}
	word := l.text[l.i : l.i+n]
	l.i += n
	if n == 0 {
		return false
	}
	if value {
		for _, name := range [...]string{"null", "true", "false"} {
			if bytes.EqualFold(word, []byte(name)) {
				l.out = append(l.out, name...)
				return len(l.out) <= l.limit
			}
		}
	}
	l.out = append(l.out, '"')
	for _, c := range word {
		l.char(c)
	}
	l.out = append(l.out, '"')
	return len(l.out) <= l.limit
}

// char writes one byte of a string.
func (l *loose) char(c byte) {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		l.out = append(l.out, '\\', c)
	case c < ' ':
		l.out = append(l.out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	default:
		l.out = append(l.out, c)
	}
}

// quoted reads a string that ends with quote.
func (l *loose) quoted(quote byte) bool {
	l.out = append(l.out, '"')
	for l.i++; l.i < len(l.text) && len(l.out) <= l.limit; l.i++ {
		switch c := l.text[l.i]; c {
		case quote:
			return l.step('"')
		case '\\':
			if l.i++; l.i == len(l.text) || !l.escape(l.text[l.i]) {
				return false
			}
		default:
			l.char(c)
		}
	}
	return false
}

// escape writes what stands for a backslash and c. Whether digits follow a u is
// for the strict reader to see.
func (l *loose) escape(c byte) bool {
	switch c {
	case 'u', 't', 'b', 'n', 'r', 'f':
		l.out = append(l.out, '\\', c)
	case '\n', '\'', '"', '\\', '/':
		l.char(c)
	default:
		return false
	}
	return true
}
