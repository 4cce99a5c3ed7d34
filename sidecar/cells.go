package sidecar

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/core/metric"
)

// flumeCell is one of Flume's counters under its two names.
type flumeCell struct {
	flume string // in Flume's JSON
	name  string // in Prometheus's form, behind millrace_<kind>_
	help  string
	gauge bool
	cell  *metric.Cell
}

// flumeCells are the counters that Flume has for a component of the group's kind.
func flumeCells(g *metric.Group) []flumeCell {
	switch g.Kind {
	case metric.Source:
		return []flumeCell{
			{"EventReceivedCount", "events_received_total", "Events taken in.", false, &g.EventReceived},
			{"EventAcceptedCount", "events_accepted_total", "Events put into the source's channels.", false, &g.EventAccepted},
			{"AppendReceivedCount", "appends_received_total", "Events that came alone.", false, &g.AppendReceived},
			{"AppendAcceptedCount", "appends_accepted_total", "Events that came alone and were put into the channels.", false, &g.AppendAccepted},
			{"AppendBatchReceivedCount", "append_batches_received_total", "Batches taken in.", false, &g.AppendBatchReceived},
			{"AppendBatchAcceptedCount", "append_batches_accepted_total", "Batches put into the channels.", false, &g.AppendBatchAccepted},
			{"OpenConnectionCount", "open_connections", "Connections of clients that are open.", true, &g.OpenConnection},
			{"EventReadFail", "event_read_failures_total", "Failures to read an event.", false, &g.EventReadFail},
			{"ChannelWriteFail", "channel_write_failures_total", "Batches that the channels did not take.", false, &g.ChannelWriteFail},
			{"GenericProcessingFail", "processing_failures_total", "Failures of any other kind.", false, &g.GenericProcessingFail},
		}
	case metric.Channel:
		return []flumeCell{
			{"EventPutAttemptCount", "event_put_attempts_total", "Events that a source tried to put.", false, &g.EventPutAttempt},
			{"EventPutSuccessCount", "events_put_total", "Events that were put.", false, &g.EventPutSuccess},
			{"EventTakeAttemptCount", "event_take_attempts_total", "Events handed to a sink.", false, &g.EventTakeAttempt},
			{"EventTakeSuccessCount", "events_taken_total", "Events that a sink delivered.", false, &g.EventTakeSuccess},
		}
	case metric.Sink:
		return []flumeCell{
			{"ConnectionCreatedCount", "connections_created_total", "Connections, or files, that were opened.", false, &g.ConnectionCreated},
			{"ConnectionClosedCount", "connections_closed_total", "Connections, or files, that were closed.", false, &g.ConnectionClosed},
			{"ConnectionFailedCount", "connection_failures_total", "Connections, or files, that could not be opened or closed.", false, &g.ConnectionFailed},
			{"BatchEmptyCount", "empty_batches_total", "Batches without an event.", false, &g.BatchEmpty},
			{"BatchUnderflowCount", "underflow_batches_total", "Batches smaller than the batch size.", false, &g.BatchUnderflow},
			{"BatchCompleteCount", "complete_batches_total", "Batches as large as the batch size.", false, &g.BatchComplete},
			{"EventDrainAttemptCount", "event_drain_attempts_total", "Events that the sink tried to deliver.", false, &g.EventDrainAttempt},
			{"EventDrainSuccessCount", "events_drained_total", "Events that the sink delivered.", false, &g.EventDrainSuccess},
			{"EventWriteFail", "event_write_failures_total", "Deliveries that failed.", false, &g.EventWriteFail},
			{"ChannelReadFail", "channel_read_failures_total", "Failures to take from the channel.", false, &g.ChannelReadFail},
		}
	}
	return nil
}

// sample is one number as Prometheus sees it, or one histogram.
type sample struct {
	name, help   string
	gauge        bool
	labels       []string // names, then as many values
	value        float64
	distribution *metric.Histogram // instead of value
}

// samples are all that is known of an agent, families together. A name is one
// family whoever uses it: the first help text stands, and what has another type
// under the same name is left out, or readers would refuse the whole answer.
func samples(groups []*metric.Group, ready bool) []sample {
	b := versionOf()
	all := []sample{
		{
			name: "millrace_build_info", help: "The build of this program; always 1.", gauge: true, value: 1,
			labels: []string{"goversion", "revision", "version", b.Go, b.Revision, b.Version},
		},
		{name: "millrace_ready", help: "1 while every component runs.", gauge: true},
	}
	if ready {
		all[1].value = 1
	}
	for _, g := range groups {
		all = append(all, samplesOf(g)...)
	}
	first := make(map[string]sample)
	kept := all[:0]
	for _, s := range all {
		f, again := first[s.name]
		if !again {
			first[s.name], f = s, s
		}
		if f.gauge == s.gauge {
			s.help = f.help
			kept = append(kept, s)
		}
	}
	slices.SortStableFunc(kept, func(a, b sample) int { return strings.Compare(a.name, b.name) })
	return kept
}

func samplesOf(g *metric.Group) []sample {
	kind := strings.ToLower(string(g.Kind))
	var list []sample
	add := func(name, help string, gauge bool, v float64) {
		list = append(list, sample{name: "millrace_" + kind + "_" + name, help: help, gauge: gauge, value: v, labels: []string{kind, g.Name}})
	}
	for _, c := range flumeCells(g) {
		add(c.name, c.help, c.gauge, float64(c.cell.Load()))
	}
	if g.Kind == metric.Channel && g.Fill != nil {
		events, capacity := g.Fill()
		add("events", "Events in the channel, with those a sink is delivering.", true, float64(events))
		add("capacity_events", "Events the channel is made for; 0 is no limit.", true, float64(capacity))
		if capacity > 0 {
			add("fill_ratio", "Part of the channel's capacity that is in use.", true, float64(events)/float64(capacity))
		}
	}
	if g.Kind == metric.Sink {
		add("event_age_seconds", "Age of events when they were delivered, from when they were taken in.", false, 0)
		list[len(list)-1].distribution = &g.Lag
	}
	for _, e := range g.Extras() {
		add(e.Name, e.Help, e.Gauge, float64(e.Value()))
	}
	return list
}
