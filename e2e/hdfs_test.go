//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestHDFS writes into a real HDFS of three data nodes, and Hadoop's own reader
// then finds each event once, in files with their final names.
//
// flume: TestHDFSEventSinkOnMiniCluster simpleHDFSTest simpleHDFSGZipCompressedTest
func TestHDFS(t *testing.T) {
	dir := workDir(t)
	nn := hdfs(t, 3, nil)
	t.Run("killed", func(t *testing.T) {
		for _, c := range []struct {
			name, kind, codec string
			kills             int
		}{
			{"data", "DataStream", "None", pick(3, 40)},
			{"gzip", "CompressedStream", "gzip", pick(1, 20)},
			{"records", "SequenceFile", "None", pick(1, 20)},
			{"blocks", "SequenceFile", "deflate", pick(1, 20)},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				killed(newStream(t, nn, dir, "hdfs.conf", c.name, vars{"E2E_TYPE": c.kind, "E2E_CODEC": c.codec, "E2E_COUNT": "1500"}), c.kills)
			})
		}
	})
	t.Run("types", func(t *testing.T) { hdfsTypes(t, nn, dir) })
	t.Run("bodies", func(t *testing.T) { hdfsBodies(t, nn, dir) })
	t.Run("as Flume", func(t *testing.T) { hdfsAsFlume(t, nn, dir) })
	t.Run("failures", func(t *testing.T) { hdfsFailures(t, nn, dir) })
	t.Run("replicas", func(t *testing.T) { nn.replicas(t, 3) })
}

// TestHDFSLateReports has data nodes that tell late what they have got: a file
// that is gone on with must not leave one of its replicas behind.
func TestHDFSLateReports(t *testing.T) {
	if !long() {
		t.Skip("another cluster is for the long form")
	}
	nn := hdfs(t, 3, vars{"HDFS_REPORT": "700"})
	s := newStream(t, nn, workDir(t), "hdfs.conf", "late", vars{"E2E_TYPE": "DataStream"})
	s.start()
	for range 30 {
		s.delivers("late reports")
		s.grow(500)
	}
	files := s.finished()
	s.stop()
	s.exactly(files)
	t.Logf("%d lines in %d files", s.written, len(files))
	nn.replicas(t, 3)
}

// killed ends the agent so many times as a crash does, each time in another
// moment of writing, closing and renaming. A file that once had its final name
// stays as it was.
func killed(s *stream, kills int) {
	final := map[string]int64{}
	empty, begun := 0, 0 // files in use that a kill left, without and with something confirmed
	known := map[string]bool{}
	look := func() {
		var files []stored
		eventually(s.t, "the name node answers", func() (ok bool) {
			files, ok = s.nn.list(s.t, s.root)
			return ok
		})
		seen := map[string]bool{}
		for _, f := range files {
			switch {
			case !f.inUse():
				if was, ok := final[f.path]; ok && was != f.length {
					s.t.Errorf("%s had %d bytes and has %d", f.path, was, f.length)
				}
				final[f.path], seen[f.path] = f.length, true
			case known[f.path]:
			case f.length == 0:
				known[f.path] = true
				empty++
			default:
				known[f.path] = true
				begun++
			}
		}
		for path := range final {
			if !seen[path] {
				s.t.Errorf("%s was finished, and is gone", path)
			}
		}
	}
	s.start()
	for k := range kills {
		s.grow(pick(3000, 6000))
		if k%3 != 0 { // the others may be killed before anything is delivered
			s.delivers(fmt.Sprint("after kill ", k))
			s.grow(3000)
		}
		// The moment is what is random here; nothing waits for it.
		time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
		s.kill9()
		look()
		s.start()
	}
	s.grow(1000)
	files := s.finished()
	look()
	s.stop()
	s.exactly(files)
	s.t.Logf("%d kills, %d lines in %d files; kills left %d files in use with nothing confirmed in them and %d with something", kills, s.written, len(files), empty, begun)
	for _, f := range files {
		if !strings.HasPrefix(f.path, s.root+"/events/") || f.inUse() {
			s.t.Errorf("%s is not a name of a finished file", f.path)
		}
	}
}
