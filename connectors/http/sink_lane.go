package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/connectors/internal/pause"
	"github.com/millrace/millrace/core"
)

// lane is one request in flight, with its memory. A lane delivers one
// transaction at a time, in as many requests as it takes:
//
//	encode -> request -> rule of the status -> ack, refuse, halve, or roll back
type lane struct {
	s *sink

	tx      core.TakeTx
	events  []core.Event
	settled []bool // acked or refused
	left    int    // not settled
	rest    bool   // an answer asked for a pause
	rests   int    // pauses in a row
	halving bool   // an event of the transaction was at fault too often

	buf    []byte  // of the request
	sent   []int32 // the events in it, in its order
	run    core.Headers
	cached bool   // the next two are those of run
	prefix []byte // of an event, up to its body
	suffix []byte
	push   push

	zip      *gzip.Writer
	zipped   bytes.Buffer
	answer   bytes.Buffer
	payloads []*payload // that the transport may still hold
}

// keep is the largest buffer that a lane keeps beyond what a request may have.
const keep = 1 << 20

// deliver ends tx.
func (l *lane) deliver(ctx context.Context, tx core.TakeTx) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(l.s.closing, end)()
	l.begin(tx)
	if l.left == 0 {
		tx.Ack(nil)
		return
	}
	err := l.s.heeded(ctx)
	if err == nil {
		err = l.span(ctx, 0, len(l.events))
	}
	if l.left > 0 {
		tx.Rollback(err)
	}
	l.forget()
	if !l.rest {
		l.rests = 0
		return
	}
	l.rests++
	pause.For(ctx, min(time.Duration(l.rests)*restStep, restMost))
}

// Pauses after an answer that commits and backs off are Flume's.
const (
	restStep = time.Second
	restMost = 5 * time.Second
)

func (l *lane) begin(tx core.TakeTx) {
	l.tx, l.events = tx, tx.Batch().Events
	l.left, l.rest, l.cached, l.halving = len(l.events), false, false, false
	l.settled = slices.Grow(l.settled[:0], l.left)[:l.left]
	clear(l.settled)
}

// forget lets go of the transaction.
func (l *lane) forget() {
	l.tx, l.events, l.run = nil, nil, core.Headers{}
	if int64(cap(l.buf)) > l.s.maxRequest+keep {
		l.buf = nil
	}
	if int64(l.zipped.Cap()) > l.s.maxRequest+keep {
		l.zipped = bytes.Buffer{}
	}
	if l.answer.Cap() > keep {
		l.answer = bytes.Buffer{}
	}
}

// span delivers what is not settled of the events [from, to). After nil all of it is.
func (l *lane) span(ctx context.Context, from, to int) error {
	for from < to {
		next := l.encode(from, to)
		if len(l.sent) > 0 {
			if err := l.request(ctx, from, next); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// request sends what encode made of the events [from, to).
func (l *lane) request(ctx context.Context, from, to int) error {
	a, err := l.post(ctx)
	if err != nil {
		return err
	}
	rule, blamed := l.judge(a.status)
	switch {
	case rule.rollback:
		l.s.heed(a.retryAfter)
		if rule.count {
			l.s.env.Metrics.EventDrainSuccess.Add(int64(len(l.sent)))
		}
		if !rule.backoff {
			return &core.RetryNow{Cause: a.failure()}
		}
		return a.failure()
	case a.status/100 == 2:
		core.CountDelivered(l.tx, rule.count)
		err = l.accepted()
	case blamed && len(l.sent) > 1:
		// One of them is at fault: halve until it is alone.
		half := int(l.sent[len(l.sent)/2])
		if err := l.span(ctx, from, half); err != nil {
			return err
		}
		return l.span(ctx, half, to)
	case rule.count:
		core.CountDelivered(l.tx, true)
		l.ack(l.sent)
	default:
		why := a.failure()
		for _, i := range l.sent {
			l.refuse(int(i), why)
		}
	}
	l.rest = l.rest || rule.backoff
	return err
}

// accepted settles the events of a request that was answered 2xx.
func (l *lane) accepted() error {
	if l.s.format != formatBulk {
		l.ack(l.sent)
		return nil
	}
	if int64(l.answer.Len()) > l.s.maxAnswer {
		return fmt.Errorf("the answer of _bulk is longer than maxResponseBytes: %d", l.s.maxAnswer)
	}
	faults, err := readBulk(l.answer.Bytes(), len(l.sent))
	if err != nil {
		return err
	}
	return l.items(faults)
}

// items settles the documents of a request to _bulk.
func (l *lane) items(faults []itemFault) error {
	if len(faults) == 0 {
		l.ack(l.sent)
		return nil
	}
	var again []itemFault
	taken := slices.Clone(l.sent)
	for _, f := range faults {
		if f.status == 409 && l.s.bulk.action == actionCreate && l.s.bulk.id != nil {
			continue // an earlier attempt has brought it there
		}
		if f.passing() {
			again = append(again, f)
		}
		taken[f.item] = -1
	}
	l.ack(slices.DeleteFunc(taken, func(i int32) bool { return i < 0 }))
	for _, f := range faults {
		if i := int(l.sent[f.item]); !l.settled[i] && !f.passing() {
			l.refuse(i, f)
		}
	}
	if len(again) > 0 {
		return fmt.Errorf("%d of %d documents not taken now, the first: %w", len(again), len(l.sent), again[0])
	}
	return nil
}

// ack says that the events at pick are delivered.
func (l *lane) ack(pick []int32) {
	if len(pick) == 0 {
		return
	}
	for _, i := range pick {
		l.settled[i] = true
	}
	if l.left -= len(pick); l.left == 0 {
		l.tx.Ack(nil)
		return
	}
	l.tx.Ack(slices.Clone(pick))
}

// refuse says that event i will never be taken.
func (l *lane) refuse(i int, why error) {
	l.settled[i] = true
	l.left--
	l.tx.Refuse(i, why)
}

var errEmpty = errors.New("event has no body")

// encode makes a request of the events from from that are not settled and fit
// into it, but not beyond to, and returns where the next one begins. Events
// that can not be sent are settled.
func (l *lane) encode(from, to int) int {
	if l.s.format == formatLoki {
		return l.encodeLoki(from, to)
	}
	f := forms[l.s.format]
	l.buf, l.sent = append(l.buf[:0], f.begin...), l.sent[:0]
	for i := from; i < to; i++ {
		if l.settled[i] {
			continue
		}
		if f.single && len(l.sent) > 0 {
			return i
		}
		start := len(l.buf)
		if len(l.sent) > 0 {
			l.buf = append(l.buf, f.between...)
		}
		err := f.event(l, &l.events[i])
		switch {
		case errors.Is(err, errEmpty):
			l.buf = l.buf[:start]
			l.s.empty.Add(1)
			l.ack([]int32{int32(i)})
		case err != nil:
			l.buf = l.buf[:start]
			l.refuse(i, err)
		case len(l.sent) > 0 && int64(len(l.buf)+len(f.end)) > l.s.maxRequest:
			l.buf = append(l.buf[:start], f.end...)
			return i
		default:
			l.sent = append(l.sent, int32(i))
		}
	}
	l.buf = append(l.buf, f.end...)
	return to
}

// form is what a request of one format looks like.
type form struct {
	begin, between, end string
	single              bool // one event a request
	event               func(*lane, *core.Event) error
}

var forms = map[string]form{
	formatBody:      {single: true, event: (*lane).body},
	formatLines:     {event: (*lane).line},
	formatJSONLines: {event: (*lane).documentLine},
	formatJSONArray: {begin: "[", between: ",", end: "]", event: (*lane).document},
	formatFlume:     {begin: "[", between: ",", end: "]", event: (*lane).flume},
	formatBulk:      {event: (*lane).bulkLines},
}

func (l *lane) body(e *core.Event) error {
	if len(e.Body) == 0 {
		return errEmpty
	}
	l.buf = append(l.buf, e.Body...)
	return nil
}

func (l *lane) line(e *core.Event) error {
	err := l.body(e)
	if err == nil {
		l.buf = append(l.buf, '\n')
	}
	return err
}

// fresh reports whether prefix must be made anew, for these headers.
func (l *lane) fresh(h core.Headers) bool {
	if l.cached && l.run == h {
		return false
	}
	l.run, l.cached = h, true
	l.prefix = l.prefix[:0]
	return true
}

func (l *lane) document(e *core.Event) (err error) {
	if l.s.doc.kind == documentBody {
		l.buf, err = object(l.buf, e.Body)
		return err
	}
	if l.fresh(e.Headers) {
		l.prefix = l.s.doc.prefix(l.prefix, e.Headers, when(e.Headers, l.tx.Batch(), l.s.env.Now))
	}
	l.buf = append(l.buf, l.prefix...)
	l.text(e.Body)
	l.buf = append(l.buf, '}')
	return nil
}

func (l *lane) documentLine(e *core.Event) error {
	err := l.document(e)
	l.buf = append(l.buf, '\n')
	return err
}

func (l *lane) bulkLines(e *core.Event) (err error) {
	fresh := l.fresh(e.Headers)
	if fresh {
		l.prefix = l.s.bulk.line(l.prefix, e.Headers)
	}
	if l.s.doc.kind == documentBody {
		l.buf, err = object(append(l.buf, l.prefix...), e.Body)
		l.buf = append(l.buf, '\n')
		return err
	}
	if fresh {
		l.prefix = l.s.doc.prefix(l.prefix, e.Headers, when(e.Headers, l.tx.Batch(), l.s.env.Now))
	}
	l.buf = append(l.buf, l.prefix...)
	l.text(e.Body)
	l.buf = append(l.buf, "}\n"...)
	return nil
}

func (l *lane) flume(e *core.Event) error {
	if l.fresh(e.Headers) {
		l.prefix = append(members(append(l.prefix, `{"headers":{`...), e.Headers, nil), `},"body":`...)
	}
	l.buf = append(l.buf, l.prefix...)
	l.text(e.Body)
	l.buf = append(l.buf, '}')
	return nil
}
