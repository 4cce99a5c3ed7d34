package javaregex

// kind says what a node is.
type kind uint8

const (
	kindEmpty   kind = iota
	kindSet          // one character
	kindConcat       // subs in order
	kindAlt          // the first of subs that leads to a match
	kindRepeat       // subs[0], min to max times
	kindCapture      // subs[0], as group number n
	kindRef          // what group n holds
	kindLook         // subs[0], ahead or behind, without taking it
	kindAtomic       // subs[0], without coming back to it

	kindBegin     // \A, and ^ without (?m)
	kindLineBegin // ^ with (?m)
	kindEnd       // \z
	kindLastEnd   // \Z, and $ without (?m): the end, or before its line terminator
	kindLineEnd   // $ with (?m)
	kindBound     // \b
	kindNotBound  // \B
	kindLastMatch // \G
)

// mode is how often a repeat tries.
type mode uint8

const (
	greedy mode = iota
	lazy
	possessive
)

const unlimited = -1

// node is a part of an expression. Trees are never changed once made.
type node struct {
	kind     kind
	subs     []*node
	set      set
	min, max int // kindRepeat; max may be unlimited
	mode     mode
	n        int  // group
	negative bool // kindLook
	behind   bool // kindLook
	unix     bool // (?d): \n is the only line terminator
	unicode  bool // (?U), for bounds; for kindRef: the case of letters beyond ASCII
	fold     bool // kindRef: (?i)
}

// walk calls f for n and everything below it.
func (n *node) walk(f func(*node)) {
	f(n)
	for _, s := range n.subs {
		s.walk(f)
	}
}

// length returns how many characters n takes at least and at most; max may be unlimited. Both are capped at a number
// that no text reaches.
func (n *node) length() (least, most int) {
	const much = 1 << 40
	switch n.kind {
	case kindSet:
		return 1, 1
	case kindRef:
		return 0, unlimited
	case kindConcat:
		for _, s := range n.subs {
			l, m := s.length()
			least = min(much, least+l)
			if most != unlimited && m != unlimited {
				most = min(much, most+m)
			} else {
				most = unlimited
			}
		}
		return least, most
	case kindAlt:
		for i, s := range n.subs {
			l, m := s.length()
			if i == 0 || l < least {
				least = l
			}
			if m == unlimited || most == unlimited {
				most = unlimited
			} else {
				most = max(most, m)
			}
		}
		return least, most
	case kindRepeat:
		l, m := n.subs[0].length()
		least = min(much, l*min(n.min, much/max(1, l)))
		if m == unlimited || n.max == unlimited {
			return least, unlimited
		}
		return least, min(much, m*min(n.max, much/max(1, m)))
	case kindCapture, kindAtomic:
		return n.subs[0].length()
	}
	return 0, 0
}
