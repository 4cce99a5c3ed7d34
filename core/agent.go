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
	// Handover begins a time in which a listener that is closed stays open for
	// whoever listens on its address next; end ends it. Nil: listeners close at once.
	Handover func() (end func())
	// Catalog makes a replaced component anew when the one that replaces it
	// cannot open. Nil: the old one is opened again.
	Catalog conf.Catalog
}

// Agent is a running configuration:
//
//	source 1─┐                         ┌─1 channel 1─┐
//	         ├─1 processor ─ n claims ─┤             ├─1 runner ─ 1 sink
//	source n─┘  (its own)              └─n channel 1─┘            or group ─ n sinks
//
// One goroutine a source, one a runner; a batch crosses from the one to the
// other through a channel, by pointer. [Agent.Reload] replaces what differs in
// another configuration while the rest works on.
type Agent struct {
	name  string
	w     World
	drain *drain
	taps  taps

	intake, work context.Context // of sources: ends with the order to stop; of all else: with Run
	shut         chan struct{}   // closed when the channels are, at the end

	reloading sync.Mutex      // held until all is open, and by each reload
	over      bool            // told to stop, or not started; under reloading
	wanted    map[string]bool // channels of the configuration; under reloading
	tasks     sync.WaitGroup  // what a reload leaves to be done later

	mu       sync.Mutex
	parts    parts
	cells    map[string]*metric.Group // of sources and sinks, by kind and name, also of removed ones
	ready    bool
	draining bool
	dropped  []Left // in channels that a reload removed
	rest     []Left
}

// parts are the components of an agent. The lists are replaced, never changed.
type parts struct {
	channels []*ChannelNode
	units    []*unit
	sources  []*sourceNode
	leaving  []*sourceNode // replaced or removed, and not at their end
	retiring []*retiree
}

// NewAgent makes the agent of c, whose components are bound and not open.
func NewAgent(c *conf.Agent, w World) *Agent {
	a := &Agent{name: c.Name, w: w, drain: &drain{timeout: w.DrainTimeout}, shut: make(chan struct{}), cells: make(map[string]*metric.Group)}
	a.reloading.Lock()
	a.want(c)
	var p parts
	for _, ch := range c.Channels {
		p.channels = append(p.channels, newChannelNode(ch))
	}
	for _, u := range unitsOf(c) {
		p.units = append(p.units, newUnit(a, u, p.channels))
	}
	for _, s := range c.Sources {
		p.sources = append(p.sources, newSourceNode(a, s, p.channels))
	}
	a.parts = p
	return a
}

// want notes which channels are in the configuration.
func (a *Agent) want(c *conf.Agent) {
	a.wanted = make(map[string]bool)
	for _, ch := range c.Channels {
		a.wanted[ch.Name] = true
	}
}

// allUnits are the units, with those that empty channels that were removed.
func (p *parts) allUnits() []*unit {
	all := slices.Clone(p.units)
	for _, t := range p.retiring {
		all = append(all, t.units...)
	}
	return all
}

// allChannels are the channels, with those that were removed and are not empty.
func (p *parts) allChannels() []*ChannelNode {
	all := slices.Clone(p.channels)
	for _, t := range p.retiring {
		all = append(all, t.ch)
	}
	return all
}

// now returns the parts as they are now.
func (a *Agent) now() parts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.parts
}

// change changes the lists, by making new ones.
func (a *Agent) change(f func(p *parts)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.parts)
}

// or0 is n, or 0 where a component declares none.
func or0(n int, ok bool) int {
	if !ok {
		return 0
	}
	return n
}

// group returns the cells of that component, the same ones for all that ever have the name.
func (a *Agent) group(kind metric.Kind, name string) *metric.Group {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := string(kind) + "." + name
	if a.cells[key] == nil {
		a.cells[key] = &metric.Group{Kind: kind, Name: name}
	}
	return a.cells[key]
}

func channelOf(name string, channels []*ChannelNode) *ChannelNode {
	i := slices.IndexFunc(channels, func(ch *ChannelNode) bool { return ch.Name == name })
	if i < 0 {
		return nil
	}
	return channels[i]
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
	a.drain.hard, a.intake = now, ctx
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	a.work = work
	if err := a.open(ctx); err != nil {
		a.over = true
		a.closeAll()
		a.reloading.Unlock()
		return err
	}
	start := a.now()
	for _, u := range start.units {
		u.start()
	}
	for _, s := range start.sources {
		s.start()
	}
	a.setReady(true)
	a.reloading.Unlock()
	<-ctx.Done()

	a.drain.begin(time.Now())
	a.setReady(false)
	a.w.Log.Info("stopping", "drain_timeout", a.w.DrainTimeout)
	a.reloading.Lock()
	a.over = true
	a.reloading.Unlock()
	last := a.now()
	for _, s := range slices.Concat(last.sources, last.leaving) {
		<-s.returned
	}
	deadline, cancel := a.drain.until(1)
	defer cancel()
	units := last.allUnits()
	for _, u := range units {
		context.AfterFunc(deadline, u.endDrain)
		u.stop()
	}
	for _, u := range units {
		<-u.ended
	}
	left := leftIn(last.allChannels())
	a.mu.Lock()
	a.rest = slices.Concat(a.dropped, left)
	a.mu.Unlock()
	a.closeAll()
	return nil
}

// Left says, once the drain is over, what each channel held at its end; nil before.
func (a *Agent) Left() []Left {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rest
}

// leftIn says what each channel still holds.
func leftIn(channels []*ChannelNode) []Left {
	left := make([]Left, 0, len(channels))
	for _, ch := range channels {
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
	p := a.now()
	var errs []error
	for _, ch := range p.channels {
		if err := a.openChannel(ctx, ch); err != nil {
			errs = append(errs, fmt.Errorf("channel %s (%s): %w", ch.Name, ch.typ, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, u := range p.units {
		for _, s := range u.sinks {
			if err := u.openSink(ctx, s); err != nil {
				errs = append(errs, a.late(func(err error) { s.late(u, err) }, u.say(s, err)))
			}
		}
	}
	for _, s := range p.sources {
		if err := s.open(ctx); err != nil {
			s.set("failed", err)
			errs = append(errs, a.late(nil, s.say(err)))
		}
	}
	return errors.Join(errs...)
}

func (a *Agent) openChannel(ctx context.Context, ch *ChannelNode) error {
	if err := ch.Open(ctx, a.env("channel", ch.Name, ch.Cells)); err != nil {
		return err
	}
	a.started(ch.Cells)
	ch.open.Store(true)
	return nil
}

func (a *Agent) closeChannel(ch *ChannelNode) {
	if !ch.open.Swap(false) {
		return
	}
	if err := ch.Close(); err != nil {
		a.w.Log.Error("close channel", "channel", ch.Name, "error", err)
	}
	a.stopped(ch.Cells)
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

// closeGrace is how long a sink may take to close even when the drain is over.
const closeGrace = 5 * time.Second

// openPause is Flume's: a component that cannot start is tried again after it.
const openPause = 3 * time.Second

// closeAll closes what is open: sinks, then channels (which ends every done),
// and then the sources.
func (a *Agent) closeAll() {
	p := a.now()
	for _, u := range slices.Backward(p.allUnits()) {
		u.close()
	}
	for _, ch := range slices.Backward(p.allChannels()) {
		a.closeChannel(ch)
	}
	close(a.shut)
	a.tasks.Wait()
	for _, s := range slices.Concat(p.sources, p.leaving) {
		if s.ended == nil { // never started
			s.close()
			continue
		}
		<-s.ended
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
