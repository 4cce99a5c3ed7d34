package thrift

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// flume: TestThriftSink testTimeout
// flume: TestThriftRpcClient testFail testError testTimeout
func TestSinkSuite(t *testing.T) {
	for name, s := range rpctest.SinkSubjects(wire) {
		t.Run(name, func(t *testing.T) { sinktest.Run(t, s) })
	}
}

// flume: TestThriftRpcClient testSlow
func TestInFlight(t *testing.T) { rpctest.InFlight(t, wire) }

// flume: TestThriftSink testFailedConnect
func TestFailedConnect(t *testing.T) { rpctest.FailedConnect(t, wire) }

func TestReset(t *testing.T) { rpctest.Reset(t, wire) }

func TestSinkChecks(t *testing.T) { suite.Run(t, wire, rpctest.SinkChecks) }

// Without a far end Open succeeds: it may come later. Keys that name what is on this machine are looked at.
func TestOpenNeedsNobody(t *testing.T) {
	in := rpctest.OpenSink(t, wire, map[string]string{"hostname": "nowhere.invalid", "port": "1"})
	in.Close()
}

// What the sink sends one at a time is what Flume's sink sends.
func TestRecordedSink(t *testing.T) {
	var sent [][]byte
	w := wire
	w.Far = func(p *rpctest.Peer, c net.Conn) rpctest.Far {
		f := wire.Far(p, c).(*far)
		f.note = func(frame []byte) { sent = append(sent, slices.Clone(frame)) }
		return f
	}
	p := rpctest.NewPeer(t, w, false)
	in := rpctest.OpenSink(t, wire, p.Keys("max-in-flight", "1"))
	b := core.NewBatch()
	for i := range 5 {
		b.Copy(core.NewHeaders( // in the order that Java has them
			core.Header{Key: "host", Value: "web-" + strconv.Itoa(i%2)}, core.Header{Key: "key", Value: "k" + strconv.Itoa(i)},
			core.Header{Key: "timestamp", Value: strconv.Itoa(1700000000000 + 1000*i)}), []byte(fmt.Sprintf("line %d 世", i)))
	}
	in.Sink.Deliver(t.Context(), &rpctest.Tx{B: b})
	if err := in.Sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	p.Stop() // nothing is added any more
	if want := rpctest.Recorded(t, "testdata/thrift-sink.c2s.bin")[4:]; len(sent) != 1 || !slices.Equal(sent[0], want) {
		t.Errorf("sent\n% x, Flume\n% x", sent, want)
	}
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
		keys := rpctest.SinkKeys("h:1", c.more...)
		if text := rpctest.Faults(Sink.New(), keys); c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%v: %q, want %q", c.more, text, c.want)
		}
	}
}
