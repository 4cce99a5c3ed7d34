package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/avro"
	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// agent is the avro source of an agent, at an address that stays.
type agent struct {
	*sourcetest.Instance
	addr string
}

func start(t *testing.T, addr string, more ...string) *agent {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	keys := map[string]string{"bind": host, "port": port}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	in := sourcetest.Start(t, sourcetest.Subject{New: avro.Source.New}, keys, sourcetest.NewOutlet())
	return &agent{in, in.Addr().String()}
}

func events(from, n int) (all []Event) {
	for _, b := range suite.Bodies(from, n) {
		all = append(all, Event{Headers: map[string]string{"n": "1"}, Body: []byte(b)})
	}
	return all
}

func open(t *testing.T, c Config) *Client {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// flume: TestNettyAvroRpcClient testOKServerSimple testOKServerBatch testBatchOverrun testServerDisconnect testClientClosedRequest
// flume: TestRpcClientCommunicationFailure testFailure
func TestDefault(t *testing.T) {
	a := start(t, "127.0.0.1:0")
	c := open(t, Config{Hosts: []string{a.addr}, BatchSize: 10})
	ctx := context.Background()
	if err := c.AppendBatch(ctx, events(0, 25)); err != nil {
		t.Fatal(err)
	}
	if err := c.Append(ctx, events(25, 1)[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.AppendBatch(ctx, nil); err != nil {
		t.Fatal(err)
	}
	got := a.Out.Bodies()
	if !slices.Equal(got, suite.Bodies(0, 26)) || a.Out.Biggest() != 10 || a.Out.Events()[0].Headers.Value("n") != "1" {
		t.Errorf("%d events, %d at once at most", len(got), a.Out.Biggest())
	}
	// The third of three requests is refused: the first two are certain.
	a.Out.FullEach(3)
	err := c.AppendBatch(ctx, events(0, 30))
	var d *DeliveryError
	if !errors.As(err, &d) || d.Sent%10 != 0 || d.Sent == 30 || !strings.Contains(err.Error(), "FAILED") {
		t.Errorf("a full channel: %v", err)
	}
	a.Out.FullEach(0)
	// The agent goes and comes back: one request fails at most.
	a.Close()
	if err := c.Append(ctx, events(0, 1)[0]); err == nil {
		t.Error("delivered to nobody")
	}
	b := start(t, a.addr)
	suite.Eventually(t, "the client connects again", func() bool { return c.Append(ctx, events(0, 1)[0]) == nil })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Append(ctx, events(0, 1)[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	b.Close()
}

func TestFailover(t *testing.T) {
	a, b := start(t, "127.0.0.1:0"), start(t, "127.0.0.1:0")
	c := open(t, Config{Hosts: []string{a.addr, b.addr}, Type: Failover})
	send(t, c, 0, 10)
	a.Close()
	send(t, c, 10, 10)
	if n, m := a.Out.Len(), b.Out.Len(); n != 10 || m != 10 {
		t.Errorf("%d and %d", n, m)
	}
	b.Close()
	if err := c.Append(context.Background(), events(0, 1)[0]); err == nil || !strings.Contains(err.Error(), "send to "+a.addr) && !strings.Contains(err.Error(), "send to "+b.addr) {
		t.Errorf("all are down: %v", err)
	}
	a = start(t, a.addr)
	suite.Eventually(t, "the one that lives", func() bool { return c.Append(context.Background(), events(0, 1)[0]) == nil })
	_ = c.Close()
	a.Close()
}

func send(t *testing.T, c *Client, from, n int) {
	t.Helper()
	for _, e := range events(from, n) {
		if err := c.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadBalance(t *testing.T) {
	var all []*agent
	var addrs []string
	for range 3 {
		a := start(t, "127.0.0.1:0")
		all, addrs = append(all, a), append(addrs, a.addr)
	}
	counts := func() (n []int) {
		for _, a := range all {
			n = append(n, a.Out.Len())
		}
		return n
	}
	c := open(t, Config{Hosts: addrs, Type: LoadBalance})
	send(t, c, 0, 30)
	if got := counts(); !slices.Equal(got, []int{10, 10, 10}) {
		t.Errorf("round robin: %v", got)
	}
	all[1].Close()
	send(t, c, 30, 30) // the successor of the dead one has double share
	if got := counts(); !slices.Equal(got, []int{20, 10, 30}) {
		t.Errorf("one dead: %v", got)
	}
	_ = c.Close()
	random := open(t, Config{Hosts: addrs, Type: LoadBalance, Selector: Random, Backoff: true})
	send(t, random, 60, 40)
	if got := counts(); got[0] <= 20 || got[2] <= 30 || got[0]+got[2] != 90 {
		t.Errorf("random: %v", got)
	}
	_ = random.Close()
	all[0].Close()
	all[2].Close()
}

// Client and agent compress, or both do not.
//
// flume: TestNettyAvroRpcClient testOKServerSimpleCompressionLevel0 testOKServerSimpleCompressionLevel6
// flume: TestNettyAvroRpcClient testOKServerBatchCompressionLevel0 testOKServerBatchCompressionLevel6
// flume: TestNettyAvroRpcClient testOKServerSimpleCompressionClientOnly testOKServerSimpleCompressionServerOnly
// flume: TestNettyAvroRpcClient testOKServerBatchCompressionServerOnly testOKServerBatchCompressionClientOnly
// flume: TestNettyAvroRpcClient testAppendWithMaxIOWorkersSimpleCompressionLevel0
// flume: TestAvroSource testRequestWithNoCompression testRequestWithCompressionOnClientAndServerOnLevel0 testRequestWithCompressionOnClientAndServerOnLevel1
// flume: TestAvroSource testRequestWithCompressionOnClientAndServerOnLevel6 testRequestWithCompressionOnClientAndServerOnLevel9
func TestCompression(t *testing.T) {
	for _, x := range []struct {
		agent, client, level string
		ok                   bool
	}{
		{"none", "none", "6", true},
		{"deflate", "deflate", "0", true},
		{"deflate", "deflate", "1", true},
		{"deflate", "deflate", "6", true},
		{"deflate", "deflate", "9", true},
		{"none", "deflate", "6", false},
		{"deflate", "none", "6", false},
	} {
		a := start(t, "127.0.0.1:0", "compression-type", x.agent)
		conf, warnings, err := FromProperties(map[string]string{
			"hosts": "h", "hosts.h": a.addr, "compression-type": x.client, "compression-level": x.level, "maxIoWorkers": "3", "connect-timeout": "5000",
		})
		if err != nil || len(warnings) != 0 {
			t.Fatalf("%v, %q", err, warnings)
		}
		c, ctx := open(t, conf), context.Background()
		one, many := c.Append(ctx, events(0, 1)[0]), c.AppendBatch(ctx, events(1, 5))
		if (one == nil) != x.ok || (many == nil) != x.ok {
			t.Errorf("%v: %v, %v", x, one, many)
		}
		if got := a.Out.Bodies(); x.ok && !slices.Equal(got, suite.Bodies(0, 6)) || !x.ok && len(got) != 0 {
			t.Errorf("%v: %d events", x, len(got))
		}
		_ = c.Close()
		a.Close()
	}
}

// Every answer but OK fails the call, whether it is for one event or for several.
//
// flume: TestNettyAvroRpcClient testFailedServerSimple testUnknownServerSimple testThrowingServerSimple
// flume: TestNettyAvroRpcClient testFailedServerBatch testUnknownServerBatch testThrowingServerBatch
func TestRefused(t *testing.T) {
	for want, answer := range map[string]func(serial uint32, greeting []byte) []byte{
		"answers FAILED":  func(n uint32, g []byte) []byte { return rpc.AppendStatus(nil, n, g, rpc.Failed) },
		"answers UNKNOWN": func(n uint32, g []byte) []byte { return rpc.AppendStatus(nil, n, g, rpc.Unknown) },
		"answers: boom":   func(n uint32, g []byte) []byte { return rpc.AppendError(nil, n, g, "boom") },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { refuse(nc, answer) })
			}
		})
		c := open(t, Config{Hosts: []string{l.Addr().String()}})
		for _, err := range []error{c.Append(context.Background(), events(0, 1)[0]), c.AppendBatch(context.Background(), events(0, 5))} {
			var d *DeliveryError
			if !errors.As(err, &d) || d.Sent != 0 || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		_ = c.Close()
		_ = l.Close()
		serving.Wait()
	}
}

// refuse is an agent's end of a connection that answers every request so.
func refuse(nc net.Conn, answer func(serial uint32, greeting []byte) []byte) {
	defer nc.Close()
	in, known, greeted := rpc.NewReader(nc, 1<<20), rpc.NewKnown(), false
	defer in.Release()
	for {
		serial, err := in.Head()
		if err != nil {
			return
		}
		frame, err := in.Body()
		if err != nil {
			return
		}
		var greeting []byte
		if !greeted {
			if frame, greeting, greeted, _, err = known.Greet(frame); err != nil {
				return
			}
		}
		reply := answer(serial, greeting)
		if m, _, err := rpc.ReadCall(frame); err != nil || m == rpc.Ping {
			reply = rpc.AppendGreeting(nil, serial, greeting)
		}
		if _, err := nc.Write(reply); err != nil {
			return
		}
	}
}

// Many goroutines share a connection.
//
// flume: TestRpcClient testRpcClient
func TestTogether(t *testing.T) {
	a := start(t, "127.0.0.1:0")
	c := open(t, Config{Hosts: []string{a.addr}})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 50 {
				if err := c.Append(context.Background(), Event{Body: []byte(fmt.Sprintf("%d-%d", g, i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	next := map[string]int{}
	for _, b := range a.Out.Bodies() {
		who, n, _ := strings.Cut(b, "-")
		if n != fmt.Sprint(next[who]) {
			t.Errorf("goroutine %s: %s after %d", who, n, next[who])
		}
		next[who]++
	}
	if n := a.Out.Len(); n != 400 {
		t.Errorf("%d events", n)
	}
	if n := a.Env.Metrics.OpenConnection.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	_ = c.Close()
	a.Close()
}

func TestContext(t *testing.T) {
	a := start(t, "127.0.0.1:0")
	a.Out.Shut()
	c := open(t, Config{Hosts: []string{a.addr}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Append(ctx, Event{}) }()
	suite.Eventually(t, "the request is there", func() bool { return a.Env.Metrics.AppendReceived.Load() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	a.Out.Open()
	_ = c.Close()
	a.Close()
}

// flume: TestNettyAvroRpcClient testAppendWithMaxIOWorkers
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		c    Config
		want string
	}{
		{Config{}, "no hosts"},
		{Config{Hosts: []string{"x"}}, "is not host:port"},
		{Config{Hosts: []string{"x:1"}, Type: LoadBalance}, "two hosts"},
		{Config{Hosts: []string{"x:1"}, CompressionLevel: 10}, "between -1 and 9"},
	} {
		if _, err := New(c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.c, err, c.want)
		}
	}
	props := map[string]string{
		"client.type": "default_loadbalance", "hosts": "a b", "hosts.a": "x:1", "hosts.b": "y:2", "host-selector": "random",
		"backoff": "true", "maxBackoff": "5000", "batch-size": "7", "request-timeout": "3000", "compression-type": "deflate",
		"compression-level": "0", "maxIoWorkers": "3", "ssl": "true", "trust-all-certs": "true", "batchsize": "9",
	}
	c, warnings, err := FromProperties(props)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "batch-size") {
		t.Fatalf("%v, %q", err, warnings)
	}
	if !slices.Equal(c.Hosts, []string{"x:1", "y:2"}) || c.Type != LoadBalance || c.Selector != Random || !c.Backoff || c.MaxBackoff != 5*time.Second ||
		c.BatchSize != 7 || c.RequestTimeout != 3*time.Second || !c.Deflate || c.CompressionLevel != -1 || c.TLS == nil {
		t.Errorf("%+v", c)
	}
	for text, props := range map[string]map[string]string{
		"hosts: is required":        {},
		"is not one of":             {"hosts": "a", "hosts.a": "x:1", "client.type": "com.example.Own"},
		"read truststore: /nowhere": {"hosts": "a", "hosts.a": "x:1", "ssl": "true", "truststore": "/nowhere"},
	} {
		if _, _, err := FromProperties(props); err == nil || !strings.Contains(err.Error(), strings.Split(text, ":")[0]) {
			t.Errorf("%v: %v, want %s", props, err, text)
		}
	}
}
