//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// TestOptionalChannelFull: the sink of the optional channel cannot write, the
// channel fills up; the required one gets every event all the same, and what is
// dropped is counted. When the sink can write again it has what was kept.
func TestOptionalChannelFull(t *testing.T) {
	const kept, batch = 50, 10 // the channel's capacity and transaction
	dir := workDir(t)
	web := port(t)
	a := newAgent(t, dir, "optional.conf", vars{"E2E_WEB": web}).start()
	spare := blocked(t, filepath.Join(dir, "spare"))
	all := lines("app", pick(500, 5000))
	for part := range slices.Chunk(all, batch) {
		if code := post("http://127.0.0.1:"+web, joined(part)); code != 200 {
			t.Fatalf("post: %d", code)
		}
	}
	need := filepath.Join(dir, "need")
	wait(t, func() bool { return countRolled(need) >= len(all) })
	if got := a.metric("millrace_source_optional_channel_dropped_total"); int(got) != len(all)-kept {
		t.Errorf("dropped and counted: %.0f, of %d lines the optional channel keeps %d", got, len(all), kept)
	}
	spare.unblock()
	wait(t, func() bool { return countRolled(spare.dir) >= kept })
	a.stop()
	same(t, "required channel", all, rolled(t, need))
	same(t, "optional channel", all[:kept], rolled(t, spare.dir))
}

// TestMultiplexing: a header of each event decides which files it gets into.
func TestMultiplexing(t *testing.T) {
	dir := workDir(t)
	web := port(t)
	a := newAgent(t, dir, "multiplexing.conf", vars{"E2E_WEB": web}).start()
	required, copies := map[string][]string{ // where they go
		"a": {"a"}, "b": {"b"}, "both": {"a", "b"}, "unknown": {"rest"}, "": {"rest"}, "none": {"rest"},
	}, map[string][]string{"b": {"rest"}}
	type event struct {
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	want := make(map[string][]string)
	for part := range slices.Chunk(lines("app", pick(600, 6000)), 60) {
		var events []event
		optional := make(map[string][]string)
		for i, text := range part {
			kind := []string{"a", "both", "b", "unknown", "", "none", "a", "a", "both"}[i%9]
			e := event{map[string]string{"kind": kind, "place": fmt.Sprint(i)}, text}
			if kind == "none" {
				delete(e.Headers, "kind")
			}
			events = append(events, e)
			for _, c := range required[kind] {
				want[c] = append(want[c], text)
			}
			for _, c := range copies[kind] {
				optional[c] = append(optional[c], text)
			}
		}
		for c, l := range optional { // as in Flume, after what the batch has for a channel that requires it
			want[c] = append(want[c], l...)
		}
		text, err := json.Marshal(events)
		must(t, err)
		if code := post("http://127.0.0.1:"+web, string(text)); code != 200 {
			t.Fatalf("post: %d", code)
		}
	}
	for c, l := range want {
		wait(t, func() bool { return countRolled(filepath.Join(dir, c)) >= len(l) })
	}
	a.stop()
	for c, l := range want {
		same(t, "channel "+c, l, rolled(t, filepath.Join(dir, c)))
	}
}
