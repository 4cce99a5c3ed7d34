// Package sourcetest is the suite that every source runs under: what is
// offered arrives once and in order, whatever the channels do; nothing is
// acknowledged upstream before it is stored; a source stops when told and can
// be opened again; one that can read again loses nothing in a crash.
package sourcetest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// Subject is a source to test.
type Subject struct {
	New func() core.Source
	// Keys returns a configuration with a fresh place to read from (files in
	// t.TempDir(), port 0). It is called once per check.
	Keys func(t testing.TB) map[string]string
	// Feed offers bodies, in order, to the running source and returns those that
	// were handed over: acknowledged, where the protocol has acknowledgements. It
	// is called several times per check, from one goroutine, and does not wait
	// for the events to arrive.
	Feed func(t testing.TB, in *Instance, bodies []string) (handed []string)
	// Bodies replaces the suite's own bodies, for sources that make events themselves.
	Bodies func(from, n int) []string
	// Replay: the source reads again after a crash what was not stored.
	Replay bool
	// Unordered: the order of arrival may differ.
	Unordered bool
	// Events per Feed; 0: 500.
	Events int
}

// Instance is a source in a check.
type Instance struct {
	Keys   map[string]string
	Source core.Source
	Out    *Outlet
	Env    core.Env

	t       testing.TB
	subject Subject
	mu      sync.Mutex
	addrs   []net.Addr
	cancel  context.CancelFunc
	ended   chan error
	closers []io.Closer // listeners a crash leaves open
}

// Addr returns the address of the source's first listener, once it listens.
func (in *Instance) Addr() net.Addr {
	in.t.Helper()
	var a net.Addr
	suite.Eventually(in.t, "the source listens", func() bool {
		in.mu.Lock()
		defer in.mu.Unlock()
		if len(in.addrs) > 0 {
			a = in.addrs[0]
		}
		return a != nil
	})
	return a
}

func (in *Instance) note(a net.Addr, c io.Closer) {
	in.mu.Lock()
	in.addrs = append(in.addrs, a)
	in.closers = append(in.closers, c)
	in.mu.Unlock()
}

// NewEnv returns an environment for a component under test: the real file
// system and loopback network, logs to t.
func NewEnv(t testing.TB, name string) core.Env {
	return core.Env{
		Agent: "test", Name: name, Log: slog.New(slog.NewTextHandler(logWriter{t}, nil)),
		Metrics: &metric.Group{Kind: metric.Source, Name: name}, FS: vfs.OS(), Dir: t.TempDir(), Now: time.Now,
		Listen: net.Listen, ListenPacket: net.ListenPacket,
	}
}

// logWriter drops what comes after the test's end.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		defer func() { _ = recover() }()
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

// Start binds, opens and runs a source of s with those keys into out.
func Start(t testing.TB, s Subject, keys map[string]string, out *Outlet) *Instance {
	t.Helper()
	in := &Instance{Keys: keys, Source: s.New(), Out: out, t: t, subject: s, Env: NewEnv(t, "src")}
	if _, faults := conf.Bind(in.Source, keys); faults.HasErrors() {
		t.Fatalf("keys: %v", faults)
	}
	in.open()
	return in
}

func (in *Instance) open() {
	in.t.Helper()
	in.mu.Lock()
	in.addrs = nil
	in.mu.Unlock()
	in.Env.Listen = func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err == nil {
			in.note(l.Addr(), l)
		}
		return l, err
	}
	in.Env.ListenPacket = func(network, addr string) (net.PacketConn, error) {
		c, err := net.ListenPacket(network, addr)
		if err == nil {
			in.note(c.LocalAddr(), c)
		}
		return c, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := in.Source.Open(ctx, in.Env); err != nil {
		cancel()
		in.t.Fatalf("open: %v", err)
	}
	in.cancel = cancel
	in.ended = make(chan error, 1)
	go func() { in.ended <- in.Source.Run(ctx, in.Out) }()
}

// Stop ends the run and waits for it.
func (in *Instance) Stop() {
	in.t.Helper()
	in.cancel()
	select {
	case <-in.ended:
		in.ended <- nil
	case <-time.After(suite.Deadline):
		in.t.Fatalf("the source did not stop within %v", suite.Deadline)
	}
}

// Close stops the source and closes it.
func (in *Instance) Close() {
	in.t.Helper()
	in.Stop()
	in.Out.Release()
	if err := in.Source.Close(); err != nil {
		in.t.Errorf("close: %v", err)
	}
}

// Kill ends the run as a crash does: nothing is closed by the source, and what
// was sent but not stored is gone.
func (in *Instance) Kill() {
	in.t.Helper()
	in.Stop() // first: what a running source still sends is part of what is lost
	in.Out.Crash()
	for _, c := range in.closers {
		_ = c.Close()
	}
}

func (s Subject) bodies(from int) []string {
	n := s.Events
	if n == 0 {
		n = 500
	}
	if s.Bodies != nil {
		return s.Bodies(from, n)
	}
	return suite.Bodies(from, n)
}

// Checks are the properties of a source.
var Checks = []suite.Check[Subject]{
	{Name: "arrives once and in order", Run: arrives},
	{Name: "slow channel", Run: slow},
	{Name: "full channel", Run: full},
	{Name: "stops while the channel blocks", Run: stops},
	{Name: "opens again", Run: reopens},
	{Name: "channel closes", Run: closes},
	{Name: "crash loses nothing", Run: crash},
}

// Run runs the suite.
func Run(t *testing.T, s Subject) { suite.Run(t, s, Checks) }

// expect waits until exactly want has arrived.
func (in *Instance) expect(want []string) {
	in.t.Helper()
	suite.Within(suite.Deadline, func() bool { return in.Out.Len() >= len(want) })
	got := in.Out.Bodies()
	if in.subject.Bodies != nil && len(got) > len(want) {
		got = got[:len(want)] // a source that makes events goes on
	}
	if in.subject.Unordered {
		slices.Sort(got)
		want = slices.Sorted(slices.Values(want))
	}
	if i := firstDifference(got, want); i >= 0 {
		in.t.Fatalf("got %d events, want %d; first difference at %d: got %q, want %q", len(got), len(want), i, at(got, i), at(want, i))
	}
}

func firstDifference(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return "(nothing)"
}

func arrives(t testing.TB, s Subject) {
	in := Start(t, s, s.Keys(t), NewOutlet())
	want := s.Feed(t, in, s.bodies(0))
	in.expect(want)
	want = append(want, s.Feed(t, in, s.bodies(len(want)))...)
	in.expect(want)
	in.Close()
	in.expect(want)
}

func slow(t testing.TB, s Subject) {
	in := Start(t, s, s.Keys(t), NewOutlet())
	in.Out.Hold()
	fed := make(chan []string, 1)
	go func() { fed <- s.Feed(t, in, s.bodies(0)) }()
	var want []string
	suite.Eventually(t, "the feed ends although the channel is slow", func() bool {
		// Only what is released is stored: a feeder that waits for answers needs
		// many rounds.
		in.Out.Release()
		in.Out.Hold()
		select {
		case want = <-fed:
			return true
		default:
			return false
		}
	})
	in.Out.Release()
	in.expect(want)
	in.Close()
}

func full(t testing.TB, s Subject) {
	in := Start(t, s, s.Keys(t), NewOutlet())
	in.Out.FullEach(3)
	handed := s.Feed(t, in, s.bodies(0))
	suite.Eventually(t, "all that was acknowledged is stored", func() bool {
		got := in.Out.Bodies()
		for _, b := range handed {
			if !slices.Contains(got, b) {
				return false
			}
		}
		return true
	})
	in.Out.FullEach(0)
	in.Close()
}

func stops(t testing.TB, s Subject) {
	in := Start(t, s, s.Keys(t), NewOutlet())
	in.Out.Shut()
	fed := make(chan []string, 1)
	go func() { fed <- s.Feed(t, in, s.bodies(0)) }()
	time.Sleep(time.Millisecond) // lets some runs stop mid-way; either order must do
	in.Stop()
	in.Out.Open()
	if err := in.Source.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case <-fed:
	case <-time.After(suite.Deadline):
		t.Fatal("the feeder is still served after the source has closed")
	}
}

func reopens(t testing.TB, s Subject) {
	in := Start(t, s, s.Keys(t), NewOutlet())
	want := s.Feed(t, in, s.bodies(0))
	in.expect(want)
	in.Close()
	in.open()
	if s.Bodies == nil {
		want = append(want, s.Feed(t, in, s.bodies(len(want)))...)
		in.expect(want)
	}
	in.Close()
}

func closes(t testing.TB, s Subject) {
	out := NewOutlet()
	out.Close(core.ErrClosed) // before the source can put anything
	in := Start(t, s, s.Keys(t), out)
	fed := make(chan []string, 1)
	go func() { fed <- s.Feed(t, in, s.bodies(0)) }()
	time.Sleep(time.Millisecond)
	in.Stop()
	if err := in.Source.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	<-fed
	if n := in.Out.Len(); n != 0 {
		t.Errorf("%d events stored in a closed channel", n)
	}
}

func crash(t testing.TB, s Subject) {
	if !s.Replay {
		return
	}
	keys := s.Keys(t)
	out := NewOutlet()
	in := Start(t, s, keys, out)
	want := s.Feed(t, in, s.bodies(0))
	in.expect(want)
	out.Hold()
	want = append(want, s.Feed(t, in, s.bodies(len(want)))...)
	in.Kill()
	again := Start(t, s, keys, out)
	again.expect(want)
	want = append(want, s.Feed(t, again, s.bodies(len(want)))...)
	again.expect(want)
	again.Close()
	again.expect(want)
}
