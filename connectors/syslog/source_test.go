package syslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

const head = "<13>1 2012-04-13T11:11:11Z h "

// line makes a message of a body.
func line(body string) string { return head + body + "\n" }

// feed sends bodies over a connection of its own, as a peer that hears nothing back.
func feed(t testing.TB, dial func() (net.Conn, error), bodies []string, each bool) []string {
	c, err := dial()
	if err != nil {
		return nil // closed meanwhile
	}
	defer c.Close()
	var all strings.Builder
	for i, b := range bodies {
		m := line(b)
		if i%2 == 1 && !each { // counted
			m = fmt.Sprintf("%d %s", len(m), m)
		}
		if !each {
			all.WriteString(m)
		} else if _, err := io.WriteString(c, strings.TrimSuffix(m, "\n")); err != nil {
			return bodies[:i]
		}
	}
	if _, err := io.WriteString(c, all.String()); err != nil {
		t.Logf("write: %v", err)
	}
	return bodies
}

func dial(in *sourcetest.Instance) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial(in.Addr().Network(), in.Addr().String()) }
}

// subject is a source under the suite of sources.
func subject(source core.Type[core.Source], each bool, keys func(t testing.TB) map[string]string) sourcetest.Subject {
	return sourcetest.Subject{
		New: source.New, Keys: keys, Events: 100,
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			return feed(t, dial(in), bodies, each)
		},
	}
}

func ports(testing.TB) map[string]string {
	return map[string]string{"host": "127.0.0.1", "port": "0", "batchSize": "7"}
}

func paths(t testing.TB) map[string]string {
	dir, err := os.MkdirTemp("", "syslog") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return map[string]string{"path": filepath.Join(dir, "s"), "batchSize": "7"}
}

func TestSuiteTCP(t *testing.T)    { sourcetest.Run(t, subject(TCP, false, ports)) }
func TestSuiteUDP(t *testing.T)    { sourcetest.Run(t, subject(UDP, true, ports)) }
func TestSuiteStream(t *testing.T) { sourcetest.Run(t, subject(TCP, false, paths)) }
func TestSuiteDgram(t *testing.T)  { sourcetest.Run(t, subject(UDP, true, paths)) }

// start runs a source with those keys beside the usual ones.
func start(t *testing.T, source core.Type[core.Source], keys map[string]string) *sourcetest.Instance {
	t.Helper()
	all := map[string]string{"host": "127.0.0.1", "port": "0"}
	for k, v := range keys {
		all[k] = v
	}
	in := sourcetest.Start(t, sourcetest.Subject{New: source.New}, all, sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	return in
}

// events waits for n events and returns how they look.
func events(t *testing.T, in *sourcetest.Instance, n int) []string {
	t.Helper()
	suite.Eventually(t, fmt.Sprintf("%d events", n), func() bool { return in.Out.Len() >= n })
	var got []string
	for _, e := range in.Out.Events() {
		got = append(got, show(e))
	}
	return got
}

func connect(t *testing.T, in *sourcetest.Instance) net.Conn {
	t.Helper()
	c, err := dial(in)()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// What real programs send: logger, rsyslog, syslog-ng.
func TestRecorded(t *testing.T) {
	in := start(t, TCP, nil)
	for _, tt := range []struct{ file, want string }{
		{"logger-rfc5424", `"app - - [timeQuality tzKnown=\"1\" isSynced=\"0\"][ex@1 a=\"b\"] logger rfc5424" Facility=1 Severity=5 host=vm priority=13 timestamp=1795362232117 version=1`},
		{"logger-rfc5424-octet", `"app - - [timeQuality tzKnown=\"1\" isSynced=\"0\"] logger octet" Facility=1 Severity=5 host=vm priority=13 timestamp=1795362232132 version=1`},
		{"rsyslog-octet", `"app - - -  via rsyslog tcp-octet" Facility=1 Severity=5 host=vm priority=13 timestamp=1795362194000 version=1`},
		{"rsyslog-tcp", `"app - - -  via rsyslog tcp" Facility=1 Severity=5 host=vm priority=13 timestamp=1795362190000 version=1`},
		{"syslogng-rfc5424", `"app - - - via syslog-ng rfc5424" Facility=1 Severity=5 host=localhost priority=13 timestamp=1795362317000 version=1`},
	} {
		data, err := os.ReadFile("testdata/recorded/" + tt.file + ".c2s.bin")
		if err != nil {
			t.Fatal(err)
		}
		n := in.Out.Len()
		write(t, connect(t, in), string(data))
		if got := events(t, in, n+1)[n]; got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.file, got, tt.want)
		}
	}
}

// A byte at a time: nothing is emitted early, nothing is lost.
func TestDribble(t *testing.T) {
	in := start(t, TCP, nil)
	c := connect(t, in)
	for i, b := range []byte(line("one") + "33 " + line("two") + line("three") + head + "four") {
		write(t, c, string(b))
		if i == 20 && in.Out.Len() > 0 {
			t.Error("half a message is an event")
		}
	}
	events(t, in, 3)
	c.Close()
	events(t, in, 4)
	if got := in.Out.Bodies(); !slices.Equal(got, []string{"one", "two", "three", "four"}) {
		t.Errorf("got %q", got)
	}
}

// flume: TestSyslogTcpSource testSourceCounterEventFail
func TestConnectionBreaks(t *testing.T) {
	in := start(t, TCP, nil)
	c := connect(t, in)
	write(t, c, line("one")+head+"tw")
	events(t, in, 1)
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	got := events(t, in, 2)
	if !strings.HasPrefix(got[1], `"tw" `) || !strings.Contains(got[1], "status=Incomplete") {
		t.Errorf("got %s", got[1])
	}
	if n := in.Env.Metrics.EventReadFail.Load(); n != 1 {
		t.Errorf("%d read failures", n)
	}
}

func TestManyIdleConnections(t *testing.T) {
	in := start(t, TCP, map[string]string{"maxConnections": "200"})
	before := heap()
	var conns []net.Conn
	for range 200 {
		conns = append(conns, connect(t, in))
	}
	suite.Eventually(t, "all are open", func() bool { return in.Env.Metrics.OpenConnection.Load() == 200 })
	if grown := int64(heap()) - int64(before); grown > 200*16<<10 {
		t.Errorf("an idle connection takes %d bytes", grown/200)
	}
	one := connect(t, in)
	if _, err := one.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many is served")
	}
	for i, c := range conns {
		write(t, c, line(fmt.Sprint(i)))
	}
	events(t, in, 200)
	for _, c := range conns {
		c.Close()
	}
	suite.Eventually(t, "all are closed", func() bool { return in.Env.Metrics.OpenConnection.Load() == 0 })
	write(t, connect(t, in), line("again"))
	events(t, in, 201)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestIdleTimeout(t *testing.T) {
	in := start(t, TCP, map[string]string{"idleTimeout": "20ms"})
	c := connect(t, in)
	write(t, c, line("one")+head+"two")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want the end", err)
	}
	if got := events(t, in, 2)[1]; !strings.Contains(got, "Incomplete") {
		t.Errorf("got %s", got)
	}
}

// counting is an outlet that only counts.
type counting struct {
	core.Outlet
	events, bytes atomic.Int64
	most          atomic.Int64
}

func (o *counting) Send(_ context.Context, b *core.Batch, done func(error)) error {
	o.events.Add(int64(len(b.Events)))
	o.bytes.Add(b.Size().Bytes)
	o.most.Store(max(o.most.Load(), int64(len(b.Events))))
	b.Release()
	done(nil)
	return nil
}

// run runs an open source into out until the test's end and returns its address.
func run(t testing.TB, source core.Source, keys map[string]string, out core.Outlet, change func(*core.Env)) net.Addr {
	t.Helper()
	if _, faults := conf.Bind(source, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	var addr net.Addr
	env.Listen = func(network, at string) (net.Listener, error) {
		l, err := net.Listen(network, at)
		if err == nil {
			addr = l.Addr()
		}
		return l, err
	}
	if change != nil {
		change(&env)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := source.Open(ctx, env); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := source.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return addr
}

// A line of 100 MB, or one in a counted frame, is cut and takes no memory.
func TestHugeLine(t *testing.T) {
	size := 100 << 20
	if testing.Short() {
		size = 10 << 20
	}
	out := new(counting)
	addr := run(t, TCP.New(), map[string]string{"host": "127.0.0.1", "port": "0"}, out, nil)
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write(t, c, "<13>")
	before, peak := heap(), uint64(0)
	piece := strings.Repeat("x", 1<<20)
	for i := range size >> 20 {
		write(t, c, piece)
		if i%20 == 0 {
			peak = max(peak, heap())
		}
	}
	write(t, c, "\n"+line("end"))
	want := int64(size + 4 + 3)
	suite.Eventually(t, "all bytes are there", func() bool { return out.bytes.Load() == want })
	if n := out.events.Load(); n != int64(size+4+2499)/2500+1 {
		t.Errorf("%d events", n)
	}
	if peak > before+8<<20 {
		t.Errorf("the heap grew by %d bytes", peak-before)
	}
}

func TestBatches(t *testing.T) {
	for _, tt := range []struct {
		keys map[string]string
		max  int
		most int64
	}{
		{map[string]string{"batchSize": "10"}, 0, 10}, {map[string]string{"batchSize": "100"}, 7, 7}, {nil, 0, 1000},
	} {
		for _, source := range []core.Type[core.Source]{TCP, UDP} {
			out := new(counting)
			keys := map[string]string{"host": "127.0.0.1", "port": "0"}
			for k, v := range tt.keys {
				keys[k] = v
			}
			var addr net.Addr
			listening := run(t, source.New(), keys, out, func(e *core.Env) {
				e.MaxEvents = tt.max
				e.ListenPacket = func(network, at string) (net.PacketConn, error) {
					c, err := net.ListenPacket(network, at)
					if err == nil {
						addr = c.LocalAddr()
					}
					return c, err
				}
			})
			if addr == nil {
				addr = listening
			}
			c, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				t.Fatal(err)
			}
			write(t, c, strings.Repeat("<13>x\n", 5000))
			suite.Eventually(t, "all are there", func() bool { return out.events.Load() == 5000 })
			if got := out.most.Load(); got > tt.most {
				t.Errorf("%s, %v: a batch of %d", source.Name, tt.keys, got)
			}
			c.Close()
		}
	}
}

// flume: TestSyslogUdpSource testLargePayload
func TestLargeDatagram(t *testing.T) {
	in := start(t, UDP, nil)
	body := strings.Repeat("x", 60000)
	write(t, connect(t, in), head+body)
	if got := events(t, in, 1)[0]; !strings.HasPrefix(got, `"`+body+`"`) || strings.Contains(got, "status") {
		t.Errorf("got %.100s", got)
	}
}

// flume: TestSyslogUdpSource testSourceCounterReadFail
func TestEmptyDatagrams(t *testing.T) {
	in := start(t, UDP, nil)
	c := connect(t, in)
	write(t, c, "")
	write(t, c, "\n\n")
	write(t, c, "<")
	compare(t, events(t, in, 1), `"<" Facility=0 Severity=0 flume.syslog.status=Invalid`)
	if n := in.Env.Metrics.EventReadFail.Load(); n != 2 {
		t.Errorf("%d read failures, want 2", n)
	}
}

// What syslog(3) writes to /dev/log: no host, and NUL at the end on a stream.
func TestLocalSockets(t *testing.T) {
	const want = `"app[1]: x" Facility=1 Severity=5 priority=13 timestamp=`
	for _, source := range []core.Type[core.Source]{TCP, UDP} {
		keys := paths(t)
		in := start(t, source, keys)
		network := map[string]string{"syslogtcp": "unix", "syslogudp": "unixgram"}[source.Name]
		in.Addr()
		info, err := os.Stat(keys["path"])
		if err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("%s: %v, mode %v", source.Name, err, info.Mode())
		}
		c, err := net.Dial(network, keys["path"])
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, "<13>Nov 22 15:45:13 app[1]: x\x00")
		if source.Name == "syslogtcp" {
			write(t, c, "<13>Nov 22 15:45:13 app[1]: x\x00")
			events(t, in, 2)
		}
		if got := events(t, in, 1)[0]; !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s", source.Name, got)
		}
		c.Close()
	}
}

// A socket file that a killed process left is no obstacle; one in use is.
func TestDeadSocket(t *testing.T) {
	for _, source := range []core.Type[core.Source]{TCP, UDP} {
		keys := paths(t)
		var closer io.Closer
		if source.Name == "syslogtcp" {
			l, err := net.Listen("unix", keys["path"])
			if err != nil {
				t.Fatal(err)
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			closer = l
		} else {
			c, err := net.ListenPacket("unixgram", keys["path"])
			if err != nil {
				t.Fatal(err)
			}
			closer = c
		}
		s := source.New()
		if _, faults := conf.Bind(s, keys); faults.HasErrors() {
			t.Fatal(faults)
		}
		if err := s.Open(context.Background(), sourcetest.NewEnv(t, "src")); err == nil {
			t.Errorf("%s: takes a socket in use", source.Name)
		}
		closer.Close()
		if err := s.Open(context.Background(), sourcetest.NewEnv(t, "src")); err != nil {
			t.Errorf("%s: %v", source.Name, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: close: %v", source.Name, err)
		}
	}
}

// flume: TestSyslogTcpSource testClientHeaders
// flume: TestSyslogUdpSource testClientHeaders
func TestPeerHeaders(t *testing.T) {
	for _, source := range []core.Type[core.Source]{TCP, UDP} {
		in := start(t, source, map[string]string{"clientIPHeader": "ip", "clientHostnameHeader": "name"})
		var p *peers
		switch s := in.Source.(type) {
		case *tcp:
			p = s.peers
		case *udp:
			p = s.peers
		}
		in.Addr()
		p.mu.Lock()
		p.names[netip.MustParseAddr("127.0.0.1")] = &peerName{found: closed(), name: "peer.example", until: time.Now().Add(time.Hour)}
		p.mu.Unlock()
		c := connect(t, in)
		write(t, c, "<13>a\n")
		write(t, c, "b\n")
		compare(t, events(t, in, 2), `"<13>a" Facility=1 Severity=5 ip=127.0.0.1 name=peer.example`,
			`"b" Facility=0 Severity=0 flume.syslog.status=Invalid ip=127.0.0.1 name=peer.example`)
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// A name server that does not answer costs little time, and none once many are asked for.
//
// flume: TestSyslogUtils testGetIPWhenSuccessful testGetIPWhenInputIsNull testGetIPWhenInputIsNotInetSocketAddress
// flume: TestSyslogUtils testGetHostnameWhenSuccessful testGetHostnameWhenInputIsNull
// flume: TestSyslogUtils testGetHostnameWhenInputIsNotInetSocketAddress
func TestNames(t *testing.T) {
	now := time.Now()
	p := newPeers(&settings{clientHostname: "name"}, func() time.Time { return now })
	asked := atomic.Int64{}
	p.lookup = func(ctx context.Context, addr string) ([]string, error) {
		asked.Add(1)
		if addr == "192.0.2.1" {
			return []string{"one.example.", "other."}, nil
		}
		if addr == "192.0.2.2" {
			return nil, os.ErrNotExist
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	name := func(addr string) string { return p.headers(netip.MustParseAddr(addr))[0].Value }
	for _, tt := range [][2]string{{"192.0.2.1", "one.example"}, {"192.0.2.1", "one.example"}, {"192.0.2.2", "192.0.2.2"}, {"192.0.2.3", "192.0.2.3"}} {
		if got := name(tt[0]); got != tt[1] {
			t.Errorf("%s: %s, want %s", tt[0], got, tt[1])
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	now = now.Add(nameAge + time.Second)
	name("192.0.2.1")
	if n := asked.Load(); n != 4 {
		t.Errorf("an old name is not asked for again")
	}
	p.mu.Lock()
	p.running += maxLookups
	p.mu.Unlock()
	if got := name("192.0.2.4"); got != "192.0.2.4" || asked.Load() != 4 {
		t.Errorf("%s, asked %d times", got, asked.Load())
	}
	p.mu.Lock()
	p.running -= maxLookups
	p.mu.Unlock()
	p.close()
	if got := p.headers(netip.Addr{}); got[0].Value != "" {
		t.Errorf("a unix socket has the name %q", got[0].Value)
	}
}

// Bytes in flight are bounded: reading stops until something is stored.
func TestFlight(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Hold()
	in := sourcetest.Start(t, sourcetest.Subject{New: TCP.New}, map[string]string{"host": "127.0.0.1", "port": "0", "eventSize": "100000"}, out)
	t.Cleanup(in.Close)
	c := connect(t, in)
	const n = 600
	fed := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < n && err == nil; i++ {
			_, err = io.WriteString(c, line(strings.Repeat("x", 90000)))
		}
		fed <- err
	}()
	rounds := 0
	suite.Eventually(t, "all are stored", func() bool {
		rounds++
		out.Release()
		out.Hold()
		return out.Len() == n
	})
	if err := <-fed; err != nil {
		t.Error(err)
	}
	if rounds < 3 {
		t.Errorf("%d bytes were in flight at once", n*90000)
	}
	out.Release()
}

// While the channel is full the kernel drops datagrams, and says how many.
func TestDrops(t *testing.T) {
	in := start(t, UDP, map[string]string{"batchSize": "1", "receiveBufferBytes": "8k"})
	in.Out.Shut()
	t.Cleanup(in.Out.Open)
	var dropped func() int64
	c := connect(t, in)
	for _, x := range in.Env.Metrics.Extras() {
		if x.Name == "socket_dropped_datagrams" {
			dropped = x.Value
		}
	}
	if dropped == nil {
		t.Skip("the system does not tell")
	}
	sent := int64(0)
	suite.Eventually(t, "datagrams are dropped", func() bool {
		for range 100 {
			write(t, c, line(strings.Repeat("x", 1000)))
			sent++
		}
		return dropped() > 0
	})
	in.Out.Open()
	suite.Eventually(t, "the others arrive", func() bool { return int64(in.Out.Len()) == sent-dropped() })
}

// After a burst a silent connection gives its memory back.
func TestShrink(t *testing.T) {
	out := new(counting)
	addr := run(t, TCP.New(), map[string]string{"host": "127.0.0.1", "port": "0", "eventSize": "1000000"}, out, nil)
	before := heap()
	const conns, lines = 30, 20000
	burst := strings.Repeat(line("x"), lines) + head
	for range conns {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		write(t, c, burst)
	}
	suite.Eventually(t, "all are there", func() bool { return out.events.Load() == conns*lines })
	suite.Eventually(t, "the memory is given back", func() bool {
		heap() // the pools keep blocks for one collection
		return int64(heap())-int64(before) < conns*8<<10
	})
}

func TestWindow(t *testing.T) {
	w := window{need: 1 << 20}
	fill := func(n int) {
		for n > 0 {
			k := min(n, len(w.space()))
			w.end += k
			n -= k
		}
	}
	size := func(want int) {
		t.Helper()
		if got := len(w.blk.Buf); got != want {
			t.Errorf("a block of %d bytes, want %d", got, want)
		}
	}
	fill(100)
	size(4 << 10)
	w.start = w.end
	fill(4000)
	fill(1000) // the block was filled without a pause
	size(64 << 10)
	w.start = w.end - 10
	w.shrink()
	size(4 << 10)
	fill(300 << 10) // one long message
	if n := len(w.rest()); n != 300<<10+10 || len(w.blk.Buf) > 2*n {
		t.Errorf("%d bytes in a block of %d", n, len(w.blk.Buf))
	}
	w.start = w.end
	w.shrink()
	if w.blk != nil {
		t.Error("an idle window holds a block")
	}
}
