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
	interceptors []Interceptor
	selector     Selector
	channels     []*ChannelNode
	routes       sync.Pool
	optionalFull *metric.Extra
	refused      *metric.Extra

	mu      sync.Mutex
	streams map[string]*sendStream
	out     int           // batches whose done is outstanding
	idle    chan struct{} // closed when out returns to 0; nil while nobody waits
	failed  error         // set by the first done(err); every later Send fails with it
}

// ChannelNode is a channel in an agent: shared by the sources that put into
// it and the sink that takes from it.
type ChannelNode struct {
	Channel
	Name  string
	Cells *metric.Group

	typ         string
	transaction int // transactionCapacity; 0: no limit
	open        atomic.Bool
}

// fill reads what the channel holds, for whoever looks from outside: nothing while it is not open.
func (n *ChannelNode) fill() (events, capacity int64) {
	if !n.open.Load() {
		return 0, 0
	}
	return int64(n.Len().Events), int64(n.Capacity())
}

// sendStream keeps the dones of one stream in order.
type sendStream struct {
	queue []*pending
	sent  int64
}

// pending is one batch on its way into several channels.
type pending struct {
	p      *ChannelProcessor
	left   int // channels that have not stored it, under p.mu
	err    error
	done   func(error)
	stream *sendStream
	events int
}

// NewChannelProcessor joins the parts, which are open.
func NewChannelProcessor(log *slog.Logger, cells *metric.Group, now func() time.Time,
	chain []Interceptor, sel Selector, channels []*ChannelNode,
) *ChannelProcessor {
	return &ChannelProcessor{
		log: log, cells: cells, now: now, interceptors: chain, selector: sel, channels: channels,
		routes:       sync.Pool{New: func() any { return new(Routes) }},
		optionalFull: cells.Counter("optional_channel_dropped_total", "Events an optional channel had no room for."),
		refused:      cells.Counter("events_too_large_total", "Events dropped because a channel can never take one that large."),
		streams:      make(map[string]*sendStream),
	}
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
	return <-answer
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
	for _, i := range p.interceptors {
		if err := i.Intercept(b); err != nil {
			p.cells.GenericProcessingFail.Add(1)
			return fmt.Errorf("interceptor: %w", err)
		}
	}
	err := p.route(ctx, b, brief, int(n), done)
	if err != nil {
		p.cells.ChannelWriteFail.Add(1)
	}
	return err
}

// route puts b whole, or, for a stream whose batch no channel can take whole, in halves.
func (p *ChannelProcessor) route(ctx context.Context, b *Batch, brief bool, received int, done func(error)) error {
	r := p.routes.Get().(*Routes)
	defer p.routes.Put(r)
	r.reset(len(p.channels))
	p.selector.Select(b, r)
	err := p.commit(ctx, b, r, brief, received, done)
	if brief || !errors.Is(err, ErrTooLarge) {
		return err
	}
	if len(b.Events) <= 1 {
		p.refused.Add(int64(len(b.Events)))
		p.log.Error("event dropped: no channel can ever take it", "bytes", b.Size().Bytes)
		b.Filter(func(*Event) bool { return false })
		r.reset(len(p.channels))
		return p.commit(ctx, b, r, brief, received, done)
	}
	half := len(b.Events) / 2
	first, second := b.Slice(0, half), b.Slice(half, len(b.Events))
	defer first.Release()
	defer second.Release()
	// Two dones for one: the batch is stored when the second half is, since
	// marked batches are stored in order; unmarked ones need both.
	both := &halves{done: done, left: 2}
	if err := p.route(ctx, first, brief, 0, both.part); err != nil {
		return err
	}
	if err := p.route(ctx, second, brief, received, both.part); err != nil {
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

func (p *ChannelProcessor) commit(ctx context.Context, b *Batch, r *Routes, brief bool, received int, done func(error)) error {
	stream, pos, marked := b.Marked()
	var claims [8]PutTx
	txs, err := p.claim(ctx, b, r, marked, brief, claims[:0])
	if err != nil {
		return err
	}
	w := &pending{p: p, done: done, events: received}
	for _, tx := range txs {
		if tx != nil {
			w.left++
		}
	}
	if err := p.enqueue(w, stream, pos, marked); err != nil {
		for _, tx := range txs {
			if tx != nil {
				tx.Rollback()
			}
		}
		return err
	}
	if w.left == 0 {
		w.left = 1
		w.stored(nil)
	} else {
		for c, tx := range txs {
			if tx == nil {
				continue
			}
			pick := r.required[c].indices()
			n := int64(b.SizeOf(pick).Events)
			p.channels[c].Cells.EventPutAttempt.Add(n)
			tx.Commit(b, pick, w.stored)
			p.channels[c].Cells.EventPutSuccess.Add(n)
		}
	}
	p.optional(b, r)
	return nil
}

// claim reserves room in all required channels, or waits for the one that has
// none and begins again. The result has a nil for each channel that gets nothing.
func (p *ChannelProcessor) claim(ctx context.Context, b *Batch, r *Routes, marked, brief bool, txs []PutTx) ([]PutTx, error) {
	for {
		txs = txs[:0]
		var err error
		full := -1
		for c, ch := range p.channels {
			pick := &r.required[c]
			if pick.empty() && !(marked && p.selector.Required(c)) {
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
		if !errors.Is(err, ErrChannelFull) {
			return nil, fmt.Errorf("channel %s: %w", p.channels[full].Name, err)
		}
		err = p.channels[full].Room(ctx, b.SizeOf(r.required[full].indices()))
		if err != nil && (brief || !errors.Is(err, ErrChannelFull)) {
			return nil, fmt.Errorf("channel %s: %w", p.channels[full].Name, err)
		}
	}
}

// optional puts b into its optional channels, which never wait and never fail it.
func (p *ChannelProcessor) optional(b *Batch, r *Routes) {
	for c, ch := range p.channels {
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
	for c, ch := range p.channels {
		if !p.selector.Required(c) {
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
	for _, ch := range p.channels {
		ch.Forget(stream)
	}
}
