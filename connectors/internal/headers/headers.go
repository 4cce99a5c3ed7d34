// Package headers sets headers that interceptors find in bodies, and keeps
// runs: events that follow one another and get the same headers share one set.
package headers

import "github.com/millrace/millrace/core"

// Found is a header to set.
type Found struct {
	Key   string
	Value []byte // not kept
}

// Setter sets headers of one event after another. The zero value is ready; it
// is used by one goroutine.
type Setter struct {
	Found []Found // for the next Set; later ones go before earlier ones of the same key

	from, to core.Headers
	last     []core.Header // what was set on from
	all      []core.Header
	any      bool
}

// Set returns h with what is in Found, which it empties.
func (s *Setter) Set(h core.Headers) core.Headers {
	defer func() { s.Found = s.Found[:0] }()
	switch {
	case len(s.Found) == 0:
		return h
	case s.any && h == s.from && s.same():
		return s.to
	}
	s.last = s.last[:0]
	for _, f := range s.Found {
		s.last = append(s.last, core.Header{Key: f.Key, Value: string(f.Value)})
	}
	s.all = s.all[:0]
	for k, v := range h.All() {
		s.all = append(s.all, core.Header{Key: k, Value: v})
	}
	s.all = append(s.all, s.last...)
	s.from, s.to, s.any = h, core.NewHeaders(s.all...), true
	return s.to
}

func (s *Setter) same() bool {
	if len(s.Found) != len(s.last) {
		return false
	}
	for i, f := range s.Found {
		if f.Key != s.last[i].Key || string(f.Value) != s.last[i].Value {
			return false
		}
	}
	return true
}

// Add adds a header to Found.
func (s *Setter) Add(key string, value []byte) { s.Found = append(s.Found, Found{key, value}) }

// Forget lets go of headers seen, so that a Setter that rests holds none.
func (s *Setter) Forget() {
	clear(s.last[:cap(s.last)])
	clear(s.all[:cap(s.all)])
	clear(s.Found[:cap(s.Found)])
	s.Found, s.last, s.all = s.Found[:0], s.last[:0], s.all[:0]
	s.from, s.to, s.any = core.Headers{}, core.Headers{}, false
}
