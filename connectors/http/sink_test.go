package http

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// got is a request that arrived.
type got struct {
	method, path, query string
	header              http.Header
	body                string // unzipped
	from                string // the client's address: tells connections apart
}

// farEnd is a server that does what a test says.
type farEnd struct {
	*httptest.Server
	mu     sync.Mutex
	all    []got
	bodies []string // of events, of requests that were answered well
	// answer replaces the answer; nil: take, and answer 200.
	answer func(w http.ResponseWriter, r *http.Request, g got)
	take   func(w http.ResponseWriter, g got) []string
	gone   chan struct{} // ends requests that hang
}

// newFarEnd starts a server. take reads the bodies of a request and answers it.
func newFarEnd(t testing.TB, take func(http.ResponseWriter, got) []string) *farEnd {
	f := &farEnd{take: take, gone: make(chan struct{})}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		close(f.gone)
		f.Server.Close()
	})
	return f
}

func (f *farEnd) serve(w http.ResponseWriter, r *http.Request) {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(in)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		in = z
	}
	text, err := io.ReadAll(in)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	g := got{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), string(text), r.RemoteAddr}
	f.mu.Lock()
	f.all = append(f.all, g)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		answer(w, r, g)
		return
	}
	bodies := f.take(w, g)
	f.mu.Lock()
	f.bodies = append(f.bodies, bodies...)
	f.mu.Unlock()
}

// tell changes what it answers.
func (f *farEnd) tell(answer func(http.ResponseWriter, *http.Request, got)) {
	f.mu.Lock()
	f.answer = answer
	f.mu.Unlock()
}

func (f *farEnd) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.bodies)
}

func (f *farEnd) requests() []got {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

func status(code int) func(http.ResponseWriter, *http.Request, got) {
	return func(w http.ResponseWriter, _ *http.Request, _ got) { http.Error(w, "so it is", code) }
}

// The ways in which a far end fails.
func (f *farEnd) hang(_ http.ResponseWriter, r *http.Request, _ got) {
	select {
	case <-r.Context().Done():
	case <-f.gone:
	}
}

// say answers with those bytes, and closes the connection.
func say(text string) func(http.ResponseWriter, *http.Request, got) {
	return func(w http.ResponseWriter, _ *http.Request, _ got) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = rw.WriteString(text)
		_ = rw.Flush()
		_ = c.Close()
	}
}

// takers read what each format sends; the answer is 200 unless they say otherwise.
var takers = map[string]func(http.ResponseWriter, got) []string{
	formatBody: func(_ http.ResponseWriter, g got) []string { return []string{g.body} },
	formatLines: func(_ http.ResponseWriter, g got) []string {
		return strings.Split(strings.TrimSuffix(g.body, "\n"), "\n")
	},
	formatJSONLines: func(w http.ResponseWriter, g got) []string {
		var bodies []string
		for line := range strings.Lines(g.body) {
			var d struct{ Message string }
			if json.Unmarshal([]byte(line), &d) != nil || !strings.HasSuffix(line, "}\n") {
				http.Error(w, "bad line", 400)
				return nil
			}
			bodies = append(bodies, d.Message)
		}
		return bodies
	},
	formatJSONArray: func(w http.ResponseWriter, g got) (bodies []string) {
		var all []struct{ Message string }
		if err := json.Unmarshal([]byte(g.body), &all); err != nil {
			http.Error(w, err.Error(), 400)
		}
		for _, d := range all {
			bodies = append(bodies, d.Message)
		}
		return bodies
	},
	formatBulk: func(w http.ResponseWriter, g got) []string { return new(elastic).bulk(w, g) },
	formatLoki: func(w http.ResponseWriter, g got) []string { return push3100(w, g) },
}

func sinkSubject(format string, more map[string]string, fail func(*farEnd) func(http.ResponseWriter, *http.Request, got)) sinktest.Subject {
	return sinktest.Subject{
		New: Sink.New,
		Backend: func(t testing.TB) sinktest.Backend {
			f := newFarEnd(t, takers[format])
			f.Start()
			keys := map[string]string{"endpoint": f.URL + "/x/_bulk", "format": format, "requestTimeout": "1500", "connectTimeout": "500"}
			maps.Copy(keys, more)
			return sinktest.Backend{Keys: keys, Seen: f.seen, Break: func() { f.tell(fail(f)) }, Heal: func() { f.tell(nil) }}
		},
	}
}

// flume: TestHttpSinkIT ensureEventsResentOn503Failure ensureEventsResentOnNetworkFailure
func TestSinkSuite(t *testing.T) {
	const long = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"took\":1,"
	always := func(a func(http.ResponseWriter, *http.Request, got)) func(*farEnd) func(http.ResponseWriter, *http.Request, got) {
		return func(*farEnd) func(http.ResponseWriter, *http.Request, got) { return a }
	}
	hang := func(f *farEnd) func(http.ResponseWriter, *http.Request, got) { return f.hang }
	for _, c := range []struct {
		name, format string
		keys         map[string]string
		fail         func(*farEnd) func(http.ResponseWriter, *http.Request, got)
	}{
		{"body, rejects", formatBody, nil, always(status(503))},
		{"body, hangs", formatBody, nil, hang},
		{"lines, dies", formatLines, map[string]string{"compression": "gzip"}, always(say(""))},
		{"lines, half a status", formatLines, nil, always(say("HTTP/1.1 2"))},
		{"json lines, no HTTP", formatJSONLines, nil, always(say("SSH-2.0-OpenSSH_9.6\r\n"))},
		{"json array, cut small", formatJSONArray, map[string]string{"maxRequestBytes": "200"}, always(status(500))},
		{"bulk, half an answer", formatBulk, nil, always(say(long))},
		{"bulk, another server", formatBulk, nil, always(func(w http.ResponseWriter, _ *http.Request, _ got) { fmt.Fprint(w, "<html>welcome") })},
		{"loki, too many requests", formatLoki, map[string]string{"loki.labels.job": "test"}, always(status(429))},
	} {
		t.Run(c.name, func(t *testing.T) { sinktest.Run(t, sinkSubject(c.format, c.keys, c.fail)) })
	}
}

// openSink opens a sink on f.
func openSink(t testing.TB, f *farEnd, keys map[string]string) *sinktest.Instance {
	t.Helper()
	if f.URL == "" {
		f.Start()
	}
	all := map[string]string{"endpoint": f.URL + "/logs/_bulk"}
	maps.Copy(all, keys)
	return sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: all} }})
}

// fate is what became of a transaction.
type fate struct {
	acked, refused int
	rolled         bool
	now            bool // it is to be tried again without a pause
}

// Every rule of Flume's, and what is mended in them.
//
// flume: TestHttpSink ensureCommitReadyAndNoIncrementMetricsIfConfigured ensureSingleStatusConfigurationCorrectlyUsed
// flume: TestHttpSink ensureSingleErrorStatusConfigurationCorrectlyUsed ensureGroupConfigurationCorrectlyUsed
// flume: TestHttpSink ensureSingleStatusConfigurationOverridesGroupConfigurationCorrectly
// flume: TestHttpSinkIT ensureEventsNotResentOn401Failure
func TestRules(t *testing.T) {
	type keys = map[string]string
	done, again, refused := fate{acked: 1}, fate{rolled: true}, fate{refused: 1}
	allTrue := keys{"defaultRollback": "true", "defaultBackoff": "true", "defaultIncrementMetrics": "true"}
	allFalse := keys{"defaultRollback": "false", "defaultBackoff": "false", "defaultIncrementMetrics": "false"}
	guide := keys{
		"defaultRollback": "true", "defaultBackoff": "true", "defaultIncrementMetrics": "false",
		"backoff.200": "false", "rollback.200": "false", "incrementMetrics.200": "true",
	}
	groups := keys{
		"backoff.2XX": "false", "rollback.2XX": "false", "incrementMetrics.2XX": "true",
		"backoff.200": "true", "rollback.200": "true", "incrementMetrics.200": "false",
	}
	for _, c := range []struct {
		name    string
		keys    keys
		status  int
		want    fate
		counted int64 // EventDrainSuccessCount that the sink adds by itself
	}{
		{"without rules", nil, 200, done, 0},
		{"without rules", nil, 204, done, 0},
		{"without rules", nil, 302, again, 0},
		{"without rules", nil, 401, again, 0},
		{"without rules", nil, 404, again, 0},
		{"without rules", nil, 429, again, 0},
		{"without rules", nil, 503, again, 0},
		{"without rules", nil, 400, refused, 0},
		{"without rules", nil, 413, refused, 0},
		{"without rules", nil, 422, refused, 0},
		{"without rules", nil, 999, again, 0},
		{"defaults true, said", allTrue, 200, done, 0},
		{"defaults true, said", allTrue, 503, again, 1},
		{"defaults true, said", allTrue, 400, refused, 0},
		{"defaults false", allFalse, 200, done, 0},
		{"defaults false", allFalse, 503, refused, 0},
		{"the guide's", guide, 200, done, 0},
		{"the guide's", guide, 500, again, 0},
		{"401 dropped", keys{"rollback.401": "false", "backoff.401": "false", "incrementMetrics.401": "false"}, 401, refused, 0},
		{"401 taken as delivered", keys{"rollback.401": "false", "backoff.401": "false", "incrementMetrics.401": "true"}, 401, done, 0},
		{"no pause", keys{"backoff.503": "false"}, 503, fate{rolled: true, now: true}, 0},
		{"a group", groups, 204, done, 0},
		{"a code goes before its group", groups, 200, again, 0},
		{"a group in small letters", keys{"rollback.4xx": "true"}, 400, again, 0},
		{"counted and sent again", keys{"incrementMetrics.5XX": "true"}, 500, again, 1},
	} {
		t.Run(fmt.Sprintf("%s, %d", c.name, c.status), func(t *testing.T) {
			f := newFarEnd(t, nil)
			if c.status == 999 {
				f.tell(say("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"))
			} else {
				f.tell(func(w http.ResponseWriter, _ *http.Request, _ got) { w.WriteHeader(c.status) })
			}
			in := openSink(t, f, c.keys)
			defer in.Close()
			if got := deliver(t, in, texts("one")...).fate(); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if n := in.Env.Metrics.EventDrainSuccess.Load(); n != c.counted {
				t.Errorf("EventDrainSuccess %d, want %d", n, c.counted)
			}
			if n := len(f.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// With Flume's keys alone requests are Flume's: one event, its body as it is.
//
// flume: TestHttpSink ensureAllConfigurationOptionsRead
// flume: TestHttpSinkIT ensureSuccessfulMessageDelivery ensureHttpConnectionReusedForSuccessfulRequests
func TestAsFlume(t *testing.T) {
	f := newFarEnd(t, takers[formatBody])
	in := openSink(t, f, map[string]string{"contentTypeHeader": "application/octet-stream", "acceptHeader": "application/json"})
	if got := deliver(t, in, texts("one", "", "\x00\xff\r\n", "four")...).fate(); got != (fate{acked: 4}) {
		t.Errorf("%+v", got)
	}
	in.Close()
	if got := f.seen(); !slices.Equal(got, []string{"one", "\x00\xff\r\n", "four"}) {
		t.Errorf("%q", got)
	}
	for _, r := range f.requests() {
		if r.method != "POST" || r.header.Get("Content-Type") != "application/octet-stream" || r.header.Get("Accept") != "application/json" ||
			r.header.Get("Content-Length") != fmt.Sprint(len(r.body)) || r.from != f.requests()[0].from {
			t.Errorf("%+v", r)
		}
	}
	m := in.Env.Metrics
	if c, e, k := m.ConnectionCreated.Load(), m.ConnectionClosed.Load(), m.ConnectionFailed.Load(); c != 1 || e != 1 || k != 0 {
		t.Errorf("connections: %d made, %d closed, %d failed", c, e, k)
	}
	if n := in.Sink.(*sink).empty.Load(); n != 1 {
		t.Errorf("%d empty events", n)
	}
}

// Where nothing is said it is what Flume's says.
//
// flume: TestHttpSink ensureDefaultConnectTimeoutCorrect ensureDefaultRequestTimeoutCorrect
// flume: TestHttpSink ensureDefaultAcceptHeaderCorrect ensureDefaultContentTypeHeaderCorrect
func TestSinkDefaults(t *testing.T) {
	f := newFarEnd(t, takers[formatBody])
	in := openSink(t, f, nil)
	if s := in.Sink.(*sink); s.connect != 5*time.Second || s.timeout != 5*time.Second {
		t.Errorf("timeouts %v and %v", s.connect, s.timeout)
	}
	deliver(t, in, texts("one")...)
	in.Close()
	r := f.requests()[0]
	if r.method != "POST" || r.header.Get("Content-Type") != "text/plain" || r.header.Get("Accept") != "text/plain" {
		t.Errorf("%+v", r)
	}
}

// flume: TestHttpSink ensureExceptionIfEndpointUrlEmpty ensureExceptionIfEndpointUrlInvalid
// flume: TestHttpSink ensureExceptionIfConnectTimeoutNegative ensureExceptionIfRequestTimeoutNegative
func TestSinkKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string // part of the faults; empty: none
	}{
		{nil, ""},
		{map[string]string{"endpoint": ""}, "endpoint: is required"},
		{map[string]string{"endpoint": "localhost:8080"}, "begins with http"},
		{map[string]string{"endpoint": "http://%zz/"}, "is not a URL"},
		{map[string]string{"endpoint": "http:///x"}, "has no host"},
		{map[string]string{"endpoint": "http://me:swordfish@127.0.0.1/"}, "is shown in logs"},
		{map[string]string{"connectTimeout": "0"}, "connectTimeout: \"0\" must be at least 1"},
		{map[string]string{"requestTimeout": "-1"}, "requestTimeout: \"-1\" must be at least 1"},
		{map[string]string{"backoff.20X": "true"}, "neither a status"},
		{map[string]string{"rollback.6XX": "true"}, "neither a status"},
		{map[string]string{"incrementMetrics.200": "yes"}, "only the word true"},
		{map[string]string{"rollback.200": "true"}, "for ever"},
		{map[string]string{"headers.X-Scope-OrgID": "tenant"}, ""},
		{map[string]string{"headers.Content-Type": "x"}, "use contentTypeHeader"},
		{map[string]string{"headers.a b": "x"}, "not the name of a header field"},
		{map[string]string{"headers.X": "a\nb"}, "no header field may have"},
		{map[string]string{"contentTypeHeader": "a\r\nb"}, "no header field may have"},
		{map[string]string{"username": "u", "bearerToken": "t"}, "one Authorization"},
		{map[string]string{"password": "secret"}, "no username"},
		{map[string]string{"username": "a:b"}, "colon"},
		{map[string]string{"endpoint": "http://example.test/", "bearerToken": "t"}, "clear text"},
		{map[string]string{"format": "xml"}, "one of body"},
		{map[string]string{"document.bodyField": "x"}, "no effect with format body"},
		{map[string]string{"format": formatJSONLines, "document": "body", "document.timeField": "x"}, "no effect with document = body"},
		{map[string]string{"format": formatJSONLines, "document.timeField": "message"}, "different names"},
		{map[string]string{"elasticsearch.index": "x"}, "no effect with format body"},
		{map[string]string{"format": formatBulk, "endpoint": "http://127.0.0.1/_bulk"}, "elasticsearch.index: is required"},
		{map[string]string{"format": formatBulk, "endpoint": "http://127.0.0.1/logs/_bulk?pipeline=p"}, ""},
		{map[string]string{"format": formatBulk, "endpoint": "http://127.0.0.1/", "elasticsearch.index": "x"}, "does not end in /_bulk"},
		{map[string]string{"format": formatBulk, "endpoint": "http://127.0.0.1/_bulk", "elasticsearch.index": "app-%Y"}, "neither %{header} nor %%"},
		{map[string]string{"format": formatLoki}, "at least one label"},
		{map[string]string{"format": formatLoki, "loki.labels.a-b": "x"}, "not the name of a label"},
		{map[string]string{"format": formatLoki, "loki.labels.a": "%{x"}, "neither %{header} nor %%"},
		{map[string]string{"loki.labels.a": "x"}, "no effect with format body"},
		{map[string]string{"verify-hostname": "false"}, "does not begin with https"},
		{map[string]string{"endpoint": "https://127.0.0.1/", "certificate": "c.pem", "keystore": "k.jks"}, "which is the client's"},
	} {
		keys := map[string]string{"endpoint": "http://127.0.0.1:1/"}
		maps.Copy(keys, c.keys)
		_, faults := conf.Bind(Sink.New(), keys)
		text := fmt.Sprint(faults)
		if c.want == "" && len(faults) > 0 || !strings.Contains(text, c.want) {
			t.Errorf("%v:\n got %s\nwant %s", c.keys, text, c.want)
		}
		if strings.Contains(text, "swordfish") && c.keys["endpoint"] == "" {
			t.Errorf("%v shows a secret: %s", c.keys, text)
		}
	}
}

func TestTemplate(t *testing.T) {
	h := core.NewHeaders(core.Header{Key: "app", Value: "shop"}, core.Header{Key: "a b", Value: "%{x}"})
	for text, want := range map[string]string{
		"": "", "logs": "logs", "%{app}": "shop", "logs-%{app}-%{none}%{a b}": "logs-shop-%{x}", "100%%": "100%", "%%{app}": "%{app}", "a}b{c": "a}b{c",
	} {
		tm, err := parseTemplate(text)
		if err != nil || tm.of(h) != want {
			t.Errorf("%q: %q, %v, want %q", text, tm.of(h), err, want)
		}
	}
	for _, text := range []string{"%", "%Y", "%{", "%{}", "a%{b", "50 % off"} {
		if tm, err := parseTemplate(text); err == nil {
			t.Errorf("%q: %v", text, tm)
		}
	}
}

// The end-to-end test of both: what the sink sends, the source takes.
func TestSinkToSource(t *testing.T) {
	for _, c := range []struct{ sink, source map[string]string }{
		{map[string]string{}, nil},
		{map[string]string{"maxRequestBytes": "1000"}, nil},
		{
			map[string]string{"compression": "gzip", "username": "me", "password": "open sesame"},
			map[string]string{"basicAuth.me": "open sesame"},
		},
		{map[string]string{"bearerToken": "abc"}, map[string]string{"bearerTokens": "xyz abc"}},
	} {
		src := start(t, c.source)
		keys := c.sink
		keys["format"], keys["endpoint"] = formatFlume, "http://"+src.addr+"/"
		in := sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
		bodies := append(suite.Bodies(0, 500), "", `a "quoted" \ body`, "zwölf\nlines\t", "\u2028 </script>")
		var events []core.Event
		for i, body := range bodies {
			events = append(events, event(body, "n", fmt.Sprint(i), `a "b"`, "\tö"))
		}
		if got := deliver(t, in, events...).fate(); got != (fate{acked: len(bodies)}) {
			t.Fatalf("%+v", got)
		}
		in.Close()
		arrived := src.Events()
		if len(arrived) != len(bodies) {
			t.Fatalf("%d events arrived, %d sent", len(arrived), len(bodies))
		}
		for i, e := range arrived {
			if string(e.Body) != bodies[i] || !e.Headers.Equal(events[i].Headers) {
				t.Fatalf("event %d is %v %q, was %q", i, e.Headers, e.Body, bodies[i])
			}
		}
		src.stop()
	}
}

// lines of a request.
func linesOf(text string) (all []string) {
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}
