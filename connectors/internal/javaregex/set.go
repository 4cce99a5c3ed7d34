package javaregex

import (
	"slices"
	"sync"
	"unicode"
)

// span is the characters from lo to hi, both included.
type span struct{ lo, hi rune }

// set is characters: spans in order that neither touch nor overlap. Sets are never changed once made.
type set []span

const maxRune = unicode.MaxRune

// of makes a set of pairs: first, last, first, last.
func of(pairs ...rune) set {
	s := make(set, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		s = append(s, span{pairs[i], pairs[i+1]})
	}
	return s.tidy()
}

// runes makes a set of single characters.
func runes(text string) set {
	var s set
	for _, r := range text {
		s = append(s, span{r, r})
	}
	return s.tidy()
}

// tables makes a set of Unicode tables.
func tables(list ...*unicode.RangeTable) set {
	var s set
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			s = append(s, span{lo, hi})
			return
		}
		for r := lo; r <= hi; r += stride {
			s = append(s, span{r, r})
		}
	}
	for _, t := range list {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return s.tidy()
}

// tidy sorts s, which must not be in use, and joins what touches.
func (s set) tidy() set {
	slices.SortFunc(s, func(a, b span) int { return int(a.lo - b.lo) })
	out := s[:0]
	for _, p := range s {
		if n := len(out); n > 0 && p.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, p.hi)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (s set) has(r rune) bool {
	i, found := slices.BinarySearchFunc(s, r, func(p span, r rune) int { return int(p.lo - r) })
	return found || i > 0 && r <= s[i-1].hi
}

func (s set) union(o set) set { return slices.Concat(s, o).tidy() }

func (s set) not() set {
	out := make(set, 0, len(s)+1)
	next := rune(0)
	for _, p := range s {
		if p.lo > next {
			out = append(out, span{next, p.lo - 1})
		}
		next = p.hi + 1
	}
	if next <= maxRune {
		out = append(out, span{next, maxRune})
	}
	return out
}

func (s set) and(o set) set {
	var out set
	for i, j := 0, 0; i < len(s) && j < len(o); {
		lo, hi := max(s[i].lo, o[j].lo), min(s[i].hi, o[j].hi)
		if lo <= hi {
			out = append(out, span{lo, hi})
		}
		if s[i].hi < o[j].hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// foldASCII adds the other case of the letters of ASCII.
func (s set) foldASCII() set {
	var more set
	for c := 'a'; c <= 'z'; c++ {
		u := c - 'a' + 'A'
		if s.has(c) != s.has(u) {
			more = append(more, span{c, c}, span{u, u})
		}
	}
	if more == nil {
		return s
	}
	return s.union(more.tidy())
}

// cased are the characters whose case can be changed at all.
var cased = sync.OnceValue(func() set {
	var s set
	for _, r := range unicode.CaseRanges {
		s = append(s, span{rune(r.Lo), rune(r.Hi)})
	}
	return s.tidy()
})

// foldUnicode adds the characters that are in s after their case was changed: to upper, and from there to lower.
func (s set) foldUnicode() set {
	more := slices.Clone(s)
	for _, p := range cased() {
		for r := p.lo; r <= p.hi; r++ {
			up := unicode.ToUpper(r)
			if s.has(up) || s.has(unicode.ToLower(up)) {
				more = append(more, span{r, r})
			}
		}
	}
	return more.tidy()
}

// foldSingle is the characters that become what r becomes when changed to upper and then to lower case, or are that.
func foldSingle(r rune) set {
	low := unicode.ToLower(unicode.ToUpper(r))
	s := set{{low, low}}
	for _, p := range cased() {
		for c := p.lo; c <= p.hi; c++ {
			if unicode.ToLower(unicode.ToUpper(c)) == low {
				s = append(s, span{c, c})
			}
		}
	}
	return s.tidy()
}
