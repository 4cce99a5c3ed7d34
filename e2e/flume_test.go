//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// flume starts a real Flume 1.11 on a configuration of scenarios/, as agent a1.
func flume(t *testing.T, conf string, v vars) {
	t.Helper()
	service(t, v, "flume.sh", "start", "a1", "scenarios/"+conf)
	t.Cleanup(stopFlume(t))
}

func stopFlume(t *testing.T) func() {
	return func() { service(t, nil, "flume.sh", "stop", "a1") }
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_]\w*="([^"\\]|\\.)*",?)*\})? (NaN|[+-]Inf|[0-9.eE+-]+)$`)
	metaLine   = regexp.MustCompile(`^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) .+$`)
)

// TestMonitoring: the probes answer, /metrics is what Prometheus reads, and
// Flume's JSON has the names that a real Flume has for the same configuration.
func TestMonitoring(t *testing.T) {
	dir := workDir(t)
	mon := port(t)
	env := vars{"E2E_LINES": port(t), "E2E_TCP": port(t), "E2E_JSON": port(t)}
	a := newAgent(t, dir, "monitoring.conf", env, "-Dflume.monitoring.type=http", "-Dflume.monitoring.port="+mon).start()
	for _, args := range [][]string{{"healthcheck", "--admin", a.admin}, {"healthcheck", "--admin", a.admin, "--ready"}} {
		if _, errs, code := millrace(t, nil, args...); code != 0 {
			t.Errorf("%s: exit code %d: %s", strings.Join(args, " "), code, errs)
		}
	}
	run(t, joined(lines("app", 10)), "ncat", "127.0.0.1", env["E2E_LINES"])

	text, code := a.get("/metrics")
	if code != 200 {
		t.Fatalf("/metrics: %d", code)
	}
	meta := make(map[string]bool)
	samples := 0
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if m := metaLine.FindStringSubmatch(l); m != nil {
			if meta[m[1]+m[2]] {
				t.Errorf("told twice: %s", l)
			}
			meta[m[1]+m[2]] = true
			continue
		}
		m := sampleLine.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("not a sample: %q", l)
			continue
		}
		family := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if !meta["TYPE"+family] {
				family = strings.TrimSuffix(family, suffix)
			}
		}
		if !meta["TYPE"+family] || !meta["HELP"+family] {
			t.Errorf("a sample without its type and help: %s", l)
		}
		samples++
	}
	if samples < 50 {
		t.Errorf("%d samples only:\n%s", samples, text)
	}
	if n := a.metric("millrace_source_events_received_total"); n != 10 {
		t.Errorf("%.0f events received, 10 were sent", n)
	}
	ours := names(t, mon)
	a.stop()

	theirs := filepath.Join(dir, "flume") // the same environment, other directories
	for _, d := range []string{"a", "b"} {
		must(t, os.MkdirAll(filepath.Join(theirs, d), 0o755))
	}
	env["E2E_DIR"], env["FLUME_HTTP_MON"] = theirs, mon
	flume(t, "monitoring.conf", env)
	eventually(t, "Flume shows its counters", func() bool {
		text, code := get("http://127.0.0.1:" + mon + "/metrics")
		// Its netcat source has no counters: ours has.
		return code == 200 && strings.Count(text, `"Type"`) == len(ours)-1
	})
	want := names(t, mon)
	for c := range want {
		if !slices.Equal(want[c], ours[c]) {
			t.Errorf("%s:\nFlume    %v\nMillrace %v", c, want[c], ours[c])
		}
	}
	t.Logf("%d samples for Prometheus, %d components for Flume's JSON", samples, len(want))
}

// names returns the attributes of each component in Flume's JSON.
func names(t *testing.T, port string) map[string][]string {
	t.Helper()
	text, code := get("http://127.0.0.1:" + port + "/metrics")
	var all map[string]map[string]string
	if err := json.Unmarshal([]byte(text), &all); err != nil || code != 200 {
		t.Fatalf("%d %v %s", code, err, text)
	}
	n := make(map[string][]string)
	for c, attributes := range all {
		n[c] = slices.Sorted(maps.Keys(attributes))
	}
	return n
}

// TestMigration: Flume follows files and is stopped, Millrace goes on with its
// position file and is stopped, Flume goes on with ours. The files grow while
// nobody looks, and one is rotated under Millrace's eyes: every line comes once.
func TestMigration(t *testing.T) {
	dir := workDir(t)
	app, one := filepath.Join(dir, "log/app.log"), filepath.Join(dir, "log/one.log")
	n := pick(1000, 20000)
	all := map[string][]string{app: lines("app", 6*n), one: lines("one", 6*n)}
	// grow writes the k-th sixth of both.
	grow := func(k int) {
		for file, l := range all {
			appendTo(t, file, joined(l[k*n:(k+1)*n]))
		}
	}
	outs := make([]string, 3)
	for i := range outs {
		outs[i] = filepath.Join(dir, "out", string(rune('0'+i)))
		must(t, os.MkdirAll(outs[i], 0o755))
	}
	arrived := func(sixths int) {
		t.Helper()
		wait(t, func() bool { return countRolled(outs[0])+countRolled(outs[1])+countRolled(outs[2]) >= 2*n*sixths })
	}

	grow(0)
	flume(t, "migration.conf", vars{"E2E_DIR": dir, "E2E_OUT": outs[0]})
	grow(1)
	arrived(2)
	stopFlume(t)()
	t.Logf("position file of Flume:    %s", tailOf(filepath.Join(dir, "positions.json"), 1))
	grow(2)

	a := newAgent(t, dir, "migration.conf", vars{"E2E_OUT": outs[1]}).start()
	arrived(3)
	must(t, os.Rename(app, app+".1"))
	grow(3)
	arrived(4)
	a.stop()
	t.Logf("position file of Millrace: %s", tailOf(filepath.Join(dir, "positions.json"), 1))
	grow(4)

	flume(t, "migration.conf", vars{"E2E_DIR": dir, "E2E_OUT": outs[2]})
	grow(5)
	arrived(6)

	got := make(map[string][]string)
	for _, out := range outs {
		for _, l := range rolled(t, out) {
			writer, _, ok := read(l)
			if !ok {
				t.Errorf("not a line: %.80q", l)
			}
			got[writer] = append(got[writer], l)
		}
	}
	same(t, "app.log", all[app], got["app"])
	same(t, "one.log", all[one], got["one"])
}
