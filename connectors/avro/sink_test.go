package avro

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// flume: TestAvroSink testLifecycle testTimeout
func TestSinkSuite(t *testing.T) {
	for name, s := range rpctest.SinkSubjects(wire) {
		t.Run(name, func(t *testing.T) { sinktest.Run(t, s) })
	}
}

func TestInFlight(t *testing.T) { rpctest.InFlight(t, wire) }

// flume: TestAvroSink testFailedConnect
func TestFailedConnect(t *testing.T) { rpctest.FailedConnect(t, wire) }

// flume: TestAvroSink testReset
func TestReset(t *testing.T) { rpctest.Reset(t, wire) }

func TestSinkChecks(t *testing.T) { suite.Run(t, wire, rpctest.SinkChecks) }

// hosts are the keys of a sink with several peers.
func hosts(kind string, peers ...*rpctest.Peer) map[string]string {
	keys := map[string]string{"client.type": kind}
	var names []string
	for i, p := range peers {
		name := "h" + strconv.Itoa(i)
		names = append(names, name)
		keys["hosts."+name] = p.Addr
	}
	keys["hosts"] = strings.Join(names, " ")
	return keys
}

func TestFailover(t *testing.T) {
	a, b := rpctest.NewPeer(t, wire, false), rpctest.NewPeer(t, wire, false)
	in := rpctest.OpenSink(t, wire, hosts("default_failover", a, b))
	rpctest.DeliverAll(t, in, 10)
	if len(a.Seen()) != 10 || len(b.Seen()) != 0 {
		t.Errorf("%d and %d", len(a.Seen()), len(b.Seen()))
	}
	a.Stop()
	rpctest.DeliverAll(t, in, 10)
	if len(b.Seen()) != 10 {
		t.Errorf("%d at the second", len(b.Seen()))
	}
	a.Listen()
	b.Set(rpctest.Rejects)
	rpctest.DeliverAll(t, in, 10)
	if len(a.Seen()) != 20 {
		t.Errorf("%d at the first again", len(a.Seen()))
	}
	in.Close()
}

func TestLoadBalance(t *testing.T) {
	a, b := rpctest.NewPeer(t, wire, false), rpctest.NewPeer(t, wire, false)
	in := rpctest.OpenSink(t, wire, hosts("DEFAULT_LOADBALANCE", a, b))
	rpctest.DeliverAll(t, in, 10)
	if len(a.Seen()) != 5 || len(b.Seen()) != 5 {
		t.Errorf("%d and %d", len(a.Seen()), len(b.Seen()))
	}
	a.Stop()
	rpctest.DeliverAll(t, in, 10)
	if len(b.Seen()) != 15 {
		t.Errorf("%d at the one that lives", len(b.Seen()))
	}
	in.Close()
	keys := hosts("default_loadbalance", a, b)
	keys["backoff"] = "true"
	keys["host-selector"] = "RANDOM"
	in = rpctest.OpenSink(t, wire, keys)
	rpctest.DeliverAll(t, in, 10)
	b.Stop()
	suite.Eventually(t, "all are left out", func() bool {
		tx := in.Deliver([]string{"x"})
		_ = in.Sink.Flush(context.Background())
		_, back, _ := tx.Acked()
		return back != nil && strings.Contains(back.Error(), "left out")
	})
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
		text := rpctest.Faults(Sink.New(), c.keys)
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.keys, text, c.want)
		}
	}
}
