package charset

import (
	"strings"
	"testing"
)

func TestChars(t *testing.T) {
	for _, c := range []struct{ name, bytes, text string }{
		{"UTF-8", "aé€😀", "a é € 😀 "},
		{"UTF-8", "a\xffb", "a ! b "},
		{"UTF-8", "a\xe2\x82b\xc0\x80", "a !! b ! ! "},
		{"UTF-8", "\xf0\x9f\x98x\xed\xa0\x80", "!!! x ! ! ! "},
		{"UTF-8", "a\xe2\x82", "a +"},
		{"UTF-16", "\xff\xfea\x00", "a "},
		{"UTF-16", "\xfe\xff\x00a", "a "},
		{"UTF-16", "\x00a\xfe\xff\x00", "a \ufeff +"},
		{"UTF-16LE", "\xff\xfea\x00", "\ufeff a "},
		{"UTF-16BE", "\xd8\x3d\xde\x00\xde\x00", "😀 !! "},
		{"UTF-32", "\xff\xfe\x00\x00a\x00\x00\x00", "a "},
		{"US-ASCII", "a\x80", "a ! "},
		{"ISO-8859-1", "\xe9\n", "é \n "},
	} {
		cs, err := Lookup(c.name)
		if err != nil {
			t.Fatal(err)
		}
		chars := cs.Chars()
		src := []byte(c.bytes)
		var got strings.Builder
		for src = src[chars.Begin(src[:min(len(src), MarkBytes)]):]; len(src) > 0; {
			r, n, ok := chars.Next(src)
			if n == 0 {
				got.WriteByte('+')
				break
			}
			if ok {
				got.WriteRune(r)
			} else {
				got.WriteString(strings.Repeat("!", n))
			}
			got.WriteByte(' ')
			src = src[n:]
		}
		if got.String() != c.text {
			t.Errorf("%s %q: %q, want %q", c.name, c.bytes, got.String(), c.text)
		}
	}
}
