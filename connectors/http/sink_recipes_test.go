package http

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// recipe returns the keys of a section of the README, which lead to f instead.
func recipe(t *testing.T, f *farEnd, section string, more map[string]string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n### "+section+"\n")
	_, rest, _ = strings.Cut(rest, "```properties\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("README.md has no recipe for %s", section)
	}
	keys := map[string]string{}
	for line := range strings.Lines(block) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		keys[strings.TrimPrefix(key, "a1.sinks.k1.")] = value
	}
	delete(keys, "type")
	if _, faults := conf.Bind(Sink.New(), keys); len(faults) > 0 {
		t.Fatal(faults)
	}
	f.Start()
	_, path, _ := strings.Cut(strings.SplitN(keys["endpoint"], "://", 2)[1], "/")
	keys["endpoint"] = f.URL + "/" + path
	delete(keys, "truststore") // f speaks no TLS
	maps.Copy(keys, more)
	return keys
}

// elastic stands for Elasticsearch and OpenSearch: it checks a request to
// _bulk as they do and answers in their form.
type elastic struct {
	ids  map[string]bool
	item func(body string) (status int, kind string) // what becomes of a document; nil: 201
}

func (e *elastic) bulk(w http.ResponseWriter, g got) (bodies []string) {
	refuse := func(reason string) []string {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"error":{"root_cause":[],"type":"illegal_argument_exception","reason":%q},"status":400}`, reason)
		return nil
	}
	index, ok := strings.CutSuffix(g.path, "/_bulk")
	index = index[strings.LastIndexByte(index, '/')+1:]
	kind, _, _ := strings.Cut(g.header.Get("Content-Type"), ";")
	lines := strings.Split(g.body, "\n")
	switch {
	case g.method != "POST" || !ok:
		return refuse("no handler for " + g.method + " " + g.path)
	case kind != "application/x-ndjson" && kind != "application/json":
		return refuse("Content-Type header [" + kind + "] is not supported")
	case g.header.Get("Accept") != "application/json":
		return refuse("Accept header is not supported")
	case lines[len(lines)-1] != "":
		return refuse("The bulk request must be terminated by a newline [\\n]")
	case len(lines)%2 != 1:
		return refuse("Malformed action/metadata line")
	}
	var items []string
	errors := false
	for i := 0; i+1 < len(lines); i += 2 {
		var action map[string]struct {
			Index string `json:"_index"`
			ID    string `json:"_id"`
		}
		var doc map[string]any
		if json.Unmarshal([]byte(lines[i]), &action) != nil || len(action) != 1 {
			return refuse("Malformed action/metadata line [" + strconv.Itoa(i+1) + "]")
		}
		for verb, to := range action {
			if to.Index == "" && index == "" {
				return refuse("Validation Failed: 1: index is missing;")
			}
			status, kind := 201, ""
			if json.Unmarshal([]byte(lines[i+1]), &doc) != nil {
				status, kind = 400, "document_parsing_exception"
			}
			body, _ := doc["message"].(string)
			if e.item != nil && status == 201 {
				status, kind = e.item(body)
			}
			if verb == "create" && e.ids[to.ID] {
				status, kind = 409, "version_conflict_engine_exception"
			}
			meta := fmt.Sprintf(`"_index":%q,"_id":%q,"_shards":{"total":2},`, to.Index, to.ID)
			if strings.Contains(g.query, "filter_path=errors,items.*.status,items.*.error") {
				meta = ""
			}
			if status == 201 {
				bodies = append(bodies, body)
				if to.ID != "" {
					e.ids[to.ID] = true
				}
				items = append(items, fmt.Sprintf(`{%q:{%s"status":201}}`, verb, meta))
			} else {
				errors = true
				items = append(items, fmt.Sprintf(`{%q:{%s"status":%d,"error":{"type":%q,"reason":"so it is","caused_by":{"type":"x"}}}}`, verb, meta, status, kind))
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	took := `"took":7,`
	if strings.Contains(g.query, "filter_path=") {
		took = ""
	}
	fmt.Fprintf(w, `{%s"errors":%v,"items":[%s]}`, took, errors, strings.Join(items, ","))
	return bodies
}

// The recipe for Elasticsearch and OpenSearch.
func TestElasticsearch(t *testing.T) {
	e := &elastic{ids: map[string]bool{}}
	f := newFarEnd(t, e.bulk)
	in := openSink(t, f, recipe(t, f, "Elasticsearch and OpenSearch", map[string]string{"elasticsearch.id": "%{id}"}))
	defer in.Close()
	events := []core.Event{
		event("one", "app", "shop", "id", "1", "timestamp", "1700000000123"),
		event("two\n\"quoted\"", "app", "shop", "id", "2", "message", "not this one", "@timestamp", "nor this"),
		event("", "app", "bank"),
		event("\xffx", "timestamp", "yesterday"),
	}
	if got := deliver(t, in, events...).fate(); got != (fate{acked: 4}) {
		t.Fatalf("%+v", got)
	}
	want := []string{
		`{"create":{"_index":"logs-shop-default","_id":"1"}}`,
		`{"app":"shop","id":"1","@timestamp":"2023-11-14T22:13:20.123Z","message":"one"}`,
		`{"create":{"_index":"logs-shop-default","_id":"2"}}`,
		`{"app":"shop","id":"2","@timestamp":"2026-01-02T03:04:05.678Z","message":"two\n\"quoted\""}`,
		`{"create":{"_index":"logs-bank-default"}}`,
		`{"app":"bank","@timestamp":"2026-01-02T03:04:05.678Z","message":""}`,
		`{"create":{"_index":"logs--default"}}`,
		`{"@timestamp":"2026-01-02T03:04:05.678Z","message":"` + "\uFFFD" + `x"}`,
	}
	if got := linesOf(f.requests()[0].body); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if user, _, ok := (&http.Request{Header: f.requests()[0].header}).BasicAuth(); !ok || user != "millrace" {
		t.Errorf("user %q", user)
	}
	if n := in.Sink.(*sink).mangled.Load(); n != 1 {
		t.Errorf("%d bodies that are not UTF-8", n)
	}
	// The same again, as after an answer that was lost: what has an id is there already.
	if got := deliver(t, in, events[:2]...).fate(); got != (fate{acked: 2}) || len(f.seen()) != 4 {
		t.Errorf("%+v, and there are %d documents", got, len(f.seen()))
	}
}

// Documents are taken, refused and tried again one by one.
func TestElasticsearchItems(t *testing.T) {
	e := &elastic{item: func(body string) (int, string) {
		status, kind, _ := strings.Cut(body, " ")
		n, _ := strconv.Atoi(status)
		return n, kind
	}}
	f := newFarEnd(t, e.bulk)
	in := openSink(t, f, map[string]string{"format": formatBulk})
	defer in.Close()
	d := deliver(t, in, texts("201 a", "400 mapper_parsing_exception", "201 b", "429 es_rejected_execution_exception",
		"503 unavailable_shards_exception", "403 cluster_block_exception", "404 index_not_found_exception", "409 version_conflict_engine_exception", "201 c")...)
	if !slices.Equal(d.acked, []int{0, 2, 8}) || len(d.refused) != 3 || d.rolled == nil {
		t.Fatalf("acked %v, refused %v, rolled back %v", d.acked, d.refused, d.rolled)
	}
	if why := d.refused[1].Error(); why != "document refused with 400 mapper_parsing_exception: so it is" {
		t.Error(why)
	}
	if why := d.rolled.Error(); why != "3 of 9 documents not taken now, the first: document refused with 429 es_rejected_execution_exception: so it is" {
		t.Error(why)
	}
	if d.refused[6] == nil || d.refused[7] == nil {
		t.Errorf("refused %v", d.refused)
	}
}

// A body that is a document is sent as it is, on one line; another can not be sent.
func TestDocumentIsBody(t *testing.T) {
	f := newFarEnd(t, func(http.ResponseWriter, got) []string { return nil })
	in := openSink(t, f, map[string]string{"format": formatJSONLines, "document": "body"})
	d := deliver(t, in, texts("{\"a\": 1,\n \"b\":\"\\u00e9 x\"}", `plain`, `{"a":`, `[1]`, `{} {}`, ` {"c":1.50} `)...)
	in.Close()
	if !slices.Equal(d.acked, []int{0, 5}) || len(d.refused) != 4 {
		t.Fatalf("acked %v, refused %v", d.acked, d.refused)
	}
	if got := f.requests()[0].body; got != "{\"a\":1,\"b\":\"\\u00e9 x\"}\n{\"c\":1.50}\n" {
		t.Errorf("%q", got)
	}
	f = newFarEnd(t, func(w http.ResponseWriter, g got) []string { return new(elastic).bulk(w, g) })
	in = openSink(t, f, map[string]string{"format": formatBulk, "document": "body"})
	d = deliver(t, in, texts(`{"message":"one"}`, "no", `{"message":"two"}`)...)
	in.Close()
	if got := f.seen(); !slices.Equal(got, []string{"one", "two"}) || !slices.Equal(d.acked, []int{0, 2}) {
		t.Errorf("%q, acked %v, refused %v", got, d.acked, d.refused)
	}
}

// push3100 stands for Loki: it checks a push as Loki does.
func push3100(w http.ResponseWriter, g got) (bodies []string) {
	refuse := func(reason string) []string {
		http.Error(w, reason, 400)
		return nil
	}
	var push struct {
		Streams []struct {
			Stream map[string]string
			Values [][]json.RawMessage
		}
	}
	if kind, _, _ := strings.Cut(g.header.Get("Content-Type"), ";"); kind != "application/json" {
		return refuse("snappy: corrupt input") // it takes anything else for protobuf
	}
	if err := json.Unmarshal([]byte(g.body), &push); err != nil {
		return refuse(err.Error())
	}
	for _, s := range push.Streams {
		if len(s.Stream) == 0 {
			return refuse("error at least one label pair is required per stream")
		}
		for name := range s.Stream {
			if !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(name) {
				return refuse("error parsing labels")
			}
		}
		for _, v := range s.Values {
			var ns, line string
			meta := map[string]string{}
			if len(v) < 2 || len(v) > 3 || json.Unmarshal(v[0], &ns) != nil || json.Unmarshal(v[1], &line) != nil || len(v) == 3 && json.Unmarshal(v[2], &meta) != nil {
				return refuse("error parsing values")
			}
			if n, err := strconv.ParseInt(ns, 10, 64); err != nil || n < 1e18 {
				return refuse("timestamp too old")
			}
			bodies = append(bodies, line)
		}
	}
	w.WriteHeader(204)
	return bodies
}

// The recipe for Loki.
func TestLoki(t *testing.T) {
	f := newFarEnd(t, push3100)
	in := openSink(t, f, recipe(t, f, "Loki", nil))
	defer in.Close()
	d := deliver(t, in,
		event("one", "app", "shop", "timestamp", "1700000000123"),
		event("two", "app", "bank", "host", "web-1", "user", `"x"`),
		event("three \"3\"\n", "app", "shop", "timestamp", "9223372036855"), // 1 ms more than epoch ns can say
		event("four"),
	)
	if got := d.fate(); got != (fate{acked: 4}) {
		t.Fatalf("%+v %v", got, d.rolled)
	}
	r := f.requests()[0]
	ns := strconv.FormatInt(born.UnixNano(), 10)
	want := `{"streams":[{"stream":{"app":"shop","job":"millrace"},"values":[["1700000000123000000","one"],["` + ns + `","three \"3\"\n"]]},` +
		`{"stream":{"app":"bank","job":"millrace"},"values":[["` + ns + `","two",{"host":"web-1","user":"\"x\""}]]},` +
		`{"stream":{"job":"millrace"},"values":[["` + ns + `","four"]]}]}`
	if r.body != want || r.header.Get("X-Scope-OrgID") != "tenant-1" {
		t.Errorf("got  %s\nwant %s", r.body, want)
	}
}

// An event without labels is refused alone, and what is too much for one request goes into the next.
func TestLokiLimits(t *testing.T) {
	f := newFarEnd(t, push3100)
	in := openSink(t, f, map[string]string{"format": formatLoki, "loki.labels.app": "%{app}", "maxRequestBytes": "400"})
	defer in.Close()
	var events []core.Event
	var want []string
	for i := range 20 {
		body := fmt.Sprintf("line %02d %s", i, strings.Repeat("x", 50))
		if i == 7 {
			events = append(events, event(body))
			continue
		}
		events = append(events, event(body, "app", "shop"))
		want = append(want, body)
	}
	d := deliver(t, in, events...)
	if len(d.acked) != 19 || len(d.refused) != 1 || d.refused[7] == nil {
		t.Errorf("acked %v, refused %v", d.acked, d.refused)
	}
	if got := f.seen(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, r := range f.requests() {
		if len(r.body) > 400 {
			t.Errorf("%d bytes in a request", len(r.body))
		}
	}
}

// victoria stands for VictoriaLogs: it checks what its jsonline interface wants.
func victoria(w http.ResponseWriter, g got) (bodies []string) {
	q, err := url.ParseQuery(g.query)
	if err != nil || g.path != "/insert/jsonline" || q.Get("_stream_fields") == "" {
		http.Error(w, "unsupported path or arguments", 400)
		return nil
	}
	for line := range strings.Lines(g.body) {
		var m map[string]string
		if json.Unmarshal([]byte(line), &m) != nil {
			http.Error(w, "cannot parse line", 400)
			return nil
		}
		if _, err := time.Parse(time.RFC3339, m[q.Get("_time_field")]); err != nil {
			http.Error(w, err.Error(), 400)
			return nil
		}
		bodies = append(bodies, m["host"]+" "+m[q.Get("_msg_field")])
	}
	return bodies
}

// The recipe for VictoriaLogs.
func TestVictoriaLogs(t *testing.T) {
	f := newFarEnd(t, victoria)
	in := openSink(t, f, recipe(t, f, "VictoriaLogs", nil))
	defer in.Close()
	d := deliver(t, in, event("one", "host", "web-1", "timestamp", "1700000000123"), event("two\n{", "host", "web-2"), event("three", "_msg", "x"))
	if got := f.seen(); d.fate() != (fate{acked: 3}) || !slices.Equal(got, []string{"web-1 one", "web-2 two\n{", " three"}) {
		t.Errorf("%q, %+v, %v", got, d.fate(), d.rolled)
	}
	if kind := f.requests()[0].header.Get("Content-Type"); kind != "application/stream+json" {
		t.Error(kind)
	}
}

// What the other formats look like.
func TestShapes(t *testing.T) {
	events := []core.Event{event("one", "h", "1"), event(""), event("two", "timestamp", "0")}
	for _, c := range []struct {
		keys       map[string]string
		want, kind string
	}{
		{map[string]string{"format": formatLines}, "one\ntwo\n", "text/plain"},
		{map[string]string{"format": formatJSONLines}, `{"h":"1","message":"one"}` + "\n" + `{"message":""}` + "\n" + `{"timestamp":"0","message":"two"}` + "\n", "application/x-ndjson"},
		{
			map[string]string{"format": formatJSONArray, "document.headersField": "headers", "document.timeField": "t", "document.bodyField": "body"},
			`[{"headers":{"h":"1"},"t":"2026-01-02T03:04:05.678Z","body":"one"},{"headers":{},"t":"2026-01-02T03:04:05.678Z","body":""},` +
				`{"headers":{"timestamp":"0"},"t":"1970-01-01T00:00:00.000Z","body":"two"}]`, "application/json",
		},
		{map[string]string{"format": formatFlume}, `[{"headers":{"h":"1"},"body":"one"},{"headers":{},"body":""},{"headers":{"timestamp":"0"},"body":"two"}]`, "application/json"},
	} {
		f := newFarEnd(t, func(http.ResponseWriter, got) []string { return nil })
		keys := map[string]string{"method": "put", "headers.X-A": "b", "headers.Host": "logs.test"}
		maps.Copy(keys, c.keys)
		in := openSink(t, f, keys)
		d := deliver(t, in, events...)
		in.Close()
		r := f.requests()[0]
		if d.fate() != (fate{acked: 3}) || r.body != c.want || r.header.Get("Content-Type") != c.kind || r.method != "PUT" || r.header.Get("X-A") != "b" {
			t.Errorf("%+v\n got %+v\nwant %s", d.fate(), r, c.want)
		}
	}
}

func TestReadBulk(t *testing.T) {
	for _, c := range []struct {
		text string
		want []itemFault
		err  string
	}{
		{`{"took":1,"errors":false,"items":[{"create":{"status":201}}]}`, nil, ""},
		{`{"errors":false}`, nil, ""},
		{`{"items":[{"index":{"status":201}},{"index":{"error":"old text","status":400}}],"errors":true}`, []itemFault{{1, 400, "", "old text"}}, ""},
		{`{"errors":true,"items":[{"create":{"status":429,"error":{"type":"t","reason":"r"}}},{"create":{"status":200}}]}`, []itemFault{{0, 429, "t", "r"}}, ""},
		{`{"errors":true,"items":[{"create":{"status":201}},{}]}`, []itemFault{{item: 1}}, ""},
		{`{"errors":true,"items":[{"create":{"status":201}}]}`, nil, "1 items, the request had 2"},
		{`{"errors":true}`, nil, "0 items"},
		{`{"took":1,"items":[]}`, nil, "does not say"},
		{`{"errors":"no"}`, nil, "does not say"},
		{`{"errors":true,"items":[{"create":{"status":"x"}}]}`, nil, "read answer"},
		{`{"errors":true,"items":[7]}`, nil, "not an object"},
		{`{"errors":true,"items":{}}`, nil, "not an array"},
		{`{"errors":false`, nil, "read answer"},
		{`<html>`, nil, "read answer"},
		{`[]`, nil, "not an object"},
		{``, nil, "read answer"},
	} {
		got, err := readBulk([]byte(c.text), 2)
		if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
	}
}

func FuzzReadBulk(f *testing.F) {
	f.Add([]byte(`{"took":1,"errors":true,"items":[{"create":{"status":429,"error":{"type":"t","reason":"r"}}},{"index":{"status":200}}]}`))
	f.Add([]byte(`{"errors":false,"items":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		faults, err := readBulk(text, 2)
		last := -1
		for _, fault := range faults {
			if fault.item <= last || fault.item > 1 || err != nil {
				t.Fatalf("%v, %v", faults, err)
			}
			last = fault.item
			_ = fault.Error()
		}
	})
}
