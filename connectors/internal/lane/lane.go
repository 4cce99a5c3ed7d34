// Package lane sends transactions over the connections of an RPC sink, several
// at once, so that they reach the far end in their order whatever fails.
//
// A [Lane] is one far end: its connection and what is on the way there. When a
// request fails, nothing else is sent until all of its connection have ended;
// they go back newest first. The runner may have taken a newer transaction
// before that: the [Notice], which the lanes of a sink share, sends it back once.
package lane

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

// Conn is a client's connection on which requests may overlap.
type Conn interface {
	// Send sends a request and returns. done is called once, from any goroutine,
	// perhaps before Send returns. When the connection breaks, the dones of what
	// was not answered are called newest first.
	Send(events []core.Event, done func(error))
	// Ordered reports whether the far end stores the requests of the connection in
	// order, and none after one that it did not store.
	Ordered() bool
	Err() error             // why it ended; nil while it has not
	Since() time.Time       // when it was made
	Ended() <-chan struct{} // closed when it has ended and every done was called
	Close()                 // ends it; what is not answered fails
}

// Options are the same for all lanes of a sink.
type Options struct {
	InFlight  int           // requests on the way at once
	Insist    bool          // also where the far end keeps no order; else one then
	Reset     time.Duration // a connection is used no longer than so; 0: for ever
	Framing   int           // bytes a request needs for each event beside headers and body
	Unordered bool          // lanes are used in turn: newer events may overtake
	Metrics   *metric.Group // counts connections
}

// Lane is one far end. Deliver is called by one goroutine at a time.
type Lane struct {
	Options *Options
	Notice  *Notice
	Dial    func(context.Context) (Conn, error)
	// Failed, if set, is told of a failure and returns what its transactions go
	// back with; Succeeded, if set, of each transaction that arrived.
	Failed    func(cause error) error
	Succeeded func()

	mu      sync.Mutex
	changed chan struct{}  // closed and made anew at every change; nil while nobody waits
	conn    Conn           // nil: none; what is on the way is on this one
	conns   sync.WaitGroup // that have not ended
	flights []*flight      // oldest first: not answered, or failed and not yet rolled back
	waiting int            // of them, those not answered
	cause   error          // the first failure among them
}

// flight is a transaction on the way.
type flight struct {
	tx   core.TakeTx
	left int   // parts of it that are not answered
	err  error // the first among them
}

// Notice says, once for a failure, that what is delivered now has to go back.
type Notice struct {
	mu      sync.Mutex
	failure error // of the last rollback that came from another goroutine than the runner's
	oldest  *byte // of what went back then; see firstByte
}

func (n *Notice) set(failure error, oldest *byte) {
	n.mu.Lock()
	n.failure, n.oldest = failure, oldest
	n.mu.Unlock()
}

// stale returns why tx has to go back: older events did, perhaps after it was
// taken. If it was taken later it comes again at once. What failed is no reason
// against itself, come again.
func (n *Notice) stale(tx core.TakeTx) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err, oldest := n.failure, n.oldest
	n.failure, n.oldest = nil, nil
	if oldest != nil && oldest == firstByte(tx) {
		return nil
	}
	return err
}

// firstByte is what tells a transaction that comes again from another one: where
// its first body lies. Nil for an empty body.
func firstByte(tx core.TakeTx) *byte {
	if events := tx.Batch().Events; len(events) > 0 && len(events[0].Body) > 0 {
		return &events[0].Body[0]
	}
	return nil
}

// wait releases the lock until something has changed or ctx ends.
func (l *Lane) wait(ctx context.Context) error {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
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

func (l *Lane) change() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// limit is how many requests may be on the way on the connection.
func (l *Lane) limit() int {
	if l.Options.Insist || l.conn.Ordered() {
		return l.Options.InFlight
	}
	return 1
}

// old reports whether the connection is to be replaced before it is used again.
func (l *Lane) old() bool {
	return l.conn == nil || l.conn.Err() != nil || l.Options.Reset > 0 && time.Since(l.conn.Since()) >= l.Options.Reset
}

// Deliver takes charge of tx, unless it returns an error: a [core.RetryNow] if
// older events went back meanwhile, else why there is no connection.
func (l *Lane) Deliver(ctx context.Context, tx core.TakeTx) error {
	l.mu.Lock()
	// A connection may end at any moment: one that is found whole is used, and if
	// it has ended since, the request fails with those before it.
	old := l.old()
	for l.cause != nil || l.waiting > 0 && (old || l.waiting >= l.limit()) {
		if err := l.wait(ctx); err != nil {
			l.mu.Unlock()
			return err
		}
		old = l.old()
	}
	// All that failed is back in the channel now, so that what is taken next is the oldest.
	if cause := l.Notice.stale(tx); cause != nil && !l.Options.Unordered {
		l.mu.Unlock()
		return &core.RetryNow{Cause: cause}
	}
	if old {
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
	parts := split(tx.Batch().Events, l.Options.Framing)
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
		conn.Send(part, func(err error) { l.answered(f, err) })
	}
	return nil
}

// oneByOne sends each part when the one before is answered.
func (l *Lane) oneByOne(conn Conn, f *flight, parts [][]core.Event) {
	conn.Send(parts[0], func(err error) {
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

func (l *Lane) connect(ctx context.Context) (Conn, error) {
	conn, err := l.Dial(ctx)
	if err != nil {
		l.Options.Metrics.ConnectionFailed.Add(1)
		return nil, err
	}
	l.Options.Metrics.ConnectionCreated.Add(1)
	l.conns.Go(func() {
		<-conn.Ended()
		l.Options.Metrics.ConnectionClosed.Add(1)
	})
	return conn, nil
}

// answered ends f with its last part, or, when it or an earlier one has failed,
// ends all that failed as soon as nothing is on the way any more.
func (l *Lane) answered(f *flight, err error) {
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
		if l.Succeeded != nil {
			l.Succeeded()
		}
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
func (l *Lane) rollback() {
	back, conn := l.flights, l.conn
	l.flights, l.conn = nil, nil
	why := l.cause
	if l.Failed != nil {
		why = l.Failed(why)
	}
	l.Notice.set(l.cause, firstByte(back[0].tx))
	l.mu.Unlock()
	for i := len(back) - 1; i >= 0; i-- {
		back[i].tx.Rollback(why)
	}
	if conn != nil {
		conn.Close()
	}
	l.mu.Lock()
	l.cause = nil
}

// Waiting is how many transactions are on the way.
func (l *Lane) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Conn is the connection in use; nil if there is none.
func (l *Lane) Conn() Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// Settle waits until nothing is on the way.
func (l *Lane) Settle(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settle(ctx)
}

func (l *Lane) settle(ctx context.Context) error {
	for l.waiting > 0 || l.cause != nil {
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Flush waits until nothing is on the way. When ctx ends it is broken off.
func (l *Lane) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.settle(ctx)
	if err != nil {
		if l.conn != nil {
			l.conn.Close()
		}
		_ = l.settle(context.WithoutCancel(ctx)) // which has no end
	}
	return err
}

// Close ends the connection and waits until it has ended, and those before it. Flush it first.
func (l *Lane) Close() {
	l.mu.Lock()
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
	l.mu.Unlock()
	l.conns.Wait()
}
