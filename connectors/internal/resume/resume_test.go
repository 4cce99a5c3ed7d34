package resume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func encode(n [2]int64, t [2]string) []byte {
	return Append(nil, []*int64{&n[0], &n[1]}, []*string{&t[0], &t[1]})
}

func decode(b []byte) (n [2]int64, t [2]string, err error) {
	err = Decode(b, []*int64{&n[0], &n[1]}, []*string{&t[0], &t[1]})
	return n, t, err
}

// The bytes are those that channels hold since the first release.
func TestForm(t *testing.T) {
	for _, c := range []struct {
		n    [2]int64
		t    [2]string
		want string
	}{
		{want: "\x00\x00\x00\x00"},
		{[2]int64{1, 300}, [2]string{"ab", ""}, "\x01\xac\x02\x02ab\x00"},
		{[2]int64{math.MaxInt64, 0}, [2]string{"", "\x00"}, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00\x00\x01\x00"},
	} {
		b := encode(c.n, c.t)
		if string(b) != c.want {
			t.Errorf("%v %q is %q, want %q", c.n, c.t, b, c.want)
		}
		if n, texts, err := decode(b); n != c.n || texts != c.t || err != nil {
			t.Errorf("%q is %v %q, %v", b, n, texts, err)
		}
		for n := range b {
			if _, _, err := decode(b[:n]); !errors.Is(err, ErrState) {
				t.Errorf("the first %d bytes of %q are one: %v", n, b, err)
			}
		}
		if _, _, err := decode(append(b, 0)); !errors.Is(err, ErrState) {
			t.Errorf("%q with a byte behind it is one: %v", b, err)
		}
	}
	negative := binary.AppendUvarint(nil, 1<<63)
	if _, _, err := decode(append(negative, 0, 0, 0)); !errors.Is(err, ErrState) {
		t.Errorf("a negative number: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode([2]int64{1, 300}, [2]string{"ab", "c"}))
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, texts, err := decode(b)
		if err != nil {
			return
		}
		again := encode(n, texts)
		if len(again) > len(b) {
			t.Errorf("%q became longer: %q", b, again)
		}
		if n2, texts2, err := decode(again); n2 != n || texts2 != texts || err != nil {
			t.Errorf("%v %q became %v %q, %v", n, texts, n2, texts2, err)
		}
		if len(again) == len(b) && !bytes.Equal(again, b) {
			t.Errorf("%q is written as %q", b, again)
		}
	})
}
