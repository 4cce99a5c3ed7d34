package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// writer writes what is put into the channel. One goroutine takes whatever
// waits, of all sources, writes it, and tells them: so many small puts become
// few requests. What can not be written now is tried until it can: a source
// hears of it when it finds no room.
type writer struct {
	p       *producing
	limit   int64 // bytes put and not written
	refused *metric.Extra
	sayBad  sample.Log
	sayFail sample.Log
	ended   chan struct{}
	ctx     context.Context // ends when nothing more is tried
	cut     context.CancelFunc

	mu      sync.Mutex
	queue   []*put
	claimed core.Size     // with what is committed
	held    core.Size     // committed and not written
	failing error         // why the newest attempt failed
	closed  bool          // nothing more is put
	news    chan struct{} // there is something in the queue, or closed
	free    chan struct{} // closed when there may be room
}

// put is room in the writer, and then what is to be written.
type put struct {
	w      *writer
	size   core.Size
	batch  *core.Batch
	events []core.Event
	stored func(error)
}

// writeBytes is when no more puts are written at once.
const writeBytes = 8 << 20

func newWriter(p *producing, limit int64) *writer {
	w := &writer{
		p: p, limit: limit, ended: make(chan struct{}), news: make(chan struct{}, 1), free: make(chan struct{}),
		refused: p.s.env.Metrics.Counter("events_refused_total", "Events that the brokers never take, such as one that is too large; they were dropped."),
	}
	w.ctx, w.cut = context.WithCancel(context.Background())
	go w.run()
	return w
}

// claim is core.Channel's TryClaim.
func (w *writer) claim(room core.Size) (core.PutTx, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, core.ErrClosed
	}
	if most := w.p.s.maxRequest - batchHead; room.Events == 1 && room.Bytes > most {
		return nil, fmt.Errorf("%w: %d bytes, max.request.size is %d", core.ErrTooLarge, room.Bytes, w.p.s.maxRequest)
	}
	if !w.fits(room) {
		if w.failing != nil {
			return nil, fmt.Errorf("%w: %w", core.ErrChannelFull, w.failing)
		}
		return nil, core.ErrChannelFull
	}
	w.claimed = w.claimed.Add(room)
	return &put{w: w, size: room}, nil
}

// fits tells whether there is room now. A put that is larger than the limit may be alone.
func (w *writer) fits(room core.Size) bool {
	return room.Events == 0 || w.failing == nil && (w.claimed.Events == 0 || w.claimed.Bytes+room.Bytes <= w.limit)
}

// room is core.Channel's Room.
func (w *writer) room(ctx context.Context, room core.Size) error {
	limit := time.NewTimer(w.p.s.maxBlock)
	defer limit.Stop()
	for {
		w.mu.Lock()
		if w.closed || w.fits(room) {
			w.mu.Unlock()
			return nil
		}
		free, why := w.free, w.failing
		w.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			if why != nil {
				return fmt.Errorf("%w: %w", core.ErrChannelFull, why)
			}
			return core.ErrChannelFull
		}
	}
}

// Rollback implements core.PutTx.
func (p *put) Rollback() { p.w.give(p.size) }

// give gives room back. A failing writer has none.
func (w *writer) give(room core.Size) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claimed = w.claimed.Sub(room)
	w.makeRoom()
}

func (w *writer) makeRoom() {
	close(w.free)
	w.free = make(chan struct{})
}

// Commit implements core.PutTx.
func (p *put) Commit(b *core.Batch, pick []int32, stored func(error)) {
	w := p.w
	if p.size.Events == 0 {
		stored(nil) // a mark, of which a topic has none
		return
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		stored(core.ErrClosed)
		return
	}
	p.batch, p.events, p.stored = b.Hold(), b.Events, stored
	if pick != nil {
		p.events = make([]core.Event, len(pick))
		for i, at := range pick {
			p.events[i] = b.Events[at]
		}
	}
	w.held = w.held.Add(p.size)
	w.queue = append(w.queue, p)
	w.mu.Unlock()
	w.wake()
}

func (w *writer) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// next waits for puts. Nil: there will be no more.
func (w *writer) next() []*put {
	for {
		w.mu.Lock()
		n, bytes := 0, int64(0)
		for n < len(w.queue) && (n == 0 || bytes+w.queue[n].size.Bytes <= writeBytes) {
			bytes += w.queue[n].size.Bytes
			n++
		}
		group := slices.Clone(w.queue[:n])
		w.queue = slices.Delete(w.queue, 0, n)
		closed := w.closed
		w.mu.Unlock()
		if n > 0 || closed {
			return group
		}
		<-w.news
	}
}

func (w *writer) run() {
	defer close(w.ended)
	for {
		group := w.next()
		if len(group) == 0 {
			return
		}
		events := group[0].events
		if len(group) > 1 {
			events = nil
			for _, p := range group {
				events = append(events, p.events...)
			}
		}
		err := w.write(events)
		var size core.Size
		for _, p := range group {
			size = size.Add(p.size)
		}
		w.mu.Lock()
		w.claimed, w.held = w.claimed.Sub(size), w.held.Sub(size)
		w.makeRoom()
		w.mu.Unlock()
		for _, p := range group {
			p.batch.Release()
			p.stored(err)
		}
	}
}

// write writes events, however long it takes. It fails only when the channel closes.
func (w *writer) write(events []core.Event) error {
	for b := (backoff{first: w.p.s.backoff}); ; b.pause(w.ctx) {
		t := w.p.write(w.ctx, events)
		for i, why := range t.refused {
			w.refused.Add(1)
			w.sayBad.Say(w.p.s.env.Log, w.p.s.env.Now(), slog.LevelError, "event dropped: it can never be written", slog.Int("bytes", len(events[i].Body)), slog.Any("error", why))
		}
		if t.left() == 0 {
			w.note(nil)
			return nil
		}
		if w.ctx.Err() != nil {
			return core.ErrClosed
		}
		w.note(t.err)
		w.sayFail.Say(w.p.s.env.Log, w.p.s.env.Now(), slog.LevelWarn, "events can not be written now", slog.Int("events", t.left()), slog.Any("error", t.err))
		events = t.rest()
	}
}

func (w *writer) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := (err == nil) != (w.failing == nil)
	if w.failing = err; changed {
		w.makeRoom()
	}
}

func (w *writer) health() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing != nil {
		return fmt.Errorf("events can not be written now: %w", w.failing)
	}
	return nil
}

// used is what is claimed.
func (w *writer) used() core.Size {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claimed
}

// committed is what is put and not written.
func (w *writer) committed() core.Size {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// close writes what was put, for a while, and ends.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.makeRoom()
	w.mu.Unlock()
	w.wake()
	stop := time.AfterFunc(leaving, w.cut)
	<-w.ended
	stop.Stop()
	w.cut()
	w.p.c.close()
}
