package javaregex

// class reads a class behind its bracket, or, not closed by one of its own, what stands behind && up to the bracket of
// the class around it, which it leaves there.
//
// Java's classes are unions of characters, ranges and further classes; && cuts the union so far with all that follows.
// A bracket that closes is a character where nothing stands before it.
func (p *parser) class(own bool) set {
	p.enter()
	defer p.leave()
	negative := false
	if own && p.raw(0) == '^' {
		p.pos++
		negative = true
	}
	c := classSet{}
	for {
		if !p.more() {
			p.fail("unclosed character class")
		}
		switch r := p.peek(); {
		case r == '[':
			p.pos++
			c.add(p.class(true))
			continue
		case r == '&' && p.ampersand():
			p.intersect(&c)
			continue
		case r == ']' && !c.empty():
			if own {
				p.pos++
			}
			return c.all().negated(negative)
		}
		s, loose := p.member()
		if loose {
			c.loose, c.hasLoose = append(c.loose, s...), true
		} else {
			c.add(s)
		}
		if p.spans += len(s); p.spans > maxSpans {
			p.fail("too large")
		}
	}
}

// classSet is a class while it is read. Single characters are kept loose; they join the rest when all is read, or at &&.
type classSet struct {
	sum, last set // what is in it, and the member added last
	started   bool
	loose     set
	hasLoose  bool
}

func (c *classSet) empty() bool { return !c.started && !c.hasLoose }

func (c *classSet) add(s set) {
	c.last = s
	if c.started {
		c.sum = c.sum.union(s)
	} else {
		c.sum, c.started = s, true
	}
}

func (c *classSet) all() set {
	if c.hasLoose {
		return c.sum.union(c.loose)
	}
	return c.sum
}

// ampersand skips && and reports whether it was there.
func (p *parser) ampersand() bool {
	at := p.pos
	p.pos++
	if p.peek() == '&' {
		p.pos++
		return true
	}
	p.pos = at
	return false
}

// intersect reads what follows &&.
func (p *parser) intersect(c *classSet) {
	var right set
	some := false
	for p.more() {
		r := p.peek()
		if r == ']' || r == '&' {
			break
		}
		var s set
		if r == '[' {
			p.pos++
			s = p.class(true)
		} else {
			s = p.class(false)
		}
		right, some = right.union(s), true
	}
	if c.hasLoose {
		if c.started {
			c.sum = c.sum.union(c.loose)
		} else {
			c.sum, c.started = c.loose.union(nil), true
			c.last = c.sum
		}
		c.hasLoose = false
	}
	if some {
		c.last = right
	}
	switch {
	case c.started:
		c.sum = c.sum.and(c.last)
	case some:
		c.sum, c.started = right, true
	default:
		p.fail("nothing around &&")
	}
}

// member reads a character, a range, or an escape; loose: a single character below 256.
func (p *parser) member() (s set, loose bool) {
	var r rune
	if p.peek() == '\\' {
		p.pos++
		if s, r = p.escape(p.raw(1) == '-'); s != nil {
			return s, false
		}
	} else {
		r = p.text[p.pos].r
		p.pos++
	}
	if p.peek() == '-' {
		if next := p.raw(1); next != '[' && next != ']' && p.pos+1 < len(p.text) {
			p.pos++
			return p.span(r), false
		}
	}
	return p.single(r), r < 256
}

// span reads the upper end of a range from lo.
func (p *parser) span(lo rune) set {
	var hi rune
	if p.peek() == '\\' {
		p.pos++
		s, r := p.escape(true)
		if s != nil {
			p.fail("a range ends with a class")
		}
		hi = r
	} else {
		if !p.more() {
			p.fail("unclosed character class")
		}
		hi = p.text[p.pos].r
		p.pos++
	}
	if hi < lo {
		p.fail("illegal character range")
	}
	s := of(lo, hi)
	switch {
	case p.flags.fold && p.flags.uniCase:
		return s.foldUnicode()
	case p.flags.fold:
		return s.foldASCII()
	}
	return s
}
