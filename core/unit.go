package core

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// unitConf is the configuration of a unit: a sink, or a group with its sinks.
type unitConf struct {
	group *conf.Group // nil: one sink on its own
	sinks []*conf.Sink
}

// unitsOf gives the units of c: sinks in written order, each group in the place of its first sink.
func unitsOf(c *conf.Agent) []unitConf {
	var all []unitConf
	done := make(map[*conf.Group]bool)
	for _, s := range c.Sinks {
		i := slices.IndexFunc(c.Groups, func(g *conf.Group) bool { return slices.Contains(g.Sinks, s.Name) })
		if i < 0 {
			all = append(all, unitConf{sinks: []*conf.Sink{s}})
			continue
		}
		g := c.Groups[i]
		if done[g] {
			continue
		}
		done[g] = true
		u := unitConf{group: g}
		for _, name := range g.Sinks {
			for _, m := range c.Sinks {
				if m.Name == name {
					u.sinks = append(u.sinks, m)
				}
			}
		}
		all = append(all, u)
	}
	return all
}

func (u unitConf) name() string {
	if u.group != nil {
		return u.group.Name
	}
	return u.sinks[0].Name
}

// word is what a unit is called in a report.
func (u unitConf) word() string {
	if u.group != nil {
		return "sink group " + u.group.Name
	}
	return "sink " + u.sinks[0].Name
}

func (u unitConf) channel() string { return u.sinks[0].Channel }

// deadLetter is the channel of the first sink that has one.
func (u unitConf) deadLetter() string {
	for _, s := range u.sinks {
		if s.DeadLetter != "" {
			return s.DeadLetter
		}
	}
	return ""
}

// place is where the configuration of the sink, or the group, of that name is, and its key.
func (u unitConf) place(name string) (pos conf.Pos, key string) {
	for _, s := range u.sinks {
		if s.Name == name {
			return s.Pos, "sinks." + name
		}
	}
	return u.group.Pos, "sinkgroups." + name
}

// sameSinks tells whether the sinks have the same names.
func (u unitConf) sameSinks(o unitConf) bool {
	return slices.EqualFunc(u.sinks, o.sinks, func(a, b *conf.Sink) bool { return a.Name == b.Name })
}

// sharesType tells whether both have sinks of one type, which may then use the same things outside.
func (u unitConf) sharesType(o unitConf) bool {
	return slices.ContainsFunc(u.sinks, func(a *conf.Sink) bool {
		return slices.ContainsFunc(o.sinks, func(b *conf.Sink) bool { return a.Type == b.Type })
	})
}

// same tells whether nothing of a unit differs.
func (u unitConf) same(o unitConf) bool {
	if (u.group == nil) != (o.group == nil) || u.group != nil && (!u.group.Same(&o.group.Component) || !slices.Equal(u.group.Sinks, o.group.Sinks)) {
		return false
	}
	return slices.EqualFunc(u.sinks, o.sinks, func(a, b *conf.Sink) bool { return a.Same(&b.Component) })
}

// unit is what takes from a channel: a runner with its sink, or its group of
// sinks. It is replaced as one.
type unit struct {
	a      *Agent
	conf   unitConf
	runner *SinkRunner
	sinks  []*sinkNode // the sink; or those of the group, and then its processor

	before []*unit // which end before its sinks open; used by its goroutine
	max    int     // what its sinks were told of the channel
	gone   bool    // not in the configuration, and still there for its channel; under Agent.reloading

	stop, endDrain context.CancelFunc
	leaving        atomic.Bool   // its goroutine closes the sinks at the end
	ended          chan struct{} // its goroutine is; nil before it starts
}

type sinkNode struct {
	name, typ string
	sink      Sink
	cells     *metric.Group // nil for a group
	open      bool          // used by the runner's goroutine, and when there is none
	waiting   bool          // not open yet, to be tried again
}

// late notes that the sink waits to be opened.
func (s *sinkNode) late(u *unit, err error) {
	s.waiting = true
	u.runner.note(err)
}

func newUnit(a *Agent, c unitConf, channels []*ChannelNode) *unit {
	u := &unit{a: a, conf: c}
	var members []Sink
	var cells []*metric.Group
	batch := 0
	for _, s := range c.sinks {
		n := &sinkNode{name: s.Name, typ: s.Type, cells: a.group(metric.Sink, s.Name)}
		n.sink = newMetered(s.Bound.(Sink), n.cells, a, c.channel(), or0(s.Keys.BatchSize()))
		u.sinks = append(u.sinks, n)
		members = append(members, n.sink)
		cells = append(cells, n.cells)
	}
	sink := members[0]
	batch = or0(c.first().Keys.BatchSize())
	if c.group != nil {
		p := c.group.Bound.(SinkProcessor)
		p.Group(members)
		u.sinks = append(u.sinks, &sinkNode{name: c.group.Name, typ: c.group.Type, sink: p})
		sink = p
	}
	ch := channelOf(c.channel(), channels)
	u.max = int(ch.transaction.Load())
	u.runner = &SinkRunner{
		Name: c.name(), Log: a.w.Log.With("sink", c.name()), Sink: sink,
		Channel: ch, Dead: channelOf(c.deadLetter(), channels),
		Take: Take{Events: batch, Linger: c.first().Keys.LingerTime()}, Cells: cells, taps: &a.taps,
	}
	return u
}

// first is the sink whose batch size counts: the first with a dead letter channel, or else the first.
func (u unitConf) first() *conf.Sink {
	for _, s := range u.sinks {
		if s.DeadLetter != "" {
			return s
		}
	}
	return u.sinks[0]
}

func (u *unit) say(s *sinkNode, err error) error {
	return fmt.Errorf("sink %s (%s): %w", s.name, s.typ, err)
}

// open opens all sinks, or none; it returns the one that failed.
func (u *unit) open(ctx context.Context) (failed *sinkNode, err error) {
	for _, s := range u.sinks {
		if err := u.openSink(ctx, s); err != nil {
			u.close()
			return s, err
		}
	}
	return nil, nil
}

// late notes that all sinks wait to be opened.
func (u *unit) late(err error) {
	for _, s := range u.sinks {
		s.late(u, err)
	}
}

func (u *unit) openSink(ctx context.Context, s *sinkNode) error {
	env := u.a.env("sink", s.name, s.cells)
	ch := u.runner.Channel
	if err := ch.recorded(ctx); err != nil {
		return fmt.Errorf("channel %s has not stored what the last sink acked: %w", ch.Name, err)
	}
	env.Marks = ch.Marks()
	env.MaxEvents = u.max
	if err := s.sink.Open(ctx, env); err != nil {
		return err
	}
	s.open = true
	u.a.started(s.cells)
	return nil
}

// close closes what is open, the group's processor first.
func (u *unit) close() {
	for _, s := range slices.Backward(u.sinks) {
		if !s.open {
			continue
		}
		s.open = false
		grace, cancel := u.a.drain.closing()
		if err := s.sink.Close(grace); err != nil {
			u.a.w.Log.Error("close sink", "sink", s.name, "error", err)
		}
		cancel()
		u.a.stopped(s.cells)
	}
}

// start starts the runner.
func (u *unit) start() {
	var work, drain context.Context
	work, u.stop = context.WithCancel(u.a.work)
	drain, u.endDrain = context.WithCancel(context.WithoutCancel(u.a.work))
	u.ended = make(chan struct{})
	go func() {
		defer close(u.ended)
		defer u.endDrain()
		defer u.stop()
		u.run(work, drain)
		if u.leaving.Load() {
			u.close()
		}
	}()
}

// run opens what could not be opened yet, every few seconds, and then runs the runner.
func (u *unit) run(work, drain context.Context) {
	now := u.follow(drain)
	for _, s := range u.sinks {
		for s.waiting {
			if !now {
				sleep(work, openPause)
			}
			now = false
			err := u.openSink(drain, s)
			if err == nil {
				s.waiting = false
				u.runner.succeed()
				break
			}
			if work.Err() != nil {
				return
			}
			u.runner.note(err)
			u.a.w.Log.Error("unable to start, will try again", "sink", s.name, "error", err, "pause", openPause)
		}
	}
	u.runner.Run(work, drain)
}

// follow waits for the units before, which may use the same things outside, but
// no longer than a drain takes. It tells whether there were any.
func (u *unit) follow(drain context.Context) bool {
	if len(u.before) == 0 {
		return false
	}
	limit, cancel := context.WithTimeout(drain, u.a.w.DrainTimeout)
	defer cancel()
	for _, b := range u.before {
		select {
		case <-b.ended:
		case <-limit.Done():
		}
	}
	u.before = nil
	return true
}

// halt ends the runner and closes its sinks. What the channel holds stays there
// for another runner; what is not delivered when ctx ends is rolled back.
func (u *unit) halt(ctx context.Context) {
	u.runner.stay.Store(true)
	defer context.AfterFunc(ctx, u.endDrain)()
	u.stop()
	<-u.ended
	u.close()
}

// again is the configuration of a unit with components that were never opened.
func (u unitConf) again(cat conf.Catalog) unitConf {
	if cat == nil {
		return u
	}
	var n unitConf
	for _, s := range u.sinks {
		c := *s
		c.Component = again(cat, s.Component, nil)
		n.sinks = append(n.sinks, &c)
	}
	if u.group != nil {
		g := *u.group
		g.Component = again(cat, u.group.Component, u.group.Sinks)
		n.group = &g
	}
	return n
}
