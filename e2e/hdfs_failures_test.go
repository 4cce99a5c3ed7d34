//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hdfsFailures takes away from a writing agent what it writes to: each data node
// in its turn, the name node by a crash and by a restart, and every right to
// write, which is HDFS's safe mode.
func hdfsFailures(t *testing.T, nn nameNode, dir string) {
	s := newStream(t, nn, dir, "hdfs.conf", "failures", vars{"E2E_TYPE": "DataStream", "E2E_COUNT": "20000"})
	s.start()
	// while does something with the cluster, and lets the log grow all the time, so
	// that there is always something half written.
	while := func(what string, args ...string) {
		t.Helper()
		done := make(chan string)
		go func() {
			out, err := serviceErr(nil, "hdfs.sh", append([]string{what, nn.name}, args...)...)
			if err == nil {
				out = ""
			}
			done <- out
		}()
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case out := <-done:
				if out != "" {
					t.Fatalf("hdfs.sh %s %v: %s", what, args, out)
				}
				return
			case <-every.C:
				s.grow(300)
			}
		}
	}
	failed := func() float64 { return s.metric("millrace_sink_connection_failures_total") }
	for round := range pick(1, 3) {
		s.delivers("before the data node")
		dn := fmt.Sprint("dn", round%3+1)
		before := failed()
		while("kill9", dn)
		s.delivers("without " + dn)
		eventually(t, "a file has failed with its data node", func() bool {
			s.grow(100)
			return failed() > before
		})
		s.delivers("without " + dn + ", once more")
		while("up", dn)

		s.delivers("before safe mode")
		while("admin", "-safemode", "enter")
		while("admin", "-safemode", "get") // takes its time
		while("admin", "-safemode", "leave")
		s.delivers("after safe mode")

		for _, how := range []string{"kill9", "halt"}[:pick(1, 2)] {
			s.delivers("before the name node")
			while(how, "nn1")
			while("up", "nn1")
			s.delivers("after the name node was back")
		}
		t.Logf("round %d: %d lines written, %.0f files failed so far", round+1, s.written, failed())
	}
	files := s.finished()
	s.t.Logf("%d lines in %d files, %.0f files failed", s.written, len(files), failed())
	s.stop()
	s.exactly(files)
}

// TestHDFSCutStalls kills the data node that cuts what a dead agent's file has too
// much, while it waits for the other two: HDFS does not begin anew by itself.
func TestHDFSCutStalls(t *testing.T) {
	if !long() {
		t.Skip("another cluster is for the long form")
	}
	nn := hdfs(t, 3, nil)
	s := newStream(t, nn, workDir(t), "hdfs.conf", "cut", vars{"E2E_TYPE": "DataStream"})
	inUse := func() (f stored) {
		files, ok := nn.list(t, s.root)
		if !ok {
			t.Fatal("the name node does not answer")
		}
		for _, f = range files {
			if f.inUse() && f.length > 0 {
				return f
			}
		}
		return stored{}
	}
	for try, found := 0, false; !found; try++ {
		if try == 20 {
			t.Fatal("no kill left a file that is longer than what was confirmed")
		}
		s.start()
		s.delivers("before the kill")
		for range 5 + try {
			s.grow(2000)
			time.Sleep(50 * time.Millisecond) // that it goes out between two commit points
		}
		s.kill9()
		if f := inUse(); f.length > 0 {
			nn.do(t, "debug", "recoverLease", "-path", f.path, "-retries", "20")
			found = inUse().length > f.length
		}
	}
	commands := func() int {
		text, err := os.ReadFile(filepath.Join(runDir(), "hdfs-"+nn.name+"-dn3.log"))
		must(t, err)
		return strings.Count(string(text), "calls recoverBlock")
	}
	nn.do(t, "freeze", "dn1")
	nn.do(t, "freeze", "dn2")
	before := commands()
	time.Sleep(2500 * time.Millisecond) // some heartbeats: the name node gives the work to who sent the last one
	s.start()
	eventually(t, "the third data node is to cut the file", func() bool { return commands() > before })
	began := time.Now()
	nn.do(t, "kill9", "dn3")
	nn.do(t, "thaw", "dn1")
	nn.do(t, "thaw", "dn2")
	nn.do(t, "up", "dn3")
	files := s.finished()
	t.Logf("%d lines in %d files, %.0f s after the data node died", s.written, len(files), time.Since(began).Seconds())
	s.stop()
	s.exactly(files)
}
