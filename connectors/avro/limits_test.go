package avro

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// Limits: events in a batch, and bytes of all requests together.
func TestLimits(t *testing.T) {
	out := &blocked{sourcetest.NewOutlet(), make(chan chan error)}
	addr, _ := serve(t, out, map[string]string{"maxRequestEvents": "2", "maxPendingBytes": "300000"})
	call := func(c *rpc.Conn, bodies ...string) error {
		got := make(chan error, 1)
		c.Send(rpc.AppendBatch, func(dst []byte) []byte { return encode(dst, bodies...) }, func(err error) { got <- err })
		return <-got
	}
	c := dial(t, dialer(), addr)
	if err := call(c, "1", "2", "3"); err == nil || !strings.Contains(err.Error(), "more than 2 events (maxRequestEvents)") {
		t.Errorf("too many events: %v", err)
	}
	big := strings.Repeat("x", 200_000)
	var first sync.WaitGroup
	first.Go(func() {
		if err := call(c, big); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	put := <-out.puts
	other := dial(t, dialer(), addr)
	if err := call(other, big); !errors.Is(err, rpc.Failed) {
		t.Errorf("more than maxPendingBytes: %v", err)
	}
	put <- nil
	first.Wait()
	first.Go(func() {
		if err := call(other, big); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
	(<-out.puts) <- nil
	first.Wait()
	// One alone may be larger than all together.
	first.Go(func() {
		if err := call(other, big+big); err != nil {
			t.Errorf("a large one alone: %v", err)
		}
	})
	(<-out.puts) <- nil
	first.Wait()
}

// A request that stops in its midst ends after requestTimeout; a connection that is idle does not.
func TestSlowRequest(t *testing.T) {
	in := start(t, map[string]string{"requestTimeout": "50"})
	idle := dial(t, dialer(), in.Addr().String())
	c := connect(t, in)
	if _, err := c.Write(frame(1, hello(rpc.Own), batch("x"))[:40]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
	got := make(chan error, 1)
	idle.Send(rpc.AppendBatch, func(dst []byte) []byte { return encode(dst, "y") }, func(err error) { got <- err })
	if err := <-got; err != nil {
		t.Errorf("the idle connection: %v", err)
	}
}

// flume: TestAvroSource testInvalidIpFilter
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want string // in a fault; empty: none
	}{
		{map[string]string{}, ""},
		{map[string]string{"threads": "x", "maxIoWorkers": "4", "compression-type": "DEFLATE"}, ""},
		{map[string]string{"compression-type": "snappy"}, "default none"},
		{map[string]string{"port": "70000"}, "between 0 and 65535"},
		{map[string]string{"ssl": "true"}, "keystore"},
		{map[string]string{"ipFilter": "true"}, "ipFilterRules: is required"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": ""}, "ipFilterRules: is required"},
		{map[string]string{"ipFilterRules": "allow:ip:*"}, "no effect without ipFilter"},
		{map[string]string{"ipFilterRules": "homer:ip:1.2.3.4"}, "no effect without ipFilter"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "homer:ip:1.2.3.4"}, "neither allow: nor deny:"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:sleeps:1.2.3.4"}, "neither ip nor name"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:ip:1.2.3.4,,deny:ip:*"}, "not allow|deny"},
		{map[string]string{"ipFilter": "true", "ipFilterRules": "allow:ip:(*"}, "whose pattern is none"},
	} {
		keys := map[string]string{"bind": "127.0.0.1", "port": "0"}
		for k, v := range c.keys {
			keys[k] = v
		}
		_, faults := conf.Bind(Source.New(), keys)
		text := ""
		for _, f := range faults {
			text += f.String() + "\n"
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.keys, text, c.want)
		}
	}
}

// Limits: the memory of headers, which a frame can hold in very few bytes.
func TestHeaderBytes(t *testing.T) {
	var many []core.Event
	for i := range 100 { // 400 bytes each on the wire, some 3.5 KiB in memory
		var kv []core.Header
		for j := range 100 {
			kv = append(kv, core.Header{Key: string(rune('a'+i%26)) + string(rune(' '+j)), Value: ""})
		}
		many = append(many, core.Event{Headers: core.NewHeaders(kv...)})
	}
	call := func(c *rpc.Conn, events []core.Event) error {
		got := make(chan error, 1)
		c.Send(rpc.AppendBatch, func(dst []byte) []byte { return rpc.AppendEvents(dst, events) }, func(err error) { got <- err })
		return <-got
	}
	in := start(t, map[string]string{"maxRequestBytes": "64k"})
	c := dial(t, dialer(), in.Addr().String())
	if err := call(c, many); err == nil || !strings.Contains(err.Error(), "headers of the batch are too large (maxRequestBytes)") {
		t.Errorf("too large for one request: %v", err)
	}
	if err := call(c, many[:20]); err != nil {
		t.Errorf("fewer: %v", err)
	}

	out := &blocked{sourcetest.NewOutlet(), make(chan chan error)}
	addr, _ := serve(t, out, map[string]string{"maxPendingBytes": "200000"})
	c, other := dial(t, dialer(), addr), dial(t, dialer(), addr)
	var first sync.WaitGroup
	first.Go(func() {
		if err := call(c, many[:1]); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	put := <-out.puts
	if err := call(other, many); !errors.Is(err, rpc.Failed) {
		t.Errorf("more than maxPendingBytes: %v", err)
	}
	put <- nil
	first.Wait()
	first.Go(func() { // also proves that what the others had was given back
		if err := call(other, many); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
	(<-out.puts) <- nil
	first.Wait()
}
