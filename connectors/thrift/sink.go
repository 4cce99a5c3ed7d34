package thrift

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/millrace/millrace/connectors/internal/lane"
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

	lane *lane.Lane
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
	addr := net.JoinHostPort(s.host, strconv.Itoa(s.port))
	d := dialer{connect: s.connect, request: s.request, compact: s.compact, ordered: s.inFlight > 1, tls: secure}
	s.lane = &lane.Lane{
		Options: &lane.Options{InFlight: s.inFlight, Insist: s.insist, Reset: s.reset, Framing: 32, Metrics: env.Metrics},
		Notice:  new(lane.Notice),
		Dial: func(ctx context.Context) (lane.Conn, error) {
			c, err := d.dial(ctx, addr)
			return c, err
		},
	}
	return nil
}

// Deliver implements core.Sink.
func (s *sink) Deliver(ctx context.Context, tx core.TakeTx) {
	if err := s.lane.Deliver(ctx, tx); err != nil {
		tx.Rollback(err)
	}
}

// Flush implements core.Sink: it waits for the answers. When ctx ends they are broken off.
func (s *sink) Flush(ctx context.Context) error { return s.lane.Flush(ctx) }

// Close implements core.Sink: it waits for the answers, as long as ctx allows.
func (s *sink) Close(ctx context.Context) error {
	err := s.lane.Flush(ctx)
	s.lane.Close()
	return err
}
