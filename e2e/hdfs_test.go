//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHDFS writes into a real HDFS, is killed in the middle some times, and
// Hadoop's own shell then reads each event exactly once, from finished files
// only. A file whose writer was killed is locked by HDFS for a minute: the test
// waits for that.
//
// flume: TestHDFSEventSinkOnMiniCluster simpleHDFSTest simpleHDFSGZipCompressedTest
func TestHDFS(t *testing.T) {
	dir := workDir(t)
	nn := hdfs(t)
	for i, c := range []struct{ kind, codec string }{
		{"DataStream", "None"},
		{"CompressedStream", "gzip"},
		{"SequenceFile", "None"},
		{"CompressedStream", "bzip2"},
		{"SequenceFile", "deflate"},
	} {
		t.Run(c.kind+" "+c.codec, func(t *testing.T) {
			root := fmt.Sprintf("/e2e%d", i)
			kills := 0
			if i < 3 {
				kills = pick(2, 6)
			}
			dir := filepath.Join(dir, fmt.Sprint(i))
			write(t, filepath.Join(dir, "app.log"), "")
			a := newAgent(t, dir, "hdfs.conf", vars{"E2E_HDFS": nn.uri + root, "E2E_TYPE": c.kind, "E2E_CODEC": c.codec})
			a.start()
			n := 0
			grow := func(lines int) {
				var text strings.Builder
				for range lines {
					n++
					fmt.Fprintf(&text, "%s\n", line("hdfs", n))
				}
				appendTo(t, filepath.Join(dir, "app.log"), text.String())
			}
			for range kills {
				grow(pick(20000, 100000))
				before := a.metric("millrace_sink_events_drained_total")
				eventually(t, "something is delivered", func() bool {
					grow(500)
					return a.metric("millrace_sink_events_drained_total") > before
				})
				a.kill9()
				a.start()
			}
			grow(5000)
			var files []string
			end := time.Now().Add(4 * time.Minute)
			for {
				files = nn.files(t, root)
				if len(files) > 0 && !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, ".tmp") }) {
					if got := nn.lines(t, root); len(got) >= n {
						break
					}
				}
				if time.Now().After(end) {
					t.Fatalf("not finished: %q", files)
				}
				time.Sleep(time.Second) // each look starts a JVM
			}
			a.stop()
			got := nn.lines(t, root)
			t.Logf("%d lines in %d files, %d kills", len(got), len(files), kills)
			want := map[string]bool{}
			for i := 1; i <= n; i++ {
				want[line("hdfs", i)] = true
			}
			for _, l := range got {
				// Of a SequenceFile the shell shows key, tab, value.
				if _, value, ok := strings.Cut(l, "\t"); ok && c.kind == "SequenceFile" {
					l = value
				}
				if !want[l] {
					t.Fatalf("twice, or never written: %q", l)
				}
				delete(want, l)
			}
			if len(want) > 0 {
				t.Errorf("%d lines of %d are missing", len(want), n)
			}
		})
	}
}

// nameNode is a running HDFS.
type nameNode struct{ name, uri string }

func hdfs(t *testing.T) nameNode {
	name := fmt.Sprint("n", os.Getpid())
	// Five ports in a row.
	first := 21000 + time.Now().Nanosecond()%800*10
	daemon(t, nil, "hdfs.sh", "start", name, fmt.Sprint(first))
	return nameNode{name, fmt.Sprintf("hdfs://localhost:%d", first)}
}

// shell runs the file system shell of Hadoop.
func (n nameNode) shell(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("bash", append([]string{"services/hdfs.sh", "sh", n.name}, args...)...).Output()
	must(t, err)
	return string(out)
}

func (n nameNode) files(t *testing.T, root string) (list []string) {
	for l := range strings.Lines(n.shell(t, "-ls", "-R", root)) {
		if f := strings.Fields(l); len(f) == 8 && f[0][0] == '-' {
			list = append(list, f[7])
		}
	}
	return list
}

// lines are those of all finished files, as hdfs dfs -text shows them.
func (n nameNode) lines(t *testing.T, root string) []string {
	return strings.Split(strings.TrimSuffix(n.shell(t, "-text", root+"/events/*/*"), "\n"), "\n")
}
