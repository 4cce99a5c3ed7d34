package javaregex

import (
	"fmt"
	"strconv"
	"strings"
)

// ending is how a text that a translation is for ends: it says what $ is.
type ending uint8

const (
	endsPlain ending = iota // not with a line terminator
	endsCRLF                // with \r\n
	endsLine                // with another line terminator
	endings
)

// emitRE2 writes n for Go's regexp. Groups of Java have no name, in their order; those named t0, t1... hold what of the
// text's last line terminator was taken in the place of $. It is right only for texts that end so, and see [scope].
func emitRE2(n *node, e ending) string {
	w := re2{ending: e}
	w.node(n)
	return w.String()
}

type re2 struct {
	strings.Builder
	ending ending
	tails  int
}

func (w *re2) node(n *node) {
	switch n.kind {
	case kindEmpty:
		w.WriteString("(?:)")
	case kindSet:
		w.set(n.set)
	case kindConcat:
		for _, s := range n.subs {
			w.part(s)
		}
	case kindAlt:
		w.alternatives(n)
	case kindRepeat:
		w.WriteString("(?:")
		w.node(n.subs[0])
		w.WriteByte(')')
		w.WriteString(quantifier(n))
		if n.mode == lazy {
			w.WriteByte('?')
		}
	case kindCapture:
		w.WriteByte('(')
		w.node(n.subs[0])
		w.WriteByte(')')
	case kindBegin, kindLineBegin:
		w.WriteString(`\A`)
	case kindEnd, kindLineEnd:
		w.WriteString(`\z`)
	case kindLastEnd:
		w.lastEnd(n)
	case kindBound:
		w.WriteString(`\b`)
	case kindNotBound:
		w.WriteString(`\B`)
	default:
		panic("javaregex: node without translation")
	}
}

func (w *re2) part(n *node) {
	if n.kind == kindAlt {
		w.WriteString("(?:")
		w.node(n)
		w.WriteByte(')')
		return
	}
	w.node(n)
}

func (w *re2) alternatives(n *node) {
	for i, s := range n.subs {
		if i > 0 {
			w.WriteByte('|')
		}
		w.node(s)
	}
}

func (w *re2) lastEnd(n *node) {
	what := ""
	switch {
	case w.ending == endsPlain:
		w.WriteString(`\z`)
		return
	case n.unix:
		what = `\n`
	case w.ending == endsCRLF:
		what = `\r\n`
	default:
		what = `[\n\r\x{85}\x{2028}\x{2029}]`
	}
	fmt.Fprintf(w, `(?P<t%d>(?:%s)?\z)`, w.tails, what)
	w.tails++
}

func (w *re2) set(s set) {
	switch {
	case len(s) == 0:
		w.WriteString(`[^\x00-\x{10FFFF}]`)
		return
	case len(s) == 1 && s[0] == span{0, maxRune}:
		w.WriteString(`(?s:.)`)
		return
	case len(s) == 1 && s[0].lo == s[0].hi:
		w.rune(s[0].lo)
		return
	}
	w.WriteByte('[')
	for _, p := range s {
		w.rune(p.lo)
		if p.hi > p.lo {
			w.WriteByte('-')
			w.rune(p.hi)
		}
	}
	w.WriteByte(']')
}

func plain(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func (w *re2) rune(r rune) {
	switch {
	case plain(r):
		w.WriteRune(r)
	case r > ' ' && r < 127:
		w.WriteByte('\\')
		w.WriteRune(r)
	default:
		fmt.Fprintf(w, `\x{%X}`, r)
	}
}

func quantifier(n *node) string {
	switch {
	case n.min == 0 && n.max == 1:
		return "?"
	case n.min == 0 && n.max == unlimited:
		return "*"
	case n.min == 1 && n.max == unlimited:
		return "+"
	case n.max == unlimited:
		return "{" + strconv.Itoa(n.min) + ",}"
	}
	return "{" + strconv.Itoa(n.min) + "," + strconv.Itoa(n.max) + "}"
}

// emitNET writes n in the dialect of .NET, for regexp2. Groups have Java's numbers.
func emitNET(n *node, groups int) string {
	w := net{groups: groups}
	w.node(n)
	return w.String()
}

type net struct {
	strings.Builder
	groups int
}

// What stands for the anchors of Java, which know more line terminators than .NET's, and for its words.
const (
	netTerminator = "[\n\r\u0085\u2028\u2029]"
	netInside     = "(?<!\r(?=\n))" // not between \r and \n
	netWord       = `[\p{L}\p{Nd}\p{Mn}_]`
	netWordU      = `[\p{L}\p{Nl}\p{M}\p{Nd}\p{Pc}]`
)

func (w *net) node(n *node) {
	switch n.kind {
	case kindEmpty:
		w.WriteString("(?:)")
	case kindSet:
		w.set(n.set)
	case kindConcat:
		for _, s := range n.subs {
			w.group("(?:", s)
		}
	case kindAlt:
		for i, s := range n.subs {
			if i > 0 {
				w.WriteByte('|')
			}
			w.node(s)
		}
	case kindRepeat:
		w.repeat(n)
	case kindCapture:
		w.group("(", n.subs[0])
	case kindRef:
		w.reference(n)
	case kindLook:
		open := "(?"
		if n.behind {
			open += "<"
		}
		if n.negative {
			open += "!"
		} else {
			open += "="
		}
		w.group(open, n.subs[0])
	case kindAtomic:
		w.group("(?>", n.subs[0])
	default:
		w.anchor(n)
	}
}

// group writes n in parentheses; plain ones only where it needs them.
func (w *net) group(open string, n *node) {
	if open == "(?:" && n.kind != kindAlt && n.kind != kindConcat {
		w.node(n)
		return
	}
	w.WriteString(open)
	w.node(n)
	w.WriteByte(')')
}

func (w *net) repeat(n *node) {
	if n.mode == possessive {
		w.WriteString("(?>")
	}
	w.WriteString("(?:")
	w.node(n.subs[0])
	w.WriteByte(')')
	w.WriteString(quantifier(n))
	switch n.mode {
	case lazy:
		w.WriteByte('?')
	case possessive:
		w.WriteByte(')')
	}
}

func (w *net) reference(n *node) {
	if n.n > w.groups {
		w.WriteString("(?!)") // of a group that is not there: it never matches
		return
	}
	ref := fmt.Sprintf(`\k<%d>`, n.n)
	if n.fold {
		ref = "(?i:" + ref + ")"
	}
	w.WriteString(ref)
}

func (w *net) anchor(n *node) {
	switch n.kind {
	case kindBegin:
		w.WriteString(`\A`)
	case kindEnd:
		w.WriteString(`\z`)
	case kindLastMatch:
		w.WriteString(`\G`)
	case kindLineBegin:
		if n.unix {
			w.WriteString("(?:\\A|(?<=\n))(?!\\z)")
			return
		}
		w.WriteString("(?:\\A|(?<=" + netTerminator + ")" + netInside + ")(?!\\z)")
	case kindLineEnd:
		if n.unix {
			w.WriteString("(?=\n|\\z)")
			return
		}
		w.WriteString("(?=" + netTerminator + "|\\z)" + netInside)
	case kindLastEnd:
		if n.unix {
			w.WriteString("(?=\n?\\z)")
			return
		}
		w.WriteString("(?=(?:\r\n|" + netTerminator + ")?\\z)" + netInside)
	case kindBound, kindNotBound:
		word := netWord
		if n.unicode {
			word = netWordU
		}
		ahead, not := "=", "!"
		if n.kind == kindNotBound {
			ahead, not = not, ahead
		}
		fmt.Fprintf(w, "(?:(?<=%[1]s)(?%[3]s%[1]s)|(?<!%[1]s)(?%[2]s%[1]s))", word, ahead, not)
	default:
		panic("javaregex: node without translation")
	}
}

func (w *net) set(s set) {
	switch {
	case len(s) == 0:
		w.WriteString("(?!)")
		return
	case len(s) == 1 && s[0] == span{0, maxRune}:
		w.WriteString(`[\s\S]`)
		return
	case len(s) == 1 && s[0].lo == s[0].hi:
		w.rune(s[0].lo)
		return
	}
	w.WriteByte('[')
	for _, p := range s {
		w.rune(p.lo)
		if p.hi > p.lo {
			w.WriteByte('-')
			w.rune(p.hi)
		}
	}
	w.WriteByte(']')
}

func (w *net) rune(r rune) {
	switch {
	case r == '-':
		w.WriteString(`\x2D`) // regexp2 does not take \- for the end of a range
	case r > ' ' && r < 127 && !plain(r):
		w.WriteByte('\\')
		w.WriteRune(r)
	case r >= 0xD800 && r < 0xE000:
		fmt.Fprintf(w, `\u%04X`, r) // halves of pairs, which no text has
	default:
		w.WriteRune(r)
	}
}
