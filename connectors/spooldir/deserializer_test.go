package spooldir

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// bound is a source with keys, as far as deserializers need it.
func bound(t testing.TB, kv ...string) *source {
	t.Helper()
	s, props := new(source), map[string]string{"spoolDir": "/spool"}
	for i := 0; i < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	if _, faults := conf.Bind(s, props); faults.HasErrors() {
		t.Fatal(faults)
	}
	m := new(metric.Group)
	s.joined = lines.NewCounters(m)
	s.splits, s.malformed = m.Counter("splits", ""), m.Counter("malformed", "")
	return s
}

// memFile is a file of that content.
func memFile(t testing.TB, content []byte) vfs.File {
	t.Helper()
	m := vfs.NewMem()
	f, err := m.OpenFile("/f", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// through reads a file from a place on, to its end or for so many rounds of
// limit events.
func through(s *source, f vfs.File, size int64, done lines.Positions, limit, rounds int) (events []core.Event, to lines.Positions, err error) {
	gz, err := isGzip(f)
	if err != nil {
		return nil, done, err
	}
	in, err := newInput(f, gz && s.compression == auto && s.deserializer != blobType)
	if err != nil {
		return nil, done, err
	}
	var d deserializer
	switch s.deserializer {
	case avroType:
		a, e := newAvroReader(s, in, core.Headers{}, done[0], 0)
		d, err = a, e
	case blobType:
		b, e := newBlobReader(s, in, core.Headers{}, done[0], size)
		d, err = b, e
	default:
		l, e := newLineReader(s, in, core.Headers{}, done, size)
		d, err = l, e
	}
	if err != nil {
		return nil, done, err
	}
	defer d.close()
	c := collector{limit: limit}
	for ; rounds != 0; rounds-- {
		c.full = false
		err := d.fill(&c)
		end := err == io.EOF //nolint:errorlint // as fill returns it
		if end {
			err = d.rest(&c)
		}
		for st := range lines.Stream(lines.Streams) {
			if b := c.take(st); b != nil {
				for _, e := range b.Events {
					e.Body = slices.Clone(e.Body)
					events = append(events, e)
				}
				b.Release()
			}
		}
		if err != nil || end {
			return events, d.positions(), err
		}
	}
	return events, d.positions(), nil
}

func bodiesOf(events []core.Event) (all []string) {
	for _, e := range events {
		all = append(all, string(e.Body))
	}
	return all
}

// all reads the whole of a content.
func all(t testing.TB, s *source, content string) ([]string, error) {
	t.Helper()
	events, _, err := through(s, memFile(t, []byte(content)), int64(len(content)), lines.Positions{}, 100, -1)
	return bodiesOf(events), err
}

// flume: TestBufferedLineReader testSimpleRead
// flume: TestLineDeserializer testSimple testBatch testMaxLineLength
// flume: TestResettableFileInputStream testMultiByteCharRead testUtf8SurrogatePairRead
// flume: TestResettableFileInputStream testUtf16BOMAndSurrogatePairRead testUtf8DecodeErrorHandlingFailMalformed
// flume: TestResettableFileInputStream testUtf8DecodeErrorHandlingIgnore testUtf8DecodeErrorHandlingReplace
// flume: TestResettableFileInputStream testLatin1DecodeErrorHandlingFailMalformed
// flume: TestResettableFileInputStream testLatin1DecodeErrorHandlingReplace
func TestLines(t *testing.T) {
	long := strings.Repeat("é", 3000)
	for name, c := range map[string]struct {
		keys []string
		text string
		want []string
		err  string
	}{
		"cut at characters":       {[]string{"deserializer.maxLineLength", "2"}, "ééé\n", []string{"éé", "é"}, ""},
		"a pair is two":           {[]string{"deserializer.maxLineLength", "3"}, "😀😀\n", []string{"😀", "😀"}, ""},
		"a pair stays whole":      {[]string{"deserializer.maxLineLength", "1"}, "😀a\n", []string{"😀", "a"}, ""},
		"default length":          {nil, long + "\n", []string{long[:4096], long[4096:]}, ""},
		"mark of UTF-8 stays":     {nil, "\ufeffa\n", []string{"\ufeffa"}, ""},
		"mark of UTF-16 goes":     {[]string{"inputCharset", "UTF-16"}, "\xfe\xff\x00a\x00\n\x00b", []string{"a", "b"}, ""},
		"mark only":               {[]string{"inputCharset", "UTF-16"}, "\xfe\xff", nil, ""},
		"UTF-16LE":                {[]string{"inputCharset", "UTF-16LE"}, "a\x00\n\x00\n\x00", []string{"a", ""}, ""},
		"newline byte in a unit":  {[]string{"inputCharset", "UTF-16BE"}, "\x0a\x0b\x00\n", []string{"\u0a0b"}, ""},
		"malformed":               {nil, "a\nb\xffc\n", []string{"a"}, "byte 3 is no character in UTF-8"},
		"malformed, replaced":     {[]string{"decodeErrorPolicy", "replace"}, "b\xffc\xe2\x82\n\xe2\x82", []string{"b\ufffdc\ufffd", "\ufffd"}, ""},
		"malformed, 1, 3 and 5":   {[]string{"decodeErrorPolicy", "replace"}, "\xffa\xed\xa0\x80b\xf8\x88\x80\x80\x80c\n", []string{"\ufffda" + strings.Repeat("\ufffd", 3) + "b" + strings.Repeat("\ufffd", 5) + "c"}, ""},
		"malformed, ignored":      {[]string{"decodeErrorPolicy", "ignore"}, "b\xffc\xe2\x82\n", []string{"bc"}, ""},
		"half a character at end": {nil, "a\nb\xe2\x82", []string{"a"}, "byte 3 is no character"},
		"malformed, joined":       {[]string{"multiline.startPattern", "^E"}, "E1\n at\nE2\n\xff\nE3\n", []string{"E1\n at", "E2"}, "byte 10 is no character"},
		"half a unit at end":      {[]string{"inputCharset", "UTF-16BE", "decodeErrorPolicy", "replace"}, "\x00a\x00", []string{"a\ufffd"}, ""},
		"gzip":                    {nil, gz(t, "a\n"+long), []string{"a", long[:4096], long[4096:]}, ""},
		"gzip and UTF-16":         {[]string{"inputCharset", "UTF-16"}, gz(t, "\xff\xfea\x00\n\x00b\x00"), []string{"a", "b"}, ""},
		"gzip, wrong checksum":    {nil, gz(t, "a\n")[:22] + "\x01\x02\x03\x04", []string{"a"}, "before byte 26 of the file"},
		"gzip, rubbish behind":    {nil, gz(t, "a\n") + "rubbish that is long enough", []string{"a"}, "of the file"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := all(t, bound(t, c.keys...), c.text)
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestSplitsAreCounted(t *testing.T) {
	s := bound(t, "deserializer.maxLineLength", "2", "decodeErrorPolicy", "replace")
	if _, err := all(t, s, "12345\n12\n123\n\xff\n"); err != nil || s.splits.Value() != 2 || s.malformed.Value() != 1 {
		t.Errorf("%d splits, %d malformed, %v", s.splits.Value(), s.malformed.Value(), err)
	}
}

func TestAvroCodecs(t *testing.T) {
	want := []string{stringRecord("line0"), stringRecord("line1"), stringRecord("line2")}
	for _, codec := range []string{"null", "deflate", "snappy", "zstandard"} {
		file, _ := avroFile(t, stringSchema, codec, want[:2], nil, want[2:])
		if got, err := all(t, bound(t, "deserializer", "AVRO"), file); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v", codec, got, err)
		}
	}
	raw, err := hex.DecodeString(bzip2Block) // made by bzip2: there is no writer here
	must(t, err)
	file, _ := avroFile(t, stringSchema, "null", []string{"", "", string(raw)})
	file = strings.Replace(file, "\x14avro.codec\x08null", "\x14avro.codec\x0abzip2", 1)
	if got, err := all(t, bound(t, "deserializer", "AVRO"), file); err != nil || !slices.Equal(got, want) {
		t.Errorf("bzip2: %q %v", got, err)
	}
}

// What Flume 1.11 wrote, with the serializer avro_event of file_roll.
func TestFlumesAvroFile(t *testing.T) {
	data, err := os.ReadFile("testdata/file_roll-avro_event.avro")
	must(t, err)
	got, err := all(t, bound(t, "deserializer", "org.apache.flume.serialization.AvroEventDeserializer$Builder"), string(data))
	if err != nil || len(got) != 5 {
		t.Fatalf("%q %v", got, err)
	}
	for i, body := range got {
		if !strings.HasSuffix(body, "\x00\x14line "+string(rune('0'+i))+" 世") {
			t.Errorf("record %d is %q", i, body)
		}
	}
	if !strings.Contains(string(data), strings.Join(got, "")) {
		t.Error("the records are not as they stand there")
	}
}

// flume: TestAvroEventDeserializer testSchemaHash testSchemaLiteral
func TestSchemaHeaders(t *testing.T) {
	schema := `{"name":"org.apache.flume.MyRecord", "type":"record", "doc":"é", "fields":[{"name":"foo", "type":"string"}]}`
	file, _ := avroFile(t, schema, "null", []string{stringRecord("bar")})
	for kind, want := range map[string][2]string{
		"hash":    {"flume.avro.schema.hash", "576db290321974f9"},
		"Literal": {"flume.avro.schema.literal", strings.NewReplacer(", ", ",").Replace(schema)},
	} {
		s := bound(t, "deserializer", "avro", "deserializer.schemaType", kind)
		events, _, err := through(s, memFile(t, []byte(file)), 0, lines.Positions{}, 10, -1)
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		if got, _ := events[0].Headers.Get(want[0]); got != want[1] {
			t.Errorf("%s is %s, want %s", want[0], got, want[1])
		}
	}
}

// Values of every type are stepped over; two of them show where each ends.
func TestAvroTypes(t *testing.T) {
	for schema, value := range map[string]string{
		`"boolean"`: "\x01", `"int"`: "\xac\x02", `{"type":"long","logicalType":"timestamp-millis"}`: "\x03", `"float"`: "1234", `"double"`: "12345678",
		`"bytes"`: "\x04ab", `"string"`: "\x00", `{"type":"fixed","name":"f","size":3}`: "abc", `{"type":"enum","name":"e","symbols":["a","b"]}`: "\x02",
		`["null","string"]`:               "\x02\x02a",
		`{"type":"array","items":"int"}`:  "\x04\x02\x04\x02\x06\x00",
		`{"type":"array","items":"long"}`: "\x03\x04\x02\x04\x00", // a count below 0, and the size
		`{"type":"map","values":"bytes"}`: "\x02\x02k\x04vv\x00",
		`{"type":"record","name":"n.R","fields":[{"name":"next","type":["null","R"]},{"name":"n","type":"null"}]}`:                                             "\x02\x02\x00",
		`{"type":"record","name":"a.R","fields":[{"name":"f","type":{"type":"fixed","name":"F","size":1}},{"name":"g","type":"F"},{"name":"h","type":"a.F"}]}`: "123",
	} {
		file, _ := avroFile(t, schema, "null", []string{value, value})
		got, err := all(t, bound(t, "deserializer", "AVRO"), file)
		if err != nil || !slices.Equal(got, []string{value, value}) {
			t.Errorf("%s: %q %v", schema, got, err)
		}
	}
}

func TestDamagedAvro(t *testing.T) {
	good, sync := avroFile(t, stringSchema, "null", []string{stringRecord("a")}, []string{stringRecord("b")})
	with := func(schema, codec string, records ...string) string {
		f, _ := avroFile(t, schema, codec, records)
		return f
	}
	for name, c := range map[string]struct {
		file  string
		want  string
		first int // records before the error
	}{
		"text":                  {"some text", "not an Avro object container file", 0},
		"cut in the header":     {good[:30], "file ends at byte 30", 0},
		"cut in a block":        {good[:len(good)-10], "within a block", 1},
		"sync marker":           {good[:sync[1]] + "x" + good[sync[1]+1:], "a block is damaged", 0},
		"schema is no JSON":     {with("{", "null"), "schema is no JSON", 0},
		"schema":                {with(`"strong"`, "null"), "type strong is not known", 0},
		"no fields":             {with(`{"type":"record","name":"r"}`, "null"), "schema", 0},
		"twice":                 {with(`[{"type":"fixed","name":"f","size":1},{"type":"fixed","name":"f","size":1}]`, "null"), "defined twice", 0},
		"deep":                  {with(strings.Repeat(`{"type":"array","items":`, 200)+`"int"`+strings.Repeat("}", 200), "null"), "more than 100 levels", 0},
		"union":                 {with(`["null","int"]`, "null", "\x04\x02"), "record 1", 0},
		"enum":                  {with(`{"type":"enum","name":"e","symbols":["a"]}`, "null", "\x02"), "does not fit its schema", 0},
		"value is short":        {with(`"string"`, "null", "\x10ab"), "ends too early", 0},
		"value is long":         {with(`"boolean"`, "null", "ab"), "has bytes behind it", 0},
		"recursion":             {with(`{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"R"}}]}}`, "null", strings.Repeat("\x02", 5000)), "levels", 0},
		"many without bytes":    {with(`"null"`, "null", make([]string, 1<<20+1)...), "can not have", 0},
		"more than bytes":       {with(`"int"`, "null", "", "", "\x02"), "can not have 3 records", 0},
		"codec":                 {strings.Replace(good, "\x08null", "\x08lzma", 1), `codec "lzma" is not supported`, 0},
		"a long block":          {good[:sync[0]+16] + "\x02\x80\x80\x80\x80\x10", "more than deserializer.maxBlockBytes", 0},
		"below 0":               {good[:sync[0]+16] + "\x01\x02", "is damaged", 0},
		"long when unpacked":    {with(stringSchema, "deflate", stringRecord(strings.Repeat("x", 20000))), "longer than deserializer.maxBlockBytes when decompressed", 0},
		"snappy when unpacked":  {with(stringSchema, "snappy", stringRecord(strings.Repeat("x", 20000))), "longer than deserializer.maxBlockBytes when decompressed", 0},
		"zstd when unpacked":    {with(stringSchema, "zstandard", stringRecord(strings.Repeat("x", 20000))), "longer than deserializer.maxBlockBytes when decompressed", 0},
		"deflate that is none":  {strings.Replace(strings.Replace(good, "\x08null", "\x0edeflate", 1), "\x02a", "\xffa", 1), "block at byte", 0},
		"metadata without end":  {"Obj\x01\x02\x80\x80\x80\x80\x10", "metadata", 0},
		"metadata of below 0":   {"Obj\x01\x02\x01", "metadata", 0},
		"array without an end":  {with(`{"type":"array","items":"null"}`, "null", "\x7e\x01\xff\x01"), "ends too early", 0},
		"array with a bad size": {with(`{"type":"array","items":"int"}`, "null", "\x01\x7f"), "ends too early", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := all(t, bound(t, "deserializer", "AVRO", "deserializer.maxBlockBytes", "10000"), c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, io.EOF) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if len(got) != c.first {
				t.Errorf("records %q", got)
			}
		})
	}
}

const bzip2Block = "425a6839314159265359b504438e00000049000010700002252000310c0823d469a68b16908710f177245385090b504438e0"
