package metric

import (
	"testing"
	"time"
)

func TestExtras(t *testing.T) {
	g := &Group{Kind: Sink, Name: "k"}
	g.Counter("a_total", "A.").Add(2)
	g.Counter("a_total", "A.").Add(3)
	g.GaugeFunc("b", "B.", func() int64 { return 1 })
	g.FlumeGauge("b", "Bee", "B.", func() int64 { return 7 })
	g.Gauge("c", "C.").Set(-1)
	var got []int64
	for _, e := range g.Extras() {
		got = append(got, e.Value())
	}
	if len(got) != 3 || got[0] != 5 || got[1] != 7 || got[2] != -1 {
		t.Errorf("values %v", got)
	}
	if e := g.Extras()[1]; e.Flume != "Bee" || !e.Gauge {
		t.Errorf("replaced gauge %+v", e)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	h.Observe(500*time.Microsecond, 2)
	h.Observe(5*time.Millisecond, 3)
	h.Observe(time.Hour, 1)
	n, sum, buckets := h.Snapshot()
	if n != 6 || sum < 3600 || sum > 3601 {
		t.Errorf("count %d, sum %v", n, sum)
	}
	for _, c := range []struct {
		bound float64
		want  uint64
	}{{0.001, 2}, {0.004, 2}, {0.016, 5}, {1048.576, 5}} {
		if buckets[c.bound] != c.want {
			t.Errorf("le %v: %d, want %d", c.bound, buckets[c.bound], c.want)
		}
	}
}
