package interceptor

import (
	"context"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// batch passes n events with the header k and further ones through an interceptor.
func batch(t *testing.T, typ core.Type[core.Interceptor], keys map[string]string, n int, headers ...core.Header) []core.Event {
	t.Helper()
	i := open(t, typ, keys)
	b := core.NewBatch()
	h := core.NewHeaders(append(headers, core.Header{Key: "k", Value: "v"})...)
	for range n {
		b.Append(h, nil)
	}
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	return b.Events
}

func open(t testing.TB, typ core.Type[core.Interceptor], keys map[string]string) core.Interceptor {
	t.Helper()
	i := typ.New()
	if _, faults := conf.Bind(i, keys); len(faults) > 0 {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	env.Now = func() time.Time { return time.UnixMilli(1338212793234) }
	if err := i.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	return i
}

// run passes two events that share their headers through an interceptor, which is called once for both.
func run(t *testing.T, typ core.Type[core.Interceptor], keys map[string]string, headers ...core.Header) core.Headers {
	t.Helper()
	i := open(t, typ, keys)
	b := core.NewBatch()
	defer b.Release()
	h := core.NewHeaders(headers...)
	b.Append(h, []byte("one"))
	b.Append(h, []byte("two"))
	if err := i.Intercept(b); err != nil {
		t.Fatal(err)
	}
	if b.Events[0].Headers != b.Events[1].Headers {
		t.Error("a run of events no longer shares its headers")
	}
	return b.Events[1].Headers
}

// flume: TestTimestampInterceptor testBasic testPreserve testClobber testCustomHeader
func TestTimestamp(t *testing.T) {
	old := core.Header{Key: "timestamp", Value: "1"}
	if got := run(t, Timestamp, nil, old).Value("timestamp"); got != "1338212793234" {
		t.Errorf("got %q", got)
	}
	if got := run(t, Timestamp, map[string]string{"preserveExisting": "true"}, old).Value("timestamp"); got != "1" {
		t.Errorf("preserveExisting: got %q", got)
	}
	if h := run(t, Timestamp, map[string]string{"headerName": "when"}, old); h.Value("when") != "1338212793234" || h.Value("timestamp") != "1" {
		t.Errorf("headerName: got %v", h)
	}
}

// flume: TestStaticInterceptor testDefaultKeyValue testCustomKeyValue testReplace testPreserve
func TestStatic(t *testing.T) {
	if got := run(t, Static, nil).Value("key"); got != "value" {
		t.Errorf("defaults: got %q", got)
	}
	keys := map[string]string{"key": "dc", "value": "ber"}
	old := core.Header{Key: "dc", Value: "ams"}
	if got := run(t, Static, keys, old).Value("dc"); got != "ams" {
		t.Errorf("an existing value is kept by default, got %q", got)
	}
	keys["preserveExisting"] = "false"
	if got := run(t, Static, keys, old).Value("dc"); got != "ber" {
		t.Errorf("preserveExisting=false: got %q", got)
	}
}

// Flume's TestUUIDInterceptor, and that each event has its own.
//
// flume: TestUUIDInterceptor testBasic testPreserveExisting testPrefix
func TestUUID(t *testing.T) {
	const form = `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`
	seen := make(map[string]bool)
	for _, e := range batch(t, UUID, map[string]string{"headerName": "key", "prefix": "bar#"}, 1000) {
		id := e.Headers.Value("key")
		rest, ok := strings.CutPrefix(id, "bar#")
		if !ok || !regexp.MustCompile(form).MatchString(rest) || seen[id] || e.Headers.Value("k") != "v" {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
	for keep, want := range map[string]bool{"true": true, "false": false} {
		e := batch(t, UUID, map[string]string{"preserveExisting": keep}, 1, core.Header{Key: "id", Value: "foo"})[0]
		if got := e.Headers.Value("id") == "foo"; got != want {
			t.Errorf("preserveExisting=%s: %q", keep, e.Headers.Value("id"))
		}
	}
	if got := batch(t, UUID, nil, 1)[0].Headers.Value("id"); len(got) != uuidText {
		t.Errorf("defaults: %q", got)
	}
}

// Their Flume names lead to the interceptors in any program that lists them.
func TestNames(t *testing.T) {
	cat := &core.Catalog{Interceptors: []core.Type[core.Interceptor]{Timestamp, Host, Static, UUID}}
	for typ, want := range map[string]string{
		"TIMESTAMP": "timestamp",
		"org.apache.flume.interceptor.TimestampInterceptor$Builder":    "timestamp",
		"org.apache.flume.interceptor.HostInterceptor$Builder":         "host",
		"org.apache.flume.interceptor.StaticInterceptor$Builder":       "static",
		"org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder": "uuid",
		"org.apache.flume.interceptor.StaticInterceptor":               "static",
	} {
		if _, got, _, ok := cat.Find(conf.KindInterceptor, typ); !ok || got != want {
			t.Errorf("%s leads to %q", typ, got)
		}
	}
}

// flume: TestHostInterceptor testBasic testCustomHeader testPreserve testClobber testUseIP testUseHostname
func TestHost(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, Host, map[string]string{"useIP": "false", "hostHeader": "h"}).Value("h"); len(got) < len(name) || got[:len(name)] != name {
		t.Errorf("name: got %q on %q", got, name)
	}
	if addrs, err := net.LookupHost(name); err == nil {
		if got := run(t, Host, nil, core.Header{Key: "host", Value: "old"}).Value("host"); net.ParseIP(got) == nil {
			t.Errorf("address: got %q, the host has %v", got, addrs)
		}
	}
	if got := run(t, Host, map[string]string{"preserveExisting": "true"}, core.Header{Key: "host", Value: "x"}).Value("host"); got != "x" {
		t.Errorf("preserveExisting: got %q", got)
	}
}

func BenchmarkInterceptors(b *testing.B) {
	for _, typ := range []core.Type[core.Interceptor]{Timestamp, Host, Static, UUID} {
		b.Run(typ.Name, func(b *testing.B) {
			i := open(b, typ, nil)
			h := core.NewHeaders(core.Header{Key: "file", Value: "/var/log/a.log"})
			batch := core.NewBatch()
			for range 1000 {
				batch.Append(h, nil)
			}
			b.ReportAllocs() // of a batch of 1000 events with one set of headers
			for b.Loop() {
				for i := range batch.Events {
					batch.Events[i].Headers = h
				}
				if err := i.Intercept(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
