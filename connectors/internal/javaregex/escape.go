package javaregex

// The classes behind single letters.
const (
	horizontal = " \t\u00a0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
	vertical   = "\n\v\f\r\u0085\u2028\u2029"
	blanks     = " \t\n\v\f\r"
)

// atomEscape reads what begins with a backslash, outside of a class.
func (p *parser) atomEscape() *node {
	p.pos++
	c := p.raw(0)
	simple := func(k kind) *node {
		p.pos++
		return &node{kind: k, unix: p.flags.unix, unicode: p.flags.uniClass}
	}
	switch c {
	case 'A':
		return simple(kindBegin)
	case 'z':
		return simple(kindEnd)
	case 'Z':
		return simple(kindLastEnd)
	case 'G':
		return simple(kindLastMatch)
	case 'B':
		return simple(kindNotBound)
	case 'b':
		if p.raw(1) == '{' && p.raw(2) == 'g' { // otherwise a quantifier, which Java takes here as anywhere
			p.fail("\\b{g} is not supported")
		}
		return simple(kindBound)
	case 'R':
		p.pos++
		crlf := concat([]*node{p.set(runes("\r")), p.set(runes("\n"))})
		return &node{kind: kindAlt, subs: []*node{crlf, p.set(runes(vertical))}}
	case 'k':
		p.pos++
		if p.raw(0) != '<' {
			p.fail("\\k without <name>")
		}
		p.pos++
		name := p.groupName()
		if p.names[name] == 0 {
			p.fail("no group is named %s", name)
		}
		p.pos++
		return p.reference(p.names[name])
	}
	if c >= '1' && c <= '9' {
		return p.numbered()
	}
	s, r := p.escape(false)
	if s != nil {
		return p.set(s)
	}
	return p.literal(r)
}

func (p *parser) reference(n int) *node {
	return &node{kind: kindRef, n: n, fold: p.flags.fold, unicode: p.flags.uniCase}
}

// numbered reads the number of a back-reference: one digit, and further ones while there is a group of that number.
func (p *parser) numbered() *node {
	n := int(p.raw(0) - '0')
	p.pos++
	for {
		c := p.raw(0)
		if c < '0' || c > '9' || !p.knowsGroup(n*10+int(c-'0')) {
			break
		}
		n = n*10 + int(c-'0')
		p.pos++
	}
	return p.reference(n)
}

// escape reads what follows a backslash and is one character: a set, or if that is nil the character. inRange: it is an
// end of a range.
func (p *parser) escape(inRange bool) (set, rune) {
	c := p.raw(0)
	if c == end {
		p.fail("nothing behind the backslash")
	}
	p.pos++
	switch c {
	case 't':
		return nil, '\t'
	case 'n':
		return nil, '\n'
	case 'r':
		return nil, '\r'
	case 'f':
		return nil, '\f'
	case 'a':
		return nil, 7
	case 'e':
		return nil, 27
	case 'd', 'D':
		return p.digits().negated(c == 'D'), 0
	case 's', 'S':
		return p.spaces().negated(c == 'S'), 0
	case 'w', 'W':
		return p.word().negated(c == 'W'), 0
	case 'h', 'H':
		return runes(horizontal).negated(c == 'H'), 0
	case 'v', 'V':
		if c == 'v' && inRange {
			return nil, '\v'
		}
		return runes(vertical).negated(c == 'V'), 0
	case 'p', 'P':
		return p.property().negated(c == 'P'), 0
	case '0':
		return nil, p.octal()
	case 'x':
		return nil, p.hexadecimal()
	case 'u':
		return nil, p.utf16()
	case 'c':
		if p.pos >= len(p.text) {
			p.fail("\\c without a character")
		}
		p.pos++
		return nil, p.text[p.pos-1].r ^ 64
	case 'N':
		p.fail("\\N{name} is not supported")
	case 'X':
		p.fail("\\X is not supported")
	}
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '1' && c <= '9' {
		p.pos--
		p.fail("\\%c has no meaning", c)
	}
	return nil, c
}

func (s set) negated(yes bool) set {
	if yes {
		return s.not()
	}
	return s
}

func (p *parser) octal() rune {
	n, digits := rune(0), 0
	for ; digits < 3; digits++ {
		c := p.raw(0)
		if c < '0' || c > '7' || digits == 2 && n > 0o37 {
			break
		}
		n = n*8 + c - '0'
		p.pos++
	}
	if digits == 0 {
		p.fail("\\0 without octal digits")
	}
	return n
}

func hex(c rune) (rune, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// hexDigits reads exactly n of them.
func (p *parser) hexDigits(n int) (rune, bool) {
	var v rune
	for i := range n {
		d, ok := hex(p.raw(i))
		if !ok {
			return 0, false
		}
		v = v<<4 | d
	}
	p.pos += n
	return v, true
}

func (p *parser) hexadecimal() rune {
	if v, ok := p.hexDigits(2); ok {
		return v
	}
	if p.raw(0) != '{' {
		p.fail("\\x without two hexadecimal digits")
	}
	p.pos++
	var v rune
	for n := 0; ; n++ {
		d, ok := hex(p.raw(0))
		if !ok {
			if n == 0 || p.raw(0) != '}' {
				p.fail("\\x{ without hexadecimal digits and }")
			}
			p.pos++
			return v
		}
		if v = v<<4 | d; v > maxRune {
			p.fail("\\x{ beyond the last character")
		}
		p.pos++
	}
}

// utf16 reads four digits, and those of a second escape where both make a pair.
func (p *parser) utf16() rune {
	v, ok := p.hexDigits(4)
	if !ok {
		p.fail("\\u without four hexadecimal digits")
	}
	if v >= 0xD800 && v < 0xDC00 && p.raw(0) == '\\' && p.raw(1) == 'u' {
		at := p.pos
		p.pos += 2
		if low, ok := p.hexDigits(4); ok && low >= 0xDC00 && low < 0xE000 {
			return 0x10000 + (v-0xD800)<<10 + low - 0xDC00
		}
		p.pos = at
	}
	return v
}
