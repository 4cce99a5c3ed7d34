package core

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// sourceNode is a source in an agent, with all that stands before its channels.
type sourceNode struct {
	a     *Agent
	name  string
	log   *slog.Logger
	cells *metric.Group

	before   []*sourceNode // which end before it opens, of a source that a reload brings; used by the goroutine of run
	first    chan error    // told how the first attempt to open ended; nil for sources that were there from the start
	held     sync.Mutex    // held while the source opens, and while its path is changed
	sent     positions     // of streams, by those that came before; under held
	leave    *leaving      // how it ends
	cancel   func()        // ends Run
	returned chan struct{} // Run has returned for the last time; nil before start
	ended    chan struct{} // the source is closed

	mu sync.Mutex
	sourceSetup
	fallback *sourceSetup      // what to go back to if the first attempt to open fails; nil: it is tried again
	out      *ChannelProcessor // nil while closed
	max      int               // what it was told of its channels when it was opened
	state    string
	last     error
	restarts int
}

type positions map[string]int64

// sourceSetup is all that is configured of a source.
type sourceSetup struct {
	conf     *conf.Source
	typ      string
	source   Source
	chain    []*conf.Component
	selector Selector
	channels []*ChannelNode
}

func setupOf(c *conf.Source, channels []*ChannelNode) sourceSetup {
	s := sourceSetup{
		conf: c, typ: c.Type, source: c.Bound.(Source), chain: c.Interceptors, selector: c.Selector.Bound.(Selector),
	}
	for _, name := range c.Channels {
		s.channels = append(s.channels, channelOf(name, channels))
	}
	return s
}

func newSourceNode(a *Agent, c *conf.Source, channels []*ChannelNode) *sourceNode {
	return &sourceNode{
		a: a, name: c.Name, log: a.w.Log.With("source", c.Name), cells: a.group(metric.Source, c.Name),
		leave: &leaving{drain: a.drain}, sourceSetup: setupOf(c, channels), state: "closed",
	}
}

func (s *sourceNode) setup() sourceSetup {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sourceSetup
}

func (s *sourceNode) say(err error) error {
	return fmt.Errorf("source %s (%s): %w", s.name, s.setup().typ, err)
}

func (s *sourceNode) env() Env { return s.a.env("source", s.name, s.cells) }

// maxEvents is the largest batch that all channels take; 0: no limit.
func maxEvents(channels []*ChannelNode) int {
	least := 0
	for _, ch := range channels {
		if n := int(ch.transaction.Load()); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// openPath opens interceptors and selector.
func (s *sourceNode) openPath(ctx context.Context, c sourceSetup) (*path, error) {
	env := s.env()
	env.MaxEvents = maxEvents(c.channels)
	chain := make([]Interceptor, len(c.chain))
	for i, one := range c.chain {
		chain[i] = one.Bound.(Interceptor)
		if err := chain[i].Open(ctx, env); err != nil {
			return nil, fmt.Errorf("interceptor %s: %w", one.Name, err)
		}
	}
	if err := c.selector.Open(ctx, env); err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	return newPath(chain, c.selector, c.channels), nil
}

// open opens interceptors, selector and source.
func (s *sourceNode) open(ctx context.Context) error {
	s.held.Lock()
	defer s.held.Unlock()
	c := s.setup()
	t, err := s.openPath(ctx, c)
	if err != nil {
		return err
	}
	env := s.env()
	env.MaxEvents = maxEvents(c.channels)
	if err := c.source.Open(ctx, env); err != nil {
		return err
	}
	s.a.started(s.cells)
	out := NewChannelProcessor(s.log, s.cells, s.a.w.Now, t.interceptors, t.selector, t.channels)
	out.taps = &s.a.taps
	out.inherit(s.sent)
	s.mu.Lock()
	s.out, s.state, s.max = out, "open", env.MaxEvents
	s.mu.Unlock()
	return nil
}

// reroute gives an open source another path. replaced is closed when nobody is
// on the old one. ok is false if the source is not open: then nothing is changed.
func (s *sourceNode) reroute(ctx context.Context, c sourceSetup) (replaced <-chan struct{}, ok bool, err error) {
	s.held.Lock()
	defer s.held.Unlock()
	s.mu.Lock()
	out, old := s.out, s.sourceSetup
	s.mu.Unlock()
	if out == nil {
		return nil, false, nil
	}
	t, err := s.openPath(ctx, c)
	if err != nil {
		return nil, true, err
	}
	c.source = old.source
	s.mu.Lock()
	s.sourceSetup = c
	s.mu.Unlock()
	return out.reroute(t), true, nil
}

// start starts the goroutine of the source.
func (s *sourceNode) start() {
	ctx, cancel := context.WithCancel(context.WithValue(s.a.intake, drainKey{}, s.leave))
	s.cancel = cancel
	s.returned, s.ended = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.ended)
		defer cancel()
		s.life(ctx)
	}()
}

// replace tells the source that another one takes its place, or none: it is to
// return soon, or at once if what it was given can be read again.
func (s *sourceNode) replace(grace time.Duration) {
	s.mu.Lock()
	out := s.out
	s.mu.Unlock()
	if out != nil && out.marked() {
		grace = 0
	}
	s.leave.replace(grace)
	s.cancel()
}

// life is what the goroutine does: it waits for the sources before, runs, and
// closes the source when all that it sent was answered.
func (s *sourceNode) life(ctx context.Context) {
	if !s.follow(ctx) {
		return
	}
	if s.first != nil {
		s.first <- s.begin(ctx)
	}
	s.run(ctx)
	close(s.returned)
	if !s.leave.replaced() {
		<-s.a.shut
	}
	s.mu.Lock()
	out := s.out
	s.mu.Unlock()
	if out != nil {
		_ = out.Wait(context.Background()) // it ends at the latest when the channels close
	}
	s.close()
}

// follow waits for the sources before, and takes over what they have sent. It
// tells whether there is still something to do then.
func (s *sourceNode) follow(ctx context.Context) bool {
	if len(s.before) == 0 {
		return true
	}
	s.set("waiting", nil)
	sent := positions{}
	over := ctx.Done()
	for _, b := range s.before {
		select {
		case <-b.ended:
		case <-over:
			over = nil // said once
			s.first <- ctx.Err()
			close(s.returned)
			<-b.ended
		}
		maps.Copy(sent, b.positions())
	}
	s.before = nil
	s.held.Lock()
	s.sent = sent
	s.held.Unlock()
	return over != nil
}

// begin makes the first attempt to open. If it fails the source that was there before is opened.
func (s *sourceNode) begin(ctx context.Context) error {
	err := s.open(ctx)
	s.mu.Lock()
	old := s.fallback
	s.fallback = nil
	if err != nil && old != nil {
		s.sourceSetup = *old
	}
	s.mu.Unlock()
	if err == nil {
		return nil
	}
	if old == nil {
		return err
	}
	s.log.Error("cannot open the changed source, the one before goes on", "error", err)
	if again := s.open(ctx); again != nil { // run tries on
		return fmt.Errorf("%w; and the one before: %w", err, again)
	}
	return fmt.Errorf("%w; the one before goes on", err)
}

// opened is what the source was last opened with, or what it would go back to;
// nil if it never was.
func (s *sourceNode) opened() *sourceSetup {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return s.fallback
	}
	old := s.sourceSetup
	return &old
}

// difference is what it takes to bring a source to another configuration.
type difference int

const (
	sameSource difference = iota
	samePlace             // another path, but the same keys
	otherKeys
)

func (s *sourceNode) differs(next sourceSetup) difference {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := func(c *conf.Component) *conf.Component {
		one := *c
		one.Props = slices.DeleteFunc(slices.Clone(c.Props), func(p conf.Property) bool { return p.Key == "channels" || p.Key == "interceptors" })
		return &one
	}
	switch {
	case !own(&s.conf.Component).Same(own(&next.conf.Component)), s.out != nil && s.max != maxEvents(next.channels):
		return otherKeys
	case slices.Equal(s.channels, next.channels) && s.conf.Selector.Same(next.conf.Selector) &&
		slices.EqualFunc(s.chain, next.chain, (*conf.Component).Same):
		return sameSource
	}
	return samePlace
}

// mayNeed tells whether the source, which is not started, has to wait for the end
// of another: where that is removed and this one is added they may be the same
// under two names, and any may have its port.
func (s *sourceNode) mayNeed(old *sourceNode, renamed bool) bool {
	next, was := s.setup(), old.setup()
	if renamed && next.typ == was.typ {
		return true
	}
	port := next.conf.Value("port")
	return port != "" && port == was.conf.Value("port")
}

// mayUse are the channels that the source puts into, or may soon.
func (s *sourceNode) mayUse() []*ChannelNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fallback == nil {
		return s.channels
	}
	return slices.Concat(s.channels, s.fallback.channels)
}

// run runs the source until ctx ends, beginning anew after each failure.
func (s *sourceNode) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			s.set("finished", nil)
			<-ctx.Done()
			break
		}
		if time.Since(begun) > lastPause {
			pause = firstPause
		}
		s.set("failed", err)
		s.log.Error("source failed, will begin again", "error", err, "pause", pause)
		sleep(ctx, pause)
		pause = min(2*pause, lastPause)
	}
	s.set("stopped", nil)
}

func (s *sourceNode) once(ctx context.Context) error {
	s.mu.Lock()
	out := s.out
	s.mu.Unlock()
	if out == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		out = s.out
		s.restarts++
		s.mu.Unlock()
	}
	s.set("running", nil)
	err := s.setup().source.Run(ctx, out)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// What was sent must be answered before the source closes.
	if w := out.Wait(ctx); w == nil {
		s.close()
	}
	return err
}

func (s *sourceNode) set(state string, err error) {
	s.mu.Lock()
	s.state, s.last = state, err
	s.mu.Unlock()
}

// positions returns up to where the streams of this source, and of those
// before it, were sent.
func (s *sourceNode) positions() positions {
	s.held.Lock()
	defer s.held.Unlock()
	return s.sent
}

func (s *sourceNode) close() {
	s.held.Lock()
	defer s.held.Unlock()
	s.mu.Lock()
	out, source := s.out, s.source
	s.out = nil
	s.mu.Unlock()
	if out == nil {
		return
	}
	s.sent = out.positions()
	if err := source.Close(); err != nil {
		s.log.Error("close source", "error", err)
	}
	s.a.stopped(s.cells)
}

func (s *sourceNode) status() SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := SourceStatus{
		Name: s.name, Type: s.typ, State: s.state, Error: text(s.last), Restarts: s.restarts,
		Received: s.cells.EventReceived.Load(), Accepted: s.cells.EventAccepted.Load(), Open: s.cells.OpenConnection.Load(),
		Failures: s.cells.EventReadFail.Load() + s.cells.ChannelWriteFail.Load() + s.cells.GenericProcessingFail.Load(),
	}
	for _, ch := range s.channels {
		one.Channels = append(one.Channels, ch.Name)
	}
	return one
}
