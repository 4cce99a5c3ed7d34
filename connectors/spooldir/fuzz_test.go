package spooldir

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
)

// restarts reads content once to its end, and once with a new start after every
// few events: both must give the same.
func restarts(t *testing.T, s *source, content []byte, limit int) {
	f := memFile(t, content)
	size := int64(len(content))
	whole, _, err := through(s, f, size, lines.Positions{}, 1000, -1)
	var pieces []core.Event
	var at lines.Positions
	for range 10 * (len(content) + 10) {
		events, to, e := through(s, f, size, at, limit, 1)
		pieces = append(pieces, events...)
		if e != nil || to == at && len(events) == 0 {
			if (e == nil) != (err == nil) {
				t.Fatalf("%v, and in pieces %v", err, e)
			}
			break
		}
		for i := range to {
			if to[i] < at[i] {
				t.Fatalf("back from %v to %v", at, to)
			}
		}
		at = to
	}
	byStream := func(a, b core.Event) int { return bytes.Compare(streamOf(a), streamOf(b)) }
	slices.SortStableFunc(whole, byStream)
	slices.SortStableFunc(pieces, byStream)
	if got, want := bodiesOf(pieces), bodiesOf(whole); !slices.Equal(got, want) {
		t.Fatalf("in pieces %q\nat once   %q", got, want)
	}
	last := make(map[string]int64)
	for _, e := range pieces {
		st := string(streamOf(e))
		if e.Pos <= last[st] {
			t.Fatalf("an event at %d behind one at %d", e.Pos, last[st])
		}
		last[st] = e.Pos
	}
}

func streamOf(e core.Event) []byte {
	st, _ := e.Headers.Get("stream")
	return []byte(st)
}

func FuzzLine(f *testing.F) {
	f.Add([]byte("1\n22\r\n\n333"), uint8(0), uint8(3))
	f.Add([]byte("é😀\xff\n\xe2\x82"), uint8(1), uint8(2))
	f.Add([]byte("\xfe\xff\x00a\x00\n\x00b"), uint8(2), uint8(2))
	f.Add([]byte(gz(f, "1\n2\n3")), uint8(0), uint8(9))
	f.Add([]byte("E1\n at\nE2\n"), uint8(3), uint8(9))
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout P a\n2016-10-06T00:17:09.669794202Z stderr F b\n2016-10-06T00:17:09.669794202Z stdout F c\nx\n"), uint8(4), uint8(9))
	f.Fuzz(func(t *testing.T, content []byte, kind, length uint8) {
		keys := [][]string{
			nil,
			{"decodeErrorPolicy", "replace"},
			{"inputCharset", "UTF-16", "decodeErrorPolicy", "ignore"},
			{"multiline.startPattern", "^E"},
			{"container", "auto", "decodeErrorPolicy", "replace"},
			{"deserializer.outputCharset", "UTF-16LE"},
		}[kind%6]
		if len(content) > 2000 {
			return // quadratic
		}
		max := string(rune('1' + length%9))
		s := bound(t, append(keys, "deserializer.maxLineLength", max)...)
		restarts(t, s, content, 1)
	})
}

func FuzzAvro(f *testing.F) {
	for _, codec := range []string{"null", "deflate", "snappy", "zstandard"} {
		file, _ := avroFile(f, stringSchema, codec, []string{stringRecord("a"), stringRecord("b")}, []string{stringRecord("c")})
		f.Add([]byte(file))
	}
	data, err := os.ReadFile("testdata/file_roll-avro_event.avro")
	must(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 2000 {
			return
		}
		s := bound(t, "deserializer", "AVRO", "deserializer.maxBlockBytes", "10000")
		if events, _, _ := through(s, memFile(t, content), 0, lines.Positions{}, 1000, -1); len(events) > 1000 {
			return
		}
		restarts(t, s, content, 2)
	})
}

func FuzzBlob(f *testing.F) {
	f.Add([]byte("0123456789"), uint8(3))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, length uint8) {
		if len(content) > 2000 {
			return
		}
		s := bound(t, "deserializer", "BLOB")
		s.maxBlob = int64(length) + 1
		restarts(t, s, content, 1)
		got, err := all(t, s, string(content))
		var joined []byte
		for _, b := range got {
			joined = append(joined, b...)
		}
		if err != nil || !bytes.Equal(joined, content) {
			t.Fatalf("%q %v", joined, err)
		}
	})
}

func FuzzMeta(f *testing.F) {
	data, err := os.ReadFile("testdata/spooldir-main.meta")
	must(f, err)
	f.Add(data)
	f.Add(appendMeta(nil, &meta{path: "/a", offset: 5, records: []record{{1, "1-a", lines.Positions{1, 2, 3}}}}, [16]byte{1}))
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := readMeta(bytes.NewReader(content))
		if m.offset < 0 {
			t.Fatal(m.offset)
		}
		if err != nil {
			return
		}
		again, err := readMeta(bytes.NewReader(appendMeta(nil, &m, [16]byte{2})))
		if err != nil || again.path != m.path || again.offset != m.offset || !slices.Equal(again.records, m.records) {
			t.Fatalf("%+v\n%+v %v", m, again, err)
		}
	})
}
