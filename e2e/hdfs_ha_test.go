//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
)

// TestHDFSFailover writes into a name service of two name nodes that share their
// edits through a journal node: the active one hands over, and later dies.
func TestHDFSFailover(t *testing.T) {
	if !long() {
		t.Skip("two name nodes and a journal node are for the long form")
	}
	dir := workDir(t)
	nn := hdfs(t, 2, vars{"HDFS_HA": "1"})
	nn.uri = "hdfs://ha"
	s := newStream(t, nn, dir, "hdfs.conf", "ha", vars{"E2E_TYPE": "DataStream", "E2E_COUNT": "20000", "HADOOP_CONF_DIR": filepath.Join(nn.dir, "conf-cli")})
	s.start()
	handed, died := 0, 0
	for _, step := range []struct{ from, to string }{{"nn1", "nn2"}, {"nn2", "nn1"}, {"nn1", "nn2"}} {
		s.grow(5000)
		s.delivers("by " + step.from)
		nn.do(t, "ha", "-failover", step.from, step.to)
		handed++
		s.grow(5000)
		s.delivers("after " + step.from + " handed over")
		nn.do(t, "kill9", step.to)
		s.grow(5000)
		nn.do(t, "ha", "-transitionToActive", "--forceactive", step.from)
		died++
		s.delivers("after " + step.to + " died")
		nn.do(t, "up", step.to)
		nn.do(t, "ha", "-failover", step.from, step.to)
		s.delivers("by " + step.to + " again")
	}
	files := s.read(t)
	failed := s.metric("millrace_sink_connection_failures_total")
	s.stop()
	s.exactly(files)
	t.Logf("%d lines in %d files; handed over %d times, died %d times; %.0f files failed", s.written, len(files), handed+3, died, failed)
}
