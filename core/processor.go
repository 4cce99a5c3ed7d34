package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core/metric"
)

// ChannelProcessor stands between a source and its channels: interceptors,
// selector, and one commit over all channels. It is the source's Outlet.
//
// Room is claimed in every required channel before any is committed. If one
// has none, all claims are given back and the processor waits for that one
// channel: nothing is held while waiting, so no flow starves another, and no
// batch is ever in one channel only because another was full.
type ChannelProcessor struct {
	log          *slog.Logger
	cells        *metric.Group
	now          func() time.Time
	path         atomic.Pointer[path]
	optionalFull *metric.Extra
	refused      *metric.Extra
	taps         *taps // nil: none

	mu      sync.Mutex
	streams map[string]*sendStream
	out     int           // batches whose done is outstanding
	idle    chan struct{} // closed when out returns to 0; nil while nobody waits
	failed  error         // set by the first done(err); every later Send fails with it
}

// sendStream keeps the dones of one stream in order.
type sendStream struct {
	queue  []*pending
	sent   int64
	stored int64 // up to where done(nil) was called
	known  bool  // stored is
}

// pending is one batch on its way into several channels.
type pending struct {
	p      *ChannelProcessor
	left   int // channels that have not stored it, under p.mu
	err    error
	done   func(error)
	stream *sendStream
	pos    int64 // of stream
	events int
}

// NewChannelProcessor joins the parts, which are open.
func NewChannelProcessor(log *slog.Logger, cells *metric.Group, now func() time.Time,
	chain []Interceptor, sel Selector, channels []*ChannelNode,
) *ChannelProcessor {
	p := &ChannelProcessor{
		log: log, cells: cells, now: now,
		optionalFull: cells.Counter("optional_channel_dropped_total", "Events an optional channel had no room for."),
		refused:      cells.Counter("events_too_large_total", "Events dropped because a channel can never take one that large."),
		streams:      make(map[string]*sendStream),
	}
	p.path.Store(newPath(chain, sel, channels))
	return p
}

// Put implements Outlet.
func (p *ChannelProcessor) Put(ctx context.Context, b *Batch) error {
	defer b.Release()
	answer := make(chan error, 1)
	if err := p.put(ctx, b, true, func(err error) { answer <- err }); err != nil {
		return err
	}
	// The commit is under way and will be answered: leaving now would tell the
	// client "failed" about events that are stored.
	err := <-answer
	if err != nil {
		p.cells.ChannelWriteFail.Add(1)
	}
	return err
}

// Send implements Outlet.
func (p *ChannelProcessor) Send(ctx context.Context, b *Batch, done func(error)) error {
	defer b.Release()
	if done == nil {
		done = func(error) {}
	}
	return p.put(ctx, b, false, done)
}

func (p *ChannelProcessor) put(ctx context.Context, b *Batch, brief bool, done func(error)) error {
	if b.Born.IsZero() {
		b.Born = p.now()
	}
	n := int64(len(b.Events))
	p.cells.EventReceived.Add(n)
	w := &passage{p: p, path: p.enter(), ctx: ctx, brief: brief}
	defer func() { w.path.leave() }()
	for _, i := range w.path.interceptors {
		if err := i.Intercept(b); err != nil {
			p.cells.GenericProcessingFail.Add(1)
			return fmt.Errorf("interceptor: %w", err)
		}
	}
	err := w.route(b, int(n), done)
	if err != nil {
		p.cells.ChannelWriteFail.Add(1)
	}
	return err
}

// passage is one Put or Send on its way. It stays on its path unless that is
// replaced while it waits for room.
type passage struct {
	p     *ChannelProcessor
	path  *path
	ctx   context.Context
	brief bool
}

// route puts b whole, or, for a stream whose batch no channel can take whole, in halves.
func (w *passage) route(b *Batch, received int, done func(error)) error {
	err := w.commit(b, received, done, func(r *Routes) { w.path.selector.Select(b, r) })
	if w.brief || !errors.Is(err, ErrTooLarge) {
		return err
	}
	if len(b.Events) <= 1 {
		w.p.refused.Add(int64(len(b.Events)))
		w.p.log.Error("event dropped: no channel can ever take it", "bytes", b.Size().Bytes)
		b.Filter(func(*Event) bool { return false })
		return w.commit(b, received, done, func(*Routes) {})
	}
	half := len(b.Events) / 2
	first, second := b.Slice(0, half), b.Slice(half, len(b.Events))
	defer first.Release()
	defer second.Release()
	// Two dones for one: the batch is stored when the second half is, since
	// marked batches are stored in order; unmarked ones need both.
	both := &halves{done: done, left: 2}
	if err := w.route(first, 0, both.part); err != nil {
		return err
	}
	if err := w.route(second, received, both.part); err != nil {
		both.abandon()
		return err
	}
	return nil
}

// halves joins the answers of a batch that was put in two parts.
type halves struct {
	mu   sync.Mutex
	done func(error)
	left int
	err  error
}

func (h *halves) part(err error) {
	h.mu.Lock()
	h.left--
	h.err = errors.Join(h.err, err)
	done, last, err := h.done, h.left == 0, h.err
	h.mu.Unlock()
	if last && done != nil {
		done(err)
	}
}

// abandon forgets done: the second half was never put, which Send has said by its error.
func (h *halves) abandon() {
	h.mu.Lock()
	h.done = nil
	h.mu.Unlock()
}

// commit puts b where sel sends it. When the path was replaced meanwhile it
// goes over to the new one: the events were not put anywhere yet.
func (w *passage) commit(b *Batch, received int, done func(error), sel func(*Routes)) error {
	for {
		r := w.path.routes.Get().(*Routes)
		r.reset(len(w.path.channels))
		sel(r)
		err := w.once(b, r, received, done)
		w.path.routes.Put(r)
		if !errors.Is(err, errReplaced) {
			return err
		}
		w.path.leave()
		w.path = w.p.enter()
	}
}

func (w *passage) once(b *Batch, r *Routes, received int, done func(error)) error {
	p, channels := w.p, w.path.channels
	stream, pos, marked := b.Marked()
	var claims [8]PutTx
	txs, err := w.claim(b, r, marked, claims[:0])
	if err != nil {
		return err
	}
	one := &pending{p: p, done: done, pos: pos, events: received}
	for _, tx := range txs {
		if tx != nil {
			one.left++
		}
	}
	if err := p.enqueue(one, stream, pos, marked); err != nil {
		for _, tx := range txs {
			if tx != nil {
				tx.Rollback()
			}
		}
		return err
	}
	if one.left == 0 {
		one.left = 1
		one.stored(nil)
	} else {
		for c, tx := range txs {
			if tx == nil {
				continue
			}
			pick := r.required[c].indices()
			n := int64(b.SizeOf(pick).Events)
			channels[c].Cells.EventPutAttempt.Add(n)
			tx.Commit(b, pick, one.stored)
			channels[c].Cells.EventPutSuccess.Add(n)
			p.taps.see(p.cells.Name, channels[c].Name, b, pick)
		}
	}
	w.optional(b, r)
	return nil
}

// fullPause is how often a source that waits for a full channel asks it at most.
const fullPause = 5 * time.Millisecond

// claim reserves room in all required channels, or waits for the one that has
// none and begins again. The result has a nil for each channel that gets nothing.
func (w *passage) claim(b *Batch, r *Routes, marked bool, txs []PutTx) ([]PutTx, error) {
	for {
		txs = txs[:0]
		var err error
		full := -1
		for c, ch := range w.path.channels {
			pick := &r.required[c]
			if pick.empty() && !(marked && w.path.selector.Required(c)) {
				txs = append(txs, nil)
				continue
			}
			var tx PutTx
			if tx, err = ch.TryClaim(b.SizeOf(pick.indices())); err != nil {
				full = c
				break
			}
			txs = append(txs, tx)
		}
		if err == nil {
			return txs, nil
		}
		for _, tx := range txs {
			if tx != nil {
				tx.Rollback()
			}
		}
		ch, size := w.path.channels[full], b.SizeOf(r.required[full].indices())
		if errors.Is(err, ErrChannelFull) {
			asked := time.Now()
			if err = w.room(ch, size); err == nil {
				continue
			}
			if !w.brief && errors.Is(err, ErrChannelFull) {
				ch.Cells.EventPutAttempt.Add(int64(size.Events))
				sleep(w.ctx, fullPause-time.Since(asked)) // with a short keep-alive the answer comes at once
				continue
			}
		}
		if w.path.over.Err() != nil && w.ctx.Err() == nil {
			return nil, errReplaced
		}
		if w.ctx.Err() == nil && (w.brief || !errors.Is(err, ErrTooLarge)) { // else it is split
			ch.Cells.EventPutAttempt.Add(int64(size.Events))
		}
		return nil, fmt.Errorf("channel %s: %w", ch.Name, err)
	}
}

// room waits for room in ch, but no longer than there is this path.
func (w *passage) room(ch *ChannelNode, size Size) error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	defer context.AfterFunc(w.path.over, cancel)()
	if err := ch.Room(ctx, size); err != nil {
		return err
	}
	return w.path.over.Err()
}

// optional puts b into its optional channels, which never wait and never fail it.
func (w *passage) optional(b *Batch, r *Routes) {
	p := w.p
	for c, ch := range w.path.channels {
		if r.optional[c].empty() {
			continue
		}
		pick := r.optional[c].indices()
		size := b.SizeOf(pick)
		ch.Cells.EventPutAttempt.Add(int64(size.Events))
		tx, err := ch.TryClaim(size)
		if err != nil {
			if p.optionalFull.Load() == 0 {
				p.log.Warn("optional channel takes nothing; its events are dropped and counted", "channel", ch.Name, "error", err)
			}
			p.optionalFull.Add(int64(size.Events))
			continue
		}
		tx.Commit(b, pick, func(error) {})
		ch.Cells.EventPutSuccess.Add(int64(size.Events))
		p.taps.see(p.cells.Name, ch.Name, b, pick)
	}
}

func (p *ChannelProcessor) enqueue(w *pending, stream string, pos int64, marked bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	p.out++
	if marked {
		s := p.streams[stream]
		if s == nil {
			s = new(sendStream)
			p.streams[stream] = s
		}
		s.sent = pos
		s.queue = append(s.queue, w)
		w.stream = s
	}
	return nil
}

// stored is a channel's answer. When it is the last one the batch is done, and
// with it what waited behind it in its stream.
func (w *pending) stored(err error) {
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	w.left--
	if err != nil && w.err == nil {
		w.err = err
	}
	if w.left > 0 {
		return
	}
	if w.stream == nil {
		p.finish(w)
		return
	}
	q := w.stream.queue
	i := 0
	for ; i < len(q) && q[i].left == 0; i++ {
		p.finish(q[i])
	}
	w.stream.queue = append(q[:0], q[i:]...)
	clear(q[len(w.stream.queue):])
}

// finish calls one done, under p.mu: dones are serial, never block and never
// call the outlet.
func (p *ChannelProcessor) finish(w *pending) {
	if w.err != nil {
		if p.failed == nil {
			p.failed = w.err
		}
	} else {
		p.cells.EventAccepted.Add(int64(w.events))
		if w.stream != nil && p.failed == nil {
			w.stream.stored, w.stream.known = w.pos, true
		}
	}
	w.done(w.err)
	p.out--
	if p.out == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// Wait returns when every done has been called, or ctx ends.
func (p *ChannelProcessor) Wait(ctx context.Context) error {
	p.mu.Lock()
	if p.out == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Position implements Outlet. What this processor has sent is in the channels
// even where it is not stored yet: a source that runs again goes on from there.
func (p *ChannelProcessor) Position(stream string) (int64, bool) {
	p.mu.Lock()
	if s := p.streams[stream]; s != nil {
		p.mu.Unlock()
		return s.sent, true
	}
	p.mu.Unlock()
	pos, found := int64(0), false
	at := p.path.Load()
	for c, ch := range at.channels {
		if !at.selector.Required(c) {
			continue
		}
		held, ok := ch.Position(stream)
		if !ok {
			return 0, false
		}
		if !found || held < pos {
			pos, found = held, true
		}
	}
	return pos, found
}

// Forget implements Outlet.
func (p *ChannelProcessor) Forget(stream string) {
	p.mu.Lock()
	if s := p.streams[stream]; s != nil && len(s.queue) == 0 {
		delete(p.streams, stream)
	}
	p.mu.Unlock()
	for _, ch := range p.path.Load().channels {
		ch.Forget(stream)
	}
}
