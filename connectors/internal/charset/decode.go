package charset

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

// What next returns in place of a character.
const (
	bad  rune = -1 // bytes that mean nothing
	skip rune = -2 // a byte order mark
)

// decoder turns an encoding into UTF-8. It implements transform.Transformer.
type decoder struct {
	c      *Charset
	strict bool
	order  order // of kindUTF16 and kindUTF32, once known
}

// Reset implements transform.Transformer.
func (d *decoder) Reset() { d.order = marked }

// Transform implements transform.Transformer.
func (d *decoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		r, n := d.next(src[nSrc:])
		switch {
		case n == 0 && !atEOF:
			return nDst, nSrc, transform.ErrShortSrc
		case n == 0:
			r, n = bad, len(src)-nSrc
		}
		if r == skip {
			nSrc += n
			continue
		}
		if r == bad {
			if d.strict {
				return nDst, nSrc, ErrMalformed
			}
			r = utf8.RuneError
		}
		if nDst+utf8.RuneLen(r) > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += n
	}
	return nDst, nSrc, nil
}

// next returns the first character of src, which is not empty, and its length:
// 0 if more bytes are needed.
func (d *decoder) next(src []byte) (rune, int) {
	switch d.c.kind {
	case kindUTF16:
		return d.next16(src)
	case kindUTF32:
		return d.next32(src)
	case kindSingle:
		if d.c.ascii7 && src[0] >= utf8.RuneSelf {
			return bad, 1
		}
		if r := d.c.table.DecodeByte(src[0]); r != utf8.RuneError {
			return r, 1
		}
		return bad, 1
	}
	r, n := utf8.DecodeRune(src)
	switch {
	case r != utf8.RuneError || n > 1:
		return r, n
	case !utf8.FullRune(src):
		return 0, 0
	}
	return bad, 1
}

func (d *decoder) next16(src []byte) (rune, int) {
	if len(src) < 2 {
		return 0, 0
	}
	if d.order == marked {
		d.order = big
		switch {
		case d.c.order != marked:
			d.order = d.c.order
		case src[0] == 0xFE && src[1] == 0xFF:
			return skip, 2
		case src[0] == 0xFF && src[1] == 0xFE:
			d.order = little
			return skip, 2
		}
	}
	r := rune(d.unit16(src))
	switch {
	case !utf16.IsSurrogate(r):
		return r, 2
	case r >= 0xDC00:
		return bad, 2
	case len(src) < 4:
		return 0, 0
	}
	if r = utf16.DecodeRune(r, rune(d.unit16(src[2:]))); r == utf8.RuneError {
		return bad, 2
	}
	return r, 4
}

func (d *decoder) unit16(b []byte) uint16 {
	if d.order == little {
		return binary.LittleEndian.Uint16(b)
	}
	return binary.BigEndian.Uint16(b)
}

func (d *decoder) next32(src []byte) (rune, int) {
	if len(src) < 4 {
		return 0, 0
	}
	u := binary.BigEndian.Uint32(src)
	if d.order == marked {
		d.order = big
		switch {
		case d.c.order != marked:
			d.order = d.c.order
		case u == 0x0000FEFF:
			return skip, 4
		case u == 0xFFFE0000:
			d.order = little
			return skip, 4
		}
	}
	if d.order == little {
		u = binary.LittleEndian.Uint32(src)
	}
	if u > utf8.MaxRune || !utf8.ValidRune(rune(u)) {
		return bad, 4
	}
	return rune(u), 4
}

// appendRune encodes one character.
func (c *Charset) appendRune(dst []byte, r rune) []byte {
	switch c.kind {
	case kindUTF16:
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			return c.append16(c.append16(dst, uint16(hi)), uint16(lo))
		}
		return c.append16(dst, uint16(r))
	case kindUTF32:
		if c.order == little {
			return binary.LittleEndian.AppendUint32(dst, uint32(r))
		}
		return binary.BigEndian.AppendUint32(dst, uint32(r))
	}
	b, ok := c.table.EncodeRune(r)
	if !ok || c.ascii7 && b >= utf8.RuneSelf {
		b = '?'
	}
	return append(dst, b)
}

func (c *Charset) append16(dst []byte, u uint16) []byte {
	if c.order == little {
		return binary.LittleEndian.AppendUint16(dst, u)
	}
	return binary.BigEndian.AppendUint16(dst, u)
}
