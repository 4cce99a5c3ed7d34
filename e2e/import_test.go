//go:build e2e

package e2e

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImport: a real Flume is killed while it fills and drains a file channel of
// two directories. What Flume itself then delivers from a copy of them is what
// must be imported from another, with the checkpoint and without, and what an
// agent on the imported directories delivers.
func TestImport(t *testing.T) {
	for round := range pick(1, 5) {
		dir := workDir(t)
		theirs, ours, bare := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours"), filepath.Join(dir, "bare")
		for _, d := range []string{theirs, ours, bare} {
			must(t, os.MkdirAll(filepath.Join(d, "out"), 0o755))
		}
		killFlume(t, theirs, 1+round%3)
		for _, to := range []string{ours, bare} {
			for _, d := range []string{"data1", "data2", "checkpoint"} {
				must(t, os.CopyFS(filepath.Join(to, d), os.DirFS(filepath.Join(theirs, d))))
			}
		}
		must(t, os.RemoveAll(filepath.Join(theirs, "out")))
		must(t, os.MkdirAll(filepath.Join(theirs, "out"), 0o755))

		data := func(d string) []string { return []string{filepath.Join(d, "data1"), filepath.Join(d, "data2")} }
		_, errs, code := millrace(t, nil, append([]string{"channel", "import", "--checkpoint", filepath.Join(ours, "checkpoint")}, data(ours)...)...)
		if code != 0 {
			t.Fatalf("import: %d: %s", code, errs)
		}
		_, errs, code = millrace(t, nil, append([]string{"channel", "import", "--to", filepath.Join(bare, "new")}, data(bare)...)...)
		if code != 0 {
			t.Fatalf("import without the checkpoint: %d: %s", code, errs)
		}
		mine := bodies(t, data(ours)...)
		replayed := bodies(t, filepath.Join(bare, "new"))

		service(t, vars{"E2E_DIR": theirs}, "flume.sh", "start", "a2", "scenarios/import.conf")
		t.Cleanup(func() { _, _ = serviceErr(nil, "flume.sh", "stop", "a2") })
		wait(t, func() bool { return countRolled(filepath.Join(theirs, "out")) >= len(mine) })
		service(t, nil, "flume.sh", "stop", "a2")
		want := rolled(t, filepath.Join(theirs, "out"))
		t.Logf("round %d: Flume delivers %d events, imported %d, without the checkpoint %d", round, len(want), len(mine), len(replayed))
		if len(want) == 0 {
			t.Fatal("nothing was left to import: the test proves nothing")
		}
		// Flume gives back what was taken and not committed in no order; here all is in the order of the puts.
		slices.SortFunc(want, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
		same(t, "imported", want, mine)
		same(t, "imported without the checkpoint", want, replayed)

		// Once more does nothing, and an agent delivers it from where Flume's configuration says.
		if _, errs, code := millrace(t, nil, append([]string{"channel", "import"}, data(ours)...)...); code == 0 || !strings.Contains(errs, "no data files") {
			t.Errorf("imported twice: %d: %s", code, errs)
		}
		a := newAgent(t, ours, "import.conf", nil, "-n", "a2").start()
		wait(t, func() bool { return countRolled(filepath.Join(ours, "out")) >= len(want) })
		a.stop()
		same(t, "delivered", want, rolled(t, filepath.Join(ours, "out")))
	}
}

// killFlume lets a Flume run for some checkpoints, and kills it with events in its channel.
func killFlume(t *testing.T, dir string, files int) {
	t.Helper()
	service(t, vars{"E2E_DIR": dir}, "flume.sh", "start", "a1", "scenarios/import.conf")
	t.Cleanup(func() { _, _ = serviceErr(nil, "flume.sh", "stop", "a1") })
	wait(t, func() bool {
		logs, _ := filepath.Glob(filepath.Join(dir, "data?/log-*.meta"))
		_, err := os.Stat(filepath.Join(dir, "checkpoint/checkpoint.meta"))
		return err == nil && len(logs) >= 4+2*files && countRolled(filepath.Join(dir, "out")) > 1000
	})
	service(t, nil, "flume.sh", "kill9", "a1")
}

// bodies are the undelivered events that a channel's directories hold.
func bodies(t *testing.T, dirs ...string) []string {
	t.Helper()
	out, errs, code := millrace(t, nil, append([]string{"channel", "cat", "--format", "body"}, dirs...)...)
	if code != 0 {
		t.Fatalf("channel cat: %d: %s", code, errs)
	}
	if text, errs, code := millrace(t, nil, append([]string{"channel", "fsck"}, dirs...)...); code != 0 {
		t.Errorf("channel fsck: %d: %s%s", code, text, errs)
	}
	return split(out)
}
