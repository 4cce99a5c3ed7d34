package wal

import "slices"

// Range is the sequences [From, To).
type Range struct{ From, To uint64 }

// Len returns how many sequences r holds.
func (r Range) Len() uint64 { return r.To - r.From }

// Ranges is a set of sequences: disjoint ranges in ascending order, none touching another.
type Ranges []Range

// Add puts r into the set.
func (s *Ranges) Add(r Range) {
	if r.From >= r.To {
		return
	}
	i, _ := slices.BinarySearchFunc(*s, r.From, func(x Range, from uint64) int {
		if x.To < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(*s) && (*s)[j].From <= r.To; j++ {
		r.From, r.To = min(r.From, (*s)[j].From), max(r.To, (*s)[j].To)
	}
	*s = slices.Replace(*s, i, j, r)
}

// Within returns the parts of the set that lie in r.
func (s Ranges) Within(r Range) Ranges {
	i, _ := slices.BinarySearchFunc(s, r.From, func(x Range, from uint64) int {
		if x.To <= from {
			return -1
		}
		return 1
	})
	var out Ranges
	for ; i < len(s) && s[i].From < r.To; i++ {
		out = append(out, Range{max(s[i].From, r.From), min(s[i].To, r.To)})
	}
	return out
}

// Len returns how many sequences the set holds.
func (s Ranges) Len() (n uint64) {
	for _, r := range s {
		n += r.Len()
	}
	return n
}

// Has reports whether seq is in the set.
func (s Ranges) Has(seq uint64) bool { return len(s.Within(Range{seq, seq + 1})) > 0 }

// Without returns the parts of r that are not in the set.
func (s Ranges) Without(r Range) Ranges {
	var out Ranges
	for _, x := range s.Within(r) {
		if r.From < x.From {
			out = append(out, Range{r.From, x.From})
		}
		r.From = x.To
	}
	if r.From < r.To {
		out = append(out, r)
	}
	return out
}
