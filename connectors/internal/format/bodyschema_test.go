package format

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

const flumesClass = "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder"

// message is Flume's test schema, but for its name.
const message = `{"type":"record","name":"Message","fields":[{"name":"message","type":"string"}]}`

// datum1 is a Message.
func datum1(text string) string { return string(str(nil, text)) }

// rig is a Config that is open, with a disk, a clock and HDFS.
type rig struct {
	*Config
	mem  *vfs.Mem
	now  time.Time
	hdfs func(authority, path string) ([]byte, error)
}

func open(t testing.TB, kv ...string) *rig {
	t.Helper()
	r := &rig{Config: config(t, append([]string{"serializer", flumesClass}, kv...)...), mem: vfs.NewMem(), now: time.UnixMilli(1)}
	env := sourcetest.NewEnv(t, "k")
	env.FS, env.Now = r.mem, func() time.Time { return r.now }
	r.Open(env, func(authority, path string, limit int64) ([]byte, error) {
		b, err := r.hdfs(authority, path)
		return b[:min(int64(len(b)), limit)], err
	})
	return r
}

func put(t testing.TB, r *rig, path, text string) {
	t.Helper()
	if err := vfs.MakeDir(r.mem, filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(r.mem, path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// written is a file of events, which must all have the same schema.
func written(t *testing.T, r *rig, events []core.Event) formattest.File {
	t.Helper()
	p, err := r.Prepare(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if why := p.Refused(i); why != nil {
			t.Fatal(why)
		}
	}
	if to := p.Run(0, len(events)); to != len(events) {
		t.Fatalf("the file ends with event %d", to)
	}
	f, err := formattest.DecodeBodies(all(r.New(p.Schema(0)), events))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// flume: TestAvroEventSerializer testNoCompression testNullCompression testDeflateCompression testSnappyCompression
func TestAvroBodies(t *testing.T) {
	want := []string{datum1("yo man!"), datum1("2nd message!"), datum1("x1ms3")}
	for codec, named := range map[string]string{"": "null", "null": "null", "deflate": "deflate", "snappy": "snappy", "bzip2": "bzip2", "zstandard": "zstandard", "lzma": ""} {
		var kv []string
		if codec != "" {
			kv = []string{"serializer.compressionCodec", codec}
		}
		r := open(t, kv...)
		var events []core.Event
		for _, body := range want {
			events = append(events, event(body, headerLiteral, " "+strings.ReplaceAll(message, ",", ", ")+"\n"))
		}
		f := written(t, r, events)
		if !slices.Equal(f.Bodies, want) || f.Meta["avro.schema"] != message || f.Meta["avro.codec"] != named {
			t.Errorf("%q: %q, %v", codec, f.Bodies, f.Meta)
		}
	}
}

// flume: TestAvroEventSerializer testSchemaUrl testStaticSchemaUrl testBothUrls
func TestSchemaURLs(t *testing.T) {
	const other = `{"type":"fixed","name":"Other","size":4}`
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/schema", http.StatusFound)
			return
		}
		fmt.Fprint(w, message)
	}))
	defer web.Close()
	for name, c := range map[string]struct{ static, header, literal string }{
		"header":             {"", "file:///s/message.avsc", ""},
		"static":             {"file:///s/message.avsc", "", ""},
		"both":               {"file:///s/other.avsc", "file:/s/message.avsc", ""},
		"URL before literal": {"", "file://localhost/s/message.avsc", other},
		"literal first":      {"file:///s/other.avsc", "", message},
		"http":               {"", web.URL + "/schema", ""},
		"redirected":         {web.URL + "/moved", "", ""},
		"hdfs":               {"", "HDFS://cluster:8020/message.avsc", ""},
		"hdfs, Hadoop's own": {"hdfs:///message.avsc", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var kv, h []string
			if c.static != "" {
				kv = []string{"serializer.schemaURL", c.static}
			}
			if c.header != "" {
				h = append(h, headerURL, c.header)
			}
			if c.literal != "" {
				h = append(h, headerLiteral, c.literal)
			}
			r := open(t, kv...)
			r.hdfs = func(authority, path string) ([]byte, error) {
				if strings.Contains(name, "own") != (authority == "") || path != "/message.avsc" {
					t.Errorf("asked for %q %q", authority, path)
				}
				return []byte(message), nil
			}
			put(t, r, "/s/message.avsc", message)
			put(t, r, "/s/other.avsc", other)
			before := asked
			for range 3 { // files
				f := written(t, r, []core.Event{event(datum1("abc"), h...), event(datum1("def"), h...)})
				if f.Meta["avro.schema"] != message || len(f.Bodies) != 2 {
					t.Errorf("%v %q", f.Meta, f.Bodies)
				}
			}
			if n := asked - before; n > 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What can never be written is refused, each event by itself; what may be there
// later is waited for.
func TestNoSchema(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/secret":
			w.WriteHeader(http.StatusForbidden)
		case "/long":
			fmt.Fprint(w, message, strings.Repeat(" ", maxBodySchema))
		case "/json":
			fmt.Fprint(w, `{"password":"swordfish"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer web.Close()
	for name, c := range map[string]struct {
		key, value, want string
		lasting          bool
	}{
		"none":          {"k", "v", "set its header flume.avro.schema.url", true},
		"hash":          {headerHash, "576db290321974f9", "schemaType = LITERAL", true},
		"no JSON":       {headerLiteral, "{", "flume.avro.schema.literal: schema is no JSON", true},
		"no schema":     {headerLiteral, `{"a":1}`, "has no type", true},
		"long literal":  {headerLiteral, `"` + strings.Repeat("x", maxBodySchema) + `"`, "longer than 1048576", true},
		"no URL":        {headerURL, "", "is no URL of a schema", true},
		"a path":        {headerURL, "/s.avsc", "is no URL of a schema", true},
		"another":       {headerURL, "ftp://h/s.avsc", "is no URL of a schema", true},
		"a user":        {headerURL, "http://u:swordfish@h/s.avsc", "with a user in it", true},
		"a strange one": {headerURL, "http://swordfish@h:port/%", "is no URL of a schema", true},
		"no file":       {headerURL, "file:///absent", "fetch file:///absent", true},
		"a directory":   {headerURL, "file:///s", "not a regular file", true},
		"not found":     {headerURL, web.URL + "/x?token=swordfish", "/x: 404 Not Found", true},
		"too long":      {headerURL, web.URL + "/long", "more than 1048576 bytes", true},
		"other JSON":    {headerURL, web.URL + "/json", "/json has no Avro schema", true},
		"not in HDFS":   {headerURL, "hdfs://h/absent", "does not exist", true},
		"busy":          {headerURL, web.URL + "/busy?token=swordfish", "/busy: 503", false},
		"no rights":     {headerURL, web.URL + "/secret", "403", false},
		"nobody":        {headerURL, "http://127.0.0.1:1/s?token=swordfish", "connection refused", false},
		"HDFS is down":  {headerURL, "hdfs://h/down", "no answer", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			put(t, r, "/s/x", "")
			r.hdfs = func(_, path string) ([]byte, error) {
				if path == "/down" {
					return nil, errors.New("no answer")
				}
				return nil, fs.ErrNotExist
			}
			events := []core.Event{event(datum1("a"), headerLiteral, message), event(datum1("b"), c.key, c.value), event(datum1("c"), headerLiteral, message)}
			p, err := r.Prepare(t.Context(), events)
			if c.lasting {
				if err != nil || p.Refused(0) != nil || p.Refused(2) != nil || p.Schema(0) != p.Schema(2) {
					t.Fatalf("%v", err)
				}
				if p.Run(0, 3) != 1 {
					t.Error("the run goes on over what is refused")
				}
				err = p.Refused(1)
			}
			if err == nil || core.IsPermanent(err) != c.lasting || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A fault of the configuration costs no event, and is known at the start where that can be.
func TestStaticURLIsWrong(t *testing.T) {
	r := open(t, "serializer.schemaURL", "file:///s/later.avsc")
	e := []core.Event{event(datum1("a"))}
	for _, text := range []string{"", "{}"} {
		if text != "" {
			put(t, r, "/s/later.avsc", text)
		}
		if _, err := r.Prepare(t.Context(), e); err == nil || core.IsPermanent(err) || !strings.Contains(err.Error(), "serializer.schemaURL") {
			t.Errorf("%q: %v", text, err)
		}
		r.now = r.now.Add(failedFor)
	}
	put(t, r, "/s/later.avsc", message)
	if f := written(t, r, e); len(f.Bodies) != 1 {
		t.Errorf("%q", f.Bodies)
	}
	for _, bad := range []string{"/s.avsc", "ftp://h/s", "http://u:p@h/s", "file://host/s"} {
		if _, faults := bind(t, map[string]string{"serializer": "AVRO", "serializer.schemaURL": bad}); !faults.HasErrors() {
			t.Errorf("%s is taken", bad)
		}
	}
	if _, faults := bind(t, map[string]string{"serializer": "AVRO_EVENT", "serializer.schemaURL": "file:///s"}); len(faults) != 1 || faults.HasErrors() {
		t.Errorf("with AVRO_EVENT: %v", faults)
	}
}

// What a URL gave is asked for again after a while, and stays good when it is gone.
func TestSchemaIsFetchedAgain(t *testing.T) {
	r := open(t)
	put(t, r, "/s/a.avsc", message)
	schema := func() string {
		p, err := r.Prepare(t.Context(), []core.Event{event("\x00", headerURL, "file:///s/a.avsc")})
		if err != nil || p.Refused(0) != nil {
			t.Fatal(err, p.Refused(0))
		}
		return p.Schema(0).text
	}
	if got := schema(); got != message {
		t.Error(got)
	}
	put(t, r, "/s/a.avsc", `"string"`)
	r.now = r.now.Add(freshFor - 1)
	if got := schema(); got != message {
		t.Errorf("at once: %s", got)
	}
	r.now = r.now.Add(1)
	if got := schema(); got != `"string"` {
		t.Errorf("later: %s", got)
	}
	if err := r.mem.Remove("/s/a.avsc"); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(freshFor)
	if got := schema(); got != `"string"` {
		t.Errorf("gone: %s", got)
	}
}

// Of a body that is no value of its schema nobody could read what comes behind it.
func TestBodyIsNoDatum(t *testing.T) {
	r := open(t)
	for body, want := range map[string]string{"": "ends too early", "\x04a": "ends too early", "\x02ab": "1 of its 3 bytes are behind"} {
		p, err := r.Prepare(t.Context(), []core.Event{event(body, headerLiteral, message), event(datum1("ok"), headerLiteral, message)})
		if err != nil || p.Refused(1) != nil || p.Refused(0) == nil || !strings.Contains(p.Refused(0).Error(), want) {
			t.Errorf("%q: %v %v", body, err, p.Refused(0))
		}
	}
}

// What is remembered has a limit, and what is forgotten is found again.
func TestManySchemas(t *testing.T) {
	r := open(t)
	for i := range maxKnown + 10 {
		doc := strings.Repeat("x", 100<<10)
		literal := fmt.Sprintf(`{"type":"fixed","name":"F%d","doc":%q,"size":1}`, i, doc)
		p, err := r.Prepare(t.Context(), []core.Event{event("x", headerLiteral, literal)})
		if err != nil || p.Schema(0) == nil {
			t.Fatal(err, p.Refused(0))
		}
		if s := r.schemas; len(s.known) > maxKnown || s.bytes > maxKnownBytes {
			t.Fatalf("%d schemas in %d bytes are remembered", len(s.known), s.bytes)
		}
	}
}

// A fetch that hangs ends with the delivery.
func TestFetchEnds(t *testing.T) {
	hang := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer web.Close()
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := open(t).Prepare(ctx, []core.Event{event("x", headerURL, web.URL)})
	if !errors.Is(err, context.DeadlineExceeded) || core.IsPermanent(err) {
		t.Errorf("%v", err)
	}
}

// Opening a pipe would wait for a writer.
func TestPipeIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	f := newFetcher(core.Env{FS: vfs.OS()}, nil)
	if _, err := f.schema(t.Context(), "file://"+path); !core.IsPermanent(err) {
		t.Errorf("%v", err)
	}
	if _, err := f.schema(t.Context(), "hdfs://h/x"); !errors.Is(err, errNoHDFS) {
		t.Errorf("%v", err)
	}
}

// Files go on with the schema that they have.
func TestBodiesResume(t *testing.T) {
	one, err := parseBodySchema(message)
	if err != nil {
		t.Fatal(err)
	}
	two, err := parseBodySchema(`"string"`)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, "serializer", "avro", "serializer.compressionCodec", "snappy")
	state := c.New(one).State()
	if !c.Fits(state, one) || !c.Fits(state, nil) || c.Fits(state, two) || c.Fits("", one) || config(t, "serializer", "avro").Fits(state, one) {
		t.Errorf("%q", state)
	}
	s := c.New(nil)
	if !s.Resume(state) || s.State() != state {
		t.Errorf("%q became %q", state, s.State())
	}
}

// FuzzBodySchema writes any body with any schema; what is taken can be read.
func FuzzBodySchema(f *testing.F) {
	f.Add(message, []byte(datum1("a")), "file:///s")
	f.Add(`["null",{"type":"array","items":"long"}]`, []byte("\x02\x02\x02\x00"), "http://h/%zz")
	f.Add(`"null"`, []byte{}, "hdfs:x")
	f.Fuzz(func(t *testing.T, literal string, body []byte, url string) {
		if u, err := parseURL(url); err == nil && u.User != nil {
			t.Fatalf("%s has a user", url)
		}
		schema, err := parseBodySchema(literal)
		if err != nil || schema.check(body) != nil {
			return
		}
		events := []core.Event{event(string(body)), event(string(body))}
		file, err := formattest.DecodeBodies(all(newDatum(100, "null", schema), events))
		if err != nil || len(file.Bodies) != 2 || file.Bodies[1] != string(body) {
			t.Fatalf("%s: %q %v", schema.text, file.Bodies, err)
		}
	})
}
