package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// World is what the program gives an agent of the outside.
type World struct {
	Log          *slog.Logger
	FS           vfs.FS
	Dir          string // state directory, empty if none was given
	Now          func() time.Time
	Listen       func(network, addr string) (net.Listener, error)
	ListenPacket func(network, addr string) (net.PacketConn, error)
	DrainTimeout time.Duration // from the order to stop until whatever is left stays where it is
	RetryOpen    bool          // a source or sink that cannot open is tried again, as Flume does, instead of failing the start
}

// Agent is a running configuration:
//
//	source 1─┐                         ┌─1 channel 1─┐
//	         ├─1 processor ─ n claims ─┤             ├─1 runner ─ 1 sink
//	source n─┘  (its own)              └─n channel 1─┘            or group ─ n sinks
//
// One goroutine a source, one a runner; a batch crosses from the one to the
// other through a channel, by pointer.
type Agent struct {
	name     string
	w        World
	drain    *drain
	channels []*ChannelNode
	sinks    []*sinkNode
	runners  []*SinkRunner
	sources  []*sourceNode
	closers  []func() // of what is open, in the order of opening

	mu       sync.Mutex
	ready    bool
	draining bool
	rest     []Left
}

type sinkNode struct {
	name, typ string
	sink      Sink
	runner    *SinkRunner
	cells     *metric.Group
	waiting   bool // not open yet; the runner's own
}

// late notes that the sink waits to be opened.
func (s *sinkNode) late(err error) {
	s.waiting = true
	s.runner.fail(err)
}

// NewAgent makes the agent of c, whose components are bound and not open.
func NewAgent(c *conf.Agent, w World) *Agent {
	a := &Agent{name: c.Name, w: w, drain: &drain{timeout: w.DrainTimeout}}
	for _, ch := range c.Channels {
		n := &ChannelNode{
			Channel: ch.Bound.(Channel), Name: ch.Name, typ: ch.Type, transaction: or0(ch.Keys.TransactionCapacity()),
			Cells: &metric.Group{Kind: metric.Channel, Name: ch.Name},
		}
		n.Cells.Fill = n.fill
		a.channels = append(a.channels, n)
	}
	sinks := make(map[string]*sinkNode)
	grouped := make(map[string]bool)
	for _, g := range c.Groups {
		for _, s := range g.Sinks {
			grouped[s] = true
		}
	}
	for _, s := range c.Sinks {
		n := &sinkNode{name: s.Name, typ: s.Type, cells: &metric.Group{Kind: metric.Sink, Name: s.Name}}
		n.sink = newMetered(s.Bound.(Sink), n.cells, w.Now, or0(s.Keys.BatchSize()))
		sinks[s.Name] = n
		a.sinks = append(a.sinks, n)
		if !grouped[s.Name] {
			n.runner = a.runner(s.Name, n.sink, s)
		}
	}
	for _, g := range c.Groups {
		a.group(g, c, sinks)
	}
	for _, s := range c.Sources {
		a.sources = append(a.sources, newSourceNode(a, s))
	}
	return a
}

// or0 is n, or 0 where a component declares none.
func or0(n int, ok bool) int {
	if !ok {
		return 0
	}
	return n
}

func (a *Agent) runner(name string, s Sink, c *conf.Sink) *SinkRunner {
	r := &SinkRunner{
		Name: name, Log: a.w.Log.With("sink", name), Sink: s,
		Channel: a.channel(c.Channel), Dead: a.channel(c.DeadLetter),
		Take: Take{Events: or0(c.Keys.BatchSize())},
	}
	if n := r.Channel.transaction; n > 0 && (r.Take.Events == 0 || r.Take.Events > n) {
		r.Take.Events = n
	}
	a.runners = append(a.runners, r)
	return r
}

func (a *Agent) group(g *conf.Group, c *conf.Agent, sinks map[string]*sinkNode) {
	p := g.Bound.(SinkProcessor)
	var members []Sink
	var first *conf.Sink
	for _, name := range g.Sinks {
		members = append(members, sinks[name].sink)
		for _, s := range c.Sinks {
			if s.Name == name && (first == nil || first.DeadLetter == "" && s.DeadLetter != "") {
				first = s
			}
		}
	}
	p.Group(members)
	r := a.runner(g.Name, p, first)
	for _, name := range g.Sinks {
		sinks[name].runner = r
	}
	a.sinks = append(a.sinks, &sinkNode{name: g.Name, typ: g.Type, sink: p, runner: r})
}

func (a *Agent) channel(name string) *ChannelNode {
	for _, ch := range a.channels {
		if ch.Name == name {
			return ch
		}
	}
	return nil
}

func (a *Agent) env(kind, name string, cells *metric.Group) Env {
	return Env{
		Agent: a.name, Name: name, Log: a.w.Log.With(kind, name), Metrics: cells, FS: a.w.FS, Dir: a.w.Dir,
		Now: a.w.Now, Listen: a.w.Listen, ListenPacket: a.w.ListenPacket,
	}
}

// Run opens everything, downstream first, works until ctx ends, then drains and
// closes. When now ends the drain is cut short. An error means that the agent
// did not start; it has then undone itself.
func (a *Agent) Run(ctx, now context.Context) error {
	a.drain.hard = now
	if err := a.open(ctx); err != nil {
		a.closeAll()
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	drain, endDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer endDrain()
	var runners sync.WaitGroup
	for _, r := range a.runners {
		runners.Go(func() { a.run(r, work, drain) })
	}
	intake := context.WithValue(ctx, drainKey{}, a.drain)
	var sources sync.WaitGroup
	for _, s := range a.sources {
		sources.Go(func() { s.run(intake) })
	}
	a.setReady(true)
	<-ctx.Done()

	a.drain.begin(time.Now())
	a.setReady(false)
	a.w.Log.Info("stopping", "drain_timeout", a.w.DrainTimeout)
	sources.Wait()
	deadline, cancel := a.drain.until(1)
	defer cancel()
	context.AfterFunc(deadline, endDrain)
	stop()
	runners.Wait()
	left := a.left()
	a.closeAll()
	a.mu.Lock()
	a.rest = left
	a.mu.Unlock()
	return nil
}

// Left says, once Run has returned, what each channel held at the end.
func (a *Agent) Left() []Left {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rest
}

// left says what each channel still holds.
func (a *Agent) left() []Left {
	left := make([]Left, 0, len(a.channels))
	for _, ch := range a.channels {
		if s := ch.Len(); s.Events > 0 {
			left = append(left, Left{Channel: ch.Name, Events: s.Events, Bytes: s.Bytes, Kept: ch.Durable()})
		}
	}
	return left
}

// Left is what a stopped agent's channel held.
type Left struct {
	Channel string `json:"channel"`
	Events  int    `json:"events"`
	Bytes   int64  `json:"bytes"`
	Kept    bool   `json:"kept"` // on disk, delivered after the next start
}

func (a *Agent) open(ctx context.Context) error {
	var errs []error
	for _, ch := range a.channels {
		env := a.env("channel", ch.Name, ch.Cells)
		if err := ch.Open(ctx, env); err != nil {
			errs = append(errs, fmt.Errorf("channel %s (%s): %w", ch.Name, ch.typ, err))
			continue
		}
		a.started(ch.Cells)
		ch.open.Store(true)
		a.closers = append(a.closers, func() {
			ch.open.Store(false)
			if err := ch.Close(); err != nil {
				a.w.Log.Error("close channel", "channel", ch.Name, "error", err)
			}
			a.stopped(ch.Cells)
		})
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, s := range a.sinks {
		if err := a.openSink(ctx, s); err != nil {
			errs = append(errs, a.late(s.late, fmt.Errorf("sink %s (%s): %w", s.name, s.typ, err)))
		}
	}
	for _, s := range a.sources {
		if err := s.open(ctx); err != nil {
			s.set("failed", err)
			errs = append(errs, a.late(nil, fmt.Errorf("source %s (%s): %w", s.name, s.typ, err)))
		}
	}
	return errors.Join(errs...)
}

// late is err, or, where the world says to try again, a line in the log: the
// runner, or the source's own loop, then opens it.
func (a *Agent) late(mark func(error), err error) error {
	if !a.w.RetryOpen {
		return err
	}
	a.w.Log.Error("unable to start, will try again", "error", err, "pause", openPause)
	if mark != nil {
		mark(err)
	}
	return nil
}

func (a *Agent) openSink(ctx context.Context, s *sinkNode) error {
	env := a.env("sink", s.name, s.cells)
	env.Marks = s.runner.Channel.Marks()
	env.MaxEvents = s.runner.Channel.transaction
	if err := s.sink.Open(ctx, env); err != nil {
		return err
	}
	a.started(s.cells)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closers = append(a.closers, func() {
		grace, cancel := context.WithTimeout(a.drain.hard, closeGrace)
		defer cancel()
		if err := s.sink.Close(grace); err != nil {
			a.w.Log.Error("close sink", "sink", s.name, "error", err)
		}
		a.stopped(s.cells)
	})
	return nil
}

// run opens what could not be opened at the start, every few seconds, and then runs r.
func (a *Agent) run(r *SinkRunner, work, drain context.Context) {
	for _, s := range a.sinks {
		for s.runner == r && s.waiting && work.Err() == nil {
			sleep(work, openPause)
			if err := a.openSink(work, s); err != nil {
				a.w.Log.Error("unable to start, will try again", "sink", s.name, "error", err, "pause", openPause)
				continue
			}
			s.waiting = false
			r.succeed()
		}
		if s.runner == r && s.waiting {
			return
		}
	}
	r.Run(work, drain)
}

// closeGrace is how long a sink may take to close when the drain is over.
const closeGrace = 5 * time.Second

// openPause is Flume's: a component that cannot start is tried again after it.
const openPause = 3 * time.Second

// closeAll closes what was opened, the newest first: sinks, then channels (which
// ends every done), and then the sources.
func (a *Agent) closeAll() {
	for _, closeOne := range slices.Backward(a.closers) {
		closeOne()
	}
	a.closers = nil
	for _, s := range a.sources {
		s.close()
	}
}

func (a *Agent) started(cells *metric.Group) {
	if cells != nil {
		cells.Start.Store(a.w.Now().UnixMilli())
		cells.Stop.Store(0)
	}
}

func (a *Agent) stopped(cells *metric.Group) {
	if cells != nil {
		cells.Stop.Store(a.w.Now().UnixMilli())
	}
}

func (a *Agent) setReady(ready bool) {
	a.mu.Lock()
	a.ready, a.draining = ready, !ready
	a.mu.Unlock()
}
