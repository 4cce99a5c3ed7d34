//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// hdfsFailures takes away from a writing agent what it writes to: each data node
// in its turn, the name node by a crash and by a restart, and every right to
// write, which is HDFS's safe mode.
func hdfsFailures(t *testing.T, nn nameNode, dir string) {
	s := newStream(t, nn, dir, "hdfs.conf", "failures", vars{"E2E_TYPE": "DataStream", "E2E_COUNT": "20000"})
	s.start()
	// meanwhile lets the log grow, so that there is always something half written.
	meanwhile := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			s.grow(50)
		}
	}
	failed := func() float64 { return s.metric("millrace_sink_connection_failures_total") }
	for round := range pick(1, 5) {
		s.delivers("before the data node")
		dn := fmt.Sprint("dn", round%3+1)
		s.grow(30_000) // several blocks: one of the files is being written for sure
		meanwhile(300 * time.Millisecond)
		nn.do(t, "kill9", dn)
		meanwhile(time.Second)
		s.delivers("without " + dn)
		nn.do(t, "up", dn)

		s.delivers("before safe mode")
		nn.do(t, "admin", "-safemode", "enter")
		before := s.metric("millrace_sink_events_drained_total")
		meanwhile(2 * time.Second)
		inSafeMode := s.metric("millrace_sink_events_drained_total")
		nn.do(t, "admin", "-safemode", "leave")
		s.delivers("after safe mode")
		t.Logf("round %d: %.0f events delivered in safe mode, %.0f files failed so far", round+1, inSafeMode-before, failed())

		for _, how := range []string{"halt", "kill9"} {
			s.delivers("before the name node")
			meanwhile(200 * time.Millisecond)
			nn.do(t, how, "nn1")
			meanwhile(2 * time.Second)
			nn.do(t, "up", "nn1")
			s.delivers("after the name node was back")
		}
	}
	if failed() == 0 {
		t.Error("nothing has failed")
	}
	files := s.finished()
	s.t.Logf("%d lines in %d files, %.0f files failed", s.written, len(files), failed())
	s.stop()
	s.exactly(files)
}
