//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// fileKind is a file type with all that belongs to it.
type fileKind struct{ name, kind, codec, format, serializer, compression string }

// hdfsTypes writes every file type with every codec, in several members or
// blocks, and has Hadoop read them.
func hdfsTypes(t *testing.T, nn nameNode, dir string) {
	const n = 3000
	want := lines("types", n)
	var all []fileKind
	var names []string
	for _, codec := range []string{"gzip", "bzip2", "snappy", "lz4", "zstd", "deflate"} {
		all = append(all,
			fileKind{"stream-" + codec, "CompressedStream", codec, "Text", "TEXT", "null"},
			fileKind{"text-" + codec, "SequenceFile", codec, "Text", "TEXT", "null"},
		)
	}
	all = append(all,
		fileKind{"text", "SequenceFile", "None", "Text", "TEXT", "null"},
		fileKind{"writable", "SequenceFile", "None", "Writable", "TEXT", "null"},
		fileKind{"writable-gzip", "SequenceFile", "GzipCodec", "Writable", "TEXT", "null"},
		fileKind{"plain", "DataStream", "None", "Text", "TEXT", "null"},
		fileKind{"avro", "DataStream", "None", "Text", "avro_event", "null"},
		fileKind{"avro-deflate", "DataStream", "None", "Text", "avro_event", "deflate"},
		fileKind{"avro-snappy", "DataStream", "None", "Text", "avro_event", "snappy"},
		fileKind{"avro-zstandard", "DataStream", "None", "Text", "avro_event", "zstandard"},
		fileKind{"avro-in-gzip", "CompressedStream", "gzip", "Text", "avro_event", "null"},
	)
	s := newStream(t, nn, dir, "hdfs.conf", "types", nil)
	s.conf = filepath.Join(dir, "types.conf")
	var conf strings.Builder
	fmt.Fprintf(&conf, `
a1.sources = log
a1.sources.log.type = taildir
a1.sources.log.filegroups = app
a1.sources.log.filegroups.app = %s
a1.sources.log.positionFile = %s/positions.json
a1.sources.log.interceptors = time
a1.sources.log.interceptors.time.type = static
a1.sources.log.interceptors.time.key = timestamp
a1.sources.log.interceptors.time.value = 1338212793234
`, s.log, dir)
	for _, w := range all {
		fmt.Fprintf(&conf, `
a1.channels.NAME.type = memory
a1.channels.NAME.capacity = 10000
a1.sinks.NAME.type = hdfs
a1.sinks.NAME.channel = NAME
a1.sinks.NAME.hdfs.path = %s/types/NAME
a1.sinks.NAME.hdfs.fileType = %s
a1.sinks.NAME.hdfs.codeC = %s
a1.sinks.NAME.hdfs.writeFormat = %s
a1.sinks.NAME.serializer = %s
a1.sinks.NAME.serializer.compressionCodec = %s
a1.sinks.NAME.hdfs.rollInterval = 0
a1.sinks.NAME.hdfs.rollSize = 0
a1.sinks.NAME.hdfs.rollCount = 0
a1.sinks.NAME.hdfs.commitInterval = 100
`, nn.uri, w.kind, w.codec, w.format, w.serializer, w.compression)
		text := strings.ReplaceAll(conf.String(), "NAME", w.name)
		conf.Reset()
		conf.WriteString(text)
		names = append(names, w.name)
	}
	list := strings.Join(names, " ")
	fmt.Fprintf(&conf, "a1.channels = %s\na1.sinks = %s\na1.sources.log.channels = %s\n", list, list, list)
	write(t, s.conf, conf.String())
	s.start()
	for range 2 { // with a commit point after the first half, where the file is gone on with
		s.grow(n / 2)
		eventually(t, "all that was written is delivered", func() bool {
			return int(s.metric("millrace_sink_events_drained_total")) == len(all)*s.written
		})
	}
	s.stop()
	got := map[string][]stored{}
	for _, f := range nn.read(t, "/types") {
		name := strings.Split(f.path, "/")[2]
		got[name] = append(got[name], f)
	}
	for _, w := range all {
		var text []string
		for _, f := range got[w.name] { // more than one where HDFS did not let the first be gone on with
			if f.inUse() {
				t.Errorf("%s is not finished", f.path)
			}
			text = append(text, w.events(t, f)...)
		}
		if w.name == "avro-in-gzip" { // of it the shell shows the container
			joined := strings.Join(text, "\n")
			if !strings.HasPrefix(joined, "Obj\x01") || strings.Count(joined, " types ") != n {
				t.Errorf("%s: not a container of %d events", w.name, n)
			}
			continue
		}
		same(t, w.name, want, text)
	}
	t.Logf("%d kinds of files, %d lines in each", len(all), n)
}

// events are the bodies in a file, by what Hadoop shows of it.
func (w fileKind) events(t *testing.T, f stored) []string {
	t.Helper()
	text := f.lines
	switch {
	case w.kind == "SequenceFile":
		class := map[string]string{"Text": "org.apache.hadoop.io.Text", "Writable": "org.apache.hadoop.io.BytesWritable"}[w.format]
		head := "classes org.apache.hadoop.io.LongWritable " + class + " "
		if !strings.HasPrefix(text[0], head) || strings.HasSuffix(text[0], " none") != (w.codec == "None") {
			t.Errorf("%s: %s", w.name, text[0])
		}
		text = text[1:]
		for i, record := range text {
			key, value, _ := strings.Cut(record, "\t")
			if key != "1338212793234" {
				t.Fatalf("%s: key %q", w.name, key)
			}
			text[i] = value
		}
	case w.serializer == "avro_event" && w.kind == "DataStream": // which -text knows by its first bytes
		for i, record := range text {
			var e struct {
				Headers map[string]string
				Body    string
			}
			if err := json.Unmarshal([]byte(record), &e); err != nil || e.Headers["timestamp"] != "1338212793234" {
				t.Fatalf("%s: %v %s", w.name, err, record)
			}
			text[i] = e.Body
		}
	}
	return text
}
