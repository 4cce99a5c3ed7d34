package headers

import (
	"testing"

	"github.com/millrace/millrace/core"
)

func TestSet(t *testing.T) {
	h := core.NewHeaders(core.Header{Key: "a", Value: "old"}, core.Header{Key: "b", Value: "2"})
	var s Setter
	set := func(h core.Headers, kv ...string) core.Headers {
		for i := 0; i < len(kv); i += 2 {
			s.Add(kv[i], []byte(kv[i+1]))
		}
		return s.Set(h)
	}
	if got := set(h); got != h {
		t.Error("nothing to set makes another set")
	}
	first := set(h, "a", "1", "c", "3", "c", "4")
	want := core.NewHeaders(core.Header{Key: "a", Value: "1"}, core.Header{Key: "b", Value: "2"}, core.Header{Key: "c", Value: "4"})
	if !first.Equal(want) {
		t.Error(first)
	}
	if set(h, "a", "1", "c", "3", "c", "4") != first {
		t.Error("a run does not share its headers")
	}
	for _, kv := range [][]string{{"a", "1", "c", "3", "c", "5"}, {"a", "1"}, {"c", "1"}, {"c", "2"}} {
		got := set(h, kv...)
		if got == first || got.Value(kv[len(kv)-2]) != kv[len(kv)-1] {
			t.Error(kv, got)
		}
		first = got
	}
	if got := set(core.Headers{}, "c", "2"); got == first || got.Len() != 1 {
		t.Error("of other headers:", got)
	}
	s.Forget()
	if got := set(core.Headers{}, "c", "2"); got.Value("c") != "2" || got.Len() != 1 {
		t.Error("after Forget:", got)
	}
}

func TestAllocations(t *testing.T) {
	h := core.NewHeaders(core.Header{Key: "a", Value: "1"})
	value := []byte("same")
	var s Setter
	if n := testing.AllocsPerRun(100, func() {
		s.Add("b", value)
		s.Set(h)
	}); n > 0 {
		t.Errorf("%v allocations for an event of a run", n)
	}
}
