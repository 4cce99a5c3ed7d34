package avro

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/lane"
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

	env   core.Env
	order *rpc.Order
	lanes []*lane.Lane // by host

	mu     sync.Mutex
	streak int // failures in a row
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
func (s *sink) Open(_ context.Context, env core.Env) error {
	dialer, err := s.Dialer(env)
	if err != nil {
		return err
	}
	dialer.Ordered = s.inFlight > 1
	s.env, s.order, s.lanes = env, s.Options.Order(), nil
	notice, options := new(lane.Notice), &lane.Options{
		InFlight: s.inFlight, Insist: s.insist, Reset: s.reset, Framing: 8,
		Unordered: s.Kind == rpc.LoadBalance, Metrics: env.Metrics,
	}
	for i, addr := range s.Addrs {
		s.lanes = append(s.lanes, &lane.Lane{
			Options: options, Notice: notice, Succeeded: s.succeeded,
			Failed: func(cause error) error { return s.failed(i, cause) },
			Dial: func(ctx context.Context) (lane.Conn, error) {
				c, err := dialer.Dial(ctx, addr)
				return batches{c}, err
			},
		})
	}
	return nil
}

// batches is a connection that sends each batch in one request.
type batches struct{ *rpc.Conn }

func (c batches) Send(events []core.Event, done func(error)) {
	c.Conn.Send(rpc.AppendBatch, func(dst []byte) []byte { return rpc.AppendEvents(dst, events) }, done)
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	err := errors.New("every host has failed a while ago and is left out (backoff)")
	for _, i := range s.order.Next(s.env.Now()) {
		if err = s.deliver(ctx, i, tx); err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		if errors.As(err, new(*core.RetryNow)) {
			break
		}
		s.order.Failed(i, s.env.Now())
	}
	tx.Rollback(err)
}

// deliver hands tx to a host. Unless they are used in turn, what is on the way
// to another is waited for: it is older.
func (s *sink) deliver(ctx context.Context, host int, tx core.TakeTx) error {
	for i, l := range s.lanes {
		if i == host || s.Kind == rpc.LoadBalance {
			continue
		}
		if err := l.Settle(ctx); err != nil {
			return err
		}
	}
	return s.lanes[host].Deliver(ctx, tx)
}

// succeeded and failed are told what answers say. failed returns what to roll back with.
func (s *sink) succeeded() {
	s.mu.Lock()
	s.streak = 0
	s.mu.Unlock()
}

func (s *sink) failed(host int, cause error) error {
	s.order.Failed(host, s.env.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streak++
	if s.streak%max(1, s.order.Attempts) != 0 {
		return &core.RetryNow{Cause: cause} // another host is next
	}
	return cause
}

// Flush implements core.Sink: it waits for the answers.
func (s *sink) Flush(ctx context.Context) error {
	for _, l := range s.lanes {
		if err := l.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close implements core.Sink: it waits for the answers, as long as ctx allows.
func (s *sink) Close(ctx context.Context) error {
	var err error
	for _, l := range s.lanes {
		err = errors.Join(err, l.Flush(ctx))
		l.Close()
	}
	return err
}
