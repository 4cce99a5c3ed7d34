package core

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// model is a set of headers in its simplest form.
func model(kv []Header) (set []Header) {
	for _, h := range kv {
		if i := slices.IndexFunc(set, func(o Header) bool { return o.Key == h.Key }); i >= 0 {
			set[i].Value = h.Value
		} else {
			set = append(set, h)
		}
	}
	return set
}

func list(h Headers) (kv []Header) {
	for k, v := range h.All() {
		kv = append(kv, Header{k, v})
	}
	return kv
}

// Sets of every size, with every share of keys that are there twice, hold what
// the model says, and so do those made of them.
func TestHeaders(t *testing.T) {
	for n := range 70 {
		for _, keys := range []int{1, 3, 40, 1000} {
			var kv []Header
			for i := range n {
				kv = append(kv, Header{"k" + strconv.Itoa(i*7%keys), strconv.Itoa(i)})
			}
			given := slices.Clone(kv)
			h := NewHeaders(kv...)
			want := model(kv)
			if got := list(h); !slices.Equal(got, want) {
				t.Fatalf("%v: got %v, want %v", kv, got, want)
			}
			if !slices.Equal(kv, given) {
				t.Fatalf("the headers given have changed to %v", kv)
			}
			with := h.With("k0", "new").With("other", "x")
			if got, want := list(with), model(append(slices.Clone(want), Header{"k0", "new"}, Header{"other", "x"})); !slices.Equal(got, want) {
				t.Fatalf("with: got %v, want %v", got, want)
			}
			without := with.Without("k0")
			if got, want := list(without), slices.DeleteFunc(list(with), func(h Header) bool { return h.Key == "k0" }); !slices.Equal(got, want) {
				t.Fatalf("without: got %v, want %v", got, want)
			}
			if got := list(h); !slices.Equal(got, want) {
				t.Fatalf("the set has changed to %v, was %v", got, want)
			}
		}
	}
	if h := NewHeaders(Header{"a", "1"}); h.With("a", "1") != h || h.Without("b") != h || h.Without("a") != (Headers{}) {
		t.Error("a change that is none makes another set")
	}
}

func TestEqualHeaders(t *testing.T) {
	a := NewHeaders(Header{"a", "1"}, Header{"b", "2"})
	b := NewHeaders(Header{"b", "2"}, Header{"a", "1"})
	if !a.Equal(b) || a == b || a.Equal(b.With("a", "2")) || a.Equal(b.Without("a")) || a.Equal(b.Without("a").With("c", "1")) {
		t.Error("two sets are equal when they hold the same, in any order")
	}
}

// One allocation a set: it is made anew for each message whose time differs.
func TestHeadersAllocate(t *testing.T) {
	for _, n := range []int{1, 2, 3, 6, 9, 12} {
		kv := numbered(n)
		var h Headers
		if got := testing.AllocsPerRun(100, func() { h = NewHeaders(kv...) }); got != 1 {
			t.Errorf("%d headers: %v allocations", n, got)
		}
		if got := testing.AllocsPerRun(100, func() { _ = h.With("k0", "x") }); got != 1 {
			t.Errorf("%d headers, one replaced: %v allocations", n, got)
		}
	}
}

func numbered(n int) (kv []Header) {
	for i := range n {
		kv = append(kv, Header{fmt.Sprintf("k%d", i), "v"})
	}
	return kv
}

func BenchmarkNewHeaders(b *testing.B) {
	syslog := []Header{
		{"Facility", "1"}, {"Severity", "5"}, {"priority", "13"}, {"version", "1"}, {"timestamp", "1795362232117"}, {"host", "h"},
	}
	for _, bb := range []struct {
		name string
		kv   []Header
	}{{"1", numbered(1)}, {"syslog", syslog}, {"12", numbered(12)}, {"64", numbered(64)}, {"256", numbered(256)}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				kept = NewHeaders(bb.kv...)
			}
		})
	}
}

var kept Headers
