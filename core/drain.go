package core

import (
	"context"
	"sync"
	"time"
)

type drainKey struct{}

// drain is how an agent's end is spread over its parts. It begins when the
// agent is told to stop.
type drain struct {
	timeout time.Duration
	hard    context.Context // ends at a second signal

	mu    sync.Mutex
	begun time.Time
}

func (d *drain) begin(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun.IsZero() {
		d.begun = now
	}
}

// until returns a context that ends when that share of the drain time is over,
// or at a second signal. A source may ask before the agent has begun: it begins
// now, for that source.
func (d *drain) until(share float64) (context.Context, context.CancelFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	begun := d.begun
	if begun.IsZero() {
		begun = time.Now()
	}
	return context.WithDeadline(d.hard, begun.Add(time.Duration(float64(d.timeout)*share)))
}

// closing returns a context for the close of a sink: the rest of the drain time,
// since some publish then what they hold, and closeGrace at least. A sink that
// ends before the agent does, in a reload, has only that: another goes on.
func (d *drain) closing() (context.Context, context.CancelFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := time.Now().Add(closeGrace)
	if !d.begun.IsZero() {
		if rest := d.begun.Add(d.timeout); rest.After(end) {
			end = rest
		}
	}
	return context.WithDeadline(d.hard, end)
}

// leaving is how one source of the agent ends: with the agent, or before it,
// when a reload replaces the source.
type leaving struct {
	drain *drain

	mu    sync.Mutex
	alone bool
	end   time.Time
}

// replace makes the end that of the source alone, which has so much time.
func (l *leaving) replace(grace time.Duration) {
	l.mu.Lock()
	l.alone, l.end = true, time.Now().Add(grace)
	l.mu.Unlock()
}

func (l *leaving) replaced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone
}

func (l *leaving) until(share float64) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	alone, end := l.alone, l.end
	l.mu.Unlock()
	if alone {
		return context.WithDeadline(l.drain.hard, end)
	}
	return l.drain.until(share)
}

// sourceShare is the part of the drain time in which sources may go on
// reading; the rest is for what is in the channels.
const sourceShare = 0.5

// DrainContext returns, for a source whose ctx has ended, a context in which it
// may read on to a good end: a tail until its files are at rest. Outside an
// agent that context has ended too, and so it has for a source whose batches are
// marked and that a reload replaces: the one that follows reads on.
func DrainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if d, ok := ctx.Value(drainKey{}).(*leaving); ok && ctx.Err() != nil {
		return d.until(sourceShare)
	}
	return context.WithCancel(ctx)
}

// LateContext returns, for what was read before ctx ended, a context to send it
// in: it ends with the agent's time for sources instead of with ctx. cancel ends
// it at once; it may be called more than once.
func LateContext(ctx context.Context) (late context.Context, cancel func()) {
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		drain, endDrain := DrainContext(ctx)
		defer endDrain()
		select {
		case <-drain.Done():
			end()
		case <-late.Done():
		}
	})
	return late, sync.OnceFunc(func() {
		end()
		if !stop() {
			<-ended
		}
	})
}
