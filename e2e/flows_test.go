//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// The flows of Flume's user guide, over Avro and channels on disk, with agents
// that are killed in the middle: nothing is lost, and what comes twice are
// batches that were not answered, or whose answers the channel had not noted.

// ahead is how many batches a Millrace may have on the way to another one.
const ahead = 8

// runs counts where in a list lines begin that were in it before.
func runs(got []string) (n int) {
	seen := make(map[string]bool, len(got))
	again := false
	for _, l := range got {
		if seen[l] && !again {
			n++
		}
		again = seen[l]
		seen[l] = true
	}
	return n
}

// home makes the directory of an agent whose files lie in dir.
func home(t *testing.T, dir, name string) string {
	t.Helper()
	h := filepath.Join(dir, name)
	must(t, os.MkdirAll(h, 0o755))
	return h
}

// TestHops: three agents in a row, of which the middle one is killed and comes back.
func TestHops(t *testing.T) {
	const batch = 20   // of the sinks in scenarios/hops.conf
	const noted = 1000 // more than a sink sends in 20 ms on the machines that there are
	for _, x := range []struct {
		name         string
		ends, middle bool // a Flume
		n, kills     int
		// Lines that may come twice when the middle is killed: those from the first to it that were not answered, those from
		// it to the last, and of a Millrace those that were answered within the 20 ms before, which its channel had not noted.
		most int
	}{
		{"Millrace throughout", false, false, pick(40000, 200000), pick(2, 8), 2*ahead*batch + noted},
		{"a Flume in the middle of Millraces", false, true, pick(3000, 15000), 1, 2 * batch},
		{"a Millrace in the middle of Flumes", true, false, pick(3000, 15000), pick(2, 5), 2*batch + noted},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := workDir(t)
			out := home(t, dir, "out")
			v := vars{"E2E_DIR": dir, "E2E_MIDDLE": port(t), "E2E_LAST": port(t)}
			sent := lines("hops", x.n)
			in := filepath.Join(dir, "in/lines.log")
			write(t, in, joined(sent[:x.n/2]))
			begin := func(name, listens string, isFlume bool) (kill, back func()) {
				if isFlume {
					start := func() { startFlume(t, v, name, "hops.conf", listens) }
					start()
					return func() { service(t, nil, "flume.sh", "kill9", name) }, start
				}
				a := newAgent(t, home(t, dir, name), "hops.conf", v, "-n", name).start()
				return a.kill9, func() { a.start() }
			}
			begin("a3", v["E2E_LAST"], x.ends)
			kill, back := begin("a2", v["E2E_MIDDLE"], x.middle)
			if x.ends {
				flume(t, "hops.conf", v)
			} else {
				begin("a1", "", false)
			}
			for round := range x.kills {
				flow(t, out, x.n/10*(round+1))
				kill()
				if round == 0 {
					appendTo(t, in, joined(sent[x.n/2:]))
				}
				back()
			}
			got := complete(t, sent, out)
			again(t, sent, got, x.kills*x.most)
			// What was not answered, and what was and is not yet noted, comes again in one piece each.
			if n := runs(got); n > 2*x.kills {
				t.Errorf("%d times lines came again, after %d kills", n, x.kills)
			}
		})
	}
}

// TestConsolidation: twenty agents send to two collectors, of which the first is
// killed in the middle and comes back.
func TestConsolidation(t *testing.T) {
	const batch = 10 // of the sinks in scenarios/consolidate.conf
	each := pick(1000, 10000)
	for _, group := range []string{"balance", "failover"} {
		t.Run(group, func(t *testing.T) {
			dir := workDir(t)
			v := vars{"E2E_ONE": port(t), "E2E_TWO": port(t)}
			var collectors []*agent
			var outs []string
			for i, p := range []string{v["E2E_ONE"], v["E2E_TWO"]} {
				h := home(t, dir, fmt.Sprintf("collector%d", i))
				outs = append(outs, home(t, h, "out"))
				collectors = append(collectors, newAgent(t, h, "consolidate.conf", vars{"E2E_ONE": p}, "-n", "collector").start())
			}
			var sent []string
			var rest []func()
			for i := range 20 {
				h := home(t, dir, "agent"+strconv.Itoa(i))
				mine := lines("agent"+strconv.Itoa(i), each)
				sent = append(sent, mine...)
				in := filepath.Join(h, "in/lines.log")
				write(t, in, joined(mine[:each/2]))
				rest = append(rest, func() { appendTo(t, in, joined(mine[each/2:])) })
				newAgent(t, h, "consolidate.conf", v, "-n", group).spawn()
			}
			arrived := func() (n int) {
				for _, out := range outs {
					n += countRolled(out)
				}
				return n
			}
			eventually(t, "a tenth is there", func() bool { return arrived() >= len(sent)/10 })
			before := countRolled(outs[0])
			collectors[0].kill9()
			for _, more := range rest[:10] {
				more()
			}
			second := countRolled(outs[1])
			flow(t, outs[1], second+len(sent)/5)
			collectors[0].start()
			for _, more := range rest[10:] {
				more()
			}
			got := complete(t, sent, outs...)
			again(t, sent, got, 20*ahead*batch)
			if before == 0 || countRolled(outs[0]) <= before {
				t.Errorf("the first collector has %d lines, %d before it was killed", countRolled(outs[0]), before)
			}
		})
	}
}

// TestFanOut: an agent replicates to two others, of which one multiplexes and is
// killed in the middle, and the other replicates again.
func TestFanOut(t *testing.T) {
	const batch = 20 // of the sinks in scenarios/fanout.conf
	dir := workDir(t)
	v := vars{"E2E_DIR": dir, "E2E_WEB": port(t), "E2E_LEFT": port(t), "E2E_RIGHT": port(t)}
	out := func(name string) string { return home(t, dir, "out/"+name) }
	for _, name := range []string{"a", "b", "rest", "x", "y"} {
		out(name)
	}
	var agents []*agent
	for _, name := range []string{"a3", "a2", "a1"} {
		agents = append(agents, newAgent(t, home(t, dir, name), "fanout.conf", v, "-n", name).start())
	}
	type event struct {
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	all := lines("fan", pick(6000, 60000))
	want := map[string][]string{"x": all, "y": all}
	parts := slices.Collect(slices.Chunk(all, 60))
	for i, part := range parts {
		var events []event
		for j, l := range part {
			kind := []string{"a", "b", "both", "unknown"}[j%4]
			events = append(events, event{map[string]string{"kind": kind}, l})
			for _, c := range map[string][]string{"a": {"a"}, "b": {"b"}, "both": {"a", "b"}, "unknown": {"rest"}}[kind] {
				want[c] = append(want[c], l)
			}
		}
		text, err := json.Marshal(events)
		must(t, err)
		if code := post("http://127.0.0.1:"+v["E2E_WEB"], string(text)); code != 200 {
			t.Fatalf("post: %d", code)
		}
		switch i {
		case len(parts) / 3:
			flow(t, out("a"), 1)
			agents[1].kill9()
		case 2 * len(parts) / 3:
			agents[1].start()
		}
	}
	for _, name := range []string{"a", "b", "rest"} {
		again(t, want[name], complete(t, want[name], out(name)), ahead*batch)
	}
	for _, name := range []string{"x", "y"} { // nobody on their way was killed
		same(t, name, want[name], complete(t, want[name], out(name)))
	}
}
