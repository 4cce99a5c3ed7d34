package sidecar

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/millrace/millrace/core/metric"
)

// What is written by hand must be what client_golang writes, and lint-free.
func TestPrometheusLint(t *testing.T) {
	source := &metric.Group{Kind: metric.Source, Name: "r\"1"}
	source.Counter("things_seen_total", "Things.").Add(7)
	channel := &metric.Group{Kind: metric.Channel, Name: "c1", Fill: func() (int64, int64) { return 25, 100 }}
	sink := &metric.Group{Kind: metric.Sink, Name: "k1"}
	sink.Lag.Observe(3*time.Millisecond, 4)
	groups := []*metric.Group{source, channel, sink}

	r := prometheus.NewPedanticRegistry()
	r.MustRegister(&collector{func() []*metric.Group { return groups }, func() bool { return true }})
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError, EnableOpenMetrics: true})
	got := get(t, h, http.MethodGet, "/metrics")
	if got.code != http.StatusOK {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if own := exposition(samples(groups, true), false); own != got.body {
		t.Errorf("the hand-written form differs:\n%s\nwant\n%s", own, got.body)
	}
	open := httptest.NewRecorder()
	ask := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	ask.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	h.ServeHTTP(open, ask)
	if own := exposition(samples(groups, true), true) + "# EOF\n"; own != open.Body.String() {
		t.Errorf("OpenMetrics by hand differs:\n%s\nwant\n%s", own, open.Body)
	}
	problems, err := promlint.New(strings.NewReader(got.body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// collector shows the same samples through client_golang.
type collector struct {
	cells func() []*metric.Group
	ready func() bool
}

// Describe tells nothing: which metrics there are depends on the components.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range samples(c.cells(), c.ready()) {
		if m, err := s.metric(); err == nil { // a bad name is one metric less
			out <- m
		}
	}
}

func (s *sample) metric() (prometheus.Metric, error) {
	names := len(s.labels) / 2
	desc := prometheus.NewDesc(s.name, s.help, s.labels[:names], nil)
	switch {
	case s.distribution != nil:
		n, sum, buckets := s.distribution.Snapshot()
		return prometheus.NewConstHistogram(desc, n, sum, buckets, s.labels[names:]...)
	case s.gauge:
		return prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.value, s.labels[names:]...)
	}
	return prometheus.NewConstMetric(desc, prometheus.CounterValue, s.value, s.labels[names:]...)
}
