package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// client reaches the brokers of one cluster. Every connection carries one
// request at a time. Its methods may be used from several goroutines; requests
// to one broker then wait for one another, which is what keeps their order.
type client struct {
	seeds    []string
	id       string
	tls      *tls.Config
	sasl     sasl.Mechanism
	connect  time.Duration // to make a connection, TLS and SASL included
	request  time.Duration // to be answered, beside what the request itself asks to wait
	onChange func(made, closed, failed int64)

	mu      sync.Mutex
	nodes   map[int32]string // address by id, from the newest metadata
	cluster string           // id of it, likewise
	links   map[purpose]*link
	next    int // seed to ask first
}

// purpose is what a link is for. Records have one of their own: a broker holds the
// answer to a fetch back, and a commit must not wait for that.
type purpose struct {
	addr    string
	records bool
	joins   bool // of a group: the answer comes when the others are there
}

// link is the way to one address. It is made when first needed and again after
// an error.
type link struct {
	c    *client
	addr string
	turn chan struct{} // held by whoever uses conn
	conn *protocol.Conn
	able abilities
}

// abilities are what the broker at the other end speaks beyond kafka-go.
type abilities struct {
	ids    bool // it tells the ids of topics
	stable bool // it tells of offsets that a transaction under way may change
}

func (c *client) link(p purpose) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[p]
	if l == nil {
		if c.links == nil {
			c.links = make(map[purpose]*link)
		}
		l = &link{c: c, addr: p.addr, turn: make(chan struct{}, 1)}
		c.links[p] = l
	}
	return l
}

// do sends req and returns its answer. wait is how long the broker may hold the
// answer back. After an error the connection is a new one.
func (l *link) do(ctx context.Context, req protocol.Message, wait time.Duration) (protocol.Message, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old := l.conn != nil
	if !old {
		if err := l.open(ctx); err != nil {
			return nil, err
		}
	}
	res, err := l.exchange(ctx, req, wait)
	if err != nil && old && hungUp(err) && ctx.Err() == nil && repeatable(req) {
		// A broker closes connections that were idle for long, and all when it restarts.
		if err := l.open(ctx); err != nil {
			return nil, err
		}
		res, err = l.exchange(ctx, req, wait)
	}
	return res, err
}

// repeatable reports whether req does no harm when it is sent twice. A produce
// request is for its owner to repeat, who knows what the first one may have done.
func repeatable(req protocol.Message) bool { return req.ApiKey() != protocol.Produce }

func hungUp(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && !op.Timeout()
}

func (l *link) exchange(ctx context.Context, req protocol.Message, wait time.Duration) (protocol.Message, error) {
	conn := l.conn
	_ = conn.SetDeadline(time.Now().Add(l.c.request + wait))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	switch m := req.(type) {
	case *metadata.Request:
		if l.able.ids {
			req = &topicsRequest{*m, l.c.id}
		}
	case *offsetfetch.Request:
		if l.able.stable {
			req = &stableRequest{*m, l.c.id}
		}
	}
	res, err := conn.RoundTrip(req)
	stop()
	if err == nil {
		return res, nil
	}
	l.close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%s to %s: %w", req.ApiKey(), l.addr, err)
}

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
		l.c.onChange(0, 1, 0)
	}
}

// open makes the connection.
func (l *link) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.connect)
	defer cancel()
	conn, able, err := l.c.dial(ctx, l.addr)
	if err != nil {
		l.c.onChange(0, 0, 1)
		return fmt.Errorf("connect to %s: %w", l.addr, err)
	}
	l.conn, l.able = conn, able
	l.c.onChange(1, 0, 0)
	return nil
}

func (c *client) dial(ctx context.Context, addr string) (conn *protocol.Conn, able abilities, err error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, able, err
	}
	fail := func(err error) (*protocol.Conn, abilities, error) {
		_ = raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return nil, able, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fail(err)
	}
	if c.tls != nil {
		t := c.tls.Clone()
		t.ServerName = host
		secure := tls.Client(raw, t)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fail(fmt.Errorf("TLS: %w", err))
		}
		raw = secure
	}
	out := protocol.NewConn(raw, c.id)
	answer, err := out.RoundTrip(new(apiversions.Request))
	if err != nil {
		return fail(fmt.Errorf("ask for versions: %w", err))
	}
	versions := answer.(*apiversions.Response)
	if versions.ErrorCode != 0 {
		return fail(fmt.Errorf("ask for versions: %w", kafkago.Error(versions.ErrorCode)))
	}
	known := make(map[protocol.ApiKey]int16, len(versions.ApiKeys))
	for _, v := range versions.ApiKeys {
		key := protocol.ApiKey(v.ApiKey)
		able.ids = able.ids || key == protocol.Metadata && v.MinVersion <= metadataWithIDs && v.MaxVersion >= metadataWithIDs
		able.stable = able.stable || key == protocol.OffsetFetch && v.MinVersion <= offsetsStable && v.MaxVersion >= offsetsStable
		known[key] = key.SelectVersion(v.MinVersion, min(v.MaxVersion, newest(key)))
	}
	out.SetVersions(known)
	if c.sasl != nil {
		number, _ := strconv.Atoi(port)
		if err := c.authenticate(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: number}), out); err != nil {
			return fail(fmt.Errorf("SASL %s: %w", c.sasl.Name(), err))
		}
	}
	return out, able, nil
}

// newest is the last version of a message that is spoken, where kafka-go knows
// later ones and gets them wrong: of the flexible ones of groups it lacks some
// of the encoding, and from version 1 on it reads the answers to Heartbeat and
// LeaveGroup in another order than brokers write them.
func newest(key protocol.ApiKey) int16 {
	switch key {
	case protocol.JoinGroup:
		return 5
	case protocol.SyncGroup:
		return 3
	case protocol.Heartbeat, protocol.LeaveGroup:
		return 0
	}
	return math.MaxInt16
}

func (c *client) authenticate(ctx context.Context, conn *protocol.Conn) error {
	answer, err := conn.RoundTrip(&saslhandshake.Request{Mechanism: c.sasl.Name()})
	if err != nil {
		return err
	}
	if r := answer.(*saslhandshake.Response); r.ErrorCode != 0 {
		return fmt.Errorf("%w: the broker has %v", kafkago.Error(r.ErrorCode), r.Mechanisms)
	}
	session, say, err := c.sasl.Start(ctx)
	for done := false; err == nil && !done; {
		answer, err = conn.RoundTrip(&saslauthenticate.Request{AuthBytes: say})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return kafkago.SASLAuthenticationFailed
		}
		if err != nil {
			break
		}
		r := answer.(*saslauthenticate.Response)
		if r.ErrorCode != 0 {
			return fmt.Errorf("%w: %s", kafkago.Error(r.ErrorCode), r.ErrorMessage)
		}
		done, say, err = session.Next(ctx, r.AuthBytes)
	}
	return err
}

// any sends req to a broker, whichever answers.
func (c *client) any(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	c.mu.Lock()
	addrs := make([]string, 0, len(c.seeds)+len(c.nodes))
	for i := range c.seeds {
		addrs = append(addrs, c.seeds[(c.next+i)%len(c.seeds)])
	}
	for _, addr := range c.nodes {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, addr := range addrs {
		res, err := c.link(purpose{addr: addr}).do(ctx, req, 0)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
		errs = append(errs, err)
		c.mu.Lock()
		c.next++
		c.mu.Unlock()
	}
	return nil, errors.Join(errs...)
}

// node sends req, which is about records, to the broker of that id.
func (c *client) node(ctx context.Context, id int32, req protocol.Message, wait time.Duration) (protocol.Message, error) {
	c.mu.Lock()
	addr, ok := c.nodes[id]
	c.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("broker %d: %w", id, kafkago.BrokerNotAvailable)
	}
	return c.link(purpose{addr: addr, records: true}).do(ctx, req, wait)
}

// topic is what the metadata says of one.
type topic struct {
	err     error
	id      string  // of it; a topic that is made anew has another. Empty: not known
	leaders []int32 // by partition; -1: none now
}

// metadata asks for topics; nil: all that are not internal. It makes topics that
// are not there, if create is set and the brokers allow it.
func (c *client) metadata(ctx context.Context, topics []string, create bool) (map[string]*topic, error) {
	res, err := c.any(ctx, &metadata.Request{TopicNames: topics, AllowAutoTopicCreation: create})
	if err != nil {
		return nil, err
	}
	var ids map[string]string
	r, ok := res.(*metadata.Response)
	if !ok {
		r, ids = &res.(*topicsAnswer).Response, res.(*topicsAnswer).ids
	}
	nodes := make(map[int32]string, len(r.Brokers))
	for _, b := range r.Brokers {
		nodes[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	c.mu.Lock()
	if len(nodes) > 0 {
		c.nodes, c.cluster = nodes, r.ClusterID
	}
	c.mu.Unlock()
	all := make(map[string]*topic, len(r.Topics))
	for _, t := range r.Topics {
		if topics == nil && t.IsInternal {
			continue
		}
		out := &topic{id: ids[t.Name]}
		if t.ErrorCode != 0 {
			out.err = kafkago.Error(t.ErrorCode)
		}
		for _, p := range t.Partitions {
			if p.PartitionIndex < 0 || p.PartitionIndex > maxPartitions {
				return nil, fmt.Errorf("topic %s: partition %d", t.Name, p.PartitionIndex)
			}
			for int(p.PartitionIndex) >= len(out.leaders) {
				out.leaders = append(out.leaders, -1)
			}
			if p.LeaderID >= 0 && nodes[p.LeaderID] != "" {
				out.leaders[p.PartitionIndex] = p.LeaderID
			}
		}
		all[t.Name] = out
	}
	return all, nil
}

// clusterID is the id of the cluster, as the newest metadata says it; empty: not known yet.
func (c *client) clusterID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cluster
}

// maxPartitions is more than a topic has.
const maxPartitions = 1 << 20

// close ends all connections, also those in use.
func (c *client) close() {
	c.mu.Lock()
	links := c.links
	c.links = nil
	c.mu.Unlock()
	for _, l := range links {
		l.turn <- struct{}{} // whoever uses it has been told to end
		l.close()
		<-l.turn
	}
	if g, ok := c.sasl.(*gssapi); ok {
		g.end()
	}
}
