package javaregex

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxPattern = 32 << 10 // characters
	maxDepth   = 200      // groups and classes in one another
	maxRepeat  = 1<<31 - 1
	maxSpans   = 1 << 18 // of all sets of an expression, so that a short text can not fill the memory
)

// Error says what is wrong with a pattern, and where.
type Error struct {
	Text string
	At   int // characters before it
}

// Error is a predicate on the pattern, as conf wants it.
func (e *Error) Error() string {
	return fmt.Sprintf("is not a Java regular expression: %s, at character %d", e.Text, e.At+1)
}

// flags are Java's.
type flags struct{ fold, multi, dotAll, unix, uniCase, comments, uniClass bool }

// char is a character of the pattern; a quoted one, of \Q...\E, means itself.
type char struct {
	r      rune
	quoted bool
}

const end rune = -1 // what follows the last character

type parser struct {
	text   []char
	pos    int
	flags  flags
	groups int
	names  map[string]int
	depth  int
	spans  int
}

// parse reads a pattern.
func parse(pattern string) (_ *node, _ *parser, err error) {
	p := &parser{names: map[string]int{}}
	if len(pattern) > maxPattern {
		return nil, nil, &Error{Text: fmt.Sprintf("longer than %d", maxPattern), At: maxPattern}
	}
	p.text = unquote([]rune(pattern))
	defer func() {
		if bad, ok := recover().(*Error); ok {
			err = bad
		} else if r := recover(); r != nil {
			panic(r)
		}
	}()
	n := p.alternatives()
	if p.pos < len(p.text) {
		p.fail("unmatched closing )")
	}
	return n, p, nil
}

// unquote takes \Q and \E out.
func unquote(text []rune) []char {
	out := make([]char, 0, len(text))
	quoted := false
	for i := 0; i < len(text); i++ {
		r := text[i]
		next := end
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch {
		case quoted && r == '\\' && next == 'E':
			quoted = false
			i++
		case quoted:
			out = append(out, char{r, true})
		case r == '\\' && next == 'Q':
			quoted = true
			i++
		case r == '\\' && next != end:
			out = append(out, char{r, false}, char{next, false})
			i++
		default:
			out = append(out, char{r, false})
		}
	}
	return out
}

func (p *parser) fail(format string, args ...any) {
	panic(&Error{fmt.Sprintf(format, args...), min(p.pos, len(p.text))})
}

// raw is the character at p.pos+ahead that is syntax: end beyond the pattern, and for quoted ones, which are none.
func (p *parser) raw(ahead int) rune {
	if p.pos+ahead >= len(p.text) || p.text[p.pos+ahead].quoted {
		return end
	}
	return p.text[p.pos+ahead].r
}

// peek is raw(0) behind what (?x) lets be skipped.
func (p *parser) peek() rune {
	p.skip()
	return p.raw(0)
}

func (p *parser) skip() {
	for p.flags.comments {
		r := p.raw(0)
		switch {
		case r == ' ' || r >= '\t' && r <= '\r':
			p.pos++
		case r == '#':
			for p.pos < len(p.text) && !p.endsLine(p.text[p.pos].r) {
				p.pos++
			}
		default:
			return
		}
	}
}

func (p *parser) endsLine(r rune) bool {
	return r == '\n' || !p.flags.unix && (r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029)
}

func (p *parser) more() bool {
	p.skip()
	return p.pos < len(p.text)
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested deeper than %d", maxDepth)
	}
}

func (p *parser) leave() { p.depth-- }

// alternatives reads up to a closing parenthesis or the end.
func (p *parser) alternatives() *node {
	p.enter()
	defer p.leave()
	list := []*node{p.sequence()}
	for p.peek() == '|' {
		p.pos++
		list = append(list, p.sequence())
	}
	if len(list) == 1 {
		return list[0]
	}
	return &node{kind: kindAlt, subs: list}
}

func (p *parser) sequence() *node {
	var list []*node
	for p.more() {
		var n *node
		switch r := p.peek(); r {
		case '|', ')':
			return concat(list)
		case '*', '+', '?':
			p.fail("dangling %c", r)
		case '{':
			n = &node{kind: kindEmpty} // Java repeats nothing then
		case '(':
			if n = p.group(); n == nil {
				continue // (?i) and the like
			}
		case '[':
			p.pos++
			n = p.set(p.class(true))
		case '^':
			p.pos++
			n = &node{kind: kindBegin}
			if p.flags.multi {
				n = &node{kind: kindLineBegin, unix: p.flags.unix}
			}
		case '$':
			p.pos++
			n = &node{kind: kindLastEnd, unix: p.flags.unix}
			if p.flags.multi {
				n.kind = kindLineEnd
			}
		case '.':
			p.pos++
			n = p.set(p.dot())
		case '\\':
			n = p.atomEscape()
		default:
			n = p.literal(p.text[p.pos].r)
			p.pos++
		}
		list = append(list, p.repeat(n))
	}
	return concat(list)
}

func concat(list []*node) *node {
	switch len(list) {
	case 0:
		return &node{kind: kindEmpty}
	case 1:
		return list[0]
	}
	return &node{kind: kindConcat, subs: list}
}

func (p *parser) set(s set) *node {
	if p.spans += len(s); p.spans > maxSpans {
		p.fail("too large")
	}
	return &node{kind: kindSet, set: s}
}

func (p *parser) dot() set {
	switch {
	case p.flags.dotAll:
		return of(0, maxRune)
	case p.flags.unix:
		return runes("\n").not()
	}
	return runes(terminators).not()
}

// terminators are what ends a line; \r\n counts as one.
const terminators = "\n\r\u0085\u2028\u2029"

func (p *parser) literal(r rune) *node { return p.set(p.single(r)) }

// single is the set of r, and of its other cases if the flags say so.
func (p *parser) single(r rune) set {
	s := of(r, r)
	switch {
	case p.flags.fold && p.flags.uniCase:
		return foldSingle(r)
	case p.flags.fold:
		return s.foldASCII()
	}
	return s
}

// repeat reads the quantifier of n, if there is one. Java takes no second one: it stands alone then.
func (p *parser) repeat(n *node) *node {
	r := &node{kind: kindRepeat, subs: []*node{n}}
	switch p.peek() {
	case '?':
		r.min, r.max = 0, 1
	case '*':
		r.min, r.max = 0, unlimited
	case '+':
		r.min, r.max = 1, unlimited
	case '{':
		p.counts(r)
	default:
		return n
	}
	p.pos++
	switch p.peek() {
	case '?':
		r.mode = lazy
		p.pos++
	case '+':
		r.mode = possessive
		p.pos++
	}
	return r
}

// counts reads {n}, {n,} or {n,m} up to its brace.
func (p *parser) counts(r *node) {
	p.pos++
	if c := p.raw(0); c < '0' || c > '9' {
		p.fail("illegal repetition")
	}
	r.min = p.number()
	r.max = r.min
	if p.raw(0) == ',' {
		p.pos++
		r.max = unlimited
		if p.raw(0) != '}' {
			r.max = p.number()
		}
	}
	if p.raw(0) != '}' {
		p.fail("unclosed counted repetition")
	}
	if r.max != unlimited && r.max < r.min {
		p.fail("illegal repetition range")
	}
}

func (p *parser) number() int {
	n := 0
	for {
		c := p.raw(0)
		if c < '0' || c > '9' {
			return n
		}
		if n = n*10 + int(c-'0'); n > maxRepeat {
			p.fail("illegal repetition range")
		}
		p.pos++
	}
}

// group reads what begins with a parenthesis; nil for flags alone.
func (p *parser) group() *node {
	p.pos++
	saved := p.flags
	n := &node{kind: kindConcat}
	if p.peek() == '?' {
		p.pos++
		switch c := p.raw(0); c {
		case ':':
		case '>':
			n.kind = kindAtomic
		case '=', '!':
			n.kind, n.negative = kindLook, c == '!'
		case '<':
			p.pos++
			if c := p.raw(0); c == '=' || c == '!' {
				n.kind, n.negative, n.behind = kindLook, c == '!', true
				break
			}
			name := p.groupName()
			if p.names[name] > 0 {
				p.fail("a second group named %s", name)
			}
			n.kind = kindCapture
			p.groups++
			n.n, p.names[name] = p.groups, p.groups
		default:
			if p.inlineFlags() {
				return nil
			}
		}
		p.pos++
	} else {
		n.kind = kindCapture
		p.groups++
		n.n = p.groups
	}
	body := p.alternatives()
	if p.peek() != ')' {
		p.fail("unclosed group")
	}
	p.pos++
	p.flags = saved
	n.subs = []*node{body}
	if n.kind == kindLook && n.behind {
		if _, most := body.length(); most == unlimited {
			p.fail("look-behind without an obvious maximum length")
		}
	}
	return n
}

// groupName reads a name and stands on its >.
func (p *parser) groupName() string {
	var b strings.Builder
	for {
		c := p.raw(0)
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		switch {
		case letter || b.Len() > 0 && c >= '0' && c <= '9':
			b.WriteRune(c)
			p.pos++
		case c == '>' && b.Len() > 0:
			return b.String()
		default:
			p.fail("the name of a group is letters and digits, between < and >")
		}
	}
}

// inlineFlags reads the flags of (?i) or (?i:X); it reports whether that was all, and stands on the colon if not.
func (p *parser) inlineFlags() bool {
	on := true
	for {
		switch c := p.raw(0); c {
		case 'i':
			p.flags.fold = on
		case 'm':
			p.flags.multi = on
		case 's':
			p.flags.dotAll = on
		case 'd':
			p.flags.unix = on
		case 'u':
			p.flags.uniCase = on
		case 'x':
			p.flags.comments = on
		case 'U':
			p.flags.uniClass, p.flags.uniCase = on, on
		case 'c':
			p.fail("canonical equivalence, (?c), is not supported")
		case '-':
			if !on {
				p.fail("unknown inline modifier")
			}
			on = false
		case ')':
			p.pos++
			return true
		case ':':
			return false
		default:
			p.fail("unknown group type or inline modifier")
		}
		p.pos++
	}
}

// knowsGroup reports whether a group of that number has been opened.
func (p *parser) knowsGroup(n int) bool { return n <= p.groups }

// namesInOrder are the names of groups, by number; empty for those without.
func (p *parser) namesInOrder() []string {
	list := slices.Repeat([]string{""}, p.groups+1)
	for name, n := range p.names {
		list[n] = name
	}
	return list
}
