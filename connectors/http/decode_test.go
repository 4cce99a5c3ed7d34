package http

import (
	"fmt"
	"strings"
	"testing"
)

// The statuses and events that Flume gives, but for the rows that say "ours".
//
// flume: TestHTTPSource testSimple testSingleEvent testHandlerThrowingException
// flume: TestJSONHandler testMultipleEvents testMultipleEventsUTF8 testSingleEvent testSingleEventInArray
// flume: TestJSONHandler testDeserializarion testEscapedJSON testNoBody testSingleHTMLEvent testBadEvent testError
// flume: TestEventBuilder testJsonEventUnsupportedEncoding
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		code              int
		events            string
	}{
		{"application/json", `[{"headers":{"a":"b"},"body":"x"}]`, 200, `{a=b}"x"`},
		{"application/json", `[{"body":"x"}]`, 200, `{}"x"`},
		{"application/json", `[{"headers":{}}]`, 200, `{}""`},
		{"application/json", `[]`, 200, ``},
		{"application/json", `[{"headers":{"n":1,"t":true,"z":null},"body":5,"extra":1}]`, 200, `{n=1,t=true,z=}"5"`},
		{"application/json", `[{body:'x'}]`, 200, `{}"x"`},
		{"application/json", `[{"headers":{"n":{}},"body":"x"}]`, 400, ``},
		{"application/json", `{"body":"x"}`, 400, ``},
		{"application/json", `[{"headers":{"a":"1","a":"2"},"body":"x"}]`, 400, ``},
		{"application/json", `[{"body":"x"}] trailing`, 400, ``},
		{"application/json", `[{"body":"x"}] []`, 400, ``},
		{"application/json", `[{"a": "b",["d":"e"],`, 400, ``},
		{"application/json", `[null]`, 500, ``},
		{"application/json", `[{"body":"x"},null]`, 500, ``},
		{"application/json", `[null,{"a": "b",["d"`, 400, ``},
		{"application/json", `null`, 500, ``},
		{"application/json", ``, 500, ``},
		{"application/json", "  \n", 500, ``},
		{"application/json; charset=ISO-8859-1", `[]`, 500, ``},
		{"application/json; charset=klingon", `[]`, 500, ``},
		{"application/json; charset=utf-16le", `[]`, 500, ``},
		{"application/json; Charset=\"utf-8\"", `[{"body":"é"}]`, 200, `{}"é"`},
		{"", `[{"body":"é"}]`, 200, `{}"é"`}, // ours: Flume encodes it twice
		{"application/x-www-form-urlencoded", `[{"body":"x"}]`, 200, `{}"x"`},
		{"application/json", `[{"body":"<html><body class=\"a\">x & y</body></html>"}]`, 200, `{}"<html><body class=\"a\">x & y</body></html>"`},
		{"text/plain", ` [{"body":"x"}]`, 200, `{}"x"`},

		{"application/json", `[[]]`, 400, ``},
		{"application/json", `["x"]`, 400, ``},
		{"application/json", `[{"body":{}}]`, 400, ``},
		{"application/json", `[{"headers":[]}]`, 400, ``},
		{"application/json", `[{"headers":"x"}]`, 400, ``},
		{"application/json", `[{"body":null,"headers":null}]`, 200, `{}""`},
		{"application/json", `[{"body":"x","body":"y"}]`, 200, `{}"y"`},
		{"application/json", `[{"body":1.50},{"body":-0},{"body":1E+3},{"body":false}]`, 200, `{}"1.50" {}"-0" {}"1E+3" {}"false"`},
		{"application/json", `[{"b\u006fdy":"x","he\u0061ders":{"a":"b"}}]`, 200, `{a=b}"x"`},
		{"application/json", `[{"body":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}]`, 200, `{}"\"\\/\b\f\n\r\té😀"`},
		{"application/json", "[{\"body\":\"a\xffb\",\"headers\":{\"\xff\":\"\xff\"}}]", 200, "{\ufffd=\ufffd}\"a\ufffdb\""},
		{"application/json", `[{"body":"\ud800"}]`, 200, "{}\"\ufffd\""},
		{"application/json", "\xef\xbb\xbf[{\"body\":\"x\"}]", 200, `{}"x"`},
		{"application/json", `[{"x":{"y":[1,{"z":null}]},"body":"x","w":[[],{}]}]`, 200, `{}"x"`},
		{"application/json", `[{"headers": { "a" : "b" , "c" : 1 , "d":"}{" } }, {"headers":{"a":"b"}},{"headers":{"a":"b"}}]`, 200, `{a=b,c=1,d=}{}"" {a=b}"" {a=b}""`},
		{"application/json", `[{"headers":{"\u0061\n":"\u0062"}}]`, 200, "{a\n=b}\"\""},
		{"application/json", `[{"headers":{"\u0061":"1","a":"2"}}]`, 400, ``},

		{"application/json", `/* c */ [ # c` + "\n" + `{'body' = "x", headers => {a:b; c='d"e'}};{body:TRUE}] `, 200, `{a=b,c=d"e}"x" {}"true"`},
		{"application/json", ")]}'\n[{body:x}]", 200, `{}"x"`},
		{"application/json", "[{\"body\":\"a\nb\tc\"}]", 200, `{}"a\nb\tc"`},
		{"application/json", `[{"body":'it\'s "it"'}]`, 200, `{}"it's \"it\""`},
		{"application/json", `[{"headers":{'a':'}{'}}]`, 200, `{a=}{}""`},
		{"application/json", `[{"body":"x"},]`, 500, ``},
		{"application/json", `[,]`, 500, ``},
		{"application/json", `[{"body":"x",}]`, 400, ``},
		{"application/json", `[{"body":"x"}] // c`, 400, ``},
		{"application/json", `[{body:'x'}] // c`, 400, ``},
		{"application/json", `[{"body":"\x"}]`, 400, ``},
		{"application/json", `[{body:'x}]`, 400, ``},
		{"application/json", `[{body:}]`, 400, ``},
		{"application/json", `[{body 'x'}]`, 400, ``},
		{"application/json", `[{"body":"\uzzzz"}]`, 400, ``},
		{"application/json", `[{a:/* c`, 400, ``},
		{"application/json", `[{"a":` + strings.Repeat("[", 20000) + `}]`, 400, ``},
		{"application/json", `[{"headers":` + strings.Repeat(`{"a":`, 20000), 400, ``},
		{"application/json", strings.Repeat("[", 1<<20), 400, ``},
		{"application/json", `[{a:` + strings.Repeat(`{a:`, 20000), 400, ``},
	} {
		in := start(t, nil)
		got := ask(t, in, "POST", "/", c.body, "Content-Type: "+c.contentType)
		if got.code != c.code {
			t.Errorf("%.100q: %d %s, want %d", c.body, got.code, got.text, c.code)
		}
		if events := shown(in.Events()); events != c.events {
			t.Errorf("%.100q: events %s, want %s", c.body, events, c.events)
		}
		in.stop()
	}
}

func TestManyHeaders(t *testing.T) {
	in := start(t, nil)
	set := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"h%d":%d`, i, i)
		}
		return `[{"headers":{` + b.String()[1:] + `}}]`
	}
	if got := ask(t, in, "POST", "/", set(maxHeaders)); got.code != 200 {
		t.Errorf("%+v", got)
	}
	if got := ask(t, in, "POST", "/", set(maxHeaders+1)); got.code != 400 {
		t.Errorf("%+v", got)
	}
	if h := in.Events()[0].Headers; h.Len() != maxHeaders || h.Value("h255") != "255" {
		t.Errorf("headers %v", h)
	}
}

// Equal headers of one request are one value, whether or not they are neighbours.
func TestSharedHeaders(t *testing.T) {
	in := start(t, nil)
	ask(t, in, "POST", "/", `[{"headers":{"a":"1"}},{"headers":{"a":"2"}},{"headers":{"a":"1"}},{"headers":{"a":"2"}}]`)
	e := in.Events()
	if len(e) != 4 || e[0].Headers != e[2].Headers || e[1].Headers != e[3].Headers || e[0].Headers == e[1].Headers {
		t.Errorf("events %s", shown(e))
	}
}

// A body is in the request's charset, as Java encodes it.
//
// flume: TestHTTPSource testSimpleUTF16 testBigBatchDeserializationUTF16 testBigBatchDeserializationUTF32
// flume: TestJSONHandler testMultipleEventsUTF16 testMultipleEventsUTF32
func TestWideCharsets(t *testing.T) {
	const text = `[{"headers":{"h":"é"},"body":"é"},{"body":"\u00e9"},{}]`
	for name, want := range map[string]string{
		"UTF-16": `{h=é}"\xfe\xff\x00\xe9" {}"\xfe\xff\x00\xe9" {}""`,
		"utf-32": `{h=é}"\x00\x00\x00\xe9" {}"\x00\x00\x00\xe9" {}""`,
	} {
		var big, little strings.Builder
		for _, r := range text {
			if name == "UTF-16" {
				big.WriteString(string([]byte{byte(r >> 8), byte(r)}))
				little.WriteString(string([]byte{byte(r), byte(r >> 8)}))
			} else {
				big.WriteString(string([]byte{0, 0, byte(r >> 8), byte(r)}))
				little.WriteString(string([]byte{byte(r), byte(r >> 8), 0, 0}))
			}
		}
		mark := map[string]string{"UTF-16": "\xff\xfe", "utf-32": "\xff\xfe\x00\x00"}[name]
		for _, body := range []string{big.String(), mark + little.String()} {
			in := start(t, nil)
			if got := ask(t, in, "POST", "/", body, "Content-Type: application/json; charset="+name); got.code != 200 {
				t.Errorf("%s: %+v", name, got)
			}
			if got := shown(in.Events()); got != want {
				t.Errorf("%s: events %s, want %s", name, got, want)
			}
			in.stop()
		}
	}
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		keys              map[string]string
		contentType, body string
		code              int
		events            string
	}{
		{nil, "application/x-ndjson", "{\"a\":1}\n\n{\"b\":2}\r\n[3]", 200, `{q=1}"{\"a\":1}" {q=1}"{\"b\":2}" {q=1}"[3]"`},
		{nil, "text/plain", "one\ntwo\n", 200, `{q=1}"one" {q=1}"two"`},
		{nil, "text/plain; charset=iso-8859-1", "\xe9\n", 200, `{q=1}"é"`},
		{nil, "text/plain; charset=klingon", "x\n", 415, ``},
		{nil, "text/plain", "[INFO] one\n", 400, ``},
		{map[string]string{"handler": "lines"}, "text/plain", "[INFO] one\n", 200, `{q=1}"[INFO] one"`},
		{map[string]string{"handler": "lines"}, "application/json", "[]", 200, `{q=1}"[]"`},
		{map[string]string{"handler": "lines"}, "", "\n\n", 200, ``},
	} {
		in := start(t, c.keys)
		got := ask(t, in, "POST", "/?q=1&q=2", c.body, "Content-Type: "+c.contentType)
		if events := shown(in.Events()); got.code != c.code || events != c.events {
			t.Errorf("%s %q: %d %s, events %s, want %d, %s", c.contentType, c.body, got.code, got.text, events, c.code, c.events)
		}
		in.stop()
	}
}

// flume: TestBLOBHandler testCSVData testTabData
// flume: TestBlobHandler testSingleEvent testEmptyEvent
func TestBlob(t *testing.T) {
	morphline := map[string]string{"handler": "org.apache.flume.sink.solr.morphline.BlobHandler", "handler.maxBlobLength": "5"}
	blob := map[string]string{"handler": "org.apache.flume.source.http.BLOBHandler"}
	strict := map[string]string{"handler": "blob", "handler.mandatoryParameters": "a, b"}
	for _, c := range []struct {
		keys         map[string]string
		method, path string
		body         string
		headers      []string
		code         int
		events       string
	}{
		{blob, "POST", "/x?a=1&b=%C3%A9+2&a=3&c", "x,y\nz", nil, 200, `{a=1,b=é 2,c=}"x,y\nz"`},
		{blob, "POST", "/", "", nil, 200, `{}""`},
		{blob, "GET", "/?a=1", "", nil, 200, `{a=1}""`},
		{blob, "POST", "/", "a=1", []string{"Content-Type: application/x-www-form-urlencoded"}, 200, `{}"a=1"`},
		{blob, "POST", "/", "\x1f\x8b", []string{"Content-Encoding: gzip"}, 200, `{}"\x1f\x8b"`},
		{blob, "POST", "/?a=%zz", "", nil, 400, ``},
		{strict, "POST", "/?a=1&b=2", "x", nil, 200, `{a=1,b=2}"x"`},
		{strict, "POST", "/?a=1", "x", nil, 400, ``},
		{morphline, "POST", "/?a=1", "12345", []string{"Content-Type: text/csv"}, 200, `{Content-Type=text/csv,a=1}"12345"`},
		{morphline, "POST", "/", "123456", nil, 200, `{}"12345"`},
		{morphline, "POST", "/", "", nil, 200, `{}""`},
	} {
		in := start(t, c.keys)
		got := ask(t, in, c.method, c.path, c.body, c.headers...)
		if events := shown(in.Events()); got.code != c.code || events != c.events {
			t.Errorf("%s %q: %d %s, events %s, want %d, %s", c.path, c.body, got.code, got.text, events, c.code, c.events)
		}
		in.stop()
	}
}

// Bodies of all sizes, known and unknown, arrive whole.
func TestBodySizes(t *testing.T) {
	in := start(t, map[string]string{"handler": "blob"})
	var want []string
	for _, n := range []int{0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 262144, 262145, 3 << 20} {
		body := strings.Repeat("abcdefg", n/7+1)[:n]
		want = append(want, body, body)
		if got := ask(t, in, "POST", "/", body); got.code != 200 {
			t.Fatalf("%d bytes: %+v", n, got)
		}
		if got := askChunked(t, in, body); got.code != 200 {
			t.Fatalf("%d bytes in chunks: %+v", n, got)
		}
	}
	for i, got := range in.Bodies() {
		if got != want[i] {
			t.Errorf("body %d has %d bytes, not the %d sent", i, len(got), len(want[i]))
		}
	}
}
