package kafka

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// visible is what a reader with read_committed sees of a topic when no transaction is under way.
func (c *cluster) visible(topic string) (all []string) {
	c.t.Helper()
	suite.Eventually(c.t, "no transaction is under way", func() bool {
		return !slices.ContainsFunc(c.PartitionInfos(topic), func(p *kfake.PartitionInfo) bool { return p.LastStableOffset < p.HighWatermark })
	})
	type writer struct {
		producer  int64
		partition int32
	}
	open := make(map[writer][]string)
	for _, r := range c.records(topic, kgo.KeepControlRecords()) {
		by := writer{r.ProducerID, r.Partition}
		switch {
		case !r.Attrs.IsControl():
			open[by] = append(open[by], string(r.Value))
			continue
		case r.Key[3] == 1: // a commit
			all = append(all, open[by]...)
		}
		delete(open, by)
	}
	return all
}

// lossy loses the answers to requests of one kind while it is told to: what they ask for is done.
type lossy struct {
	key   int16
	on    atomic.Bool
	lose  atomic.Bool
	asked atomic.Int32
}

func (l *lossy) opt() kfake.Opt {
	return kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		in, err := net.Listen(network, addr)
		return &lossyListener{in, l}, err
	})
}

func (l *lossy) in(c *cluster) {
	c.ControlKey(l.key, func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		l.asked.Add(1)
		l.lose.Store(l.on.Load())
		return nil, nil, false
	})
}

type lossyListener struct {
	net.Listener
	l *lossy
}

func (l *lossyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &lossyConn{conn, l.l}, err
}

type lossyConn struct {
	net.Conn
	l *lossy
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if c.l.lose.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, errors.New("the answer is lost")
	}
	return c.Conn.Write(b)
}

// shelf is a channel that keeps marks, of which a test says when it crashes.
type shelf struct {
	t      testing.TB
	events []core.Event
	taken  []bool
	now    shelved
	stored shelved // what a crash leaves
	late   bool    // acks are not stored any more
	dead   bool    // nor heard of: the agent is gone
}

type shelved struct {
	acked []bool
	marks map[string]core.Mark
}

func (s shelved) clone() shelved { return shelved{slices.Clone(s.acked), maps.Clone(s.marks)} }

func newShelf(t testing.TB, bodies ...string) *shelf {
	s := &shelf{t: t, now: shelved{marks: map[string]core.Mark{}}}
	s.put(bodies...)
	return s
}

func (s *shelf) put(bodies ...string) {
	for i, b := range bodies {
		s.events = append(s.events, event(b, "n", string(rune('a'+i%26)), "m", "x"))
	}
	s.now.acked = append(s.now.acked, make([]bool, len(bodies))...)
	s.taken = append(s.taken, make([]bool, len(bodies))...)
	s.stored = s.now.clone()
}

// crash leaves what was stored.
func (s *shelf) crash() {
	s.now, s.late, s.dead = s.stored.clone(), false, false
	clear(s.taken)
}

// left is how many events are not acked.
func (s *shelf) left() (n int) {
	for _, a := range s.now.acked {
		if !a {
			n++
		}
	}
	return n
}

// open opens a sink of the shelf.
func (s *shelf) open(c *cluster, more ...string) *sinktest.Instance {
	s.t.Helper()
	return sinktest.Open(s.t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
		keys := txnKeys(c, more...)
		return sinktest.Backend{Keys: keys, Prepare: func(env *core.Env) { env.Marks = maps.Clone(s.now.marks) }}
	}})
}

func txnKeys(c *cluster, more ...string) map[string]string {
	keys := map[string]string{
		"kafka.bootstrap.servers": c.servers(), "kafka.topic": "t", "kafka.producer.transactional.id": "x",
		"kafka.producer.retry.backoff.ms": "5", "flumeBatchSize": "10",
	}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

// deliver hands the first n events that are not acked to a sink. It returns the cause of a rollback.
func (s *shelf) deliver(in *sinktest.Instance, n int) error {
	s.t.Helper()
	x := &shelfTx{s: s, b: core.NewBatch()}
	for i, acked := range s.now.acked {
		if !acked && !s.taken[i] && len(x.at) < n {
			x.at, s.taken[i] = append(x.at, i), true
			x.b.Copy(s.events[i].Headers, s.events[i].Body)
		}
	}
	in.Sink.Deliver(context.Background(), x)
	return x.rolled
}

// drain delivers all that is left in takes of n.
func (s *shelf) drain(in *sinktest.Instance, n int) {
	s.t.Helper()
	suite.Eventually(s.t, "all is delivered", func() bool {
		_ = s.deliver(in, n)
		return s.left() == 0
	})
}

type shelfTx struct {
	s      *shelf
	b      *core.Batch
	at     []int
	rolled error
}

// Batch is nil when all events are acked, as that of a channel.
func (x *shelfTx) Batch() *core.Batch {
	if !slices.ContainsFunc(x.at, func(i int) bool { return !x.s.now.acked[i] }) {
		return nil
	}
	return x.b
}

func (x *shelfTx) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	stored := make(chan struct{})
	if x.s.dead {
		return stored
	}
	if pick == nil {
		for i := range x.at {
			x.s.now.acked[x.at[i]] = true
		}
	}
	for _, i := range pick {
		if x.s.now.acked[x.at[i]] {
			x.s.t.Errorf("event %d acked twice", i)
		}
		x.s.now.acked[x.at[i]] = true
	}
	for _, one := range m {
		x.s.now.marks[one.Stream] = one
	}
	if !x.s.late {
		x.s.stored = x.s.now.clone()
		close(stored)
	}
	return stored
}

func (x *shelfTx) Refuse(i int, _ error) { x.Ack([]int32{int32(i)}) }

func (x *shelfTx) Rollback(cause error) {
	if x.rolled != nil || x.Batch() == nil {
		x.s.t.Errorf("transaction ended twice: %v", cause)
	}
	for _, i := range x.at {
		x.s.taken[i] = false
	}
	x.rolled = cause
}

func (x *shelfTx) Unpin() bool           { return false }
func (x *shelfTx) Lost() <-chan struct{} { return nil }
