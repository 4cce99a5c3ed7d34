package core

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// Placer is a sink that tells where it would write an event: a path as far as
// that is known before a file is begun, a topic. It connects to nothing, and is
// asked while the sink is not open.
type Placer interface {
	Place(e Event, now time.Time) (string, error)
}

// Trial is what stands between a source and its channels, without either, to see
// what becomes of events.
type Trial struct {
	chain    []Interceptor
	selector Selector
	channels []string
}

// NewTrial opens interceptors and selector of a source, whose components are bound and not open.
func NewTrial(ctx context.Context, c *conf.Source, env Env) (*Trial, error) {
	t := &Trial{channels: c.Channels, selector: c.Selector.Bound.(Selector)}
	for _, one := range c.Interceptors {
		i := one.Bound.(Interceptor)
		if err := i.Open(ctx, env); err != nil {
			return nil, fmt.Errorf("interceptor %s: %w", one.Name, err)
		}
		t.chain = append(t.chain, i)
	}
	if err := t.selector.Open(ctx, env); err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	return t, nil
}

// Routed is an event as it goes on, and the channels that it goes to; none where the selector has no place for it.
type Routed struct {
	Event
	Channels []string
}

// Route tells what becomes of an event; nothing where an interceptor drops it.
func (t *Trial) Route(h Headers, body []byte) ([]Routed, error) {
	b := NewBatch()
	defer b.Release()
	b.Copy(h, body)
	for _, i := range t.chain {
		if err := i.Intercept(b); err != nil {
			return nil, fmt.Errorf("interceptor: %w", err)
		}
	}
	r := NewRoutes(len(t.channels))
	t.selector.Select(b, r)
	list := make([]Routed, len(b.Events))
	for i, e := range b.Events {
		e.Body = slices.Clone(e.Body) // it outlives the batch
		list[i].Event = e
		for c, name := range t.channels {
			for _, optional := range []bool{false, true} {
				if p := r.Picked(c, optional); p == nil || slices.Contains(p, int32(i)) {
					list[i].Channels = append(list[i].Channels, name)
				}
			}
		}
	}
	return list, nil
}

// PlacerOf returns a sink as a Placer, if it is one; also where a Writer is one that WriterType made a sink of.
func PlacerOf(sink conf.Binder) (Placer, bool) {
	if w, ok := sink.(*writerSink); ok {
		p, ok := w.Writer.(Placer)
		return p, ok
	}
	p, ok := sink.(Placer)
	return p, ok
}
