package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/core/metric"
)

// Status is what an agent is doing, as /status shows it.
type Status struct {
	Agent    string          `json:"agent"`
	Ready    bool            `json:"ready"`
	Draining bool            `json:"draining"`
	Problems []string        `json:"problems,omitempty"` // why it is not ready
	Sources  []SourceStatus  `json:"sources"`
	Channels []ChannelStatus `json:"channels"`
	Sinks    []SinkStatus    `json:"sinks"`
}

// SourceStatus is one source in a Status.
type SourceStatus struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	State    string   `json:"state"` // running, failed, finished, stopped, open, closed, waiting (for what its predecessor sent to be stored)
	Error    string   `json:"error,omitempty"`
	Restarts int      `json:"restarts"`
	Received int64    `json:"received"`
	Accepted int64    `json:"accepted"`
	Failures int64    `json:"failures"` // to read, to process, to put
	Open     int64    `json:"openConnections"`
	Channels []string `json:"channels"`
}

// ChannelStatus is one channel in a Status.
type ChannelStatus struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Events   int    `json:"events"`
	Bytes    int64  `json:"bytes"`
	Capacity int    `json:"capacity"`
	Durable  bool   `json:"durable"`
	// Age is that of the oldest event, in seconds; 0 in an empty channel. What lies
	// on disk and was never taken counts as young as what was taken last.
	Age     float64 `json:"ageSeconds"`
	Put     int64   `json:"put"`
	Taken   int64   `json:"taken"`
	Dropped int64   `json:"dropped"`           // because it was full (whenFull)
	Removed bool    `json:"removed,omitempty"` // by a reload; it is being emptied
	Error   string  `json:"error,omitempty"`
}

// SinkStatus is one sink, or sink group, in a Status.
type SinkStatus struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Channel   string `json:"channel"`
	Dead      string `json:"deadLetter,omitempty"` // the channel for what the far end refuses
	Group     string `json:"group,omitempty"`      // that the sink is in
	Health    string `json:"health,omitempty"`     // in its group: active, standby or failed
	Delivered int64  `json:"delivered"`
	Failures  int64  `json:"failures"` // deliveries that failed
	Refused   int64  `json:"refused"`  // events that the far end never takes
	// Lag is the sum of the ages of all LagOf events when they were delivered, in seconds.
	Lag     float64 `json:"lagSeconds"`
	LagOf   uint64  `json:"lagEvents"`
	Removed bool    `json:"removed,omitempty"` // by a reload; it empties its channel
	Error   string  `json:"error,omitempty"`
}

// Health is what a component may also implement: a reason not to be ready now.
type Health interface{ Health() error }

// Aged is a channel that knows when its oldest event was taken in; zero: it has none, or none that tells.
type Aged interface{ Oldest() time.Time }

// Members is a sink processor that tells how the sinks of its group fare.
type Members interface {
	// Fares gives for each sink, by name, one of the words below.
	Fares() map[string]string
}

// How a sink of a group fares.
const (
	FaresActive  = "active"  // it gets events
	FaresStandby = "standby" // it is well, and another has its turn
	FaresFailed  = "failed"  // it is left alone for a while
)

// Status returns what the agent is doing now.
func (a *Agent) Status() Status {
	a.mu.Lock()
	st, p := Status{Agent: a.name, Draining: a.draining}, a.parts
	a.mu.Unlock()
	for _, s := range p.sources {
		st.Sources = append(st.Sources, s.status())
	}
	for i, ch := range p.allChannels() {
		one := ChannelStatus{Name: ch.Name, Type: ch.typ, Removed: i >= len(p.channels)}
		if ch.open.Load() {
			n := ch.Len()
			one.Events, one.Bytes, one.Capacity, one.Durable = n.Events, n.Bytes, ch.Capacity(), ch.Durable()
			one.Error = text(health(ch.Channel))
			if aged, ok := ch.Channel.(Aged); ok {
				if oldest := aged.Oldest(); !oldest.IsZero() {
					one.Age = max(0, a.w.Now().Sub(oldest).Seconds())
				}
			}
		}
		c := ch.Cells
		one.Put, one.Taken, one.Dropped = c.EventPutSuccess.Load(), c.EventTakeSuccess.Load(), c.Value("events_dropped_total")
		st.Channels = append(st.Channels, one)
	}
	// The sinks, and then the groups.
	var groups []SinkStatus
	for i, u := range p.allUnits() {
		group, fares := u.fares()
		for _, s := range u.sinks {
			one := SinkStatus{Name: s.name, Type: s.typ, Channel: u.runner.Channel.Name, Error: text(u.runner.LastError()), Removed: i >= len(p.units)}
			if d := u.runner.Dead; d != nil {
				one.Dead = d.Name
			}
			if s.cells == nil {
				groups = append(groups, one)
				continue
			}
			one.Group, one.Health = group, fares[s.name]
			one.count(s.cells)
			st.Sinks = append(st.Sinks, one)
		}
	}
	st.Sinks = append(st.Sinks, groups...)
	if err := a.Ready(); err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	st.Ready = len(st.Problems) == 0
	return st
}

func (s *SinkStatus) count(c *metric.Group) {
	s.Delivered, s.Failures, s.Refused = c.EventDrainSuccess.Load(), c.EventWriteFail.Load(), c.Value("events_refused_total")
	s.LagOf, s.Lag, _ = c.Lag.Snapshot()
}

// fares tells how the sinks of a group do, and the group's name; both empty for a sink on its own.
func (u *unit) fares() (group string, fares map[string]string) {
	if u.conf.group == nil {
		return "", nil
	}
	if m, ok := u.conf.group.Bound.(Members); ok {
		fares = m.Fares()
	}
	return u.conf.group.Name, fares
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func health(c any) error {
	if h, ok := c.(Health); ok {
		return h.Health()
	}
	return nil
}

// Ready returns nil when everything runs, or why not.
func (a *Agent) Ready() error {
	a.mu.Lock()
	ready, draining, p := a.ready, a.draining, a.parts
	a.mu.Unlock()
	switch {
	case draining:
		return errors.New("draining")
	case !ready:
		return errors.New("starting")
	}
	var errs []error
	for _, s := range p.sources {
		s.mu.Lock()
		if s.last != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", s.name, s.last))
		}
		s.mu.Unlock()
	}
	for _, ch := range p.channels {
		if err := health(ch.Channel); err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", ch.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Cells returns the metric groups of all components: sources, channels, sinks.
func (a *Agent) Cells() []*metric.Group {
	var all []*metric.Group
	p := a.now()
	for _, s := range p.sources {
		all = append(all, s.cells)
	}
	for _, ch := range p.allChannels() {
		all = append(all, ch.Cells)
	}
	for _, u := range p.allUnits() {
		for _, s := range u.sinks {
			if s.cells != nil && !slices.Contains(all, s.cells) { // while one is moved there are two of the name
				all = append(all, s.cells)
			}
		}
	}
	return all
}
