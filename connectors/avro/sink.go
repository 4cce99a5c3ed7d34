package avro

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "avro", Doc: "Sends events by Avro RPC to another agent, or to one of several.",
	Aliases: []string{"org.apache.flume.sink.AvroSink"},
	New:     func() core.Sink { return new(sink) },
}

type sink struct {
	rpc.Options
	inFlight int
	insist   bool // max-in-flight is set: also with a far end that keeps no order
	reset    time.Duration

	env    core.Env
	dialer *rpc.Dialer
	order  *rpc.Order
	lanes  []*lane // by host
	conns  sync.WaitGroup

	mu      sync.Mutex
	failure error     // of the last rollback that came from another goroutine than the runner's
	since   time.Time // when that was
	oldest  *byte     // of what went back then; see firstByte
	streak  int       // failures in a row
}

// defaultInFlight hides the way there and back, and the far end's sync.
const defaultInFlight = 8

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	s.SinkKeys(k)
	k.Seconds(&s.reset, "reset-connection-interval", 0, "Connect anew when the connection is so old, for a name that comes to stand for other hosts; 0: never.").Must(conf.Min(0)).OrDefault()
	k.Int(&s.inFlight, "max-in-flight", defaultInFlight,
		"Requests sent and not answered. Where it is not set, a far end that does not promise to keep their order (Flume does not) gets one at a time.").Must(conf.Range(1, 1024)).Since("1.0")
	k.Check(func(r *conf.Report) { s.insist = r.IsSet("max-in-flight") })
}

// Open implements core.Component. It does not connect: the first delivery does.
func (s *sink) Open(_ context.Context, env core.Env) (err error) {
	s.env, s.order = env, s.Options.Order()
	if s.dialer, err = s.Dialer(env); err != nil {
		return err
	}
	s.dialer.Ordered = s.inFlight > 1
	s.lanes = nil
	for i, addr := range s.Addrs {
		s.lanes = append(s.lanes, &lane{s: s, host: i, addr: addr, changed: make(chan struct{})})
	}
	return nil
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	if cause := s.told(tx); cause != nil {
		tx.Rollback(&core.RetryNow{Cause: cause})
		return
	}
	err := errors.New("every host has failed a while ago and is left out (backoff)")
	for _, i := range s.order.Next(s.env.Now()) {
		err = s.lanes[i].deliver(ctx, tx)
		var late *lateError
		switch {
		case err == nil:
			return
		case errors.As(err, &late):
			_ = s.told(nil) // what it says is known
			tx.Rollback(&core.RetryNow{Cause: late.cause})
			return
		case ctx.Err() != nil:
			tx.Rollback(ctx.Err())
			return
		}
		s.order.Failed(i, s.env.Now())
	}
	tx.Rollback(err)
}

// takeTime is longer than a runner needs from a take to its delivery.
const takeTime = time.Second

// told reports, once for a failure, why the transaction that is now being
// delivered has to go back: requests failed meanwhile, and their events, which
// are older, come first. The runner may have taken it before they went back.
func (s *sink) told(tx core.TakeTx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err, oldest := s.failure, s.oldest
	s.failure, s.oldest = nil, nil
	if err == nil || tx != nil && oldest != nil && oldest == firstByte(tx) || s.Kind == rpc.LoadBalance || s.env.Now().Sub(s.since) > takeTime {
		return nil // it is what failed, come again; and with load balancing there is no order to keep
	}
	return err
}

// firstByte is what tells a transaction that comes again from a later one: where
// its first body lies. Nil for an empty body.
func firstByte(tx core.TakeTx) *byte {
	if events := tx.Batch().Events; len(events) > 0 && len(events[0].Body) > 0 {
		return &events[0].Body[0]
	}
	return nil
}

// succeeded and failed are told what answers say. failed returns what to roll back with.
func (s *sink) succeeded() {
	s.mu.Lock()
	s.streak = 0
	s.mu.Unlock()
}

func (s *sink) failed(host int, oldest *byte, cause error) error {
	now := s.env.Now()
	s.order.Failed(host, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.since, s.oldest = cause, now, oldest
	s.streak++
	if s.streak%max(1, s.order.Attempts) != 0 {
		return &core.RetryNow{Cause: cause} // another host is next
	}
	return cause
}

// Flush implements core.Sink: it waits for the answers.
func (s *sink) Flush(ctx context.Context) error {
	for _, l := range s.lanes {
		if err := l.settled(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close implements core.Sink: it waits for the answers, as long as ctx allows.
func (s *sink) Close(ctx context.Context) error {
	err := s.Flush(ctx)
	for _, l := range s.lanes {
		l.close()
	}
	s.conns.Wait()
	return err
}

// lane is one host: its connection and what is on the way there. deliver is
// called by one goroutine at a time.
type lane struct {
	s    *sink
	host int
	addr string

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at every change
	conn    *rpc.Conn     // nil: none; what is on the way is on this one
	flights []*flight     // oldest first: not answered, or failed and not yet rolled back
	waiting int           // of them, those not answered
	cause   error         // the first failure among them
	settles int           // how often failures were rolled back
}

// flight is a transaction on the way.
type flight struct {
	tx   core.TakeTx
	left int   // parts of it that are not answered
	err  error // the first among them
}

// lateError is a transaction that was overtaken by a failure while it waited.
type lateError struct{ cause error }

func (e *lateError) Error() string { return e.cause.Error() }

// wait releases the lock until something has changed or ctx ends.
func (l *lane) wait(ctx context.Context) error {
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lane) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// limit is how many requests may be on the way on the connection.
func (l *lane) limit() int {
	if l.s.insist || l.conn.Ordered() {
		return l.s.inFlight
	}
	return 1
}

// stale reports whether the connection is to be replaced before it is used again.
func (l *lane) stale() bool {
	return l.conn == nil || l.conn.Err() != nil || l.s.reset > 0 && time.Since(l.conn.Since()) >= l.s.reset
}

// deliver takes charge of tx, unless it returns an error.
func (l *lane) deliver(ctx context.Context, tx core.TakeTx) error {
	l.mu.Lock()
	settles, cause := l.settles, error(nil)
	for l.cause != nil || l.waiting > 0 && (l.stale() || l.waiting >= l.limit()) {
		if l.cause != nil {
			cause = l.cause
		}
		if err := l.wait(ctx); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.settles != settles {
		l.mu.Unlock()
		if cause == nil {
			cause = errors.New("an earlier request failed")
		}
		return &lateError{cause}
	}
	if l.stale() {
		if l.conn != nil {
			l.conn.Close()
			l.conn = nil
		}
		l.mu.Unlock()
		conn, err := l.connect(ctx)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.conn = conn
	}
	parts := split(tx.Batch().Events)
	f := &flight{tx: tx, left: len(parts)}
	l.flights = append(l.flights, f)
	l.waiting++
	conn := l.conn
	l.mu.Unlock()
	if len(parts) > 1 && !conn.Ordered() {
		l.oneByOne(conn, f, parts)
		return nil
	}
	for _, part := range parts {
		conn.Send(rpc.AppendBatch, func(dst []byte) []byte { return rpc.AppendEvents(dst, part) }, func(err error) { l.answered(f, err) })
	}
	return nil
}

// oneByOne sends each part when the one before is answered.
func (l *lane) oneByOne(conn *rpc.Conn, f *flight, parts [][]core.Event) {
	conn.Send(rpc.AppendBatch, func(dst []byte) []byte { return rpc.AppendEvents(dst, parts[0]) }, func(err error) {
		l.mu.Lock()
		if err != nil {
			f.left = 1 // the others are not sent
		}
		last := f.left == 1
		if !last {
			f.left--
		}
		l.mu.Unlock()
		if last {
			l.answered(f, err)
		} else {
			l.oneByOne(conn, f, parts[1:])
		}
	})
}

// requestBytes is about how large a request becomes before its batch goes out in
// several: far ends have limits.
const requestBytes = 8 << 20

// split cuts events into parts of about requestBytes, of one event at least.
func split(events []core.Event) (parts [][]core.Event) {
	from, size, headers := 0, 0, 0
	for i := range events {
		if i == 0 || events[i].Headers != events[i-1].Headers {
			headers = 8 // and what frames an event
			for k, v := range events[i].Headers.All() {
				headers += len(k) + len(v) + 8
			}
		}
		n := headers + len(events[i].Body)
		if size > 0 && size+n > requestBytes {
			parts = append(parts, events[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(parts, events[from:])
}

func (l *lane) connect(ctx context.Context) (*rpc.Conn, error) {
	conn, err := l.s.dialer.Dial(ctx, l.addr)
	if err != nil {
		l.s.env.Metrics.ConnectionFailed.Add(1)
		return nil, err
	}
	l.s.env.Metrics.ConnectionCreated.Add(1)
	l.s.conns.Go(func() {
		<-conn.Ended()
		l.s.env.Metrics.ConnectionClosed.Add(1)
	})
	return conn, nil
}

// answered ends f with its last part, or, when it or an earlier one has failed,
// ends all that failed as soon as nothing is on the way any more.
func (l *lane) answered(f *flight, err error) {
	l.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.left--
	more := f.left > 0
	err = f.err
	l.mu.Unlock()
	if more {
		return
	}
	if err == nil {
		f.tx.Ack(nil)
		l.s.succeeded()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
	if err == nil {
		for i := range l.flights {
			if l.flights[i] == f {
				l.flights = append(l.flights[:i], l.flights[i+1:]...)
				break
			}
		}
	} else if l.cause == nil {
		l.cause = err
	}
	if l.cause != nil && l.waiting == 0 {
		l.rollback()
	}
	l.change()
}

// rollback gives back what failed, newest first. As long as cause is set
// nothing else is sent.
func (l *lane) rollback() {
	back, conn := l.flights, l.conn
	l.flights, l.conn = nil, nil
	why := l.s.failed(l.host, firstByte(back[0].tx), l.cause)
	l.mu.Unlock()
	for i := len(back) - 1; i >= 0; i-- {
		back[i].tx.Rollback(why)
	}
	if conn != nil {
		conn.Close()
	}
	l.mu.Lock()
	l.cause = nil
	l.settles++
}

// settled waits until nothing is on the way. When ctx ends it is broken off.
func (l *lane) settled(ctx context.Context) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting > 0 || l.cause != nil {
		if ended := l.wait(ctx); ended != nil {
			err = ended
			if l.conn != nil {
				l.conn.Close()
			}
			ctx = context.WithoutCancel(ctx)
		}
	}
	return err
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
