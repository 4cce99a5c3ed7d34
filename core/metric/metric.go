// Package metric holds the cells that components count in. A cell is an atomic
// number and nothing more: the program shows cells in Prometheus's form and in
// Flume's JSON, components only add to them.
package metric

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Cell is one number. The zero value is ready.
type Cell struct{ v atomic.Int64 }

// Add adds n; negative n for gauges.
func (c *Cell) Add(n int64) { c.v.Add(n) }

// Set replaces the value.
func (c *Cell) Set(n int64) { c.v.Store(n) }

// Load returns the value.
func (c *Cell) Load() int64 { return c.v.Load() }

// Kind says what a group belongs to.
type Kind string

// The kinds, as Flume's monitoring names them.
const (
	Source  Kind = "SOURCE"
	Channel Kind = "CHANNEL"
	Sink    Kind = "SINK"
)

// Group is the cells of one component. Flume's own counters are fields, under
// Flume's names; those that do not belong to the group's kind stay 0 and are not shown.
type Group struct {
	Kind  Kind
	Name  string
	Start atomic.Int64 // epoch ms; 0 never
	Stop  atomic.Int64

	// Sources.
	EventReceived, EventAccepted             Cell
	AppendReceived, AppendAccepted           Cell
	AppendBatchReceived, AppendBatchAccepted Cell
	OpenConnection                           Cell // gauge
	EventReadFail, ChannelWriteFail          Cell
	GenericProcessingFail                    Cell

	// Sinks.
	ConnectionCreated, ConnectionClosed, ConnectionFailed Cell
	BatchEmpty, BatchUnderflow, BatchComplete             Cell
	EventDrainAttempt, EventDrainSuccess                  Cell
	EventWriteFail, ChannelReadFail                       Cell
	Lag                                                   Histogram // age of events when delivered

	// Channels. Size and capacity are read through Fill.
	EventPutAttempt, EventPutSuccess   Cell
	EventTakeAttempt, EventTakeSuccess Cell
	Fill                               func() (events, capacity int64) // nil: none

	mu    sync.Mutex
	extra []*Extra
}

// Extra is a cell that only one kind of component has.
type Extra struct {
	Name  string // Prometheus form without prefix: words_with_underscores, counters end in _total
	Help  string
	Gauge bool
	Flume string // the attribute's name in Flume's JSON; empty: not shown there
	Cell
	Read func() int64 // if set, instead of the cell
}

// Value returns the number now.
func (e *Extra) Value() int64 {
	if e.Read != nil {
		return e.Read()
	}
	return e.Load()
}

// Counter returns the group's counter of that name, making it at the first call.
func (g *Group) Counter(name, help string) *Extra { return g.cell(name, help, false) }

// Gauge returns the group's gauge of that name, making it at the first call.
func (g *Group) Gauge(name, help string) *Extra {
	return g.cell(name, help, true)
}

// GaugeFunc registers a gauge that is read when somebody looks; a later one of
// the same name replaces it.
func (g *Group) GaugeFunc(name, help string, read func() int64) { g.FlumeGauge(name, "", help, read) }

// FlumeGauge is GaugeFunc for what also stands in Flume's JSON, as that attribute.
func (g *Group) FlumeGauge(name, attribute, help string, read func() int64) {
	x := &Extra{Name: name, Help: help, Gauge: true, Flume: attribute, Read: read}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.extra {
		if g.extra[i].Name == name {
			g.extra[i] = x // whoever reads the old one meanwhile is undisturbed
			return
		}
	}
	g.extra = append(g.extra, x)
}

func (g *Group) cell(name, help string, gauge bool) *Extra {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.extra {
		if x.Name == name {
			return x
		}
	}
	x := &Extra{Name: name, Help: help, Gauge: gauge}
	g.extra = append(g.extra, x)
	return x
}

// Extras returns the group's own cells, in the order they were made.
func (g *Group) Extras() []*Extra {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Extra(nil), g.extra...)
}

// Value returns the group's own cell of that name; 0 if there is none.
func (g *Group) Value(name string) int64 {
	for _, x := range g.Extras() {
		if x.Name == name {
			return x.Value()
		}
	}
	return 0
}

// Histogram counts durations in fixed buckets from 1 ms to about 17 minutes,
// each four times the last.
type Histogram struct {
	buckets [lagBuckets + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

const lagBuckets = 11

// Bounds returns the buckets' upper bounds in seconds.
func (h *Histogram) Bounds() []float64 {
	b := make([]float64, lagBuckets)
	for i := range b {
		b[i] = math.Pow(4, float64(i)) / 1000
	}
	return b
}

// Observe counts n events of age d.
func (h *Histogram) Observe(d time.Duration, n int) {
	i, bound := 0, time.Millisecond
	for ; i < lagBuckets && d > bound; i++ {
		bound *= 4
	}
	h.buckets[i].Add(uint64(n))
	h.sum.Add(int64(d) * int64(n))
}

// Snapshot returns the count, the sum in seconds, and cumulative counts by upper bound.
func (h *Histogram) Snapshot() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, lagBuckets)
	for i, b := range h.Bounds() {
		count += h.buckets[i].Load()
		buckets[b] = count
	}
	count += h.buckets[lagBuckets].Load()
	return count, time.Duration(h.sum.Load()).Seconds(), buckets
}
