//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// eventSchema is that of the files of the serializer AVRO_EVENT, to the letter.
const eventSchema = `{"type":"record","name":"Event","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}`

// hdfsBodies writes events whose bodies are Avro data into Avro files, and has
// Hadoop's Avro read them.
func hdfsBodies(t *testing.T, nn nameNode, dir string) {
	const n = 3000
	schema := filepath.Join(dir, "schema.avsc")
	write(t, schema, eventSchema)
	nn.do(t, "sh", "-put", schema, "/schema.avsc")
	s := newStream(t, nn, dir, "hdfs-bodies.conf", "bodies", vars{"E2E_SCHEMA": nn.uri + "/schema.avsc"})
	home(t, filepath.Dir(s.log), "bear")
	home(t, filepath.Dir(s.log), "hash")
	s.start()
	sinks := []string{"null", "deflate", "snappy", "bzip2", "zstandard", "url"}
	for range 2 { // with a commit point after the first half, where the files are gone on with
		s.grow(n / 2)
		eventually(t, "all that was written is delivered", func() bool {
			return int(s.metric("millrace_sink_events_drained_total")) == (len(sinks)+2)*s.written
		})
	}
	s.stop()
	got := map[string][]string{}
	for _, f := range nn.read(t, s.root) {
		if f.inUse() {
			t.Errorf("%s is not finished", f.path)
		}
		for _, record := range f.lines {
			var e struct{ Body string }
			if err := json.Unmarshal([]byte(record), &e); err != nil {
				t.Fatalf("%s: %v %s", f.path, err, record)
			}
			sink := strings.Split(f.path, "/")[2]
			got[sink] = append(got[sink], e.Body)
		}
	}
	want := lines(s.writer, s.written)
	slices.Sort(want)
	for _, sink := range sinks {
		slices.Sort(got[sink]) // spooldir takes the files of a second in any order
		same(t, sink, want, got[sink])
	}
	t.Logf("%d ways to write, %d lines in each", len(sinks), s.written)
}
