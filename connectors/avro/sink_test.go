package avro

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// peer is a far end that can be made to misbehave.
type peer struct {
	t    testing.TB
	addr string
	ln   net.Listener

	mu     sync.Mutex
	mode   mode
	plain  bool // as a Flume: promises no order
	max    int  // longest request; 0: 1 MiB
	bodies []string
	conns  map[net.Conn]bool
	waits  int // requests that wait for the gate
	gate   chan struct{}
	done   sync.WaitGroup
}

type mode int

const (
	well    mode = iota
	rejects      // answers FAILED
	unknown      // answers UNKNOWN
	words        // answers an error
	hangs        // answers nothing
	halves       // answers half and closes
	dies         // closes
	stores       // stores and closes without an answer
	garbage      // answers what is no frame
	waits        // answers when the gate opens
)

func newPeer(t testing.TB) *peer {
	t.Helper()
	p := &peer{t: t, conns: make(map[net.Conn]bool)}
	p.listen("127.0.0.1:0")
	t.Cleanup(p.stop)
	return p
}

func (p *peer) listen(addr string) {
	p.t.Helper()
	var err error
	suite.Eventually(p.t, "the port is free", func() bool {
		p.ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	p.addr = p.ln.Addr().String()
	ln := p.ln
	p.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			p.done.Go(func() {
				p.serve(c)
				_ = c.Close()
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			})
		}
	})
}

// stop ends it as a kill does.
func (p *peer) stop() {
	_ = p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}

// as makes it like a Flume, or not, and gives it the longest request that it takes.
func (p *peer) as(plain bool, most int) {
	p.mu.Lock()
	p.plain, p.max = plain, most
	p.mu.Unlock()
}

func (p *peer) set(m mode) {
	p.mu.Lock()
	p.mode = m
	if m == waits {
		p.gate = make(chan struct{})
	}
	p.mu.Unlock()
}

func (p *peer) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bodies)
}

func (p *peer) serve(c net.Conn) {
	p.mu.Lock()
	longest := max(p.max, 1<<20)
	p.mu.Unlock()
	in := rpc.NewReader(c, longest)
	defer in.Release()
	known, dec := rpc.NewKnown(), rpc.Decoder{MaxEvents: 1 << 20}
	greeted, ordered, refusing := false, false, false
	for {
		serial, err := in.Head()
		if err != nil {
			return
		}
		frame, err := in.Body()
		if err != nil {
			return
		}
		if !greeted {
			rest, answer, done, order, err := known.Greet(frame)
			if err != nil || !done {
				p.t.Errorf("greet: %v, %v", done, err)
				return
			}
			p.mu.Lock()
			if greeted, ordered = true, order && !p.plain; order && p.plain {
				answer = make([]byte, 4) // BOTH, no metadata
			}
			m := p.mode
			p.mu.Unlock()
			if method, _, _ := rpc.ReadCall(rest); method != rpc.Ping {
				p.t.Errorf("the first message is %d", method)
			}
			if m == hangs {
				continue
			}
			if _, err := c.Write(rpc.AppendGreeting(nil, serial, answer)); err != nil {
				return
			}
			continue
		}
		_, parameters, err := rpc.ReadCall(frame)
		if err != nil {
			p.t.Error(err)
			return
		}
		b := core.NewBatch()
		if _, err := dec.Events(b, parameters); err != nil {
			p.t.Error(err)
		}
		p.mu.Lock()
		m, gate := p.mode, p.gate
		p.mu.Unlock()
		if m == waits {
			p.mu.Lock()
			p.waits++
			p.mu.Unlock()
			<-gate
			m = well
		}
		if refusing && m == well {
			m = rejects
		}
		p.mu.Lock()
		if m == well || m == stores {
			for _, e := range b.Events {
				p.bodies = append(p.bodies, string(e.Body))
			}
		}
		p.mu.Unlock()
		b.Release()
		var answer []byte
		switch m {
		case well:
			answer = rpc.AppendStatus(nil, serial, nil, rpc.OK)
		case rejects:
			answer = rpc.AppendStatus(nil, serial, nil, rpc.Failed)
		case unknown:
			answer = rpc.AppendStatus(nil, serial, nil, rpc.Unknown)
		case words:
			answer = rpc.AppendError(nil, serial, nil, "java.lang.RuntimeException: boom")
		case hangs:
			continue
		case halves:
			_, _ = c.Write(rpc.AppendStatus(nil, serial, nil, rpc.OK)[:15])
			return
		case dies, stores:
			return
		case garbage:
			answer = []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
		}
		refusing = refusing || ordered && m != well
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func (p *peer) keys(more ...string) map[string]string {
	host, port, _ := net.SplitHostPort(p.addr)
	keys := map[string]string{"hostname": host, "port": port}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

// flume: TestAvroSink testLifecycle testTimeout
func TestSinkSuite(t *testing.T) {
	for name, m := range map[string]mode{"rejects": rejects, "unknown": unknown, "words": words, "hangs": hangs, "half an answer": halves, "dies": dies, "garbage": garbage} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, as Flume %v", name, plain), func(t *testing.T) {
				sinktest.Run(t, sinktest.Subject{New: Sink.New, Backend: func(t testing.TB) sinktest.Backend {
					p := newPeer(t)
					p.as(plain, 0)
					keys := p.keys()
					if m == hangs {
						keys["request-timeout"], keys["connect-timeout"] = "1000", "1000"
					}
					return sinktest.Backend{Keys: keys, Seen: p.seen, Break: func() { p.set(m) }, Heal: func() { p.set(well) }}
				}})
			})
		}
	}
}

// A far end that is not there at first, and killed later.
func TestSinkSuiteKilled(t *testing.T) {
	sinktest.Run(t, sinktest.Subject{New: Sink.New, Backend: func(t testing.TB) sinktest.Backend {
		p := newPeer(t)
		return sinktest.Backend{Keys: p.keys(), Seen: p.seen, Break: p.stop, Heal: func() { p.listen(p.addr) }}
	}})
}

// open opens a sink with those keys.
func open(t testing.TB, keys map[string]string) *sinktest.Instance {
	t.Helper()
	return sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
}

// Requests do not wait for the answers to those before them, if the far end
// keeps order or the user insists.
func TestInFlight(t *testing.T) {
	for _, x := range []struct {
		name  string
		plain bool
		keys  []string
		want  int
	}{
		{"one of ours", false, nil, defaultInFlight},
		{"a Flume", true, nil, 1},
		{"a Flume, insisting", true, []string{"max-in-flight", "3"}, 3},
		{"one at a time", false, []string{"max-in-flight", "1"}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := newPeer(t)
			p.as(x.plain, 0)
			p.set(waits)
			in := open(t, p.keys(x.keys...))
			l := in.Sink.(*sink).lanes[0]
			delivered := make(chan struct{})
			go func() {
				defer close(delivered)
				for i := range 2 * defaultInFlight {
					in.Deliver([]string{strconv.Itoa(i)})
				}
			}()
			suite.Eventually(t, "as many are on the way as may be", func() bool { return l.Waiting() == x.want })
			close(p.gate)
			<-delivered
			if err := in.Sink.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			in.Close()
			if got := p.seen(); len(got) != 2*defaultInFlight || !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
				t.Errorf("seen %q", got)
			}
			if n := in.Env.Metrics.ConnectionCreated.Load(); n != 1 || in.Env.Metrics.ConnectionClosed.Load() != 1 {
				t.Errorf("%d connections made, %d closed", n, in.Env.Metrics.ConnectionClosed.Load())
			}
		})
	}
}

// rolled is a transaction that notes the order in which it and others go back.
type rolled struct {
	core.TakeTx
	name string
	note func(string)
}

func (r *rolled) Rollback(cause error) {
	r.note(r.name)
	r.TakeTx.Rollback(cause)
}

// After a failure what is on the way comes back newest first, and a transaction
// that was taken before that goes back too instead of overtaking.
func TestOrderAfterFailure(t *testing.T) {
	p := newPeer(t)
	p.set(waits)
	in := open(t, p.keys())
	var back []string
	var mu sync.Mutex
	deliver := func(name string) {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(name))
		in.Sink.Deliver(context.Background(), &rolled{&fakeTx{b: b}, name, func(s string) {
			mu.Lock()
			back = append(back, s)
			mu.Unlock()
		}})
	}
	deliver("1")
	deliver("2")
	deliver("3")
	suite.Eventually(t, "the first is with the peer", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waits == 1
	})
	p.set(rejects)
	close(p.gate) // the one that waits is stored, the next refused
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.set(well)
	deliver("4") // taken while 2 was still on its way
	deliver("2")
	deliver("3")
	deliver("4")
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(p.seen(), want) {
		t.Errorf("seen %q, want %q", p.seen(), want)
	}
	if want := []string{"3", "2", "4"}; !slices.Equal(back, want) {
		t.Errorf("went back in the order %q, want %q", back, want)
	}
}

// fakeTx is a transaction of which only the batch matters.
type fakeTx struct {
	core.TakeTx
	b *core.Batch
}

func (f *fakeTx) Batch() *core.Batch                        { return f.b }
func (f *fakeTx) Ack([]int32, ...core.Mark) <-chan struct{} { return nil }
func (f *fakeTx) Rollback(error)                            {}

// hosts are the keys of a sink with several peers.
func hosts(kind string, peers ...*peer) map[string]string {
	keys := map[string]string{"client.type": kind}
	var names []string
	for i, p := range peers {
		name := "h" + strconv.Itoa(i)
		names = append(names, name)
		keys["hosts."+name] = p.addr
	}
	keys["hosts"] = strings.Join(names, " ")
	return keys
}

// deliverAll delivers n events, each again until it is taken.
func deliverAll(t testing.TB, in *sinktest.Instance, n int) {
	t.Helper()
	for i := range n {
		suite.Eventually(t, "delivery", func() bool {
			tx := in.Deliver([]string{strconv.Itoa(i)})
			_ = in.Sink.Flush(context.Background())
			_, back, ended := tx.Acked()
			return ended && back == nil
		})
	}
}

func TestFailover(t *testing.T) {
	a, b := newPeer(t), newPeer(t)
	in := open(t, hosts("default_failover", a, b))
	deliverAll(t, in, 10)
	if len(a.seen()) != 10 || len(b.seen()) != 0 {
		t.Errorf("%d and %d", len(a.seen()), len(b.seen()))
	}
	a.stop()
	deliverAll(t, in, 10)
	if len(b.seen()) != 10 {
		t.Errorf("%d at the second", len(b.seen()))
	}
	a.listen(a.addr)
	b.set(rejects)
	deliverAll(t, in, 10)
	if len(a.seen()) != 20 {
		t.Errorf("%d at the first again", len(a.seen()))
	}
	in.Close()
}

func TestLoadBalance(t *testing.T) {
	a, b := newPeer(t), newPeer(t)
	in := open(t, hosts("DEFAULT_LOADBALANCE", a, b))
	deliverAll(t, in, 10)
	if len(a.seen()) != 5 || len(b.seen()) != 5 {
		t.Errorf("%d and %d", len(a.seen()), len(b.seen()))
	}
	a.stop()
	deliverAll(t, in, 10)
	if len(b.seen()) != 15 {
		t.Errorf("%d at the one that lives", len(b.seen()))
	}
	in.Close()
	keys := hosts("default_loadbalance", a, b)
	keys["backoff"] = "true"
	keys["host-selector"] = "RANDOM"
	in = open(t, keys)
	deliverAll(t, in, 10)
	b.stop()
	suite.Eventually(t, "all are left out", func() bool {
		tx := in.Deliver([]string{"x"})
		_ = in.Sink.Flush(context.Background())
		_, back, _ := tx.Acked()
		return back != nil && strings.Contains(back.Error(), "left out")
	})
	in.Close()
}

// A batch that is too large for one request goes out in several, in order, to a Flume one after the other.
func TestLargeBatch(t *testing.T) {
	for _, plain := range []bool{false, true} {
		p := newPeer(t)
		p.as(plain, lane.RequestBytes+1<<20)
		in := open(t, p.keys())
		var bodies []string
		for i := range 5 {
			bodies = append(bodies, strconv.Itoa(i)+strings.Repeat("x", lane.RequestBytes/2-100))
		}
		bodies = append(bodies, "5"+strings.Repeat("y", lane.RequestBytes), "6")
		in.Deliver(bodies)
		in.Deliver([]string{"7"})
		if err := in.Sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, back, ended := in.Deliver([]string{"8"}).Acked(); ended && back != nil {
			t.Errorf("rolled back: %v", back)
		}
		in.Close()
		var order string
		for _, b := range p.seen() {
			order += b[:1]
		}
		if order != "012345678" {
			t.Errorf("as Flume %v: seen in the order %s", plain, order)
		}
		// A part that fails takes the whole batch back.
		p.set(rejects)
		in = open(t, p.keys())
		tx := in.Deliver(bodies)
		_ = in.Sink.Flush(t.Context())
		if acked, back, _ := tx.Acked(); back == nil || len(acked) != 0 {
			t.Errorf("as Flume %v: %d acked, %v", plain, len(acked), back)
		}
		in.Close()
	}
}

// A far end that is not there is tried again with every delivery.
//
// flume: TestAvroSink testFailedConnect
func TestFailedConnect(t *testing.T) {
	p := newPeer(t)
	p.stop()
	in := open(t, p.keys())
	for range 5 {
		tx := in.Deliver([]string{"x"})
		if _, back, _ := tx.Acked(); back == nil {
			t.Error("not rolled back")
		}
	}
	p.listen(p.addr)
	deliverAll(t, in, 3)
	in.Close()
	m := in.Env.Metrics
	if f, c := m.ConnectionFailed.Load(), m.ConnectionCreated.Load(); f != 5 || c != 1 || len(p.seen()) != 3 {
		t.Errorf("%d connections failed, %d made, %q", f, c, p.seen())
	}
}

// A connection that has the age is replaced at the next delivery, without the key never.
//
// flume: TestAvroSink testReset
func TestReset(t *testing.T) {
	p := newPeer(t)
	in := open(t, p.keys("reset-connection-interval", "0"))
	deliverAll(t, in, 5)
	in.Close()
	if n := in.Env.Metrics.ConnectionCreated.Load(); n != 1 {
		t.Errorf("without it: %d connections", n)
	}
	p = newPeer(t)
	in = open(t, p.keys("reset-connection-interval", "50ms"))
	deliverAll(t, in, 1)
	c := in.Sink.(*sink).lanes[0].Conn()
	suite.Eventually(t, "its age", func() bool { return time.Since(c.Since()) > 50*time.Millisecond })
	deliverAll(t, in, 1)
	in.Close()
	if n := in.Env.Metrics.ConnectionCreated.Load(); n != 2 || len(p.seen()) != 2 {
		t.Errorf("%d connections, %q", n, p.seen())
	}
}

// A connection that the far end closed while nothing was sent is no failure.
func TestIdleConnectionEnds(t *testing.T) {
	p := newPeer(t)
	in := open(t, p.keys())
	deliverAll(t, in, 1)
	c := in.Sink.(*sink).lanes[0].Conn()
	p.stop()
	<-c.Ended()
	p.listen(p.addr)
	tx := in.Deliver([]string{"second"})
	_ = in.Sink.Flush(context.Background())
	if _, back, _ := tx.Acked(); back != nil {
		t.Errorf("rolled back: %v", back)
	}
	in.Close()
}

// The end of the runner's patience ends a delivery that waits, and a Flush.
func TestPatience(t *testing.T) {
	p := newPeer(t)
	p.as(true, 0)
	p.set(waits)
	in := open(t, p.keys())
	first := in.Deliver([]string{"1"})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- in.Sink.Flush(ctx) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	if _, back, over := first.Acked(); !over || back == nil {
		t.Errorf("after the flush: ended %v, rolled back %v", over, back)
	}
	close(p.gate)
	in.Close()
}

func TestSinkKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string
	}{
		{map[string]string{"hostname": "h", "port": "1"}, ""},
		{map[string]string{"hostname": "h"}, "port: is required"},
		{map[string]string{"port": "1"}, "hostname: is required"},
		{map[string]string{"hostname": "h", "port": "1", "batch-size": "0"}, "default 100"},
		{map[string]string{"hostname": "h", "port": "1", "batch-size": "x"}, "default 100"},
		{map[string]string{"hostname": "h", "port": "1", "connect-timeout": "999"}, "default 20000"},
		{map[string]string{"hostname": "h", "port": "1", "request-timeout": "1"}, "default 20000"},
		{map[string]string{"hostname": "h", "port": "1", "compression-type": "Deflate", "compression-level": "9", "maxIoWorkers": "3"}, ""},
		{map[string]string{"hostname": "h", "port": "1", "compression-level": "10"}, "default 6"},
		{map[string]string{"hostname": "h", "port": "1", "client.type": "thrift"}, "is not one of default"},
		{map[string]string{"hostname": "h", "port": "1", "client.type": "default_failover"}, "needs hosts"},
		{map[string]string{"hosts": "a b", "hosts.a": "x:1", "hosts.b": "y:2", "client.type": "default_failover", "max-attempts": "3"}, ""},
		{map[string]string{"hosts": "a b", "hosts.a": "x:1", "client.type": "default_failover"}, "b has no address"},
		{map[string]string{"hosts": "a", "hosts.a": "x:1", "client.type": "default_loadbalance"}, "one host only"},
		{map[string]string{"hosts": "a", "hosts.a": "x"}, "is not host:port"},
		{map[string]string{"hosts": "a b", "hosts.a": "x:1", "hosts.b": "x:2"}, "only the first is used"},
		{map[string]string{"hosts.a": "x:1"}, "hosts: is missing"},
		{map[string]string{"hostname": "h", "port": "1", "ssl": "true", "truststore": "t.jks", "trust-all-certs": "true"}, "no effect with trust-all-certs"},
	} {
		_, faults := conf.Bind(Sink.New(), c.keys)
		text := ""
		for _, f := range faults {
			text += f.String() + "\n"
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.keys, text, c.want)
		}
	}
}
