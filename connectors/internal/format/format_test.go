package format

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

type keys struct{ Config }

func (k *keys) Keys(ck *conf.Keys) { Keys(ck, "serializer", &k.Config) }

func bind(t testing.TB, props map[string]string) (*Config, conf.Faults) {
	t.Helper()
	k := new(keys)
	_, faults := conf.Bind(k, props)
	return &k.Config, faults
}

func config(t testing.TB, kv ...string) *Config {
	t.Helper()
	props := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	c, faults := bind(t, props)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	return c
}

func event(body string, kv ...string) core.Event {
	var h []core.Header
	for i := 0; i < len(kv); i += 2 {
		h = append(h, core.Header{Key: kv[i], Value: kv[i+1]})
	}
	return core.Event{Headers: core.NewHeaders(h...), Body: []byte(body)}
}

// eventsB are those that the vectors were made of.
func eventsB() []core.Event {
	var events []core.Event
	for i := range 5 {
		events = append(events, event(fmt.Sprintf("line %d 世", i),
			"host", fmt.Sprintf("web-%d", i%2), "key", fmt.Sprintf("k%d", i), "timestamp", fmt.Sprint(1700000000000+1000*i)))
	}
	return events
}

func all(s Serializer, events []core.Event) []byte {
	dst, _ := s.Append(s.Begin(nil), events, 0)
	return s.Flush(dst)
}

func vector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// flume: TestFlumeEventAvroEventSerializer testAvroSerializer
func TestFlumesFiles(t *testing.T) {
	if got, want := all(config(t).New(nil), eventsB()), vector(t, "file_roll-text.out"); !bytes.Equal(got, want) {
		t.Errorf("TEXT:\n%q, Flume wrote\n%q", got, want)
	}
	c := config(t, "serializer", "header_and_text")
	if got, want := all(c.New(nil), eventsB()), vector(t, "file_roll-header_and_text.out"); !bytes.Equal(got, want) {
		t.Errorf("HEADER_AND_TEXT:\n%q, Flume wrote\n%q", got, want)
	}
	want := vector(t, "file_roll-avro_event.avro")
	f, err := formattest.Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	a := config(t, "serializer", "AVRO_EVENT").New(nil).(*avro)
	copy(a.mark[:], f.Sync)
	if got := all(a, eventsB()); !bytes.Equal(got, want) {
		t.Errorf("AVRO_EVENT:\n%q, Flume wrote\n%q", got, want)
	}
}

// flume: TestBodyTextEventSerializer testWithNewline testNoNewline
func TestText(t *testing.T) {
	for _, c := range []struct {
		newline, body, want string
	}{{"true", "body", "body\n"}, {"false", "event 1\n", "event 1\n"}, {"true", "", "\n"}, {"true", "event 1\n", "event 1\n\n"}} {
		got := all(config(t, "serializer.appendNewline", c.newline).New(nil), []core.Event{event(c.body)})
		if string(got) != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

// flume: TestHeaderAndBodyTextEventSerializer testWithNewline testNoNewline
func TestHeaderOrder(t *testing.T) {
	for _, c := range []struct {
		kv   string
		want string
	}{
		{"", "{}"},
		{"a b", "{a=b}"},
		{"header1 value1 header2 value2", "{header2=value2, header1=value1}"},
		{"timestamp 1 host h key k", "{host=h, key=k, timestamp=1}"},
	} {
		e := event("", strings.Fields(c.kv)...)
		if got := string(AppendHeaders(nil, e.Headers)); got != c.want {
			t.Errorf("%q: got %s, Java prints %s", c.kv, got, c.want)
		}
	}
}

func TestJavaHash(t *testing.T) {
	for s, want := range map[string]uint32{"": 0, "a": 97, "host": 3208616, "timestamp": 55126294, "世": 19990, "😀": 1772899} {
		if got := javaHash(s); got != want {
			t.Errorf("hash of %q: %d, want %d", s, got, want)
		}
	}
}

// flume: TestFlumeEventAvroEventSerializer testAvroSerializerNullCompression testAvroSerializerDeflateCompression
// flume: TestFlumeEventAvroEventSerializer testAvroSerializerSnappyCompression
func TestAvroCodecs(t *testing.T) {
	for _, codec := range []string{"null", "deflate", "snappy", "zstandard", "bzip2", "lzma"} {
		c, faults := bind(t, map[string]string{
			"serializer": "AVRO_EVENT", "serializer.compressionCodec": codec, "serializer.syncIntervalBytes": "100",
		})
		if faults.HasErrors() || len(faults) > 0 != (codec == "lzma") {
			t.Fatalf("%s: %v", codec, faults)
		}
		s := c.New(nil)
		data := s.Begin(nil)
		var want []core.Event
		for range 3 { // through a cut: a second serializer goes on after a Flush
			data, _ = s.Append(data, eventsB(), 0)
			data = s.Flush(data)
			want = append(want, eventsB()...)
			next := c.New(nil)
			if !next.Resume(s.State()) {
				t.Fatalf("%s: no resume from %q", codec, s.State())
			}
			s = next
		}
		f, err := formattest.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
		if name, named := f.Meta["avro.codec"]; named && name != codec || named == (codec == "lzma") || f.Meta["avro.schema"] != Schema {
			t.Errorf("%s: metadata %v", codec, f.Meta)
		}
		if f.Blocks < 6 {
			t.Errorf("%s: %d blocks, syncIntervalBytes is not heeded", codec, f.Blocks)
		}
		for i, e := range f.Events {
			if !e.Headers.Equal(want[i].Headers) || string(e.Body) != string(want[i].Body) {
				t.Fatalf("%s: event %d: %s %q", codec, i, AppendHeaders(nil, e.Headers), e.Body)
			}
		}
		if len(f.Events) != len(want) {
			t.Errorf("%s: %d events, want %d", codec, len(f.Events), len(want))
		}
	}
}

func TestLimit(t *testing.T) {
	events := eventsB() // each 11 bytes with its newline
	for limit, want := range map[int64]int{0: 5, 1: 1, 11: 1, 12: 2, 33: 3, 1000: 5} {
		if _, n := config(t).New(nil).Append(nil, events, limit); n != want {
			t.Errorf("limit %d: %d events, want %d", limit, n, want)
		}
	}
	if _, n := config(t, "serializer", "AVRO_EVENT").New(nil).Append(nil, events, 100); n != 2 {
		t.Errorf("AVRO_EVENT: %d events, want 2", n)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		kv    map[string]string
		err   string
		warns bool
	}{
		{map[string]string{"serializer": "org.apache.flume.serialization.HeaderAndBodyTextEventSerializer$Builder"}, "", false},
		{map[string]string{"serializer": "com.example.Mine$Builder"}, "is not a serializer", false},
		{map[string]string{"serializer": "avro_event", "serializer.syncIntervalBytes": "1"}, "between 32 and", false},
		{map[string]string{"serializer": "avro_event", "serializer.compressionCodec": "xz"}, "not supported", false},
		{map[string]string{"serializer": "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder", "serializer.compressionCodec": "xz"}, "not supported", false},
		{map[string]string{"serializer.compressionCodec": "snappy"}, "", true},
		{map[string]string{"serializer": "avro_event", "serializer.appendNewline": "false"}, "", true},
	} {
		_, faults := bind(t, c.kv)
		text := fmt.Sprint(faults)
		if (c.err != "") != faults.HasErrors() || !strings.Contains(text, c.err) || c.err == "" && c.warns != (len(faults) > 0) {
			t.Errorf("%v: %s", c.kv, text)
		}
	}
}

// FuzzAvro writes any headers and body and reads them back.
func FuzzAvro(f *testing.F) {
	f.Add("host", "web", []byte("body"), uint64(1))
	f.Add("", "\xff", []byte{0}, uint64(2))
	f.Fuzz(func(t *testing.T, key, value string, body []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		codec := []string{"null", "deflate", "snappy", "zstandard", "bzip2"}[rng.IntN(5)]
		s := newAvro(32+rng.IntN(200), codec)
		events := []core.Event{event(string(body), key, value), event("x"), event(string(body), key, value, "k", "v")}
		file, err := formattest.Decode(all(s, events))
		if err != nil || len(file.Events) != 3 {
			t.Fatalf("%d events, %v", len(file.Events), err)
		}
		if got, _ := file.Events[0].Headers.Get(validText(key)); got != validText(value) {
			t.Fatalf("header %q: %q, want %q", key, got, value)
		}
		if !bytes.Equal(file.Events[2].Body, body) {
			t.Fatalf("body %q, want %q", file.Events[2].Body, body)
		}
	})
}

// FuzzResume feeds states that nobody wrote.
func FuzzResume(f *testing.F) {
	f.Add("TEXT")
	f.Add("AVRO_EVENT 000102030405060708090a0b0c0d0e0f null")
	f.Add("AVRO_EVENT 00 null")
	f.Add("AVRO 0011223344556677 000102030405060708090a0b0c0d0e0f null")
	f.Fuzz(func(t *testing.T, state string) {
		s := newAvro(100, "null")
		if s.Resume(state) && !strings.EqualFold(s.State(), state) {
			t.Fatalf("resumed from %q, now %q", state, s.State())
		}
		d := newDatum(100, "null", nil)
		if d.Resume(state) && !strings.EqualFold(d.State(), state) {
			t.Fatalf("resumed from %q, now %q", state, d.State())
		}
	})
}

func BenchmarkText(b *testing.B)          { benchmark(b, config(b)) }
func BenchmarkHeaderAndText(b *testing.B) { benchmark(b, config(b, "serializer", "HEADER_AND_TEXT")) }
func BenchmarkAvro(b *testing.B)          { benchmark(b, config(b, "serializer", "AVRO_EVENT")) }

func benchmark(b *testing.B, c *Config) {
	e := event(strings.Repeat("x", 199), "host", "web-1", "timestamp", "1700000000000", "file", "/var/log/app.log")
	events := make([]core.Event, 100)
	for i := range events {
		events[i] = e
	}
	s := c.New(nil)
	dst := s.Begin(nil)
	b.SetBytes(200 * 100)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = s.Append(dst[:0], events, 0)
		dst = s.Flush(dst)
	}
}
