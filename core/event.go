package core

import (
	"iter"
	"slices"
)

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
	set := make([]Header, 0, len(kv))
	for _, h := range kv {
		set = put(set, h)
	}
	return Headers{&set}
}

func put(set []Header, h Header) []Header {
	for i := range set {
		if set[i].Key == h.Key {
			set[i].Value = h.Value
			return set
		}
	}
	return append(set, h)
}

// Get returns the value of key, and whether it is there.
func (h Headers) Get(key string) (string, bool) {
	if h.set != nil {
		for i := range *h.set {
			if (*h.set)[i].Key == key {
				return (*h.set)[i].Value, true
			}
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
	if v, ok := h.Get(key); ok && v == value {
		return h
	}
	set := make([]Header, 0, h.Len()+1)
	if h.set != nil {
		set = append(set, *h.set...)
	}
	set = put(set, Header{key, value})
	return Headers{&set}
}

// Without returns a set that lacks key.
func (h Headers) Without(key string) Headers {
	if _, ok := h.Get(key); !ok {
		return h
	}
	if h.Len() == 1 {
		return Headers{}
	}
	set := slices.DeleteFunc(slices.Clone(*h.set), func(kv Header) bool { return kv.Key == key })
	return Headers{&set}
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
