package sidecar

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/metric"
)

// The vectors are what Flume 1.11 answered: groups with the same counts must answer the same.
//
// flume: TestHTTPMetricsServer testJSON
func TestFlumeJSONIsFlumes(t *testing.T) {
	for _, file := range []string{"testdata/metrics.json", "testdata/metrics-spooldir-taildir.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]map[string]string
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		var groups []*metric.Group
		for name, attrs := range want {
			groups = append(groups, groupOf(t, name, attrs))
		}
		answer := get(t, flumeJSON{func() []*metric.Group { return groups }}, http.MethodGet, "/metrics")
		var got map[string]map[string]string
		if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
			t.Fatalf("%v in %s", err, answer.body)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, want)
		}
	}
}

// groupOf makes a group that counts what attrs say.
func groupOf(t *testing.T, name string, attrs map[string]string) *metric.Group {
	number := func(attr string) int64 {
		n, err := strconv.ParseInt(attrs[attr], 10, 64)
		if err != nil {
			t.Fatalf("%s %s: %v", name, attr, err)
		}
		return n
	}
	kind, own, _ := strings.Cut(name, ".")
	g := &metric.Group{Kind: metric.Kind(kind), Name: own}
	g.Start.Store(number("StartTime"))
	g.Stop.Store(number("StopTime"))
	for _, c := range flumeCells(g) {
		c.cell.Set(number(c.flume))
	}
	if g.Kind == metric.Channel {
		g.Fill = func() (int64, int64) { return number("ChannelSize"), number("ChannelCapacity") }
	}
	return g
}

type answer struct {
	code       int
	typ, body  string
	authHeader string
}

func get(t *testing.T, h http.Handler, method, path string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{w.Code, w.Header().Get("Content-Type"), string(body), w.Header().Get("WWW-Authenticate")}
}

// flume: TestHTTPMetricsServer testTrace testOptions
func TestFlumeJSONServer(t *testing.T) {
	h := flumeJSON{func() []*metric.Group { return nil }}
	for _, c := range []struct {
		method, path string
		code         int
		typ, body    string
	}{
		{"GET", "/", 200, "text/html;charset=utf-8", `For Flume metrics please click <a href = "./metrics"> here</a>.`},
		{"GET", "/metrics", 200, "application/json;charset=utf-8", "{}"},
		{"POST", "/METRICS", 200, "application/json;charset=utf-8", "{}"},
		{"PUT", "/Metrics", 200, "application/json;charset=utf-8", "{}"},
		{"GET", "/metrics/", 404, "", ""},
		{"GET", "/other", 404, "", ""},
		{"TRACE", "/metrics", 403, "", ""},
		{"OPTIONS", "/nothing", 403, "", ""},
	} {
		got := get(t, h, c.method, c.path)
		if got.code != c.code || got.typ != c.typ || got.body != c.body {
			t.Errorf("%s %s: got %+v, want %+v", c.method, c.path, got, c)
		}
	}
}

func TestJavaDouble(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", 3: "3.0", 1: "1.0", 100.0 / 3: "33.333333333333336", 9.999999999999999e-5: "9.999999999999999E-5",
		0.001: "0.001", 1e7: "1.0E7", 9999999: "9999999.0", 12345678.5: "1.23456785E7", 38.9: "38.9",
		math.MaxFloat64: "1.7976931348623157E308", -2.5: "-2.5", 1e-10: "1.0E-10",
	} {
		if got := javaDouble(f); got != want {
			t.Errorf("%g: got %s, want %s", f, got, want)
		}
	}
}

func TestFlumeJSONNames(t *testing.T) {
	g := &metric.Group{Kind: metric.Channel, Name: "a<b>&'=\"\\\x01é"}
	text := string(appendGroups(nil, []*metric.Group{g}))
	if want := `{"CHANNEL.a\u003cb\u003e\u0026\u0027\u003d\"\\\u0001é":{`; !strings.HasPrefix(text, want) {
		t.Errorf("got %s, want %s...", text, want)
	}
	if !strings.Contains(text, `"ChannelFillPercentage":"1.7976931348623157E308"`) {
		t.Errorf("a channel without capacity: %s", text)
	}
}

// A file channel has attributes of its own, one of them no number.
func TestFlumeJSONExtras(t *testing.T) {
	g := &metric.Group{Kind: metric.Channel, Name: "c1"}
	g.Gauge("open", "").Flume = "Open"
	g.Counter("put_errors_total", "").Flume = "EventPutErrorCount"
	g.Counter("hidden_total", "").Add(1)
	text := string(appendGroups(nil, []*metric.Group{g}))
	if !strings.Contains(text, `"EventPutErrorCount":"0"`) || !strings.Contains(text, `"Open":"false"`) || strings.Contains(text, "hidden") {
		t.Error(text)
	}
}

func TestMonitorOptions(t *testing.T) {
	for _, c := range []struct {
		typ, port string
		want      monitorOptions
		fault     string
	}{
		{"", "", monitorOptions{"", 41414}, ""},
		{"http", "", monitorOptions{"http", 41414}, ""},
		{"HTTP", " 3 ", monitorOptions{"http", 3}, ""},
		{"prometheus", "0", monitorOptions{"prometheus", 0}, ""},
		{"ganglia", "", monitorOptions{}, "ganglia is not supported"},
		{"com.example.Mine", "", monitorOptions{}, "Java classes are not loaded"},
		{"http", "x", monitorOptions{}, "is not a port"},
		{"http", "65536", monitorOptions{}, "is not a port"},
	} {
		sys := map[string]string{"flume.monitoring.type": c.typ}
		if c.port != "" {
			sys["flume.monitoring.port"] = c.port
		}
		got, err := readMonitor(sys)
		if c.fault == "" && (err != nil || got != c.want) || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%q %q: got %v, %v", c.typ, c.port, got, err)
		}
	}
}
