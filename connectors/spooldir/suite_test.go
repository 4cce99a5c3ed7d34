package spooldir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core/sourcetest"
)

// flume: TestSpoolDirectorySource testLifecycle testReconfigure testSourceDoesNotDieOnFullChannel
// flume: TestReliableSpoolingFileEventReader testConsumeFileRandomlyNewFile
// flume: TestSpoolingFileLineReader testInitiallyEmptyDirectory testEmptyDirectoryAfterCommittingFile
// flume: TestSpoolingFileLineReader testBatchedReadsWithinAFile testBatchedReadsAcrossFileBoundary
func TestSuite(t *testing.T) {
	for name, extra := range map[string]map[string]string{
		"lines": {}, "small batches": {"batchSize": "7"}, "tracker": {"trackingPolicy": "tracker_dir"}, "deleted": {"deletePolicy": "immediate"},
		"joined": {"multiline.startPattern": "^event"},
	} {
		t.Run(name, func(t *testing.T) {
			var number atomic.Int64
			sourcetest.Run(t, sourcetest.Subject{
				New: Source.New, Replay: true,
				Keys: func(t testing.TB) map[string]string {
					keys := map[string]string{"spoolDir": t.TempDir(), "pollDelay": "5"}
					for k, v := range extra {
						keys[k] = v
					}
					return keys
				},
				Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
					// In the order of their names where their times are the same.
					for half := range 2 {
						part := bodies[half*len(bodies)/2 : (half+1)*len(bodies)/2]
						name := fmt.Sprintf("%06d.log", number.Add(1))
						tmp := filepath.Join(in.Keys["spoolDir"], "."+name)
						must(t, os.WriteFile(tmp, []byte(strings.Join(part, "\n")+"\n"), 0o644))
						must(t, os.Rename(tmp, filepath.Join(in.Keys["spoolDir"], name)))
					}
					return bodies
				},
			})
		})
	}
}
