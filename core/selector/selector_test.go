package selector

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

var channels = []string{"ch1", "ch2", "ch3"}

// TestCases runs testdata/<selector>.txt: a title, keys (commas for blanks),
// then per line a header value and the required / optional channels.
func TestCases(t *testing.T) {
	for name, typ := range map[string]core.Type[core.Selector]{"replicating": Replicating, "multiplexing": Multiplexing} {
		f, err := os.Open("testdata/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var title, header string
		var sel core.Selector
		for sc := bufio.NewScanner(f); sc.Scan(); {
			line := sc.Text()
			value, want, isCase := strings.Cut(strings.TrimSpace(line), " -> ")
			switch {
			case line == "", strings.HasPrefix(line, "#"):
			case !strings.HasPrefix(line, "  "):
				title = line
			case !isCase && !strings.HasSuffix(value, "->"):
				sel, header = open(t, typ, value)
			default:
				if got := sent(sel, header, value); got != strings.TrimSpace(want) {
					t.Errorf("%s: %s: %s goes to %q, want %q", name, title, value, got, want)
				}
			}
		}
	}
}

func open(t *testing.T, typ core.Type[core.Selector], keys string) (sel core.Selector, header string) {
	t.Helper()
	header = "flume.selector.header"
	props := make(map[string]string)
	for kv := range strings.FieldsSeq(keys) {
		if k, v, ok := strings.Cut(kv, "="); ok {
			props[k] = strings.ReplaceAll(v, ",", " ")
			if k == "header" {
				header = v
			}
		}
	}
	sel = typ.New()
	if _, faults := conf.BindMembers(sel, channels, props); len(faults) > 0 {
		t.Fatalf("%s: %v", keys, faults)
	}
	if err := sel.Open(context.Background(), core.Env{}); err != nil {
		t.Fatal(err)
	}
	return sel, header
}

// sent sends one event between two others, so that runs of events are seen too.
func sent(sel core.Selector, header, value string) string {
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(core.Header{Key: header, Value: value})
	switch value {
	case "(none)":
		h = core.Headers{}
	case "(blank)":
		h = core.NewHeaders(core.Header{Key: header, Value: "  "})
	}
	b.Append(core.NewHeaders(core.Header{Key: header, Value: "other"}), nil)
	b.Append(h, nil)
	r := core.NewRoutes(len(channels))
	sel.Select(b, r)
	side := func(optional bool) string {
		var to []string
		for c, name := range channels {
			pick := r.Picked(c, optional)
			if pick == nil || len(pick) > 0 && pick[len(pick)-1] == 1 {
				to = append(to, name)
			}
		}
		return strings.Join(to, " ")
	}
	return strings.TrimSpace(side(false) + " / " + side(true))
}

func TestUnknownChannels(t *testing.T) {
	for typ, keys := range map[*core.Type[core.Selector]]map[string]string{
		&Replicating:  {"optional": "ch1 nowhere"},
		&Multiplexing: {"default": "ch1", "mapping.x": "nowhere", "optional.y": "nowhere"},
	} {
		_, faults := conf.BindMembers(typ.New(), channels, keys)
		if faults.HasErrors() != (typ == &Multiplexing) || len(faults) == 0 || !strings.Contains(faults[0].String(), `"nowhere" is not a channel of this source`) {
			t.Errorf("%s: %v", typ.Name, faults)
		}
	}
}

// Events that a required channel does not take are not taken; an optional one is asked and no more.
//
// flume: TestReplicatingChannelSelector testReplicatingSelector
func TestRequired(t *testing.T) {
	sel, _ := open(t, Multiplexing, "mapping.a=ch1 optional.a=ch2")
	for c, want := range []bool{true, false, false} {
		if got := sel.Required(c); got != want {
			t.Errorf("%s required: %v", channels[c], got)
		}
	}
	sel, _ = open(t, Replicating, "optional=ch2")
	for c, want := range []bool{true, false, true} {
		if got := sel.Required(c); got != want {
			t.Errorf("replicating: %s required: %v", channels[c], got)
		}
	}
}

// spread sends n events in one batch and gives the channel of each, by its place, and -1 for none or several.
func spread(sel core.Selector, n int) []int {
	b := core.NewBatch()
	defer b.Release()
	to := make([]int, n)
	for i := range n {
		b.Append(core.Headers{}, nil)
		to[i] = -1
	}
	r := core.NewRoutes(len(channels))
	sel.Select(b, r)
	for c := range channels {
		for _, i := range r.Picked(c, false) {
			if to[i] >= 0 {
				return []int{-1}
			}
			to[i] = c
		}
		if len(r.Picked(c, true)) > 0 {
			return []int{-1}
		}
	}
	return to
}

// Flume's testLoadBalancingSelector: one required channel an event, in turn, and the turn outlives the batch.
//
// flume: TestLoadBalancingChannelSelector testLoadBalancingSelector
func TestLoadBalancing(t *testing.T) {
	sel, _ := open(t, LoadBalancing, "")
	for _, want := range [][]int{{0}, {1, 2, 0, 1}, {}, {2, 0}} {
		if got := spread(sel, len(want)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	sel, _ = open(t, LoadBalancing, "policy=random")
	seen := make(map[int]int)
	for _, c := range spread(sel, 3000) {
		seen[c]++
	}
	for c := range channels {
		if seen[c] < 700 { // 14 standard deviations below the mean
			t.Errorf("random: %v", seen)
		}
		if !sel.Required(c) {
			t.Errorf("channel %d may be required", c)
		}
	}
	_, faults := conf.BindMembers(LoadBalancing.New(), channels, map[string]string{"policy": "com.example.Weighted"})
	if len(faults) != 1 || !strings.Contains(faults[0].Text, `"com.example.Weighted" must be one of ROUND_ROBIN, RANDOM`) {
		t.Error(faults)
	}
}

// One channel takes whole batches, as with the other selectors.
func TestLoadBalancingOne(t *testing.T) {
	sel := LoadBalancing.New()
	if _, faults := conf.BindMembers(sel, channels[:1], nil); len(faults) > 0 {
		t.Fatal(faults)
	}
	b := core.NewBatch()
	defer b.Release()
	b.Append(core.Headers{}, nil)
	r := core.NewRoutes(1)
	sel.Select(b, r)
	if r.Picked(0, false) != nil {
		t.Error("the batch is sent in parts")
	}
}

func BenchmarkLoadBalancing(b *testing.B) {
	sel := LoadBalancing.New()
	if _, faults := conf.BindMembers(sel, channels, nil); len(faults) > 0 {
		b.Fatal(faults)
	}
	batch := core.NewBatch()
	for range 1000 {
		batch.Append(core.Headers{}, nil)
	}
	b.ReportAllocs() // those are the routes'
	for b.Loop() {
		sel.Select(batch, core.NewRoutes(len(channels)))
	}
}
