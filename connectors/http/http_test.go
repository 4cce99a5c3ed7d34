package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func subject(more map[string]string, feed func(testing.TB, *sourcetest.Instance, []string) []string) sourcetest.Subject {
	return sourcetest.Subject{
		New: Source.New,
		Keys: func(testing.TB) map[string]string {
			keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
			maps.Copy(keys, more)
			return keys
		},
		Feed: feed,
	}
}

// client is one that keeps nothing behind.
func client() *http.Client {
	return &http.Client{Timeout: suite.Deadline, Transport: &http.Transport{DisableCompression: true}}
}

// feedJSON posts bodies, ten a request, and returns those answered 200.
func feedJSON(t testing.TB, in *sourcetest.Instance, bodies []string) (handed []string) {
	c := client()
	defer c.CloseIdleConnections()
	for part := range slices.Chunk(bodies, 10) {
		var events []map[string]string
		for _, b := range part {
			events = append(events, map[string]string{"body": b})
		}
		text, err := json.Marshal(events)
		if err != nil {
			t.Error(err)
			return handed
		}
		if code := post(c, in, "application/json", text); code == 200 {
			handed = append(handed, part...)
		} else if code == 0 {
			return handed
		}
	}
	return handed
}

func feedLines(_ testing.TB, in *sourcetest.Instance, bodies []string) (handed []string) {
	c := client()
	defer c.CloseIdleConnections()
	for part := range slices.Chunk(bodies, 10) {
		if code := post(c, in, "application/x-ndjson", []byte(strings.Join(part, "\n"))); code == 200 {
			handed = append(handed, part...)
		} else if code == 0 {
			return handed
		}
	}
	return handed
}

// post returns the status, 0 if there was no answer.
func post(c *http.Client, in *sourcetest.Instance, contentType string, text []byte) int {
	r, err := c.Post("http://"+in.Addr().String(), contentType, bytes.NewReader(text))
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.StatusCode
}

// flume: TestHTTPSource testBigBatchDeserializationUTF8
// flume: TestJSONHandler testMultipleLargeEvents
func TestSuiteJSON(t *testing.T)  { sourcetest.Run(t, subject(nil, feedJSON)) }
func TestSuiteLines(t *testing.T) { sourcetest.Run(t, subject(nil, feedLines)) }

// served is a source that runs.
type served struct {
	addr string
	env  core.Env
	stop func()
	*sourcetest.Outlet
}

// serve runs the source into out.
func serve(t testing.TB, out core.Outlet, maxEvents int, more map[string]string) *served {
	t.Helper()
	src := Source.New()
	keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
	maps.Copy(keys, more)
	if _, faults := conf.Bind(src, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	s := &served{env: sourcetest.NewEnv(t, "src")}
	s.env.MaxEvents = maxEvents
	s.env.Listen = func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err == nil {
			s.addr = l.Addr().String()
		}
		return l, err
	}
	if err := src.Open(t.Context(), s.env); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, out) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(suite.Deadline):
			t.Error("the source does not stop")
		}
		if err := src.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// start runs the source into an outlet that stores everything.
func start(t testing.TB, more map[string]string) *served {
	t.Helper()
	out := sourcetest.NewOutlet()
	s := serve(t, out, 0, more)
	s.Outlet = out
	return s
}

// reply is an answer.
type reply struct {
	code   int
	header http.Header
	text   string
}

// ask sends one request, whose headers are given as "Name: value".
func ask(t testing.TB, in *served, method, path, body string, headers ...string) reply {
	t.Helper()
	return send(t, in, method, path, strings.NewReader(body), headers...)
}

// askChunked posts a body without saying how long it is.
func askChunked(t testing.TB, in *served, body string) reply {
	t.Helper()
	return send(t, in, "POST", "/", io.MultiReader(strings.NewReader(body)))
}

func send(t testing.TB, in *served, method, path string, body io.Reader, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+in.addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(name, value)
		}
	}
	c := client()
	defer c.CloseIdleConnections()
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{a.StatusCode, a.Header, string(text)}
}

// shown are events in one line: headers in order of their names, then the body.
func shown(events []core.Event) string {
	var b strings.Builder
	for _, e := range events {
		var h []string
		for k, v := range e.Headers.All() {
			h = append(h, k+"="+v)
		}
		slices.Sort(h)
		fmt.Fprintf(&b, "{%s}%q ", strings.Join(h, ","), e.Body)
	}
	return strings.TrimSpace(b.String())
}

const jsonType = "Content-Type: application/json"

func zip(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// flume: TestHTTPSource testTrace testOptions
func TestMethods(t *testing.T) {
	in := start(t, nil)
	const event = `[{"body":"x"}]`
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"POST", "/", event, 200},
		{"POST", "/any/path?a=b", event, 200},
		{"GET", "/", event, 200},
		{"GET", "/", "", 200},
		{"HEAD", "/", "", 200},
		{"PUT", "/", event, 405},
		{"DELETE", "/", "", 405},
		{"PATCH", "/", event, 405},
		{"TRACE", "/", "", 403},
		{"OPTIONS", "/", "", 403},
	} {
		if got := ask(t, in, c.method, c.path, c.body, jsonType); got.code != c.code {
			t.Errorf("%s %s with %q: %d, want %d", c.method, c.path, c.body, got.code, c.code)
		}
	}
	if n := in.Len(); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	star := raw(t, in, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got, err := io.ReadAll(star); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 403 ") {
		t.Errorf("OPTIONS * is answered %q, %v", got, err)
	}
	if a := ask(t, in, "PUT", "/", "").header.Get("Allow"); a != "GET, HEAD, POST" {
		t.Errorf("Allow: %q", a)
	}
}

// flume: TestHTTPSource testInvalid
func TestAnswers(t *testing.T) {
	in := start(t, nil)
	good := ask(t, in, "POST", "/", `[{"body":"x"}]`, jsonType)
	if good.text != "" || good.header.Get("Content-Type") != "" {
		t.Errorf("answer %+v", good)
	}
	bad := ask(t, in, "POST", "/", `[{"a": "b",["d":"e"],`, jsonType)
	if bad.code != 400 || !strings.HasPrefix(bad.text, "bad JSON: ") || bad.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("answer %+v", bad)
	}
	long := ask(t, in, "POST", "/", `[{"headers":{"`+strings.Repeat("é", 4000)+`":{}}}]`, jsonType)
	if long.code != 400 || len(long.text) > maxText+10 {
		t.Errorf("an answer of %d bytes", len(long.text))
	}
	m := in.env.Metrics
	if a, b, c := m.AppendBatchReceived.Load(), m.AppendBatchAccepted.Load(), m.EventReadFail.Load(); a != 1 || b != 1 || c != 2 {
		t.Errorf("batches received %d, accepted %d, failed to read %d; want 1, 1, 2", a, b, c)
	}
}

func TestAuth(t *testing.T) {
	in := start(t, map[string]string{"basicAuth.ann": "pass:word", "bearerTokens": "token1 token2"})
	for _, c := range []struct {
		header string
		code   int
	}{
		{"", 401},
		{"Authorization: Basic YW5uOnBhc3M6d29yZA==", 200},
		{"Authorization: basic YW5uOnBhc3M6d29yZA==", 200},
		{"Authorization: Basic YW5uOndyb25n", 401},
		{"Authorization: Basic !", 401},
		{"Authorization: Bearer token2", 200},
		{"Authorization: Bearer token", 401},
		{"Authorization: Bearer ann:pass:word", 401},
		{"Authorization: Digest x", 401},
	} {
		got := ask(t, in, "POST", "/", "[]", c.header)
		if got.code != c.code {
			t.Errorf("%q: %d, want %d", c.header, got.code, c.code)
		}
		if schemes := got.header.Values("WWW-Authenticate"); c.code == 401 && len(schemes) != 2 {
			t.Errorf("challenges %q", schemes)
		}
	}
}

func TestLimits(t *testing.T) {
	in := start(t, map[string]string{"maxRequestBytes": "1000", "maxRequestEvents": "3", "maxPendingBytes": "1"})
	long := `[{"body":"` + strings.Repeat("x", 1000) + `"}]`
	for _, c := range []struct {
		name, body string
		headers    []string
		code       int
	}{
		{"long", long, nil, 413},
		{"long, zipped", zip(t, long), []string{"Content-Encoding: gzip"}, 413},
		{"zipped", zip(t, long[:500]+`"}]`), []string{"Content-Encoding: gzip"}, 200},
		{"zip bomb", zip(t, strings.Repeat(" ", 10<<20)), []string{"Content-Encoding: gzip"}, 413},
		{"zip that ends early", zip(t, long)[:16], []string{"Content-Encoding: gzip"}, 400},
		{"no zip", long[:20], []string{"Content-Encoding: gzip"}, 400},
		{"unknown encoding", "[]", []string{"Content-Encoding: br"}, 415},
		{"just as long as allowed", `[{"body":"` + strings.Repeat("x", 1000-14) + `"}]`, nil, 200},
		{"three events", `[{},{},{}]`, nil, 200},
		{"four events", `[{},{},{},{}]`, nil, 413},
		{"four lines", "a\nb\nc\nd\n", []string{"Content-Type: application/x-ndjson"}, 413},
		{"deep", `[{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}]`, nil, 400},
		{"deep in headers", `[{"headers":{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}]`, nil, 400},
	} {
		if got := ask(t, in, "POST", "/", c.body, c.headers...); got.code != c.code {
			t.Errorf("%s: %d %s, want %d", c.name, got.code, got.text, c.code)
		}
	}
}

func TestHeaderSize(t *testing.T) {
	in := start(t, nil)
	if got := ask(t, in, "POST", "/", "[]", "X: "+strings.Repeat("x", 20<<10)); got.code != 431 {
		t.Errorf("%d, want 431", got.code)
	}
}

// raw opens a connection and says something.
func raw(t testing.TB, in *served, text string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(suite.Deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestSlowRequest(t *testing.T) {
	in := start(t, map[string]string{"requestTimeout": "500"})
	body := raw(t, in, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[")
	head := raw(t, in, "POST / HT")
	if got, err := io.ReadAll(body); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408 ") {
		t.Errorf("a slow body is answered %q, %v", got, err)
	}
	if got, err := io.ReadAll(head); err != nil {
		t.Errorf("a slow head is answered %q, %v", got, err)
	}
}

func TestIdleConnections(t *testing.T) {
	in := start(t, map[string]string{"ServerConnector.idleTimeout": "30"})
	c := raw(t, in, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		t.Errorf("answer %q, %v", got, err)
	}
}

// A body that breaks off is no body.
func TestBrokenBody(t *testing.T) {
	for _, head := range []string{"Content-Length: 20\r\n\r\n[{\"body\":\"x\"}]", "Transfer-Encoding: chunked\r\n\r\ne\r\n[{\"body\":\"x\"}]"} {
		in := start(t, nil)
		c := raw(t, in, "POST / HTTP/1.1\r\nHost: x\r\n"+head)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("answer %q, %v", got, err)
		}
		if n := in.Len(); n != 0 {
			t.Errorf("%d events", n)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	in := start(t, map[string]string{"maxConnections": "1"})
	raw(t, in, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	suite.Eventually(t, "one is open", func() bool { return in.env.Metrics.OpenConnection.Load() == 1 })
	got, err := io.ReadAll(raw(t, in, ""))
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 503 ") || !strings.HasSuffix(string(got), "too many connections\n") {
		t.Errorf("answer %q, %v", got, err)
	}
}

// failing answers every Put with an error.
type failing struct {
	*sourcetest.Outlet
	err error
}

func (o failing) Put(_ context.Context, b *core.Batch) error {
	b.Release()
	return o.err
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		err   error
		code  int
		retry string
	}{
		{fmt.Errorf("channel c1: %w", core.ErrChannelFull), 503, "1"},
		{fmt.Errorf("channel c1: %w", core.ErrTooLarge), 413, ""},
		{core.ErrClosed, 503, "1"},
		{errors.New("disk gone"), 503, "1"},
		{core.PermanentError(errors.New("never")), 500, ""},
	} {
		in := serve(t, failing{sourcetest.NewOutlet(), c.err}, 0, nil)
		got := ask(t, in, "POST", "/", `[{"body":"x"}]`)
		if got.code != c.code || got.header.Get("Retry-After") != c.retry || got.text == "" {
			t.Errorf("%v: answer %+v", c.err, got)
		}
		in.stop()
	}
}

// What the channels can take is theirs to say: a selector may spread a request
// over several, each of which takes its share.
func TestMoreEventsThanOneChannelTakes(t *testing.T) {
	out := sourcetest.NewOutlet()
	in := serve(t, out, 2, nil)
	if got := ask(t, in, "POST", "/", `[{},{},{}]`); got.code != 200 || out.Biggest() != 3 {
		t.Errorf("answer %+v, a batch of %d", got, out.Biggest())
	}
}

func TestMaxRequestEvents(t *testing.T) {
	out := sourcetest.NewOutlet()
	in := serve(t, out, 0, map[string]string{"maxRequestEvents": "2"})
	got := ask(t, in, "POST", "/", `[{},{},{}]`)
	if got.code != 413 || !strings.Contains(got.text, "maxRequestEvents") || in.env.Metrics.EventReadFail.Load() != 1 {
		t.Errorf("answer %+v", got)
	}
	if got := ask(t, in, "POST", "/", `[{},{}]`); got.code != 200 || out.Biggest() != 2 {
		t.Errorf("answer %+v, a batch of %d", got, out.Biggest())
	}
}

// blocking holds Puts until told, or until their context ends.
type blocking struct {
	*sourcetest.Outlet
	entered chan struct{}
	open    chan struct{}
}

func newBlocking() blocking {
	return blocking{sourcetest.NewOutlet(), make(chan struct{}, 100), make(chan struct{})}
}

func (o blocking) Put(ctx context.Context, b *core.Batch) error {
	o.entered <- struct{}{}
	<-o.open
	return o.Outlet.Put(context.WithoutCancel(ctx), b)
}

// A request that is being stored when the source stops is answered as it is
// stored; one that is still arriving is cut off; nothing else is waited for.
func TestStop(t *testing.T) {
	out := newBlocking()
	in := serve(t, out, 0, nil)
	const event = "[{\"body\":\"x\"}]"
	storing := raw(t, in, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n"+event)
	<-out.entered
	arriving := raw(t, in, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n[")
	idle := raw(t, in, "")
	suite.Eventually(t, "all are accepted", func() bool { return in.env.Metrics.OpenConnection.Load() == 3 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		in.stop()
	}()
	if got, _ := io.ReadAll(idle); len(got) > 0 { // a reset is an end as well
		t.Errorf("an idle connection reads %q", got)
	}
	close(out.open)
	if got, err := io.ReadAll(storing); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		t.Errorf("the request that is stored is answered %q, %v", got, err)
	}
	if got, _ := io.ReadAll(arriving); strings.Contains(string(got), " 200 ") {
		t.Errorf("the request that is not whole is answered %q", got)
	}
	<-stopped
	if n := out.Len(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// What is beyond the budget is asked to come again; what is within goes on.
func TestBudget(t *testing.T) {
	out := newBlocking()
	in := serve(t, out, 0, map[string]string{"maxPendingBytes": "100k"})
	event := `[{"body":"` + strings.Repeat("x", 60<<10) + `"}]`
	first := make(chan reply, 1)
	go func() { first <- ask(t, in, "POST", "/", event) }()
	<-out.entered
	if got := ask(t, in, "POST", "/", event); got.code != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("answer %+v", got)
	}
	close(out.open)
	if got := <-first; got.code != 200 {
		t.Errorf("answer %+v", got)
	}
	if got := ask(t, in, "POST", "/", event); got.code != 200 {
		t.Errorf("answer %+v", got)
	}
}

func TestKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys map[string]string
		want string // of the first fault
	}{
		"no port":         {nil, "port: is required"},
		"unknown handler": {map[string]string{"port": "0", "handler": "com.example.Mine"}, `handler: "com.example.Mine" is not a handler`},
		"ssl alone":       {map[string]string{"port": "0", "enableSSL": "true"}, "enableSSL: is an old name"},
		"open password":   {map[string]string{"port": "0", "basicAuth.ann": "secret-word"}, "basicAuth: without ssl"},
		"blob's key":      {map[string]string{"port": "0", "handler.mandatoryParameters": "a"}, "handler.mandatoryParameters: has no effect"},
	} {
		_, faults := conf.Bind(Source.New(), c.keys)
		if len(faults) == 0 || !strings.HasPrefix(faults[0].String(), c.want) {
			t.Errorf("%s: %v", name, faults)
		}
	}
	for _, handler := range []string{
		"JSON", "Blob", "lines", "ndjson", "org.apache.flume.source.http.JSONHandler",
		"org.apache.flume.source.http.BLOBHandler", "org.apache.flume.sink.solr.morphline.BlobHandler",
	} {
		_, faults := conf.Bind(Source.New(), map[string]string{
			"port": "0", "handler": handler, "QueuedThreadPool.maxThreads": "50", "QueuedThreadPool.minThreads": "5",
			"HttpConfiguration.sendServerVersion": "false", "ServerConnector.idleTimeout": "300",
		})
		if len(faults) > 0 {
			t.Errorf("%s: %v", handler, faults)
		}
	}
}
