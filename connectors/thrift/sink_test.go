package thrift

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

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// peer is a far end that can be made to misbehave.
type peer struct {
	t    testing.TB
	e    encoder
	addr string
	ln   net.Listener

	mu       sync.Mutex
	mode     mode
	plain    bool // as a Flume: promises no order
	bodies   []string
	requests [][]byte // their frames, without the length
	conns    map[net.Conn]bool
	waits    int // requests that wait for the gate
	gate     chan struct{}
	done     sync.WaitGroup
}

type mode int

const (
	well    mode = iota
	rejects      // answers FAILED
	unknown      // answers UNKNOWN
	words        // answers with an exception
	hangs        // answers nothing
	halves       // answers half and closes
	dies         // closes
	stores       // stores and closes without an answer
	garbage      // answers what is no frame
	silent       // answers without a status
	crossed      // answers with another number
	waits        // answers when the gate opens
)

func newPeer(t testing.TB, e encoder) *peer {
	t.Helper()
	p := &peer{t: t, e: e, conns: make(map[net.Conn]bool)}
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
	in := reader{src: c, max: lane.RequestBytes + 1<<20}
	defer in.release()
	dec := decoder{maxEvents: 1 << 20}
	ordered, refusing := false, false
	for in.head() == nil {
		frame, err := in.body()
		if err != nil {
			return
		}
		x, err := readCall(frame, p.e.compact)
		if err != nil {
			p.t.Error(err)
			return
		}
		b := core.NewBatch()
		asked, err := dec.args(&x, b)
		if err != nil {
			p.t.Error(err)
		}
		p.mu.Lock()
		p.requests = append(p.requests, slices.Clone(frame))
		ordered = ordered || asked && !p.plain
		m, gate := p.mode, p.gate
		if m == waits {
			p.waits++
			p.mu.Unlock()
			<-gate
			m = well
			p.mu.Lock()
		}
		if refusing && m == well {
			m = rejects
		}
		if m == well || m == stores {
			for _, e := range b.Events {
				p.bodies = append(p.bodies, string(e.Body))
			}
		}
		p.mu.Unlock()
		b.Release()
		answer := p.e.status(nil, x.name, x.seq, statusOK, ordered && asked)
		switch m {
		case rejects:
			answer = p.e.status(nil, x.name, x.seq, statusFailed, ordered && asked)
		case unknown:
			answer = p.e.status(nil, x.name, x.seq, statusUnknown, ordered && asked)
		case words:
			answer = p.e.exception(nil, x.name, x.seq, &exception{internalError, "Internal error processing appendBatch"})
		case hangs:
			continue
		case halves:
			_, _ = c.Write(answer[:15])
			return
		case dies, stores:
			return
		case garbage:
			answer = []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
		case silent:
			answer = putLength(append(p.e.message(nil, kindReply, x.name, x.seq), 0))
		case crossed:
			answer = p.e.status(nil, x.name, x.seq+1, statusOK, false)
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
	if !p.e.compact {
		keys["protocol"] = "binary"
	}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

// flume: TestThriftSink testTimeout
// flume: TestThriftRpcClient testFail testError testTimeout
func TestSinkSuite(t *testing.T) {
	for name, m := range map[string]mode{
		"rejects": rejects, "unknown": unknown, "words": words, "hangs": hangs, "half an answer": halves, "dies": dies, "garbage": garbage,
		"no status": silent, "another number": crossed,
	} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, as Flume %v", name, plain), func(t *testing.T) {
				sinktest.Run(t, sinktest.Subject{New: Sink.New, Backend: func(t testing.TB) sinktest.Backend {
					p := newPeer(t, encoder{!plain}) // and both protocols have their turn
					p.plain = plain
					keys := p.keys()
					if m == hangs {
						keys["request-timeout"] = "1000"
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
		p := newPeer(t, encoder{true})
		return sinktest.Backend{Keys: p.keys(), Seen: p.seen, Break: p.stop, Heal: func() { p.listen(p.addr) }}
	}})
}

// open opens a sink with those keys.
func open(t testing.TB, keys map[string]string) *sinktest.Instance {
	t.Helper()
	return sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend { return sinktest.Backend{Keys: keys} }})
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

// Without a far end Open succeeds: it may come later. Keys that name what is on this machine are looked at.
func TestOpenNeedsNobody(t *testing.T) {
	in := open(t, map[string]string{"hostname": "nowhere.invalid", "port": "1"})
	in.Close()
}

// What the sink sends one at a time is what Flume's sink sends.
func TestRecordedSink(t *testing.T) {
	p := newPeer(t, encoder{true})
	in := open(t, p.keys("max-in-flight", "1"))
	b := core.NewBatch()
	for i := range 5 {
		b.Copy(core.NewHeaders( // in the order that Java has them
			core.Header{Key: "host", Value: "web-" + strconv.Itoa(i%2)}, core.Header{Key: "key", Value: "k" + strconv.Itoa(i)},
			core.Header{Key: "timestamp", Value: strconv.Itoa(1700000000000 + 1000*i)}), []byte(fmt.Sprintf("line %d 世", i)))
	}
	in.Sink.Deliver(t.Context(), &fakeTx{b: b})
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if want := recorded(t, "thrift-sink.c2s.bin")[4:]; len(p.requests) != 1 || !slices.Equal(p.requests[0], want) {
		t.Errorf("sent\n% x, Flume\n% x", p.requests, want)
	}
}

// Requests do not wait for the answers to those before them, if the far end
// keeps order or the user insists. An answer that takes its time is one.
//
// flume: TestThriftRpcClient testSlow
func TestInFlight(t *testing.T) {
	for _, x := range []struct {
		name  string
		plain bool
		more  []string
		want  int
	}{
		{"one of ours", false, nil, defaultInFlight},
		{"a Flume", true, nil, 1},
		{"a Flume, insisting", true, []string{"max-in-flight", "3"}, 3},
		{"one at a time", false, []string{"max-in-flight", "1"}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := newPeer(t, encoder{true})
			p.plain = x.plain
			in := open(t, p.keys(x.more...))
			deliverAll(t, in, 1) // what the far end promises is in its first answer
			p.set(waits)
			l := in.Sink.(*sink).lane
			delivered := make(chan struct{})
			go func() {
				defer close(delivered)
				for i := range 2 * defaultInFlight {
					in.Deliver([]string{strconv.Itoa(i + 1)})
				}
			}()
			suite.Eventually(t, "as many are on the way as may be", func() bool {
				return l.Waiting() == x.want
			})
			close(p.gate)
			<-delivered
			if err := in.Sink.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			in.Close()
			if got := p.seen(); len(got) != 2*defaultInFlight+1 || !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
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

// fakeTx is a transaction of which only the batch matters.
type fakeTx struct {
	core.TakeTx
	b *core.Batch
}

func (f *fakeTx) Batch() *core.Batch                        { return f.b }
func (f *fakeTx) Ack([]int32, ...core.Mark) <-chan struct{} { return nil }
func (f *fakeTx) Rollback(error)                            {}

// After a failure what is on the way comes back newest first, and a transaction
// that was taken before that goes back too instead of overtaking.
func TestOrderAfterFailure(t *testing.T) {
	p := newPeer(t, encoder{true})
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
	deliver("0")
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.set(waits)
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
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.set(well)
	deliver("4") // taken while 2 was still on its way
	deliver("2")
	deliver("3")
	deliver("4")
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(p.seen(), want) {
		t.Errorf("seen %q, want %q", p.seen(), want)
	}
	if want := []string{"3", "2", "4"}; !slices.Equal(back, want) {
		t.Errorf("went back in the order %q, want %q", back, want)
	}
}

// A batch that is too large for one request goes out in several, in order, to a Flume one after the other.
func TestLargeBatch(t *testing.T) {
	for _, plain := range []bool{false, true} {
		p := newPeer(t, encoder{plain})
		p.plain = plain
		in := open(t, p.keys())
		deliverAll(t, in, 1)
		var bodies []string
		for i := range 5 {
			bodies = append(bodies, strconv.Itoa(i+1)+strings.Repeat("x", lane.RequestBytes/2-100))
		}
		bodies = append(bodies, "6"+strings.Repeat("y", lane.RequestBytes), "7")
		in.Deliver(bodies)
		in.Deliver([]string{"8"})
		if err := in.Sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
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
// flume: TestThriftSink testFailedConnect
func TestFailedConnect(t *testing.T) {
	p := newPeer(t, encoder{true})
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

// A connection that has the age is replaced at the next delivery.
func TestReset(t *testing.T) {
	p := newPeer(t, encoder{true})
	in := open(t, p.keys("reset-connection-interval", "50ms"))
	deliverAll(t, in, 1)
	c := in.Sink.(*sink).lane.Conn()
	suite.Eventually(t, "its age", func() bool { return time.Since(c.Since()) > 50*time.Millisecond })
	deliverAll(t, in, 1)
	in.Close()
	if n := in.Env.Metrics.ConnectionCreated.Load(); n != 2 || len(p.seen()) != 2 {
		t.Errorf("%d connections, %q", n, p.seen())
	}
}

// A connection that the far end closed while nothing was sent is no failure.
func TestIdleConnectionEnds(t *testing.T) {
	p := newPeer(t, encoder{true})
	in := open(t, p.keys())
	deliverAll(t, in, 1)
	c := in.Sink.(*sink).lane.Conn()
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
	p := newPeer(t, encoder{true})
	p.plain = true
	p.set(waits)
	in := open(t, p.keys())
	first := in.Deliver([]string{"1"})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- in.Sink.Flush(ctx) }()
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	if _, back, ended := first.Acked(); !ended || back == nil {
		t.Errorf("after the flush: ended %v, rolled back %v", ended, back)
	}
	close(p.gate)
	in.Close()
}

func TestSinkKeys(t *testing.T) {
	for _, c := range []struct {
		more []string
		want string
	}{
		{nil, ""},
		{[]string{"port", ""}, "port: is required"},
		{[]string{"hostname", ""}, "hostname: is required"},
		{[]string{"batch-size", "0"}, "default 100"},
		{[]string{"connect-timeout", "999"}, "default 20000"},
		{[]string{"request-timeout", "x"}, "default 20000"},
		{[]string{"protocol", "json"}, "default compact"},
		{[]string{"protocol", "Binary"}, "means compact, as in Flume"},
		{[]string{"protocol", "binary", "maxConnections", "5", "client.type", "thrift", "kerberos", "false", "client-principal", "x"}, ""},
		{[]string{"connection-reset-interval", "60"}, "write reset-connection-interval"}, // the name in Flume's guide
		{[]string{"kerberos", "true", "server-principal", "x"}, "kerberos: is not supported with thrift"},
		{[]string{"hosts", "a b"}, "is not taken by this sink"},
		{[]string{"ssl", "true", "truststore", "t.jks", "trust-all-certs", "true"}, "no effect with trust-all-certs"},
	} {
		keys := map[string]string{"hostname": "h", "port": "1"}
		for i := 0; i < len(c.more); i += 2 {
			keys[c.more[i]] = c.more[i+1]
		}
		if text := faultsOf(Sink.New(), keys); c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.more, text, c.want)
		}
	}
}
