package sidecar

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core/metric"
)

// Every sample is in the answer, one family a name, whatever components call their own.
func TestSamples(t *testing.T) {
	source := &metric.Group{Kind: metric.Source, Name: "r1"}
	source.EventReceived.Add(3)
	source.Counter("things_seen_total", "Things.").Add(7)
	other := &metric.Group{Kind: metric.Source, Name: "r\"2"}
	other.Counter("things_seen_total", "The same under another help.").Add(8)
	odd := &metric.Group{Kind: metric.Source, Name: "r3"}
	odd.Gauge("things_seen_total", "A gauge under a counter's name is left out.").Set(9)
	channel := &metric.Group{Kind: metric.Channel, Name: "c1", Fill: func() (int64, int64) { return 25, 100 }}
	sink := &metric.Group{Kind: metric.Sink, Name: "k1"}
	sink.EventDrainSuccess.Add(5)
	sink.Lag.Observe(3*time.Millisecond, 4)
	sink.Lag.Observe(time.Hour, 1)
	text := exposition(samples([]*metric.Group{source, other, odd, channel, sink}, true), false)
	for _, want := range []string{
		`millrace_source_events_received_total{source="r1"} 3`,
		`millrace_source_things_seen_total{source="r1"} 7`,
		`millrace_source_things_seen_total{source="r\"2"} 8`,
		`millrace_channel_events{channel="c1"} 25`,
		`millrace_channel_capacity_events{channel="c1"} 100`,
		`millrace_channel_fill_ratio{channel="c1"} 0.25`,
		`millrace_sink_events_drained_total{sink="k1"} 5`,
		`millrace_sink_event_age_seconds_bucket{sink="k1",le="0.004"} 4`,
		`millrace_sink_event_age_seconds_bucket{sink="k1",le="+Inf"} 5`,
		`millrace_sink_event_age_seconds_count{sink="k1"} 5`,
		"millrace_ready 1",
		"millrace_build_info{",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, `source="r3"} 9`) {
		t.Error("one family with two types")
	}
	if n := strings.Count(text, "# TYPE millrace_source_things_seen_total counter\n"); n != 1 {
		t.Errorf("%d heads of one family", n)
	}
}
