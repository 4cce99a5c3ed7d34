package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/connectors/internal/flight"
	"github.com/millrace/millrace/core"
)

// fetch reads until ctx ends or g.err is set. In rounds: who leads what is looked
// up, then every leader is asked until something changes.
func (g *generation) fetch(ctx context.Context) {
	b := backoff{first: g.s.backoff}
	for ctx.Err() == nil && g.err == nil && !g.changed && !g.grown {
		switch failed := g.round(ctx); {
		case failed != nil && ctx.Err() == nil && g.err == nil:
			g.s.complain("fetching fails", failed)
			b.pause(ctx)
		default:
			b.n = 0
		}
	}
}

// round is one round. It ends when a leader has changed or fails, or after
// metadata.max.age.ms.
func (g *generation) round(ctx context.Context) error {
	topics, err := g.s.c.metadata(ctx, g.topics, false)
	if err != nil {
		return err
	}
	if g.grown = g.more(topics); g.grown {
		return nil
	}
	life := g.s.metadata
	for _, n := range g.sizes {
		if n == 0 {
			life = min(life, time.Second) // it may come
		}
	}
	if err := g.again(ctx, topics); err != nil {
		return err
	}
	by := make(map[int32][]*reading)
	g.s.mu.Lock()
	for _, at := range g.sorted() {
		t := topics[at.topic]
		if t == nil || int(at.partition) >= len(t.leaders) || t.leaders[at.partition] < 0 {
			life = min(life, time.Second) // soon, perhaps
			continue
		}
		by[t.leaders[at.partition]] = append(by[t.leaders[at.partition]], g.parts[at])
	}
	g.s.mu.Unlock()
	var stop atomic.Bool
	timer := time.AfterFunc(life, func() { stop.Store(true) })
	defer timer.Stop()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for id, parts := range by {
		wait.Go(func() {
			p := &puller{g: g, id: id, parts: parts, stop: &stop, unpack: newUnpacker()}
			defer p.unpack.close()
			if failed := p.run(ctx); failed != nil && ctx.Err() == nil {
				stop.Store(true)
				mu.Lock()
				err = failed
				mu.Unlock()
			}
		})
	}
	if len(by) == 0 {
		(&backoff{first: life}).pause(ctx)
	}
	wait.Wait()
	if errors.Is(err, core.ErrClosed) || errors.Is(err, errNoOffset) || errors.As(err, new(sendError)) {
		g.err = err
	}
	if g.s.pattern != nil && ctx.Err() == nil && err == nil {
		now, failed := g.s.find(ctx)
		g.changed = failed == nil && !slices.Equal(now, g.topics)
	}
	return err
}

// again begins partitions again whose offset is not there, where auto.offset.reset
// says; and at their beginning those of topics that were deleted and made anew:
// the offsets that were read are of other records, and all that is there is new.
func (g *generation) again(ctx context.Context, topics map[string]*topic) error {
	g.s.mu.Lock()
	var old []*reading
	for _, at := range g.sorted() {
		r, t := g.parts[at], topics[at.topic]
		if t == nil || int(at.partition) >= len(t.leaders) {
			continue
		}
		if r.topicID == "" {
			r.topicID = t.id
		}
		if r.missing || r.topicID != t.id && t.id != "" {
			old = append(old, r)
		}
	}
	g.s.mu.Unlock()
	for _, r := range old {
		id, reset, what := topics[r.topic].id, g.s.reset, "offset is not there: records may have been deleted before they were read"
		if id != "" && r.topicID != id {
			reset, what = "earliest", "topic was deleted and made anew: it is read from its beginning"
		}
		start, err := g.begin(ctx, r.topicPartition, reset)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		g.s.env.Log.Warn(what, "partition", r.String(), "offset", r.next, "now", start)
		next := g.s.newReading(r.topicPartition, newID(), start, -1)
		next.topicID, next.before = id, r
		g.take(next)
	}
	return nil
}

// more reports whether a topic has more partitions than are surely shared out.
func (g *generation) more(topics map[string]*topic) (more bool) {
	sizes := make(map[string]int, len(g.sizes))
	for name, n := range g.sizes {
		sizes[name] = n
		if t := topics[name]; t != nil && len(t.leaders) > n {
			sizes[name], more = len(t.leaders), true
		}
	}
	g.sizes = sizes
	return more
}

// sendError says that an outlet takes no more.
type sendError struct{ error }

func (e sendError) Unwrap() error { return e.error }

// puller reads what one broker leads.
type puller struct {
	g      *generation
	id     int32
	parts  []*reading // by topic and partition
	stop   *atomic.Bool
	unpack *unpacker
	kv     []core.Header
	text   []byte
}

func (p *puller) run(ctx context.Context) error {
	s := p.g.s
	for ctx.Err() == nil && !p.stop.Load() {
		req := &fetchRequest{
			clientID: s.c.id, maxWait: int32(s.maxWait / time.Millisecond), minBytes: int32(s.minBytes), maxBytes: int32(s.maxBytes),
			partBytes: int32(s.partBytes), committed: s.isolation == "read_committed", rack: s.rack,
		}
		for _, r := range p.parts {
			req.parts = append(req.parts, fetchPart{r.topicPartition, r.next})
		}
		began := s.env.Now()
		res, err := s.c.node(ctx, p.id, req, s.maxWait)
		s.getTimer.Add(s.env.Now().Sub(began).Milliseconds())
		if err != nil {
			return err
		}
		a := res.(*fetchAnswer)
		err = p.answer(ctx, a)
		a.block.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *puller) answer(ctx context.Context, a *fetchAnswer) error {
	if a.code != 0 {
		return fmt.Errorf("fetch from broker %d: %w", p.id, kafkago.Error(a.code))
	}
	var failed error
	some := false
	for i := range a.parts {
		part := &a.parts[i]
		at := slices.IndexFunc(p.parts, func(r *reading) bool { return r.topicPartition == part.topicPartition })
		if at < 0 {
			continue
		}
		r := p.parts[at]
		var err error
		switch code := kafkago.Error(part.code); {
		case part.code == 0:
			before := r.next
			p.g.s.mu.Lock()
			r.end = part.end
			p.g.s.mu.Unlock()
			err = p.partition(ctx, r, part, a.block)
			some = some || r.next > before
		case code == kafkago.OffsetOutOfRange:
			r.missing = true // the next round looks whether it is the same topic
			p.stop.Store(true)
		default:
			err = fmt.Errorf("fetch partition %s: %w", r.topicPartition, code)
		}
		if errors.As(err, new(sendError)) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = err
		}
	}
	if !some {
		p.g.s.empty.Add(1)
	}
	return failed
}

// cutting is how records of one partition become batches.
type cutting struct {
	p      *puller
	ctx    context.Context
	r      *reading
	block  *core.Block
	b      *core.Batch
	bytes  int
	before int64 // up to where all was sent
}

func (c *cutting) begin() {
	c.b, c.bytes, c.before = core.NewBatch(), 0, c.r.next
	c.b.Use(c.block)
}

func (c *cutting) send() error {
	c.b.Born = c.p.g.s.env.Now()
	err := c.p.g.send(c.ctx, c.r, c.b)
	c.begin()
	return err
}

// partition sends the records of one partition on.
func (p *puller) partition(ctx context.Context, r *reading, part *fetchedPart, blk *core.Block) error {
	c := &cutting{p: p, ctx: ctx, r: r, block: blk}
	c.begin()
	defer func() { c.b.Release() }()
	err := c.all(part)
	if err != nil && !errors.As(err, new(sendError)) {
		err = fmt.Errorf("partition %s at offset %d: %w", r.topicPartition, r.next, err)
	}
	if r.next > c.before { // also what came before something that can not be read
		if failed := c.send(); failed != nil {
			return failed
		}
	}
	return err
}

func (c *cutting) all(part *fetchedPart) error {
	p, r := c.p, c.r
	gone := make(map[int64]bool) // producers whose transaction was aborted
	open := part.aborted
	for data := part.batches; len(data) > 0; {
		rb, rest, err := cutBatch(data)
		if errors.Is(err, errShort) {
			return nil // a part of it; the rest comes with the next fetch
		}
		if err != nil {
			return err
		}
		data = rest
		for len(open) > 0 && open[0].first <= rb.last {
			gone[open[0].producer] = true
			open = open[1:]
		}
		switch {
		case rb.control():
			delete(gone, rb.producer)
		case rb.last < r.next:
			continue
		case rb.transactional() && gone[rb.producer]:
			p.g.s.skipped.Add(int64(rb.count))
		default:
			records := rb.records
			if id := int(rb.attributes & attrCodec); id != codecNone {
				if records, err = p.unpack.unpack(id, records); err != nil {
					return err
				}
			}
			if err = rb.each(records, c.one); err != nil {
				return err
			}
		}
		r.next = max(r.next, rb.last+1)
	}
	return nil
}

func (c *cutting) one(f *fetched) error {
	if f.offset < c.r.next {
		return nil
	}
	c.r.next = f.offset + 1
	if !c.p.event(c.b, c.r, f) {
		return nil
	}
	if c.bytes += len(f.value); len(c.b.Events) >= c.p.g.s.batch || c.bytes >= flight.BatchBytes {
		return c.send()
	}
	return nil
}

// event appends the event of a record. It reports whether there is one.
func (p *puller) event(b *core.Batch, r *reading, f *fetched) bool {
	s := p.g.s
	kv, body := p.kv[:0], f.value
	if s.flumeFormat {
		var err error
		if kv, body, err = readDatum(f.value, kv); err != nil {
			s.undecodable.Add(1)
			s.env.Metrics.EventReadFail.Add(1)
			s.sayBad.Say(s.env.Log, s.env.Now(), slog.LevelError, "record skipped", slog.String("partition", r.String()), slog.Int64("offset", f.offset), slog.Any("error", err))
			return false
		}
	}
	if s.bare {
		p.append(b, kv, f, body)
		return true
	}
	p.text = strconv.AppendInt(p.text[:0], f.time, 10)
	cut := len(p.text)
	p.text = strconv.AppendInt(p.text, f.offset, 10)
	numbers := string(p.text)
	kv = ifAbsent(kv, "timestamp", numbers[:cut])
	for _, m := range s.mapped {
		for _, h := range f.headers {
			if string(h.key) == m.key {
				kv = set(kv, m.value, string(h.value))
			}
		}
	}
	if s.setTopic {
		kv = ifAbsent(kv, s.topicHeader, r.topic)
	}
	kv = ifAbsent(kv, "partition", r.number)
	p.append(b, ifAbsent(kv, "offset", numbers[cut:]), f, body)
	return true
}

// append appends the event, with the record's key.
func (p *puller) append(b *core.Batch, kv []core.Header, f *fetched, body []byte) {
	if f.key != nil {
		kv = set(kv, "key", string(f.key))
	}
	b.Append(core.NewHeaders(kv...), body)
	b.Events[len(b.Events)-1].Pos = f.offset + 1
	clear(kv)
	p.kv = kv
}

func ifAbsent(kv []core.Header, key, value string) []core.Header {
	for i := range kv {
		if kv[i].Key == key {
			return kv
		}
	}
	return append(kv, core.Header{Key: key, Value: value})
}

func set(kv []core.Header, key, value string) []core.Header {
	for i := range kv {
		if kv[i].Key == key {
			kv[i].Value = value
			return kv
		}
	}
	return append(kv, core.Header{Key: key, Value: value})
}

// send sends b, in which everything up to r.next is.
func (g *generation) send(ctx context.Context, r *reading, b *core.Batch) error {
	pos := r.next
	b.Mark(r.stream, pos)
	g.s.mu.Lock()
	before := r.sent
	r.sent = pos
	g.s.mu.Unlock()
	var err error
	if g.s.keeper != nil {
		err = g.s.keeper.hold(ctx, r, b)
	} else {
		err = g.out.Send(ctx, b, func(err error) {
			if err == nil { // else the channel is closing: it comes again
				g.s.delivered(r, pos)
			}
		})
	}
	if err == nil {
		return nil
	}
	g.s.mu.Lock()
	r.sent, r.next = before, before
	g.s.mu.Unlock()
	return sendError{fmt.Errorf("send records of %s: %w", r.topicPartition, err)}
}
