package netcat

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/datagram"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func udpSubject(more map[string]string) sourcetest.Subject {
	return sourcetest.Subject{
		New: UDP.New, Events: 100,
		Keys: func(testing.TB) map[string]string {
			keys := map[string]string{"bind": "127.0.0.1", "port": "0", "batchSize": "7"}
			for k, v := range more {
				keys[k] = v
			}
			return keys
		},
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			c, err := net.Dial("udp", in.Addr().String())
			if err != nil {
				return nil
			}
			defer c.Close()
			for i, b := range bodies {
				if _, err := c.Write([]byte(b + strings.Repeat("\n", i%2))); err != nil {
					return bodies[:i] // the source has stopped
				}
			}
			return bodies
		},
	}
}

func TestSuiteUDP(t *testing.T) { sourcetest.Run(t, udpSubject(nil)) }

// startUDP runs the source and returns a socket that sends to it.
func startUDP(t *testing.T, more map[string]string) (*sourcetest.Instance, net.Conn) {
	t.Helper()
	s := udpSubject(more)
	in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	c, err := net.Dial("udp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return in, c
}

// flume: TestNetcatUdpSource testLargePayload testShortString testMediumString
func TestDatagrams(t *testing.T) {
	long := strings.Repeat("x", 60000)
	for _, tt := range []struct {
		name, sent string
		want       []string
	}{
		{"bare", "abc", []string{"abc"}},
		{"newline", "abc\n", []string{"abc"}},
		{"carriage return", "abc\r\n", []string{"abc\r"}},
		{"empty", "", []string{""}},
		{"a newline", "\n", []string{""}},
		{"bytes", "\xff\x00", []string{"\xff\x00"}},
		{"ours: more lines", "a\nb\n\nc", []string{"a", "b", "", "c"}},
		{"ours: long", long, []string{long}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, c := startUDP(t, nil)
			if _, err := c.Write([]byte(tt.sent)); err != nil {
				t.Fatal(err)
			}
			suite.Eventually(t, "the events", func() bool { return in.Out.Len() >= len(tt.want) })
			if got := in.Out.Bodies(); !slices.Equal(got, tt.want) {
				t.Errorf("got %.100q, want %.100q", got, tt.want)
			}
			if h := in.Out.Events()[0].Headers; h.Len() > 0 {
				t.Errorf("headers %v", h)
			}
		})
	}
}

func TestRemoteAddress(t *testing.T) {
	for _, key := range []string{"remoteAddress", "remoteAddressHeader"} { // the code's name, and the manual's
		in, c := startUDP(t, map[string]string{key: "from"})
		other, err := net.Dial("udp", in.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { other.Close() })
		for i, from := range []net.Conn{c, c, other} {
			if _, err := from.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			suite.Eventually(t, "the event", func() bool { return in.Out.Len() > i })
			e := in.Out.Events()[i]
			if got, want := e.Headers.Value("from"), "/"+from.LocalAddr().String(); got != want || e.Headers.Len() != 1 {
				t.Errorf("%s: got %q, want %q", key, got, want)
			}
		}
	}
}

func TestJavaAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:42415": "/192.0.2.1:42415", "[::1]:7": "/[0:0:0:0:0:0:0:1]:7", "[2001:db8::ff00:42:8329]:80": "/[2001:db8:0:0:0:ff00:42:8329]:80",
		"[fe80::1%eth0]:9": "/[fe80:0:0:0:0:0:0:1%eth0]:9",
	} {
		if got := javaAddress(netip.MustParseAddrPort(in)); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestUDPKeys(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"port": {"bind": "h"}, "batchSize": {"port": "1", "batchSize": "0"},
	} {
		_, faults := conf.Bind(UDP.New(), keys)
		if !faults.HasErrors() || faults[0].Key != name {
			t.Errorf("%s: %v", name, faults)
		}
	}
	if _, faults := conf.Bind(UDP.New(), map[string]string{"port": "1"}); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestUDPPortInUse(t *testing.T) {
	in, _ := startUDP(t, nil)
	_, port, _ := net.SplitHostPort(in.Addr().String())
	second := UDP.New()
	if _, faults := conf.Bind(second, map[string]string{"bind": "127.0.0.1", "port": port}); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := second.Open(t.Context(), sourcetest.NewEnv(t, "second")); err == nil || !strings.HasPrefix(err.Error(), "listen on 127.0.0.1:"+port) {
		t.Errorf("open: %v", err)
	}
}

// given is a socket that gives its datagrams once, and then is silent.
type given struct {
	net.PacketConn
	datagrams [][]byte
	late      chan struct{} // closed with a deadline in the past
}

func (g *given) LocalAddr() net.Addr { return &net.UnixAddr{} }

func (g *given) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		close(g.late)
	}
	return nil
}

func (g *given) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if len(g.datagrams) == 0 {
		<-g.late
		return 0, netip.AddrPort{}, context.Canceled
	}
	n := copy(b, g.datagrams[0])
	g.datagrams = g.datagrams[1:]
	return n, netip.AddrPort{}, nil
}

func FuzzDatagrams(f *testing.F) {
	f.Add([]byte("a\nb\n\n"), []byte(""))
	f.Add([]byte("\n"), []byte("\xff\r\n"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var want []string
		for _, d := range []*[]byte{&first, &second} {
			*d = (*d)[:min(len(*d), datagram.Max)]
			want = append(want, strings.Split(strings.TrimSuffix(string(*d), "\n"), "\n")...)
		}
		s, out := &udp{batch: 3}, sourcetest.NewOutlet()
		g := &given{datagrams: [][]byte{first, second}, late: make(chan struct{})}
		env := sourcetest.NewEnv(t, "src")
		env.ListenPacket = func(string, string) (net.PacketConn, error) { return g, nil }
		if err := s.Open(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, out) }()
		suite.Eventually(t, "the events", func() bool { return out.Len() >= len(want) })
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got := out.Bodies(); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
