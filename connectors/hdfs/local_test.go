package hdfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// openLocal opens the sink, as it is in the catalogue, on a file: path.
func openLocal(t testing.TB, dir string, keys map[string]string) *sinktest.Instance {
	t.Helper()
	all := map[string]string{
		"hdfs.path": "file://" + dir, "hdfs.rollCount": "0", "hdfs.rollSize": "0", "hdfs.rollInterval": "0", "hdfs.commitInterval": "0",
	}
	for k, v := range keys {
		all[k] = v
	}
	return sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: all} }})
}

// contents are those of the files in a directory, by their names.
func contents(t testing.TB, dir string) (list [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// flume: TestHDFSEventSink testTextBatchAppendRawFS
func TestLocalFiles(t *testing.T) {
	dir := t.TempDir()
	in := openLocal(t, dir, map[string]string{"hdfs.fileType": "DataStream", "hdfs.rollCount": "10"})
	in.Deliver(suite.Bodies(0, 100))
	in.Close()
	var got []string
	files := contents(t, dir)
	for _, b := range files {
		got = append(got, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	slices.Sort(got)
	if len(files) != 10 || !slices.Equal(got, suite.Bodies(0, 100)) {
		t.Errorf("%d files with %d lines", len(files), len(got))
	}
}

// What is delivered can be read while its file is still written.
//
// flume: TestUseRawLocalFileSystem testTestFile testCompressedFile testSequenceFile
// flume: TestHDFSCompressedDataStream testGzipDurability testGzipDurabilityWithSerializer
// flume: TestSequenceFileSerializerFactory getTextFormatter getWritableFormatter
func TestReadableBeforeTheEnd(t *testing.T) {
	unzip := func(t *testing.T, b []byte) []byte {
		t.Helper()
		r, err := gzip.NewReader(bytes.NewReader(b)) // which reads on after a member
		if err != nil {
			t.Fatal(err)
		}
		b, err = io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lines := func(n int) string { return strings.Join(suite.Bodies(0, n), "\n") + "\n" }
	for name, c := range map[string]struct {
		keys  map[string]string
		check func(t *testing.T, b []byte, n int)
	}{
		"text": {map[string]string{"hdfs.fileType": "DataStream"}, func(t *testing.T, b []byte, n int) {
			if string(b) != lines(n) {
				t.Errorf("%d bytes", len(b))
			}
		}},
		"gzip": {map[string]string{"hdfs.fileType": "CompressedStream", "hdfs.codeC": "gzip"}, func(t *testing.T, b []byte, n int) {
			if got := unzip(t, b); string(got) != lines(n) {
				t.Errorf("%d bytes", len(got))
			}
		}},
		"Avro in gzip": {map[string]string{"hdfs.fileType": "CompressedStream", "hdfs.codeC": "gzip", "serializer": "avro_event"}, func(t *testing.T, b []byte, n int) {
			file, err := formattest.Decode(unzip(t, b))
			if err != nil || len(file.Events) != n {
				t.Errorf("%v, %d events", err, len(file.Events))
			}
		}},
		"records": {map[string]string{"hdfs.writeFormat": "Text"}, func(t *testing.T, b []byte, n int) {
			if !bytes.HasPrefix(b, []byte("SEQ\x06\x21org.apache.hadoop.io.LongWritable\x19org.apache.hadoop.io.Text\x00\x00")) || bytes.Count(b, []byte("\x00\x00\x00\x08")) != n {
				t.Errorf("%q", b)
			}
		}},
		"bytes": {map[string]string{"hdfs.writeFormat": "org.apache.flume.sink.hdfs.HDFSWritableSerializer$Builder"}, func(t *testing.T, b []byte, n int) {
			if !bytes.HasPrefix(b, []byte("SEQ\x06\x21org.apache.hadoop.io.LongWritable\x22org.apache.hadoop.io.BytesWritable\x00\x00")) || bytes.Count(b, []byte("\x00\x00\x00\x08")) != n {
				t.Errorf("%q", b)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := openLocal(t, dir, c.keys)
			for _, n := range []int{20, 40} { // the second time it is gone on with
				in.Deliver(suite.Bodies(n-20, 20))
				flush(t, in)
				files := contents(t, dir)
				if len(files) != 1 {
					t.Fatalf("%d files", len(files))
				}
				c.check(t, files[0], n)
			}
			in.Close()
		})
	}
}

// flume: TestHDFSEventSink testKerbFileAccess
func TestKeytab(t *testing.T) {
	s := Sink.New()
	keys := map[string]string{"hdfs.path": "hdfs://localhost/e", "hdfs.kerberosPrincipal": "flume/_HOST@EXAMPLE.TEST", "hdfs.kerberosKeytab": "/absent/flume.keytab"}
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	err := s.Open(context.Background(), sourcetest.NewEnv(t, "sink"))
	if err == nil || !strings.Contains(err.Error(), "read keytab") || !strings.Contains(err.Error(), "/absent/flume.keytab") {
		t.Errorf("%v", err)
	}
	delete(keys, "hdfs.kerberosKeytab")
	if _, faults := conf.Bind(Sink.New(), keys); !faults.HasErrors() {
		t.Error("a principal without its keytab is taken")
	}
}

// A close without an answer is given up; its file is finished once the file
// system has given up on its writer.
//
// flume: TestHDFSEventSinkOnMiniCluster testLeaseRecoveredIfCloseTimesOut
func TestCloseTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.locks = 3
		in := open(t, f, map[string]string{"hdfs.callTimeout": "1000"})
		in.Deliver(suite.Bodies(0, 5))
		flush(t, in)
		tx := in.Deliver(suite.Bodies(5, 5))
		hang := make(chan struct{})
		f.set(func() { f.hang = hang })
		if err := in.Sink.Flush(context.Background()); err == nil {
			t.Error("a close that hangs is taken for one")
		}
		if _, rolled, ended := tx.Acked(); !ended || rolled == nil {
			t.Errorf("not rolled back: %v", rolled)
		}
		f.set(func() { f.hang = nil })
		close(hang)
		time.Sleep(10 * time.Minute) // of the bubble
		in.Deliver(suite.Bodies(5, 5))
		in.Close()
		if got := slices.Sorted(slices.Values(f.seen())); !slices.Equal(got, suite.Bodies(0, 10)) || len(f.unfinished()) > 0 {
			t.Errorf("%q", f.names())
		}
	})
}
