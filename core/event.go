package core

import "iter"

// Event is one record on its way: headers for routing, a body for the far end.
type Event struct {
	Headers Headers // immutable, may be shared by any number of events
	Body    []byte  // memory of the batch; read-only once the batch is put
	Pos     int64   // end of the event in its batch's stream; 0 where the source keeps no positions
}

// Header is one name and its value.
type Header struct{ Key, Value string }

// Headers is an immutable set of headers in the order they were added. The
// zero value is empty. Two equal Headers values (==) are the same set, which is
// how runs of events with shared headers are recognised.
type Headers struct{ set *[]Header }

// NewHeaders makes a set of kv; of two headers with one key the later wins. It keeps no reference to kv.
func NewHeaders(kv ...Header) Headers {
	if len(kv) == 0 {
		return Headers{}
	}
	set := newSet(len(kv))
	var seen keySet
	var index map[string]int // of many keys; made when first needed
	for i := range kv {
		at := -1
		switch {
		case !seen.add(kv[i].Key): // as nearly always
		case len(*set) <= listed:
			at = find(*set, kv[i].Key)
		default:
			if index == nil {
				index = make(map[string]int, len(kv))
			}
			for n := len(index); n < len(*set); n++ {
				index[(*set)[n].Key] = n
			}
			if n, ok := index[kv[i].Key]; ok {
				at = n
			}
		}
		if at >= 0 {
			(*set)[at].Value = kv[i].Value
		} else {
			*set = append(*set, kv[i])
		}
	}
	return Headers{set}
}

// listed is up to how many headers a set is looked through from its front.
const listed = 32

// keySet tells keys that are surely new from those that may not be: a Bloom
// filter with one hash. It makes a set of n distinct keys without n² comparisons.
type keySet [4]uint64

// add adds key and reports whether it may have been there.
func (s *keySet) add(key string) bool {
	h := uint32(len(key))
	if n := len(key); n > 0 {
		h = h*31 + uint32(key[0])
		h = h*31 + uint32(key[n/2])
		h = h*31 + uint32(key[n-1])
	}
	h *= 0x9E3779B1
	word, bit := &s[h>>30], uint64(1)<<(h>>24&63)
	there := *word&bit != 0
	*word |= bit
	return there
}

// newSet makes room for n headers, in one allocation with the slice that says
// so: the sizes here waste little in the allocator's own. Larger ones take two.
func newSet(n int) *[]Header {
	switch {
	case n == 1:
		s := new(struct {
			list  []Header
			array [1]Header
		})
		s.list = s.array[:0]
		return &s.list
	case n == 2:
		s := new(struct {
			list  []Header
			array [2]Header
		})
		s.list = s.array[:0]
		return &s.list
	case n <= 4:
		s := new(struct {
			list  []Header
			array [4]Header
		})
		s.list = s.array[:0]
		return &s.list
	case n <= 6:
		s := new(struct {
			list  []Header
			array [6]Header
		})
		s.list = s.array[:0]
		return &s.list
	case n <= 8:
		s := new(struct {
			list  []Header
			array [8]Header
		})
		s.list = s.array[:0]
		return &s.list
	case n <= 12:
		s := new(struct {
			list  []Header
			array [12]Header
		})
		s.list = s.array[:0]
		return &s.list
	}
	list := make([]Header, 0, n)
	return &list
}

// find returns where key is in set; below 0: nowhere.
func find(set []Header, key string) int {
	for i := range set {
		if set[i].Key == key {
			return i
		}
	}
	return -1
}

// Get returns the value of key, and whether it is there.
func (h Headers) Get(key string) (string, bool) {
	if h.set != nil {
		if i := find(*h.set, key); i >= 0 {
			return (*h.set)[i].Value, true
		}
	}
	return "", false
}

// Value returns the value of key, empty where there is none.
func (h Headers) Value(key string) string {
	v, _ := h.Get(key)
	return v
}

// Len returns how many headers there are.
func (h Headers) Len() int {
	if h.set == nil {
		return 0
	}
	return len(*h.set)
}

// All yields the headers in order.
func (h Headers) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if h.set == nil {
			return
		}
		for _, kv := range *h.set {
			if !yield(kv.Key, kv.Value) {
				return
			}
		}
	}
}

// With returns a set that also has key, replacing a value that is there.
func (h Headers) With(key, value string) Headers {
	v, there := h.Get(key)
	if there && v == value {
		return h
	}
	n := h.Len()
	if !there {
		n++
	}
	set := newSet(n)
	if h.set != nil {
		*set = append(*set, *h.set...)
	}
	if there {
		(*set)[find(*set, key)].Value = value
	} else {
		*set = append(*set, Header{key, value})
	}
	return Headers{set}
}

// Without returns a set that lacks key.
func (h Headers) Without(key string) Headers {
	if _, ok := h.Get(key); !ok {
		return h
	}
	if h.Len() == 1 {
		return Headers{}
	}
	at := find(*h.set, key)
	set := newSet(h.Len() - 1)
	*set = append(append(*set, (*h.set)[:at]...), (*h.set)[at+1:]...)
	return Headers{set}
}

// Equal reports whether both have the same headers, in any order.
func (h Headers) Equal(o Headers) bool {
	if h == o {
		return true
	}
	if h.Len() != o.Len() {
		return false
	}
	for k, v := range h.All() {
		if w, ok := o.Get(k); !ok || v != w {
			return false
		}
	}
	return true
}
