package charset

import (
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/transform"

	"github.com/millrace/millrace/core/conf"
)

// ErrMalformed says that bytes mean nothing in their encoding.
var ErrMalformed = errors.New("bytes that are no characters in this encoding")

// Charset is a character encoding.
type Charset struct {
	name   string
	kind   kind
	order  order
	table  *charmap.Charmap // kind single
	ascii7 bool             // kind single: nothing above 0x7F
}

type kind uint8

const (
	kindUTF8 kind = iota
	kindUTF16
	kindUTF32
	kindSingle
)

// order is how the bytes of a unit lie.
type order uint8

const (
	marked order = iota // told by a byte order mark, big-endian without one
	big
	little
)

// UTF8 is the encoding that needs no work.
var UTF8 = &Charset{name: "UTF-8", kind: kindUTF8}

// single lists the encodings of one byte a character. The names are in the
// form that plain gives.
var single = []struct {
	show  string
	table *charmap.Charmap
	names string
}{
	{"ISO-8859-1", charmap.ISO8859_1, "iso88591 latin1 l1 cp819 ibm819 88591"},
	{"ISO-8859-2", charmap.ISO8859_2, "iso88592 latin2 l2 88592"},
	{"ISO-8859-3", charmap.ISO8859_3, "iso88593 latin3 l3 88593"},
	{"ISO-8859-4", charmap.ISO8859_4, "iso88594 latin4 l4 88594"},
	{"ISO-8859-5", charmap.ISO8859_5, "iso88595 cyrillic 88595"},
	{"ISO-8859-6", charmap.ISO8859_6, "iso88596 arabic 88596"},
	{"ISO-8859-7", charmap.ISO8859_7, "iso88597 greek 88597"},
	{"ISO-8859-8", charmap.ISO8859_8, "iso88598 hebrew 88598"},
	{"ISO-8859-9", charmap.ISO8859_9, "iso88599 latin5 l5 88599"},
	{"ISO-8859-10", charmap.ISO8859_10, "iso885910 latin6 l6"},
	{"ISO-8859-13", charmap.ISO8859_13, "iso885913 885913"},
	{"ISO-8859-14", charmap.ISO8859_14, "iso885914 latin8 l8"},
	{"ISO-8859-15", charmap.ISO8859_15, "iso885915 latin9 l9 885915"},
	{"ISO-8859-16", charmap.ISO8859_16, "iso885916 latin10 l10"},
	{"KOI8-R", charmap.KOI8R, "koi8r koi8"},
	{"KOI8-U", charmap.KOI8U, "koi8u"},
	{"IBM437", charmap.CodePage437, "ibm437 cp437 437"},
	{"IBM850", charmap.CodePage850, "ibm850 cp850 850"},
	{"IBM852", charmap.CodePage852, "ibm852 cp852 852"},
	{"IBM855", charmap.CodePage855, "ibm855 cp855 855"},
	{"IBM00858", charmap.CodePage858, "ibm00858 cp858 858"},
	{"IBM866", charmap.CodePage866, "ibm866 cp866 866"},
	{"windows-874", charmap.Windows874, "windows874 xwindows874 cp874 ms874"},
	{"windows-1250", charmap.Windows1250, "windows1250 cp1250"},
	{"windows-1251", charmap.Windows1251, "windows1251 cp1251"},
	{"windows-1252", charmap.Windows1252, "windows1252 cp1252"},
	{"windows-1253", charmap.Windows1253, "windows1253 cp1253"},
	{"windows-1254", charmap.Windows1254, "windows1254 cp1254"},
	{"windows-1255", charmap.Windows1255, "windows1255 cp1255"},
	{"windows-1256", charmap.Windows1256, "windows1256 cp1256"},
	{"windows-1257", charmap.Windows1257, "windows1257 cp1257"},
	{"windows-1258", charmap.Windows1258, "windows1258 cp1258"},
}

// plain is a name in lower case without what separates its parts.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ':' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// Lookup finds an encoding by any of its names, in any case. The error is a
// predicate: "is not ...".
func Lookup(name string) (*Charset, error) {
	p := plain(name)
	switch p {
	case "utf8", "unicode11utf8":
		return UTF8, nil
	case "utf16", "unicode":
		return &Charset{name: "UTF-16", kind: kindUTF16, order: marked}, nil
	case "utf16be", "xutf16be", "unicodebigunmarked":
		return &Charset{name: "UTF-16BE", kind: kindUTF16, order: big}, nil
	case "utf16le", "xutf16le", "unicodelittleunmarked":
		return &Charset{name: "UTF-16LE", kind: kindUTF16, order: little}, nil
	case "utf32":
		return &Charset{name: "UTF-32", kind: kindUTF32, order: marked}, nil
	case "utf32be", "xutf32be":
		return &Charset{name: "UTF-32BE", kind: kindUTF32, order: big}, nil
	case "utf32le", "xutf32le":
		return &Charset{name: "UTF-32LE", kind: kindUTF32, order: little}, nil
	case "usascii", "ascii", "ascii7", "iso646us", "ansix341968":
		return &Charset{name: "US-ASCII", kind: kindSingle, table: charmap.ISO8859_1, ascii7: true}, nil
	}
	for _, s := range single {
		for n := range strings.FieldsSeq(s.names) {
			if n == p {
				return &Charset{name: s.show, kind: kindSingle, table: s.table}, nil
			}
		}
	}
	return nil, errors.New("is not an encoding that is supported: UTF-8, UTF-16, UTF-32, US-ASCII, ISO-8859-1 and up, windows-1250 and up, KOI8, IBM437 and up are")
}

// Key binds a key that names an encoding.
func Key(k *conf.Keys, c **Charset, name, doc string) *conf.Key {
	*c = UTF8
	return k.Func(name, "charset", "utf-8", doc, func(text string) error {
		found, err := Lookup(text)
		if err == nil {
			*c = found
		}
		return err
	})
}

// String is the usual name.
func (c *Charset) String() string { return c.name }

// IsUTF8 reports whether text needs no conversion.
func (c *Charset) IsUTF8() bool { return c.kind == kindUTF8 }

// HasASCII reports whether bytes below 0x80 always are the characters of ASCII.
func (c *Charset) HasASCII() bool { return c.kind == kindUTF8 || c.kind == kindSingle }

// Unmarked is c without a byte order mark: for text after the first.
func (c *Charset) Unmarked() *Charset {
	if c.order != marked || c.kind == kindSingle || c.kind == kindUTF8 {
		return c
	}
	u := *c
	u.order = big
	return &u
}

// NewReader returns a reader of r's text in UTF-8. At bytes that mean nothing
// it fails with ErrMalformed, after everything before them.
func (c *Charset) NewReader(r io.Reader) io.Reader {
	return transform.NewReader(r, &decoder{c: c, strict: true})
}

// Decode appends the text of raw to dst in UTF-8, with U+FFFD for what means nothing.
func (c *Charset) Decode(dst, raw []byte) []byte {
	d := decoder{c: c}
	for len(raw) > 0 {
		r, n := d.next(raw)
		switch {
		case n == 0:
			return utf8.AppendRune(dst, utf8.RuneError)
		case r == bad:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		case r != skip:
			dst = utf8.AppendRune(dst, r)
		}
		raw = raw[n:]
	}
	return dst
}

// Encode appends text, which is UTF-8, to dst. As Java does it begins UTF-16
// with a byte order mark, big-endian, and writes a question mark for what the
// encoding lacks.
func (c *Charset) Encode(dst, text []byte) []byte {
	if c.kind == kindUTF8 {
		return append(dst, text...)
	}
	if c.kind == kindUTF16 && c.order == marked && len(text) > 0 {
		dst = append(dst, 0xFE, 0xFF)
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		dst = c.appendRune(dst, r)
		text = text[n:]
	}
	return dst
}
