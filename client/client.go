package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/vfs"
)

// Event is one record: headers for routing, a body for the far end.
type Event struct {
	Headers map[string]string
	Body    []byte
}

// Type is how several hosts are used.
type Type int

// The types, as Flume's client.type names them.
const (
	Default     Type = iota // the first host only
	Failover                // one host, and the next when it fails: default_failover
	LoadBalance             // all in turn: default_loadbalance
)

// Selector is the turn that load balancing takes: Flume's host-selector.
type Selector int

// The selectors.
const (
	RoundRobin Selector = iota
	Random
)

// Config says where to send, and how. Zero values are Flume's defaults.
type Config struct {
	Hosts []string // host:port
	Type  Type

	BatchSize      int           // most events in one request; 0: 100
	ConnectTimeout time.Duration // with all handshakes; 0: 20 s
	RequestTimeout time.Duration // for the answer to one request; 0: 20 s

	Deflate          bool // compression-type = deflate; the agent must have the same
	CompressionLevel int  // of zlib, 1 to 9; 0: 6; -1: none

	TLS *tls.Config // nil: none. Where it lacks a ServerName it is the host's

	MaxAttempts int           // of Failover for one request; 0: as many as there are hosts
	Selector    Selector      // of LoadBalance
	Backoff     bool          // of LoadBalance: leave out hosts that failed, for a while
	MaxBackoff  time.Duration // the longest such while; 0: 30 s
}

// FromProperties reads the properties of Flume's client: hosts, hosts.<name>,
// client.type, batch-size, connect-timeout, ssl, truststore and so on. warnings
// are what Flume would have passed over in silence.
func FromProperties(props map[string]string) (c Config, warnings []string, err error) {
	var o binder
	_, faults := conf.Bind(&o, props)
	var failed []error
	for _, f := range faults {
		if f.Severity == conf.Error {
			failed = append(failed, errors.New(f.String()))
		} else {
			warnings = append(warnings, f.String())
		}
	}
	if len(failed) > 0 {
		return c, warnings, errors.Join(failed...)
	}
	d, err := o.Dialer(core.Env{FS: vfs.OS(), Now: time.Now, Log: slog.Default()})
	if err != nil {
		return c, warnings, err
	}
	c = Config{
		Hosts: o.Addrs, Type: Type(o.Kind), BatchSize: o.Batch, ConnectTimeout: o.Connect, RequestTimeout: o.Request,
		Deflate: o.Deflate, CompressionLevel: o.Level, TLS: d.TLS, MaxAttempts: o.Attempts, Backoff: o.Backoff, MaxBackoff: o.MaxBackoff,
	}
	if c.CompressionLevel == 0 {
		c.CompressionLevel = -1
	}
	if o.Random {
		c.Selector = Random
	}
	return c, warnings, nil
}

type binder struct{ rpc.Options }

func (b *binder) Keys(k *conf.Keys) { b.ClientKeys(k) }

// Client sends events. It may be used from several goroutines.
type Client struct {
	hosts  []string
	batch  int
	dialer rpc.Dialer
	order  *rpc.Order

	mu     sync.Mutex
	conns  []*link // by host
	closed bool
}

// link is the connection to one host.
type link struct {
	mu   sync.Mutex // while connecting
	conn *rpc.Conn
}

// ErrClosed is what a client answers after Close.
var ErrClosed = errors.New("client is closed")

// New makes a client. It does not connect.
func New(c Config) (*Client, error) {
	if len(c.Hosts) == 0 {
		return nil, errors.New("no hosts to send to")
	}
	for _, addr := range c.Hosts {
		if err := rpc.CheckAddr(addr); err != nil {
			return nil, fmt.Errorf("host %q %w", addr, err)
		}
	}
	if c.Type == LoadBalance && len(c.Hosts) < 2 {
		return nil, errors.New("load balancing needs two hosts at least")
	}
	if c.CompressionLevel < -1 || c.CompressionLevel > 9 {
		return nil, fmt.Errorf("compression level %d is not between -1 and 9", c.CompressionLevel)
	}
	hosts := slices.Clone(c.Hosts)
	if c.Type == Default {
		hosts = hosts[:1]
	}
	or := func(v, def int) int {
		if v <= 0 {
			return def
		}
		return v
	}
	level := c.CompressionLevel
	switch level {
	case 0:
		level = rpc.DefaultLevel
	case -1:
		level = 0
	}
	cl := &Client{
		hosts: hosts, batch: or(c.BatchSize, rpc.DefaultBatch),
		dialer: rpc.Dialer{
			Connect: time.Duration(or(int(c.ConnectTimeout), int(rpc.DefaultTimeout))),
			Request: time.Duration(or(int(c.RequestTimeout), int(rpc.DefaultTimeout))),
			Deflate: c.Deflate, Level: level, TLS: c.TLS,
		},
		order: &rpc.Order{
			Kind: rpc.Kind(c.Type), Hosts: len(hosts), Attempts: or(c.MaxAttempts, len(hosts)),
			Random: c.Selector == Random, Backoff: c.Backoff, MaxBackoff: c.MaxBackoff,
		},
	}
	for range hosts {
		cl.conns = append(cl.conns, new(link))
	}
	return cl, nil
}

// DeliveryError is why not all events of a batch were sent.
type DeliveryError struct {
	Sent int // the first so many of them are certainly delivered
	Err  error
}

func (e *DeliveryError) Error() string {
	if e.Sent == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("after %d events: %v", e.Sent, e.Err)
}

// Unwrap returns the cause.
func (e *DeliveryError) Unwrap() error { return e.Err }

// Append sends one event and returns when the agent has it.
func (c *Client) Append(ctx context.Context, e Event) error {
	err := c.call(ctx, rpc.Append, func(dst []byte) []byte { return appendEvent(dst, e) })
	if err != nil {
		return &DeliveryError{0, err}
	}
	return nil
}

// AppendBatch sends events, in requests of BatchSize, one after the other, and
// returns when the agent has all of them. An error is a *DeliveryError.
func (c *Client) AppendBatch(ctx context.Context, events []Event) error {
	sent := 0
	for part := range slices.Chunk(events, c.batch) {
		err := c.call(ctx, rpc.AppendBatch, func(dst []byte) []byte {
			dst = rpc.AppendCount(dst, len(part))
			for _, e := range part {
				dst = appendEvent(dst, e)
			}
			return rpc.AppendEnd(dst)
		})
		if err != nil {
			return &DeliveryError{sent, err}
		}
		sent += len(part)
	}
	return nil
}

func appendEvent(dst []byte, e Event) []byte {
	return rpc.AppendBytes(rpc.AppendMap(dst, e.Headers), e.Body)
}

// call tries the hosts whose turn it is, until one has taken the request.
func (c *Client) call(ctx context.Context, m rpc.Method, encode func([]byte) []byte) error {
	failed := errors.New("every host has failed a while ago and is left out (backoff)")
	for _, i := range c.order.Next(time.Now()) {
		err := c.try(ctx, i, m, encode)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, errors.Is(err, ErrClosed):
			return err
		}
		c.order.Failed(i, time.Now())
		failed = fmt.Errorf("send to %s: %w", c.hosts[i], err)
	}
	return failed
}

func (c *Client) try(ctx context.Context, i int, m rpc.Method, encode func([]byte) []byte) error {
	conn, err := c.connect(ctx, i)
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	conn.Send(m, encode, func(err error) { answer <- err })
	select {
	case err = <-answer:
	case <-ctx.Done():
		return ctx.Err() // the request may still be answered
	}
	if err != nil && c.isClosed() {
		return ErrClosed
	}
	return err
}

// connect returns the connection to host i, a new one if there is none that works.
func (c *Client) connect(ctx context.Context, i int) (*rpc.Conn, error) {
	l := c.conns[i]
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.isClosed() {
		return nil, ErrClosed
	}
	if l.conn != nil && l.conn.Err() == nil {
		return l.conn, nil
	}
	conn, err := c.dialer.Dial(ctx, c.hosts[i])
	if err != nil {
		return nil, err
	}
	l.conn = conn
	return conn, nil
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close ends the connections. Requests that are not answered fail. It returns
// nil; calling it again does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, l := range c.conns {
		l.mu.Lock()
		if l.conn != nil {
			l.conn.Close()
			<-l.conn.Ended()
			l.conn = nil
		}
		l.mu.Unlock()
	}
	return nil
}
