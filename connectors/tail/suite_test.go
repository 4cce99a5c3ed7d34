package tail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/sourcetest"
)

// flume: TestTaildirEventReader testInitiallyEmptyDirAndBehaviorAfterReadingAll testBasicCommitFailure
// flume: TestTaildirEventReader testBasicCommitFailureAndBatchSizeChanges
// flume: TestTaildirSource testLifecycle
// flume: TestTaildirMatcher testEmtpyDirMatching testNoMatching
func TestSuite(t *testing.T) {
	for name, batch := range map[string]string{"batch 100": "100", "batch 7": "7"} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Subject{
				New: Source.New, Replay: true,
				Keys: func(t testing.TB) map[string]string {
					dir := t.TempDir()
					return map[string]string{
						"filegroups": "g", "filegroups.g": dir + `/.*\.log`, "batchSize": batch,
						"positionFile": filepath.Join(dir, "pos", "p.json"), "pollInterval": "5", "writePosInterval": "20",
					}
				},
				Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
					path := filepath.Join(filepath.Dir(in.Keys["filegroups.g"]), "a.log")
					f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					if _, err := f.WriteString(strings.Join(bodies, "\n") + "\n"); err != nil {
						t.Fatal(err)
					}
					return bodies
				},
			})
		})
	}
}
