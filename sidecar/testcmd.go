package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// test runs example events through configurations, as files say, and compares what becomes of them.
func (p *Program) test(args []string) int {
	f := newFlags(p, "test")
	quiet := false
	f.Bool(&quiet, "quiet", "q", "say only what fails")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if f.set.NArg() == 0 {
		return f.wrong("name a file of tests: test FILE...")
	}
	worst, passed, failed := exitOK, 0, 0
	for _, name := range f.set.Args() {
		good, bad, code := p.testOne(name, quiet)
		passed, failed, worst = passed+good, failed+bad, max(worst, code)
	}
	if !quiet || failed > 0 {
		fmt.Fprintf(p.Stdout, "%d passed, %d failed\n", passed, failed)
	}
	return worst
}

// testOne runs the tests of one file.
func (p *Program) testOne(name string, quiet bool) (passed, failed, code int) {
	t, err := readTestFile(name)
	if err != nil {
		p.complain("test: " + err.Error())
		return 0, 0, exitConfig
	}
	in := *p
	in.Env = func(name string) (string, bool) {
		v, ok := t.Env[name]
		return v, ok
	}
	s := source{files: t.Config, name: t.Agent, offline: true, never: true}
	agent, faults := s.load(&in)
	if agent == nil {
		printFaults(p.Stderr, faults)
		return 0, 0, exitConfig
	}
	now := time.Now
	if !t.Time.IsZero() {
		now = func() time.Time { return t.Time }
	}
	r := &testRun{agent: agent, now: now, trials: make(map[string]*core.Trial)}
	for i := range t.Tests {
		c := &t.Tests[i]
		wrong := r.one(c)
		if len(wrong) == 0 {
			passed++
			if !quiet {
				fmt.Fprintf(p.Stdout, "ok    %s\n", cmp.Or(c.Name, fmt.Sprintf("%s:%d", name, c.line)))
			}
			continue
		}
		failed, code = failed+1, exitFailed
		fmt.Fprintf(p.Stdout, "FAIL  %s (%s:%d)\n", c.Name, name, c.line)
		for _, w := range wrong {
			fmt.Fprintf(p.Stdout, "      %s\n", w)
		}
	}
	return passed, failed, code
}

// testRun is a configuration with its sources' ways as far as tests have asked for them.
type testRun struct {
	agent  *conf.Agent
	now    func() time.Time
	trials map[string]*core.Trial
}

// one runs a test and says what is wrong.
func (r *testRun) one(c *testCase) (wrong []string) {
	var h []core.Header
	for _, k := range slices.Sorted(maps.Keys(c.Headers)) {
		h = append(h, core.Header{Key: k, Value: c.Headers[k]})
	}
	events, err := r.route(c, core.NewHeaders(h...))
	if err != nil {
		return []string{err.Error()}
	}
	dropped := !slices.ContainsFunc(events, func(e core.Routed) bool { return len(e.Channels) > 0 })
	want := c.Expect.Dropped != nil && *c.Expect.Dropped
	switch {
	case dropped && !want:
		return []string{"the event is dropped"}
	case !dropped && want:
		return []string{"the event is not dropped: it goes to " + strings.Join(events[0].Channels, " ")}
	}
	for _, e := range events {
		wrong = append(wrong, r.differs(&c.Expect, e)...)
	}
	return wrong
}

// route tells what becomes of the event of a test on its way into channels; one that is said to be in a channel is there as it is.
func (r *testRun) route(c *testCase, h core.Headers) ([]core.Routed, error) {
	if c.Channel == "" {
		trial, err := r.trial(c.Source)
		if err != nil {
			return nil, err
		}
		return trial.Route(h, []byte(c.Body))
	}
	all := names(r.agent.Channels, func(ch *conf.Component) string { return ch.Name })
	switch {
	case c.Source != "":
		return nil, errors.New("channel: an event comes from a source or is in a channel")
	case !slices.Contains(all, c.Channel):
		return nil, fmt.Errorf("channel: %q is none of the agent's; there are %s", c.Channel, strings.Join(all, " "))
	}
	return []core.Routed{{Event: core.Event{Headers: h, Body: []byte(c.Body)}, Channels: []string{c.Channel}}}, nil
}

func (r *testRun) differs(want *expectation, got core.Routed) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if want.Channels != nil {
		a, b := slices.Sorted(slices.Values(*want.Channels)), slices.Sorted(slices.Values(got.Channels))
		if !slices.Equal(a, b) {
			say("channels: got %s, want %s", strings.Join(b, " "), strings.Join(a, " "))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want.Headers)) {
		v, has := got.Headers.Get(k)
		switch w := want.Headers[k]; {
		case w == nil && has:
			say("header %s: got %q, want none", k, v)
		case w != nil && !has:
			say("header %s: is not there, want %q", k, *w)
		case w != nil && !matches(*w, v):
			say("header %s: got %q, want %q", k, v, *w)
		}
	}
	if want.Body != nil && !matches(*want.Body, string(got.Body)) {
		say("body: got %q, want %q", got.Body, *want.Body)
	}
	for _, name := range slices.Sorted(maps.Keys(want.Paths)) {
		path, err := r.path(name, got)
		if err != nil {
			say("path of sink %s: %v", name, err)
		} else if !matches(want.Paths[name], path) {
			say("path of sink %s: got %q, want %q", name, path, want.Paths[name])
		}
	}
	return wrong
}

// path tells where a sink would write an event.
func (r *testRun) path(sink string, e core.Routed) (string, error) {
	i := slices.IndexFunc(r.agent.Sinks, func(s *conf.Sink) bool { return s.Name == sink })
	if i < 0 {
		return "", fmt.Errorf("there is no such sink; there are %s", strings.Join(names(r.agent.Sinks, func(s *conf.Sink) string { return s.Name }), " "))
	}
	s := r.agent.Sinks[i]
	if !slices.Contains(e.Channels, s.Channel) {
		return "", fmt.Errorf("the event does not get there: it goes to %s, and the sink takes from %s", strings.Join(e.Channels, " "), s.Channel)
	}
	placer, ok := core.PlacerOf(s.Bound)
	if !ok {
		return "", fmt.Errorf("a sink of type %s has no paths", s.Type)
	}
	return placer.Place(e.Event, r.now())
}

// trial is the way of a source, the only one if none is named.
func (r *testRun) trial(name string) (*core.Trial, error) {
	list := r.agent.Sources
	if name == "" && len(list) == 1 {
		name = list[0].Name
	}
	if t := r.trials[name]; t != nil {
		return t, nil
	}
	i := slices.IndexFunc(list, func(s *conf.Source) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("source: %q is none of the agent's; there are %s", name, strings.Join(names(list, func(s *conf.Source) string { return s.Name }), " "))
	}
	t, err := core.NewTrial(context.Background(), list[i], core.Env{
		Agent: r.agent.Name, Name: name, Log: slog.New(slog.DiscardHandler), Metrics: new(metric.Group), FS: filesystem(), Now: r.now,
	})
	if err == nil {
		r.trials[name] = t
	}
	return t, err
}

func names[T any](list []T, name func(T) string) (all []string) {
	for _, one := range list {
		all = append(all, name(one))
	}
	return all
}
