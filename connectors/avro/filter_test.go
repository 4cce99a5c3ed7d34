package avro

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
)

// flume: TestAvroSource testValidIpFilterAllows testValidIpFilterDenys
func TestFilter(t *testing.T) {
	for _, c := range []struct {
		rules, addr string
		want        bool
	}{
		{"allow:name:localhost,deny:ip:*", "127.0.0.1", true},
		{"allow:name:localhost,deny:ip:*", "::1", true},
		{"allow:ip:45.2.2.2,deny:ip:*", "127.0.0.1", false},
		{"deny:ip:127.0.0.2,allow:ip:*,deny:ip:127.0.0.1", "127.0.0.1", true},
		{"deny:ip:127.0.0.2,allow:ip:*", "127.0.0.2", false},
		{"allow:name:localhost", "127.0.0.1", true},
		{"allow:ip:10.*", "127.0.0.1", true}, // nothing fits
		{"deny:ip:127*", "127.0.0.1", false},
		{"deny:ip:127.?.?.1", "127.0.0.1", false},
		{"deny:ip:127.0.0.", "127.0.0.1", true}, // the whole text must fit
		{"deny:ip:127x0.0.1", "127.0.0.1", true},
		{"deny:ip:1(2|3)7.*", "127.0.0.1", false},
		{" deny:ip:10.*  , deny:ip:127.* ", "127.0.0.1", false},
		{"deny:ip:0:0:0:0:0:0:0:1", "::1", false}, // as Java writes it
		{"deny:ip:::1", "::1", false},
		{"deny:ip:10.1.2.3", "::ffff:10.1.2.3", false},
		{"deny:name:192.0.2.*", "192.0.2.7", false}, // has no name
	} {
		f, err := parseFilter(c.rules)
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		if strings.Contains(c.rules, "192.0.2") {
			cancel() // the resolver is not asked
		}
		if got := f.allows(ctx, &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 1}); got != c.want {
			t.Errorf("%s: %s is let in: %v", c.rules, c.addr, got)
		}
		cancel()
	}
}

func TestDenied(t *testing.T) {
	in := rpctest.Start(t, wire, "ipFilter", "true", "ipFilterRules", "deny:ip:127.*")
	c := rpctest.Connect(t, in.Addr().String())
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n := in.Env.Metrics.Counter("connections_denied_total", "").Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
}

// name:localhost is every address of this machine, and no other.
func TestLocalhost(t *testing.T) {
	f, err := parseFilter("allow:name:localhost,deny:ip:*")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil || len(addrs) == 0 {
		t.Fatalf("addresses of this machine: %v, %v", addrs, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !f.allows(t.Context(), &net.TCPAddr{IP: n.IP, Port: 1}) {
			t.Errorf("%v is not let in", n.IP)
		}
	}
	if f.allows(t.Context(), &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}) {
		t.Error("another machine is let in")
	}
}
