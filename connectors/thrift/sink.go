package thrift

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/internal/tlsconf"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Sink is the catalogue entry.
var Sink = core.Type[core.Sink]{
	Name: "thrift", Doc: "Sends events by Thrift RPC to another agent.",
	Aliases: []string{"org.apache.flume.sink.ThriftSink"},
	New:     func() core.Sink { return new(sink) },
}

type sink struct {
	host             string
	port, batch      int
	compact          bool
	connect, request time.Duration
	reset            time.Duration
	tls              tlsconf.Client
	inFlight         int
	insist           bool // max-in-flight is set: also with a far end that keeps no order

	env    core.Env
	addr   string
	dialer dialer
	conns  sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at every change
	conn    *client       // nil: none; what is on the way is on this one
	flights []*flight     // oldest first: not answered, or failed and not yet rolled back
	waiting int           // of them, those not answered
	cause   error         // the first failure among them
	settles int           // how often failures were rolled back

	failure error     // of the last rollback that came from another goroutine than the runner's
	since   time.Time // when that was
	oldest  *byte     // of what went back then; see firstByte
}

// flight is a transaction on the way.
type flight struct {
	tx   core.TakeTx
	left int   // parts of it that are not answered
	err  error // the first among them
}

// defaultInFlight hides the way there and back, and the far end's sync.
const defaultInFlight = 8

const defaultTimeout = 20 * time.Second

// Keys implements core.Component.
func (s *sink) Keys(k *conf.Keys) {
	k.String(&s.host, "hostname", "", "Host name or address of the agent to send to.").Required()
	k.Int(&s.port, "port", 0, "Port of that agent.").Required().Must(conf.Range(1, 65535))
	k.Batch(&s.batch, "batch-size", 100, "Most events in one request.").OrDefault()
	protocolKey(k, &s.compact, "compact or binary; the far end must have the same.").OrDefault()
	k.Millis(&s.connect, "connect-timeout", defaultTimeout, "How long connecting may take, with the TLS handshake.").Must(conf.Min(1000)).OrDefault()
	k.Millis(&s.request, "request-timeout", defaultTimeout, "How long the far end may take to answer a request.").Must(conf.Min(1000)).OrDefault()
	k.Seconds(&s.reset, "reset-connection-interval", 0, "Connect anew when the connection is so old, for a name that comes to stand for other hosts; 0: never.").
		Alias("connection-reset-interval").Must(conf.Min(0)).OrDefault()
	tlsconf.ClientKeys(k, &s.tls)
	kerberosKeys(k, "client-principal", "client-keytab", "server-principal")
	k.Inert("maxConnections", "has no effect: the sink has one connection, as in Flume; see max-in-flight")
	k.Inert("client.type", "has no effect: this sink speaks Thrift, as in Flume; put several into a sink group for several hosts")
	hostsKey(k)
	k.Int(&s.inFlight, "max-in-flight", defaultInFlight,
		"Requests sent and not answered. Where it is not set, a far end that does not promise to keep their order across a failure (Flume does not) gets one at a time.").Must(conf.Range(1, 1024)).Since("1.0")
	k.Check(func(r *conf.Report) { s.insist = r.IsSet("max-in-flight") })
}

// Open implements core.Component. It does not connect: the first delivery does.
func (s *sink) Open(_ context.Context, env core.Env) error {
	secure, err := s.tls.Client(env)
	if err != nil {
		return err
	}
	s.env, s.addr, s.changed = env, net.JoinHostPort(s.host, strconv.Itoa(s.port)), make(chan struct{})
	s.dialer = dialer{connect: s.connect, request: s.request, compact: s.compact, ordered: s.inFlight > 1, tls: secure}
	return nil
}

// takeTime is longer than a runner needs from a take to its delivery.
const takeTime = time.Second

// told reports, once for a failure, why the transaction that is now being
// delivered has to go back: requests failed meanwhile, and their events, which
// are older, come first. The runner may have taken it before they went back.
// With s.mu.
func (s *sink) told(tx core.TakeTx) error {
	err, oldest := s.failure, s.oldest
	s.failure, s.oldest = nil, nil
	if err == nil || oldest != nil && oldest == firstByte(tx) || s.env.Now().Sub(s.since) > takeTime {
		return nil // it is what failed, come again
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

// wait releases the lock until something has changed or ctx ends.
func (s *sink) wait(ctx context.Context) error {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sink) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// limit is how many requests may be on the way on the connection.
func (s *sink) limit() int {
	if s.insist || s.conn.keepsOrder() {
		return s.inFlight
	}
	return 1
}

// stale reports whether the connection is to be replaced before it is used again.
func (s *sink) stale() bool {
	return s.conn == nil || s.conn.broken() != nil || s.reset > 0 && time.Since(s.conn.since) >= s.reset
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	if err := s.deliver(ctx, tx); err != nil {
		tx.Rollback(err)
	}
}

// deliver takes charge of tx, unless it returns an error.
func (s *sink) deliver(ctx context.Context, tx core.TakeTx) error {
	s.mu.Lock()
	if cause := s.told(tx); cause != nil {
		s.mu.Unlock()
		return &core.RetryNow{Cause: cause}
	}
	settles, cause := s.settles, error(nil)
	for s.cause != nil || s.waiting > 0 && (s.stale() || s.waiting >= s.limit()) {
		if s.cause != nil {
			cause = s.cause
		}
		if err := s.wait(ctx); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	if s.settles != settles { // a failure has overtaken it while it waited
		s.failure, s.oldest = nil, nil // what they say is known
		s.mu.Unlock()
		if cause == nil {
			cause = errors.New("an earlier request failed")
		}
		return &core.RetryNow{Cause: cause}
	}
	if s.stale() {
		if s.conn != nil {
			s.conn.close()
			s.conn = nil
		}
		s.mu.Unlock()
		conn, err := s.dial(ctx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.conn = conn
	}
	parts := split(tx.Batch().Events)
	f := &flight{tx: tx, left: len(parts)}
	s.flights = append(s.flights, f)
	s.waiting++
	conn := s.conn
	s.mu.Unlock()
	if len(parts) > 1 && !conn.keepsOrder() {
		s.oneByOne(conn, f, parts)
		return nil
	}
	for _, part := range parts {
		conn.send(part, func(err error) { s.answered(f, err) })
	}
	return nil
}

// oneByOne sends each part when the one before is answered.
func (s *sink) oneByOne(conn *client, f *flight, parts [][]core.Event) {
	conn.send(parts[0], func(err error) {
		s.mu.Lock()
		if err != nil {
			f.left = 1 // the others are not sent
		}
		last := f.left == 1
		if !last {
			f.left--
		}
		s.mu.Unlock()
		if last {
			s.answered(f, err)
		} else {
			s.oneByOne(conn, f, parts[1:])
		}
	})
}

// requestBytes is about how large a request becomes before its batch goes out in
// several: a Java far end takes 16 384 000 bytes.
const requestBytes = 8 << 20

// split cuts events into parts of about requestBytes, of one event at least.
func split(events []core.Event) (parts [][]core.Event) {
	from, size, headers := 0, 0, 0
	for i := range events {
		if i == 0 || events[i].Headers != events[i-1].Headers {
			headers = 32 // and what frames an event
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

func (s *sink) dial(ctx context.Context) (*client, error) {
	conn, err := s.dialer.dial(ctx, s.addr)
	if err != nil {
		s.env.Metrics.ConnectionFailed.Add(1)
		return nil, err
	}
	s.env.Metrics.ConnectionCreated.Add(1)
	s.conns.Go(func() {
		<-conn.ended
		s.env.Metrics.ConnectionClosed.Add(1)
	})
	return conn, nil
}

// answered ends f with its last part, or, when it or an earlier one has failed,
// ends all that failed as soon as nothing is on the way any more.
func (s *sink) answered(f *flight, err error) {
	s.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.left--
	more := f.left > 0
	err = f.err
	s.mu.Unlock()
	if more {
		return
	}
	if err == nil {
		f.tx.Ack(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	if err == nil {
		for i := range s.flights {
			if s.flights[i] == f {
				s.flights = append(s.flights[:i], s.flights[i+1:]...)
				break
			}
		}
	} else if s.cause == nil {
		s.cause = err
	}
	if s.cause != nil && s.waiting == 0 {
		s.rollback()
	}
	s.change()
}

// rollback gives back what failed, newest first. As long as cause is set
// nothing else is sent.
func (s *sink) rollback() {
	back, conn, why := s.flights, s.conn, s.cause
	s.flights, s.conn = nil, nil
	s.failure, s.since, s.oldest = why, s.env.Now(), firstByte(back[0].tx)
	s.mu.Unlock()
	for i := len(back) - 1; i >= 0; i-- {
		back[i].tx.Rollback(why)
	}
	if conn != nil {
		conn.close()
	}
	s.mu.Lock()
	s.cause = nil
	s.settles++
}

// Flush implements core.Sink: it waits for the answers. When ctx ends they are broken off.
func (s *sink) Flush(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.waiting > 0 || s.cause != nil {
		if ended := s.wait(ctx); ended != nil {
			err = ended
			if s.conn != nil {
				s.conn.fail(errEnded)
			}
			ctx = context.WithoutCancel(ctx)
		}
	}
	return err
}

// Close implements core.Sink: it waits for the answers, as long as ctx allows.
func (s *sink) Close(ctx context.Context) error {
	err := s.Flush(ctx)
	s.mu.Lock()
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
	s.mu.Unlock()
	s.conns.Wait()
	return err
}
