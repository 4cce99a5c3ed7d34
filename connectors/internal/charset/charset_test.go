package charset

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/millrace/millrace/core/conf"
)

// The bytes are what Java's String.getBytes gives.
func TestEncodings(t *testing.T) {
	for _, c := range []struct{ name, text, bytes string }{
		{"utf-8", "aé€😀", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
		{"UTF8", "é", "\xc3\xa9"},
		{"UTF-16", "é", "\xfe\xff\x00\xe9"},
		{"UTF-16", "", ""},
		{"UTF-16BE", "a😀", "\x00a\xd8\x3d\xde\x00"},
		{"utf_16le", "a😀", "a\x00\x3d\xd8\x00\xde"},
		{"UTF-32", "é", "\x00\x00\x00\xe9"},
		{"UTF-32LE", "é", "\xe9\x00\x00\x00"},
		{"us-ascii", "abc", "abc"},
		{"ISO8859_1", "é", "\xe9"},
		{"latin1", "ÿ", "\xff"},
		{"Cp1252", "€", "\x80"},
		{"windows-1251", "Ж", "\xc6"},
		{"KOI8-R", "ж", "\xd6"},
		{"ISO-8859-15", "€", "\xa4"},
	} {
		cs, err := Lookup(c.name)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := string(cs.Encode(nil, []byte(c.text))); got != c.bytes {
			t.Errorf("%s: %q is encoded as %q, want %q", c.name, c.text, got, c.bytes)
		}
		if got := string(cs.Decode(nil, []byte(c.bytes))); got != c.text {
			t.Errorf("%s: %q is decoded as %q, want %q", c.name, c.bytes, got, c.text)
		}
		got, err := io.ReadAll(cs.NewReader(iotest.OneByteReader(strings.NewReader(c.bytes))))
		if err != nil || string(got) != c.text {
			t.Errorf("%s: %q is read as %q, %v, want %q", c.name, c.bytes, got, err, c.text)
		}
	}
}

func TestUnencodable(t *testing.T) {
	for name, want := range map[string]string{"us-ascii": "?x", "latin1": "?x", "cp1251": "?x"} {
		cs, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cs.Encode(nil, []byte("語x"))); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// A strict reader gives all that is good and then fails; Decode goes on.
func TestMalformed(t *testing.T) {
	for _, c := range []struct{ name, bytes, before, lenient string }{
		{"utf-8", "ok\xff\xfe\n", "ok", "ok\ufffd\ufffd\n"},
		{"utf-8", "ok\xe2\x82", "ok", "ok\ufffd"},
		{"utf-8", "\xed\xa0\x80", "", "\ufffd\ufffd\ufffd"},
		{"us-ascii", "a\x80b", "a", "a\ufffdb"},
		{"windows-1252", "a\x81b", "a", "a\ufffdb"},
		{"utf-16be", "\x00a\xdc\x00\x00b", "a", "a\ufffdb"},
		{"utf-16be", "\x00a\xd8\x00\x00b", "a", "a\ufffdb"},
		{"utf-16le", "a\x00b", "a", "a\ufffd"},
		{"utf-32", "\x00\x00\x00a\x00\x11\x00\x00", "a", "a\ufffd"},
		{"utf-32", "\x00\x00\x00a\x00", "a", "a\ufffd"},
	} {
		cs, err := Lookup(c.name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(cs.NewReader(strings.NewReader(c.bytes)))
		if !errors.Is(err, ErrMalformed) || string(got) != c.before {
			t.Errorf("%s: %q is read as %q, %v, want %q and ErrMalformed", c.name, c.bytes, got, err, c.before)
		}
		if lax := string(cs.Decode(nil, []byte(c.bytes))); c.name != "utf-8" && lax != c.lenient {
			t.Errorf("%s: %q is decoded as %q, want %q", c.name, c.bytes, lax, c.lenient)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	for name, raw := range map[string]string{
		"utf-16": "\xff\xfea\x00", "UTF-16": "\xfe\xff\x00a", "Utf-16": "\x00a",
		"utf-32": "\xff\xfe\x00\x00a\x00\x00\x00", "UTF-32": "\x00\x00\xfe\xff\x00\x00\x00a", "Utf-32": "\x00\x00\x00a",
	} {
		cs, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cs.Decode(nil, []byte(raw))); got != "a" {
			t.Errorf("%s: %q is decoded as %q", name, raw, got)
		}
	}
}

type keyed struct{ c *Charset }

func (k *keyed) Keys(keys *conf.Keys) { Key(keys, &k.c, "encoding", "Encoding of the input.") }

func TestKey(t *testing.T) {
	var k keyed
	if _, faults := conf.Bind(&k, nil); len(faults) > 0 || !k.c.IsUTF8() {
		t.Fatalf("default: %v, %v", k.c, faults)
	}
	if _, faults := conf.Bind(&k, map[string]string{"encoding": "ISO-8859-1"}); len(faults) > 0 || k.c.String() != "ISO-8859-1" {
		t.Fatalf("latin 1: %v, %v", k.c, faults)
	}
	if _, faults := conf.Bind(&k, map[string]string{"encoding": "GBK"}); !faults.HasErrors() {
		t.Fatal("GBK is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"utf-8", "utf-16", "utf-16le", "utf-32", "us-ascii", "cp1252"} {
		f.Add(name, []byte("\xfe\xff\x00a\xd8\x3d\xde\x00"))
	}
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		cs, err := Lookup(name)
		if err != nil {
			return
		}
		lax := cs.Decode(nil, raw)
		if !utf8.Valid(lax) {
			t.Fatalf("%s: %q is decoded as %q", name, raw, lax)
		}
		strict, err := io.ReadAll(cs.NewReader(iotest.HalfReader(bytes.NewReader(raw))))
		if err == nil && !bytes.Equal(strict, lax) || !bytes.HasPrefix(lax, strict) {
			t.Fatalf("%s: %q is read as %q, %v, and decoded as %q", name, raw, strict, err, lax)
		}
		if again := cs.Decode(nil, cs.Encode(nil, strict)); cs.order != marked && !bytes.Equal(again, strict) {
			t.Fatalf("%s: %q becomes %q", name, strict, again)
		}
	})
}

func TestHasASCII(t *testing.T) {
	for _, name := range []string{"utf-8", "us-ascii", "iso-8859-5", "koi8-u", "cp437", "ibm855", "windows-1254", "windows-874", "utf-16le", "utf-32"} {
		cs, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		same := true
		for b := range byte(0x80) {
			same = same && string(cs.Encode(nil, []byte{b})) == string(rune(b))
		}
		if cs.HasASCII() != same {
			t.Errorf("%s: %v", name, cs.HasASCII())
		}
	}
}
