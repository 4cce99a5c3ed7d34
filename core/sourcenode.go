package core

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// sourceNode is a source in an agent, with all that stands before its channels.
type sourceNode struct {
	a         *Agent
	name, typ string
	log       *slog.Logger
	source    Source
	chain     []*conf.Component
	selector  Selector
	channels  []*ChannelNode
	cells     *metric.Group

	mu       sync.Mutex
	out      *ChannelProcessor // nil while closed
	state    string
	last     error
	restarts int
}

func newSourceNode(a *Agent, c *conf.Source) *sourceNode {
	s := &sourceNode{
		a: a, name: c.Name, typ: c.Type, log: a.w.Log.With("source", c.Name), source: c.Bound.(Source),
		chain: c.Interceptors, selector: c.Selector.Bound.(Selector),
		cells: &metric.Group{Kind: metric.Source, Name: c.Name}, state: "closed",
	}
	for _, name := range c.Channels {
		s.channels = append(s.channels, a.channel(name))
	}
	return s
}

// open opens interceptors, selector and source.
func (s *sourceNode) open(ctx context.Context) error {
	env := s.a.env("source", s.name, s.cells)
	for _, ch := range s.channels {
		if n := ch.transaction; n > 0 && (env.MaxEvents == 0 || n < env.MaxEvents) {
			env.MaxEvents = n
		}
	}
	chain := make([]Interceptor, len(s.chain))
	for i, c := range s.chain {
		chain[i] = c.Bound.(Interceptor)
		if err := chain[i].Open(ctx, env); err != nil {
			return fmt.Errorf("interceptor %s: %w", c.Name, err)
		}
	}
	if err := s.selector.Open(ctx, env); err != nil {
		return fmt.Errorf("selector: %w", err)
	}
	if err := s.source.Open(ctx, env); err != nil {
		return err
	}
	s.a.started(s.cells)
	s.mu.Lock()
	s.out = NewChannelProcessor(s.log, s.cells, s.a.w.Now, chain, s.selector, s.channels)
	s.state = "open"
	s.mu.Unlock()
	return nil
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
	err := s.source.Run(ctx, out)
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

func (s *sourceNode) close() {
	s.mu.Lock()
	open := s.out != nil
	s.out = nil
	s.mu.Unlock()
	if !open {
		return
	}
	if err := s.source.Close(); err != nil {
		s.log.Error("close source", "error", err)
	}
	s.a.stopped(s.cells)
}
