package javaregex

import (
	"strings"
	"unicode"
)

func (p *parser) digits() set {
	if p.flags.uniClass {
		return tables(unicode.Nd)
	}
	return of('0', '9')
}

func (p *parser) spaces() set {
	if p.flags.uniClass {
		return tables(unicode.White_Space)
	}
	return runes(blanks)
}

func (p *parser) word() set {
	if p.flags.uniClass {
		return wordUnicode()
	}
	return of('a', 'z', 'A', 'Z', '0', '9', '_', '_')
}

func alphabetic() set {
	return tables(unicode.L, unicode.Nl, unicode.Other_Alphabetic)
}

func wordUnicode() set {
	return alphabetic().union(tables(unicode.M, unicode.Nd, unicode.Pc, unicode.Join_Control))
}

// property reads what follows \p: one letter, or a name in braces.
func (p *parser) property() set {
	name := ""
	if p.raw(0) == '{' {
		from := p.pos + 1
		for p.raw(0) != '}' {
			if p.pos >= len(p.text) {
				p.fail("\\p{ is not closed")
			}
			name += string(p.text[p.pos].r)
			p.pos++
		}
		name = name[1:]
		p.pos++
		if name == "" {
			p.pos = from
			p.fail("\\p{} names nothing")
		}
	} else {
		if p.pos >= len(p.text) {
			p.fail("\\p without a name")
		}
		name = string(p.text[p.pos].r)
		p.pos++
	}
	s, ok := p.named(name)
	if !ok {
		p.fail("\\p{%s} is not known", name)
	}
	return s
}

// named finds a property.
func (p *parser) named(name string) (set, bool) {
	if kind, value, ok := strings.Cut(name, "="); ok {
		switch strings.ToLower(kind) {
		case "sc", "script":
			return script(value)
		case "blk", "block":
			return block(value)
		case "gc", "general_category":
			return p.category(value)
		}
		return nil, false
	}
	if rest, ok := strings.CutPrefix(name, "In"); ok {
		return block(rest)
	}
	if rest, ok := strings.CutPrefix(name, "Is"); ok {
		if s, ok := p.binary(rest); ok {
			return s, true
		}
		if s, ok := p.category(rest); ok {
			return s, true
		}
		return script(rest)
	}
	if p.flags.uniClass {
		if s, ok := p.posixUnicode(name); ok {
			return s, true
		}
	}
	return p.category(name)
}

// letters is a property that tells the cases of letters apart, unless the flags say that case means nothing.
func (p *parser) letters(s set) set {
	if p.flags.fold {
		return tables(unicode.Lu, unicode.Ll, unicode.Lt)
	}
	return s
}

// category is a general category, or one of the names that Java has beside them.
func (p *parser) category(name string) (set, bool) {
	switch name {
	case "Lu", "Ll", "Lt":
		return p.letters(tables(unicode.Categories[name])), true
	case "LC":
		return tables(unicode.Lu, unicode.Ll, unicode.Lt), true
	case "LD":
		return tables(unicode.L, unicode.Nd), true
	case "L1":
		return of(0, 255), true
	case "all":
		return of(0, maxRune), true
	case "Cn":
		return assigned().not(), true
	case "C":
		return assigned().not().union(tables(unicode.C)), true
	}
	if t, ok := unicode.Categories[name]; ok && len(name) <= 2 {
		return tables(t), true
	}
	if s, ok := posix(name, p.flags.fold); ok {
		return s, true
	}
	return p.java(name)
}

func assigned() set {
	return tables(unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
}

// posix is a class of POSIX, of ASCII only.
func posix(name string, fold bool) (set, bool) {
	switch name {
	case "ASCII":
		return of(0, 127), true
	case "Alnum":
		return of('a', 'z', 'A', 'Z', '0', '9'), true
	case "Alpha":
		return of('a', 'z', 'A', 'Z'), true
	case "Lower", "Upper":
		switch {
		case fold:
			return of('a', 'z', 'A', 'Z'), true
		case name == "Lower":
			return of('a', 'z'), true
		}
		return of('A', 'Z'), true
	case "Blank":
		return runes(" \t"), true
	case "Cntrl":
		return of(0, 31, 127, 127), true
	case "Digit":
		return of('0', '9'), true
	case "Graph":
		return of('!', '~'), true
	case "Print":
		return of(' ', '~'), true
	case "Punct":
		return of('!', '/', ':', '@', '[', '`', '{', '~'), true
	case "Space":
		return runes(blanks), true
	case "XDigit":
		return of('0', '9', 'a', 'f', 'A', 'F'), true
	}
	return nil, false
}

// posixUnicode is a class of POSIX as Unicode means it, for (?U).
func (p *parser) posixUnicode(name string) (set, bool) {
	control := tables(unicode.Cc)
	blank := tables(unicode.Zs).union(runes("\t"))
	graph := tables(unicode.White_Space, unicode.Cc, unicode.Cs).union(assigned().not()).not()
	switch strings.ToLower(name) {
	case "alpha":
		return alphabetic(), true
	case "lower":
		return p.letterCase(tables(unicode.Ll, unicode.Other_Lowercase)), true
	case "upper":
		return p.letterCase(tables(unicode.Lu, unicode.Other_Uppercase)), true
	case "space":
		return tables(unicode.White_Space), true
	case "punct":
		return tables(unicode.P), true
	case "xdigit":
		return tables(unicode.Nd, unicode.Hex_Digit), true
	case "alnum":
		return alphabetic().union(tables(unicode.Nd)), true
	case "cntrl":
		return control, true
	case "digit":
		return tables(unicode.Nd), true
	case "blank":
		return blank, true
	case "graph":
		return graph, true
	case "print":
		return graph.union(blank).and(control.not()), true
	}
	return nil, false
}

func (p *parser) letterCase(s set) set {
	if p.flags.fold {
		return tables(unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
	}
	return s
}

// binary is a property of Unicode that is there or not.
func (p *parser) binary(name string) (set, bool) {
	switch strings.ToUpper(name) {
	case "ALPHABETIC":
		return alphabetic(), true
	case "LETTER":
		return tables(unicode.L), true
	case "IDEOGRAPHIC":
		return tables(unicode.Ideographic), true
	case "LOWERCASE":
		return p.letterCase(tables(unicode.Ll, unicode.Other_Lowercase)), true
	case "UPPERCASE":
		return p.letterCase(tables(unicode.Lu, unicode.Other_Uppercase)), true
	case "TITLECASE":
		return p.letters(tables(unicode.Lt)), true
	case "WHITE_SPACE", "WHITESPACE":
		return tables(unicode.White_Space), true
	case "CONTROL":
		return tables(unicode.Cc), true
	case "PUNCTUATION":
		return tables(unicode.P), true
	case "HEX_DIGIT", "HEXDIGIT":
		return tables(unicode.Nd, unicode.Hex_Digit), true
	case "ASSIGNED":
		return assigned(), true
	case "NONCHARACTER_CODE_POINT", "NONCHARACTERCODEPOINT":
		return tables(unicode.Noncharacter_Code_Point), true
	case "DIGIT":
		return tables(unicode.Nd), true
	case "ALNUM":
		return alphabetic().union(tables(unicode.Nd)), true
	case "BLANK", "GRAPH", "PRINT":
		return p.posixUnicode(name)
	case "WORD":
		return wordUnicode(), true
	case "JOIN_CONTROL", "JOINCONTROL":
		return tables(unicode.Join_Control), true
	}
	return nil, false
}

// java is a class named after a method of java.lang.Character.
func (p *parser) java(name string) (set, bool) {
	ignorable := of(0, 8, 14, 27, 127, 159).union(tables(unicode.Cf))
	start := tables(unicode.L, unicode.Nl)
	part := start.union(tables(unicode.Nd, unicode.Mc, unicode.Mn, unicode.Pc)).union(ignorable)
	switch name {
	case "javaLowerCase":
		return p.letterCase(tables(unicode.Ll, unicode.Other_Lowercase)), true
	case "javaUpperCase":
		return p.letterCase(tables(unicode.Lu, unicode.Other_Uppercase)), true
	case "javaTitleCase":
		return p.letters(tables(unicode.Lt)), true
	case "javaAlphabetic":
		return alphabetic(), true
	case "javaIdeographic":
		return tables(unicode.Ideographic), true
	case "javaDigit":
		return tables(unicode.Nd), true
	case "javaDefined":
		return assigned(), true
	case "javaLetter":
		return tables(unicode.L), true
	case "javaLetterOrDigit":
		return tables(unicode.L, unicode.Nd), true
	case "javaSpaceChar":
		return tables(unicode.Z), true
	case "javaWhitespace":
		return tables(unicode.Z).and(runes("\u00a0\u2007\u202f").not()).union(of(9, 13, 28, 31)), true
	case "javaISOControl":
		return of(0, 31, 127, 159), true
	case "javaIdentifierIgnorable":
		return ignorable, true
	case "javaUnicodeIdentifierStart":
		return start.union(tables(unicode.Other_ID_Start)), true
	case "javaUnicodeIdentifierPart":
		return part.union(tables(unicode.Other_ID_Start, unicode.Other_ID_Continue)), true
	case "javaJavaIdentifierStart":
		return start.union(tables(unicode.Sc, unicode.Pc)), true
	case "javaJavaIdentifierPart":
		return part.union(tables(unicode.Sc)), true
	}
	return nil, false
}

// script finds a script by its name, in any case.
func script(name string) (set, bool) {
	for known, t := range unicode.Scripts {
		if strings.EqualFold(known, name) {
			return tables(t), true
		}
	}
	return nil, false
}

// blocks are those that logs have a use for, by their name without what may stand between its words.
var blocks = map[string]span{
	"basiclatin": {0, 0x7f}, "latin1supplement": {0x80, 0xff}, "latinextendeda": {0x100, 0x17f}, "latinextendedb": {0x180, 0x24f},
	"ipaextensions": {0x250, 0x2af}, "combiningdiacriticalmarks": {0x300, 0x36f}, "greek": {0x370, 0x3ff}, "greekandcoptic": {0x370, 0x3ff},
	"cyrillic": {0x400, 0x4ff}, "armenian": {0x530, 0x58f}, "hebrew": {0x590, 0x5ff}, "arabic": {0x600, 0x6ff}, "devanagari": {0x900, 0x97f},
	"bengali": {0x980, 0x9ff}, "tamil": {0xb80, 0xbff}, "thai": {0xe00, 0xe7f}, "tibetan": {0xf00, 0xfff}, "georgian": {0x10a0, 0x10ff},
	"hanguljamo": {0x1100, 0x11ff}, "latinextendedadditional": {0x1e00, 0x1eff}, "greekextended": {0x1f00, 0x1fff},
	"generalpunctuation": {0x2000, 0x206f}, "currencysymbols": {0x20a0, 0x20cf}, "letterlikesymbols": {0x2100, 0x214f},
	"numberforms": {0x2150, 0x218f}, "arrows": {0x2190, 0x21ff}, "mathematicaloperators": {0x2200, 0x22ff},
	"boxdrawing": {0x2500, 0x257f}, "blockelements": {0x2580, 0x259f}, "geometricshapes": {0x25a0, 0x25ff},
	"miscellaneoussymbols": {0x2600, 0x26ff}, "dingbats": {0x2700, 0x27bf}, "cjksymbolsandpunctuation": {0x3000, 0x303f},
	"hiragana": {0x3040, 0x309f}, "katakana": {0x30a0, 0x30ff}, "bopomofo": {0x3100, 0x312f},
	"cjkunifiedideographsextensiona": {0x3400, 0x4dbf}, "cjkunifiedideographs": {0x4e00, 0x9fff}, "hangulsyllables": {0xac00, 0xd7af},
	"privateusearea": {0xe000, 0xf8ff}, "cjkcompatibilityideographs": {0xf900, 0xfaff}, "halfwidthandfullwidthforms": {0xff00, 0xffef},
	"specials": {0xfff0, 0xffff}, "emoticons": {0x1f600, 0x1f64f},
}

func block(name string) (set, bool) {
	b, ok := blocks[strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.ToLower(name))]
	return set{b}, ok
}
