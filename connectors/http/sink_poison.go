package http

import (
	"hash/maphash"
	"sync"
)

// poison counts how often requests failed that begin with the same event: it
// may be one that the far end chokes on. It is known by its content, for it
// comes again in another transaction and other memory.
type poison struct {
	seed maphash.Seed
	mu   sync.Mutex
	seen map[uint64]int
}

// mostPoison bounds what is remembered; more requests than that are not failing at once.
const mostPoison = 1024

func newPoison() *poison { return &poison{seed: maphash.MakeSeed(), seen: make(map[uint64]int)} }

// failed returns how often the request that begins with body has failed now.
func (p *poison) failed(body []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) >= mostPoison {
		clear(p.seen)
	}
	h := maphash.Bytes(p.seed, body)
	p.seen[h]++
	return p.seen[h]
}

// over forgets it.
func (p *poison) over(body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) > 0 {
		delete(p.seen, maphash.Bytes(p.seed, body))
	}
}

// mayBeAboutEvents reports whether a far end may answer so because of what was
// sent: it broke. Those that say it is away or busy are not among them.
func mayBeAboutEvents(status int) bool {
	return status >= 500 && (status < 502 || status > 504)
}

// judge returns what a status means for the request, and whether an event in it
// is to blame: then the request is halved until that is alone, and refused.
func (l *lane) judge(status int) (r rule, blamed bool) {
	r = l.s.rules.of(status)
	if l.s.attempts == 0 {
		return r, aboutEvents(status)
	}
	first := l.events[l.sent[0]].Body
	switch {
	case r.rollback && mayBeAboutEvents(status):
		l.halving = l.halving || l.s.poison.failed(first) >= l.s.attempts
		if l.halving {
			if len(l.sent) == 1 {
				l.s.poison.over(first)
			}
			return rule{}, true
		}
	case !r.rollback:
		l.s.poison.over(first)
	}
	return r, aboutEvents(status)
}
