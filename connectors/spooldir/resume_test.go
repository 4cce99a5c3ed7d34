package spooldir

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// content is a kind of file: its text, and the events that become of it.
type content struct {
	keys []string
	text string
	want []string
	name string // how it ends
}

func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("line %d %s", i, strings.Repeat("x", i*37%100))
	}
	return all
}

// contents are files of n events of every kind.
func contents(t testing.TB, n int) map[string]content {
	all := numbered(n)
	text := strings.Join(all, "\n")
	records := make([]string, n)
	for i, l := range all {
		records[i] = stringRecord(l)
	}
	var blocks [][]string
	for b := range slices.Chunk(records, 17) {
		blocks = append(blocks, b)
	}
	avro, _ := avroFile(t, stringSchema, "deflate", blocks...)
	blob := strings.Repeat("0123456789abcdef", n)
	var parts []string
	for b := range slices.Chunk([]byte(blob), 100) {
		parts = append(parts, string(b))
	}
	var joined, cri []string
	var container strings.Builder
	for i, l := range all {
		joined = append(joined, l+"\n\tat x\n\tat y")
		stream := []string{"stdout", "stderr"}[i*7%3%2]
		fmt.Fprintf(&container, "2016-10-06T00:17:09.669794202Z %s P %s\n2016-10-06T00:17:09.669794202Z %s F end\n", stream, l, stream)
		cri = append(cri, l+"end")
	}
	return map[string]content{
		"LINE":      {nil, text, all, ".log"},
		"LINE gz":   {nil, gz(t, text), all, ".log.gz"},
		"AVRO":      {[]string{"deserializer", "AVRO"}, avro, records, ".avro"},
		"AVRO gz":   {[]string{"deserializer", "AVRO"}, gz(t, avro), records, ".avro.gz"},
		"BLOB":      {[]string{"deserializer", "BLOB", "deserializer.maxBlobLength", "100"}, blob, parts, ".bin"},
		"multiline": {[]string{"multiline.startPattern", "^line"}, strings.Join(joined, "\n") + "\n", joined, ".log"},
		"container": {[]string{"container", "cri"}, container.String(), cri, ".log"},
		"UTF-16":    {[]string{"inputCharset", "UTF-16"}, "\xff\xfe" + utf16(text), all, ".txt"},
	}
}

func utf16(ascii string) string {
	var b strings.Builder
	for i := range len(ascii) {
		b.WriteByte(ascii[i])
		b.WriteByte(0)
	}
	return b.String()
}

// Lives that end after some batches, by a kill or in order: with a channel that
// remembers nothing comes twice, however they end; with one that does not,
// nothing when they end in order, and after a kill nothing is lost.
//
// flume: TestReliableSpoolingFileEventReader testRepeatedCallsWithCommitAlways testRepeatedCallsWithCommitOnSuccess
// flume: TestSpoolingFileLineReader testBasicCommitFailure testBasicCommitFailureAndBufferSizeChanges
// flume: TestAvroEventDeserializer resetTest
// flume: TestDurablePositionTracker testBasicTracker
// flume: TestResettableFileInputStream testBasicRead testReadByte testReset testMarkReset testResume testSeek
func TestManyLives(t *testing.T) {
	for name, c := range contents(t, 300) {
		for _, kill := range []bool{true, false} {
			for _, forgetful := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/kill %v/forgetful %v", name, kill, forgetful), func(t *testing.T) {
					r := newRig(t, append([]string{"batchSize", "7"}, c.keys...)...)
					for i := range 3 {
						r.put(fmt.Sprint(i, c.name), c.text)
						r.age(fmt.Sprint(i, c.name), 10-i)
					}
					batches := 5
					for r.live(batches, kill, forgetful) {
						if kill && forgetful {
							batches += 25 // else it would get no further than the first ones
						}
					}
					r.names("0"+c.name+".COMPLETED", "1"+c.name+".COMPLETED", "2"+c.name+".COMPLETED")
					want := slices.Concat(c.want, c.want, c.want)
					got := r.out.Bodies()
					if kill && forgetful {
						missing := make(map[string]int)
						for _, b := range want {
							missing[b]++
						}
						for _, b := range got {
							missing[b]--
						}
						for b, n := range missing {
							if n > 0 {
								t.Errorf("%q is missing %d times", b, n)
							}
						}
						return
					}
					if name == "container" { // of two streams the order is that of each
						slices.Sort(want)
						slices.Sort(got)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%d events, want %d", len(got), len(want))
					}
				})
			}
		}
	}
}

// A kill between the last batch and the rename repeats nothing, and an empty
// file is one event also then.
func TestKilledBeforeTheRename(t *testing.T) {
	for _, text := range []string{"1\n2\n", "1\n2", ""} {
		r := newRig(t, "deletePolicy", "immediate")
		r.put("a", text)
		r.put("b", "end\n")
		r.fault = []vfs.Rule{{Kind: vfs.OpRemove, Path: "a", At: 1, Times: -1}}
		r.live(1, true, false)
		r.names("a", "b")
		r.fault = []vfs.Rule{} // through a Fault again: it hides when files were made
		r.live(-1, false, false)
		want := append(strings.Split(strings.TrimSuffix(text, "\n"), "\n"), "end")
		r.want(want...)
		r.names()
	}
}

func flumeMeta(t testing.TB, r *rig, path string, offset int64) {
	t.Helper()
	must(t, os.MkdirAll(r.path(".flumespool"), 0o755))
	data := appendMeta(nil, &meta{path: path, offset: offset, flumes: true}, [16]byte{1})
	must(t, os.WriteFile(r.path(".flumespool/"+metaName), data, 0o644))
}

// What Flume has begun is gone on with.
func TestTakesOverFromFlume(t *testing.T) {
	avro, sync := avroFile(t, stringSchema, "null", []string{stringRecord("a"), stringRecord("b")}, []string{stringRecord("c")}, []string{stringRecord("d")})
	for name, c := range map[string]struct {
		keys   []string
		text   string
		offset int64
		want   []string
	}{
		"lines":            {nil, "1\n2\n3\n", 2, []string{"2", "3"}},
		"all of it":        {nil, "1\n2\n", 4, nil},
		"longer than all":  {nil, "1\n2\n", 5, nil},
		"nothing yet":      {nil, "1\n2\n", 0, []string{"1", "2"}},
		"joined":           {[]string{"multiline.startPattern", "^E"}, "E1\nE2\n at\nE3\n", 3, []string{"E2\n at", "E3"}},
		"blob":             {[]string{"deserializer", "BLOB"}, "0123456789", 4, []string{"456789"}},
		"avro, header":     {[]string{"deserializer", "AVRO"}, avro, 0, []string{"\x02a", "\x02b", "\x02c", "\x02d"}},
		"avro, first":      {[]string{"deserializer", "AVRO"}, avro, sync[0], []string{"\x02a", "\x02b", "\x02c", "\x02d"}},
		"avro, within one": {[]string{"deserializer", "AVRO"}, avro, sync[0] + 1, []string{"\x02c", "\x02d"}},
		"avro, second":     {[]string{"deserializer", "AVRO"}, avro, sync[1], []string{"\x02c", "\x02d"}},
		"avro, end":        {[]string{"deserializer", "AVRO"}, avro, sync[3], nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, append(c.keys, "batchSize", "1")...)
			r.put("a", c.text)
			flumeMeta(t, r, r.path("a"), c.offset)
			r.live(0, false, true) // before the first event
			r.live(1, false, true)
			r.live(-1, false, true)
			r.want(c.want...)
		})
	}
}

// And Flume goes on with what was begun here: its offset is what is stored.
func TestFlumeTakesOver(t *testing.T) {
	avro, sync := avroFile(t, stringSchema, "null", []string{stringRecord("a"), stringRecord("b")}, []string{stringRecord("c")})
	for _, c := range []struct {
		keys    []string
		text    string
		batches int
		want    int64
	}{
		{nil, "12\n34\n", 1, 3},
		{nil, "12\n34\n", 0, 0},
		{[]string{"deserializer", "BLOB", "deserializer.maxBlobLength", "4"}, "0123456789", 2, 8},
		{[]string{"multiline.startPattern", "^E"}, "E1\n at\nE2\nE3\n", 1, 7},
		{[]string{"deserializer", "AVRO"}, avro, 1, sync[0]},
		{[]string{"deserializer", "AVRO"}, avro, 2, sync[1]},
	} {
		r := newRig(t, append(c.keys, "batchSize", "1", "recursiveDirectorySearch", "true")...)
		r.put("d/a", c.text)
		r.put("d/b", "x\n")
		r.age("d/a", 10)
		r.live(c.batches, false, true)
		f, err := os.Open(r.path(".flumespool/" + metaName))
		must(t, err)
		m, err := readMeta(f)
		must(t, err)
		must(t, f.Close())
		if m.path != r.path("d/a") || m.offset != c.want {
			t.Errorf("%q after %d batches: %s %d, want %d", c.text, c.batches, m.path, m.offset, c.want)
		}
	}
}

// A relative spoolDir is what Flume has it as.
func TestRelativePath(t *testing.T) {
	r := newRig(t)
	t.Chdir(filepath.Dir(r.dir))
	r.keys["spoolDir"] = filepath.Base(r.dir) + "/"
	r.keys["batchSize"] = "1"
	r.put("a", "1\n2\n3\n")
	flumeMeta(t, r, filepath.Base(r.dir)+"/a", 2)
	r.live(1, false, true)
	data, err := os.ReadFile(r.path(".flumespool/" + metaName))
	must(t, err)
	if m, err := readMeta(bytes.NewReader(data)); err != nil || m.path != filepath.Base(r.dir)+"/a" || m.offset != 4 {
		t.Errorf("%+v %v", m, err)
	}
	r.live(-1, false, true)
	r.want("2", "3")
}

// What Flume 1.11 wrote.
//
// flume: TestDurablePositionTracker testGoodTrackerFile testPartialTrackerFile
func TestFlumesMeta(t *testing.T) {
	data, err := os.ReadFile("testdata/spooldir-main.meta")
	must(t, err)
	m, err := readMeta(bytes.NewReader(data))
	if err != nil || m.path != "/data/spool/big.txt" || m.offset != 1390 || !m.flumes {
		t.Fatalf("%+v %v", m, err)
	}
	// Torn while it was appended to.
	if m, err = readMeta(bytes.NewReader(data[:len(data)-5])); err == nil || m.path == "" || m.offset >= 1390 || m.offset < 1200 {
		t.Errorf("torn: %+v %v", m, err)
	}
	// What we write for Flume is what Flume writes.
	own := appendMeta(nil, &meta{path: m.path, offset: 130, flumes: true}, [16]byte(data[len(data)-16:]))
	if !bytes.HasPrefix(data, own) {
		t.Errorf("got  %q\nwant %q", own, data[:len(own)])
	}
}

func TestMetaOfOurs(t *testing.T) {
	m := meta{path: "/spool/ä b", offset: 1 << 40, records: []record{
		{1, "1-zik0zj", lines.Positions{1, 2, 3}}, {1 << 63, "x y", lines.At(0)},
	}}
	got, err := readMeta(bytes.NewReader(appendMeta(nil, &m, [16]byte{7})))
	must(t, err)
	if got.path != m.path || got.offset != m.offset || got.flumes || !slices.Equal(got.records, m.records) {
		t.Errorf("%+v", got)
	}
}

// A damaged meta file costs what is in it, and no more.
//
// flume: TestReliableSpoolingFileEventReader testZeroByteTrackerFile
func TestDamagedMeta(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "text": "text", "cut": "Obj\x01\x04"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("a", "1\n")
			must(t, os.MkdirAll(r.path(".flumespool"), 0o755))
			must(t, os.WriteFile(r.path(".flumespool/"+metaName), []byte(text), 0o644))
			r.live(-1, false, true)
			r.want("1")
			if _, err := os.Stat(r.path(".flumespool/" + metaName)); err == nil {
				t.Error("it is still there")
			}
		})
	}
}

// What the channels hold of files that are gone is forgotten.
func TestForgets(t *testing.T) {
	r := newRig(t, "batchSize", "1")
	r.put("a", "1\n2\n3\n")
	r.live(1, false, false)
	must(t, os.Rename(r.path("a"), r.path(".a")))
	r.put("b", "4\n")
	r.start()
	r.want("1", "4")
	r.names("b.COMPLETED")
	r.in.Close()
	data, err := os.ReadFile(r.path(".flumespool/" + metaName))
	if !os.IsNotExist(err) {
		t.Errorf("meta file: %q %v", data, err)
	}
	// Of a it knows nothing any more.
	must(t, os.Rename(r.path(".a"), r.path("a")))
	r.start()
	suite.Eventually(t, "a is read again", func() bool { return r.out.Len() == 5 })
}
