//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// hdfsTypes writes every file type with every codec, in several members or
// blocks, and has Hadoop read them.
func hdfsTypes(t *testing.T, nn nameNode, dir string) {
	const n = 3000
	want := lines("types", n)
	type written struct{ name, kind, codec, format, serializer, compression string }
	var all []written
	for _, codec := range []string{"gzip", "bzip2", "snappy", "lz4", "zstd", "deflate"} {
		all = append(all,
			written{"stream-" + codec, "CompressedStream", codec, "Text", "TEXT", "null"},
			written{"text-" + codec, "SequenceFile", codec, "Text", "TEXT", "null"},
		)
	}
	all = append(all,
		written{"text", "SequenceFile", "None", "Text", "TEXT", "null"},
		written{"writable", "SequenceFile", "None", "Writable", "TEXT", "null"},
		written{"writable-gzip", "SequenceFile", "GzipCodec", "Writable", "TEXT", "null"},
		written{"plain", "DataStream", "None", "Text", "TEXT", "null"},
		written{"avro", "DataStream", "None", "Text", "avro_event", "null"},
		written{"avro-deflate", "DataStream", "None", "Text", "avro_event", "deflate"},
		written{"avro-snappy", "DataStream", "None", "Text", "avro_event", "snappy"},
		written{"avro-zstandard", "DataStream", "None", "Text", "avro_event", "zstandard"},
		written{"avro-in-gzip", "CompressedStream", "gzip", "Text", "avro_event", "null"},
	)
	dir = filepath.Join(dir, "types")
	for _, w := range all {
		// One at a time: the agents are small, and end at once.
		s := newStream(t, nn, filepath.Join(dir, w.name), "hdfs-types.conf", "types", vars{
			"E2E_HDFS": nn.uri + "/types/" + w.name, "E2E_TYPE": w.kind, "E2E_CODEC": w.codec, "E2E_FORMAT": w.format,
			"E2E_SERIALIZER": w.serializer, "E2E_COMPRESSION": w.compression,
		})
		s.grow(n / 2)
		s.start()
		eventually(t, "half is delivered, with a commit point after it", func() bool { return s.metric("millrace_sink_events_drained_total") == n/2 })
		s.grow(n / 2)
		eventually(t, "all is delivered", func() bool { return s.metric("millrace_sink_events_drained_total") == n })
		s.stop()
	}
	got := map[string][]stored{}
	for _, f := range nn.read(t, "/types/*/*") {
		name := strings.Split(f.path, "/")[2]
		got[name] = append(got[name], f)
	}
	for _, w := range all {
		if len(got[w.name]) != 1 || got[w.name][0].inUse() {
			t.Errorf("%s: not one finished file: %d %v", w.name, len(got[w.name]), got[w.name])
			continue
		}
		f := got[w.name][0]
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
		case w.serializer == "avro_event": // Avro in gzip: the shell shows the container
			joined := strings.Join(text, "\n")
			if !strings.HasPrefix(joined, "Obj\x01") || strings.Count(joined, " types ") < n {
				t.Errorf("%s: not a container of %d events", w.name, n)
			}
			continue
		}
		same(t, w.name, want, text)
	}
	t.Logf("%d kinds of files, %d lines in each", len(all), n)
}
