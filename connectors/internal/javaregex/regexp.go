package javaregex

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// DefaultLimit is how long a match, or all matches of Each, may take where Go's own engine can not run a pattern.
const DefaultLimit = time.Second

// ErrLimit says that a match took longer than its limit: the pattern tries too many ways on this text.
var ErrLimit = errors.New("the regular expression took longer than its time limit")

// Regexp is a Java regular expression, ready to match. It may be used from several goroutines.
type Regexp struct {
	source string
	tree   *node
	groups int
	names  []string // by group; empty for those without
	least  int      // characters that a match takes at least
	scope  scope
	fast   [endings]func() (*fast, error)
	slow   func() (*regexp2.Regexp, error)
}

// scope says of which texts a translation to RE2 is right.
type scope struct {
	none    bool // of none
	ascii   bool // of ASCII: \b
	oneLine bool // of those without line terminator: (?m)
	lastEnd bool // has a $: those that end with a line terminator need a translation of their own
	atEnd   bool // every $ is the last of its alternative, so that there is such a translation
	context bool // looks at what is around a match
}

// fast is a pattern in Go's engine.
type fast struct {
	*regexp.Regexp
	groups []int // its group of each group of Java
	tails  []int // groups that hold a line terminator
}

// Compile reads a pattern. An error is an [*Error].
func Compile(pattern string) (*Regexp, error) {
	n, p, err := parse(pattern)
	if err != nil {
		return nil, err
	}
	return build(pattern, n, p)
}

// CompileWhole is Compile for an expression that matches only whole texts.
func CompileWhole(pattern string) (*Regexp, error) {
	n, p, err := parse(pattern)
	if err != nil {
		return nil, err
	}
	return build(pattern, concat([]*node{{kind: kindBegin}, n, {kind: kindEnd}}), p)
}

// MustCompile is Compile for patterns of the program's own.
func MustCompile(pattern string) *Regexp {
	re, err := Compile(pattern)
	if err != nil {
		panic("javaregex: " + pattern + " " + err.Error())
	}
	return re
}

func build(source string, n *node, p *parser) (*Regexp, error) {
	re := &Regexp{source: source, tree: n, groups: p.groups, names: p.namesInOrder(), scope: scopeOf(n)}
	re.least, _ = n.length()
	for e := range endings {
		re.fast[e] = sync.OnceValues(func() (*fast, error) { return compileFast(n, e) })
	}
	re.slow = sync.OnceValues(func() (*regexp2.Regexp, error) {
		slow, err := regexp2.Compile(emitNET(n, re.groups), regexp2.None)
		if err == nil {
			slow.MatchTimeout = DefaultLimit
		}
		return slow, err
	})
	if !re.scope.none {
		if _, err := re.fast[endsPlain](); err != nil {
			re.scope.none = true // such as one that grows too large there
		}
	}
	if re.Backtracks() {
		if _, err := re.slow(); err != nil {
			return nil, &Error{Text: err.Error()}
		}
	}
	return re, nil
}

func compileFast(n *node, e ending) (*fast, error) {
	re, err := regexp.Compile(emitRE2(n, e))
	if err != nil {
		return nil, err
	}
	f := &fast{Regexp: re}
	for i, name := range re.SubexpNames() {
		if name == "" {
			f.groups = append(f.groups, i)
		} else {
			f.tails = append(f.tails, i)
		}
	}
	return f, nil
}

func scopeOf(root *node) scope {
	s := scope{atEnd: true}
	last := map[*node]bool{}
	tails(root, last)
	root.walk(func(n *node) {
		switch n.kind {
		case kindRef, kindLook, kindAtomic, kindLastMatch:
			s.none = true
		case kindRepeat:
			l, _ := n.subs[0].length()
			s.none = s.none || n.mode == possessive || n.max > 1000 || n.min > 1000 || l == 0 && n.max != 1
		case kindBound, kindNotBound:
			s.ascii, s.context = true, true
		case kindLineBegin, kindLineEnd:
			s.oneLine, s.context = true, true
		case kindLastEnd:
			s.lastEnd, s.context = true, true
			s.atEnd = s.atEnd && last[n]
		case kindBegin, kindEnd:
			s.context = true
		}
	})
	return s
}

// tails marks the nodes behind which nothing of their expression follows.
func tails(n *node, last map[*node]bool) {
	last[n] = true
	switch n.kind {
	case kindConcat:
		tails(n.subs[len(n.subs)-1], last)
	case kindAlt:
		for _, s := range n.subs {
			tails(s, last)
		}
	case kindCapture:
		tails(n.subs[0], last)
	}
}

// String is the pattern as it was given.
func (re *Regexp) String() string { return re.source }

// Groups is the number of capturing groups, without the whole.
func (re *Regexp) Groups() int { return re.groups }

// Backtracks reports whether the pattern needs, for some texts, the engine that can take long.
func (re *Regexp) Backtracks() bool {
	s := &re.scope
	return s.none || s.ascii || s.oneLine || s.lastEnd || s.context && re.least == 0
}

// Limit sets how long a match, or all matches of Each, may take. It must not be called while re is used.
func (re *Regexp) Limit(d time.Duration) {
	build := re.slow
	re.slow = sync.OnceValues(func() (*regexp2.Regexp, error) {
		slow, err := build()
		if err == nil {
			slow.MatchTimeout = d
		}
		return slow, err
	})
}

// pick returns Go's expression for text, or nil if there is none. every: all matches are wanted, not the first only.
func (re *Regexp) pick(text []byte, every bool) *fast {
	s := &re.scope
	switch {
	case s.none,
		s.ascii && !ascii(text),
		s.oneLine && (len(text) == 0 || hasTerminator(text)):
		return nil
	}
	e := endsPlain
	if s.lastEnd {
		if e = endingOf(text); e != endsPlain && (!s.atEnd || every) {
			return nil
		}
	}
	f, err := re.fast[e]()
	if err != nil {
		return nil
	}
	return f
}

func ascii(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func endingOf(text []byte) ending {
	n := len(text)
	switch {
	case n == 0:
		return endsPlain
	case bytes.HasSuffix(text, []byte("\r\n")):
		return endsCRLF
	case text[n-1] == '\n', text[n-1] == '\r',
		bytes.HasSuffix(text, []byte("\u0085")), bytes.HasSuffix(text, []byte("\u2028")), bytes.HasSuffix(text, []byte("\u2029")):
		return endsLine
	}
	return endsPlain
}

func hasTerminator(text []byte) bool {
	return bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 ||
		bytes.IndexByte(text, 0xC2) >= 0 && bytes.Contains(text, []byte("\u0085")) ||
		bytes.IndexByte(text, 0xE2) >= 0 && (bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029")))
}

// Match reports whether text, UTF-8, has a match. The error is [ErrLimit], or the engine's.
func (re *Regexp) Match(text []byte) (bool, error) {
	if f := re.pick(text, false); f != nil {
		return f.Match(text), nil
	}
	loc, err := re.Find(text)
	return loc != nil, err
}

// Find returns where the first match is, nil if there is none: begin and end in bytes, of the whole and of each group;
// -1 for a group that took no part. Bytes that are no UTF-8 count as U+FFFD each.
func (re *Regexp) Find(text []byte) ([]int, error) {
	if f := re.pick(text, false); f != nil {
		return f.find(text), nil
	}
	s, err := re.search(text)
	if err != nil {
		return nil, err
	}
	return s.from(0)
}

func (f *fast) find(text []byte) []int {
	loc := f.FindSubmatchIndex(text)
	if loc == nil || len(f.tails) == 0 {
		return loc
	}
	stop := loc[1]
	for _, t := range f.tails {
		if loc[2*t] >= 0 {
			stop = loc[2*t]
		}
	}
	out := make([]int, 0, 2*len(f.groups))
	for _, g := range f.groups {
		out = append(out, min(loc[2*g], stop), min(loc[2*g+1], stop))
	}
	return out
}

// Each calls f with every match, as Find returns it, as Java's Matcher finds them: after an empty one it goes on a
// character further.
func (re *Regexp) Each(text []byte, f func(loc []int)) error {
	if g := re.pick(text, true); g != nil {
		switch {
		case re.least > 0:
			for _, loc := range g.FindAllSubmatchIndex(text, -1) {
				f(loc)
			}
			return nil
		case !re.scope.context:
			g.slide(text, f)
			return nil
		}
	}
	s, err := re.search(text)
	if err != nil {
		return err
	}
	for at, begin := 0, time.Now(); at <= len(s.runes); {
		loc, err := s.from(at)
		if loc == nil || err != nil {
			return err
		}
		if time.Since(begin) > s.re.MatchTimeout {
			return s.late()
		}
		f(loc)
		if at = s.stop; s.start == s.stop {
			at++
		}
	}
	return nil
}

// slide is Each of an expression that may match nothing and does not look around.
func (f *fast) slide(text []byte, found func(loc []int)) {
	for at := 0; at <= len(text); {
		loc := f.FindSubmatchIndex(text[at:])
		if loc == nil {
			return
		}
		for i := range loc {
			if loc[i] >= 0 {
				loc[i] += at
			}
		}
		found(loc)
		if at = loc[1]; loc[0] == loc[1] {
			_, n := utf8.DecodeRune(text[at:])
			at += max(1, n)
		}
	}
}

// search is a text in the form of the engine that backtracks.
type search struct {
	re          *regexp2.Regexp
	groups      int
	runes       []rune
	offsets     []int32 // of each rune, and of the end; nil where they are those of the runes
	start, stop int     // of the last match, in runes
}

func (re *Regexp) search(text []byte) (*search, error) {
	slow, err := re.slow()
	if err != nil {
		return nil, fmt.Errorf("regular expression %s: %w", re.source, err)
	}
	s := &search{re: slow, groups: re.groups}
	if n := utf8.RuneCount(text); n < len(text) {
		s.offsets = make([]int32, 0, n+1)
		s.runes = make([]rune, 0, n)
	} else {
		s.runes = make([]rune, 0, n)
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		s.runes = append(s.runes, r)
		if s.offsets != nil {
			s.offsets = append(s.offsets, int32(i))
		}
		i += n
	}
	if s.offsets != nil {
		s.offsets = append(s.offsets, int32(len(text)))
	}
	return s, nil
}

// from finds the first match at rune at or behind it.
func (s *search) from(at int) ([]int, error) {
	m, err := s.re.FindRunesMatchStartingAt(s.runes, at)
	if err != nil {
		return nil, s.late() // the only error there is
	}
	if m == nil {
		return nil, nil
	}
	s.start, s.stop = m.Index, m.Index+m.Length
	loc := make([]int, 0, 2*(s.groups+1))
	for i := 0; i <= s.groups; i++ {
		g := m.GroupByNumber(i)
		if g == nil || len(g.Captures) == 0 {
			loc = append(loc, -1, -1)
			continue
		}
		loc = append(loc, s.offset(g.Index), s.offset(g.Index+g.Length))
	}
	return loc, nil
}

func (s *search) late() error { return fmt.Errorf("%w (%v)", ErrLimit, s.re.MatchTimeout) }

func (s *search) offset(i int) int {
	if s.offsets == nil {
		return i
	}
	return int(s.offsets[i])
}
