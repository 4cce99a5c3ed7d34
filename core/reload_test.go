package core_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

// feed is a stream source that a test drives: it sends what it is told, marked,
// and goes on from what is known of its stream.
type feed struct {
	s    *feeds
	port int
}

// feeds are what all feeds of a test have in common.
type feeds struct {
	stage
	mu     sync.Mutex
	total  int   // numbers to send so far
	closed int   // feeds that were closed
	bad    int   // port that cannot be opened
	ports  []int // that are open
}

func (f *feed) Keys(k *conf.Keys) {
	k.Int(&f.port, "port", 1, "Port.")
}

func (f *feed) Open(context.Context, core.Env) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.port == f.s.bad || slices.Contains(f.s.ports, f.port) {
		return errors.New("port is in use")
	}
	f.s.ports = append(f.s.ports, f.port)
	return nil
}

func (f *feed) Close() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.closed++
	f.s.ports = slices.DeleteFunc(f.s.ports, func(p int) bool { return p == f.port })
	return nil
}

func (f *feed) Run(ctx context.Context, out core.Outlet) error {
	pos, _ := out.Position("numbers")
	for ctx.Err() == nil {
		f.s.mu.Lock()
		total := f.s.total
		f.s.mu.Unlock()
		if int(pos) == total {
			pause(ctx)
			continue
		}
		b := core.NewBatch()
		b.Copy(core.Headers{}, fmt.Append(nil, pos))
		pos++
		b.Mark("numbers", pos)
		if err := out.Send(ctx, b, nil); err != nil {
			return err
		}
	}
	return nil
}

// pause yields until something else has run.
func pause(ctx context.Context) {
	if ctx.Err() == nil {
		runtime.Gosched()
	}
}

func (s *feeds) send(n int) {
	s.mu.Lock()
	s.total += n
	s.mu.Unlock()
}

func (s *feeds) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// has waits until exactly the first n numbers were delivered, each once.
func (s *feeds) has(t *testing.T, n int) {
	t.Helper()
	suite.Eventually(t, fmt.Sprint(n, " events are delivered"), func() bool { return len(s.bodies()) >= n })
	got := s.bodies()
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != n || len(got) != n {
		t.Errorf("%d events delivered, want %d once: %q", len(got), n, got)
	}
}

// picky is a sink that may refuse to open with a key.
type picky struct {
	collector
	mode string
}

func (p *picky) Keys(k *conf.Keys) {
	p.collector.Keys(k)
	k.String(&p.mode, "mode", "good", "Whether it opens.")
}

func (p *picky) Open(ctx context.Context, env core.Env) error {
	if p.mode == "bad" {
		return errors.New("no such host")
	}
	return p.collector.Open(ctx, env)
}

// stubborn is a channel that takes no new settings.
type stubborn struct{ core.Channel }

func (s *feeds) catalog() *core.Catalog {
	c := s.stage.catalog()
	for _, name := range []string{"feed", "food"} {
		c.Sources = append(c.Sources, core.Type[core.Source]{Name: name, New: func() core.Source { return &feed{s: s} }})
	}
	c.Sinks = append(c.Sinks, core.WriterType(core.Type[core.Writer]{Name: "picky", New: func() core.Writer { return &picky{collector: collector{&s.stage}} }}))
	memory := c.Channels[0]
	c.Channels = append(c.Channels, core.Type[core.Channel]{Name: "stubborn", New: func() core.Channel { return stubborn{memory.New()} }})
	return c
}

func (s *feeds) build(t *testing.T, text string) *conf.Agent {
	t.Helper()
	o := conf.FromText("agent.conf", text)
	loaded, faults := conf.Load(o)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	c, faults := loaded.Build("a1", s.catalog(), o)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	return c
}

const before = `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = feed
a1.sources.r.channels = c
a1.channels.c.type = memory
a1.sinks.k.type = picky
a1.sinks.k.channel = c
`

// second is another channel with a sink.
const second = "a1.channels.d.type = memory\na1.sinks.l.type = picky\na1.sinks.l.channel = d\n"

// Each difference touches what it must and nothing else; no event is lost or repeated.
//
// flume: TestAbstractConfigurationProvider testReusableChannel testUnspecifiedChannel
func TestReload(t *testing.T) {
	group := "a1.sinkgroups = g\na1.sinkgroups.g.sinks = k l\na1.sinkgroups.g.processor.type = failover\n" +
		"a1.sinkgroups.g.processor.priority.k = 2\na1.sinkgroups.g.processor.priority.l = 1\n"
	for _, c := range []struct {
		name, old, next                string
		added, removed, changed, fault string
		closed                         int // feeds
	}{
		{name: "nothing", next: "# a comment\n" + before},
		{name: "lines in another order", next: strings.Replace(before, "a1.sources = r\n", "", 1) + "a1.sources = r\n"},
		{name: "interceptors", next: before + "a1.sources.r.interceptors = i\na1.sources.r.interceptors.i.type = static\n", changed: "source r"},
		{name: "the selector", next: before + "a1.sources.r.selector.type = multiplexing\na1.sources.r.selector.header = x\na1.sources.r.selector.default = c\n", changed: "source r"},
		{name: "a source's key", next: before + "a1.sources.r.port = 2\n", changed: "source r", closed: 1},
		{name: "a source's name", next: strings.NewReplacer("sources.r.", "sources.q.", "sources = r", "sources = q").Replace(before), added: "source q", removed: "source r", closed: 1},
		{
			name: "a source that cannot open", next: before + "a1.sources.r.port = 666\n", changed: "source r", closed: 1,
			fault: "agent.conf:5: a1.sources.r: port is in use; the one before goes on",
		},
		{
			name: "a source of another type on the port of one that goes", old: before + "a1.sources.r.port = 2\n",
			next:  strings.NewReplacer("sources.r.", "sources.q.", "sources = r", "sources = q", "= feed", "= food").Replace(before) + "a1.sources.q.port = 2\n",
			added: "source q", removed: "source r", closed: 1,
		},
		{name: "a source more", next: strings.Replace(before, "sources = r", "sources = r q", 1) + "a1.sources.q.type = counter\na1.sources.q.total = 0\na1.sources.q.channels = c\n", added: "source q"},
		{name: "a channel's capacity", next: before + "a1.channels.c.capacity = 200\n", changed: "channel c"},
		{name: "the size of transactions", next: before + "a1.channels.c.transactionCapacity = 50\n", changed: "channel c, sink k, source r", closed: 1},
		{
			name: "a channel that is another", next: strings.Replace(before, "c.type = memory", "c.type = stubborn", 1),
			fault: "agent.conf:7: a1.channels.c.type: a channel cannot change its type (memory) while it works",
		},
		{
			name: "a channel that takes no settings", old: strings.Replace(before, "c.type = memory", "c.type = stubborn", 1),
			next:  strings.Replace(before, "c.type = memory", "c.type = stubborn\na1.channels.c.capacity = 200", 1),
			fault: "agent.conf:7: a1.channels.c: a channel of type stubborn takes no new settings while it works",
		},
		{
			name: "a channel of another name", next: strings.NewReplacer("channels.c.", "channels.d.", "= c\n", "= d\n").Replace(before),
			added: "channel d", removed: "channel c", changed: "sink k, source r",
		},
		{name: "a sink's key", next: before + "a1.sinks.k.batchSize = 5\n", changed: "sink k"},
		{name: "a sink's name", next: strings.NewReplacer("sinks.k.", "sinks.l.", "sinks = k", "sinks = l").Replace(before), added: "sink l", removed: "sink k"},
		{
			name: "a sink that cannot open", next: before + "a1.sinks.k.mode = bad\n", changed: "sink k",
			fault: "agent.conf:8: a1.sinks.k: no such host; the one before goes on",
		},
		{
			name: "two sinks to a group", old: before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\n",
			next: before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\n" + group, added: "sink group g", removed: "sink k, sink l",
		},
		{
			name: "a group's key", old: before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\n" + group,
			next: before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\n" + group + "a1.sinkgroups.g.processor.maxpenalty = 5\n", changed: "sink group g",
		},
		{
			name: "a group whose member cannot open", old: before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\n" + group,
			next:    before + "a1.sinks = k l\na1.sinks.l.type = picky\na1.sinks.l.channel = c\na1.sinks.l.mode = bad\n" + group,
			changed: "sink group g", fault: "a1.sinks.l: no such host; the one before goes on",
		},
		{name: "a dead letter channel", next: before + "a1.channels = c d\na1.channels.d.type = memory\na1.sinks.k.deadLetter = d\n", added: "channel d", changed: "sink k"},
		{name: "all of a flow more", next: before + second + "a1.channels = c d\na1.sinks = k l\n", added: "channel d, sink l"},
		{name: "all of a flow less", old: before + second + "a1.channels = c d\na1.sinks = k l\n", next: before, removed: "channel d, sink l"},
	} {
		t.Run(c.name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			t.Cleanup(func() { suite.NoLeaks(t, goroutines) })
			s := &feeds{bad: 666}
			if c.old == "" {
				c.old = before
			}
			a, stop := s.run(t, s.build(t, c.old))
			s.send(10)
			s.has(t, 10)
			suite.Eventually(t, "ready", func() bool { return a.Ready() == nil })
			got, faults := a.Reload(s.build(t, c.next))
			if text := fmt.Sprint(faults); c.fault == "" && len(faults) > 0 || !strings.Contains(text, c.fault) {
				t.Errorf("faults %v, want %s", faults, c.fault)
			}
			for what, lists := range map[string][2]string{
				"added": {strings.Join(got.Added, ", "), c.added}, "removed": {strings.Join(got.Removed, ", "), c.removed},
				"changed": {strings.Join(got.Changed, ", "), c.changed},
			} {
				if lists[0] != lists[1] {
					t.Errorf("%s: %s, want %s", what, lists[0], lists[1])
				}
			}
			if got.None() != (c.added+c.removed+c.changed == "") {
				t.Errorf("none differs: %v", got.None())
			}
			s.send(10)
			s.has(t, 20)
			suite.Eventually(t, "what was removed is gone", func() bool {
				st := a.Status()
				return !slices.ContainsFunc(st.Channels, func(c core.ChannelStatus) bool { return c.Removed })
			})
			s.set(func() {
				if s.closed != c.closed {
					t.Errorf("%d feeds were closed, want %d", s.closed, c.closed)
				}
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			s.has(t, 20)
		})
	}
}

// run runs an agent; stop ends it.
func (s *feeds) run(t *testing.T, c *conf.Agent, change ...func(*core.World)) (a *core.Agent, stop func() error) {
	t.Helper()
	w := world(change...)
	w.Catalog = s.catalog()
	a = core.NewAgent(c, w)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, context.Background()) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return within(t, ended)
	})
	t.Cleanup(func() { _ = stop() })
	return a, stop
}

// A channel that is removed is emptied first, as long as that takes: its sink cannot deliver for now.
func TestReloadEmptiesARemovedChannel(t *testing.T) {
	s := &feeds{}
	s.down = true
	a, stop := s.run(t, s.build(t, before))
	s.send(10)
	suite.Eventually(t, "the events wait", func() bool { return a.Ready() == nil && a.Status().Channels[0].Events == 10 })
	moved := strings.NewReplacer("channels.c.", "channels.d.", "= c\n", "= d\n").Replace(before)
	if _, faults := a.Reload(s.build(t, moved)); len(faults) > 0 {
		t.Fatal(faults)
	}
	s.send(10)
	suite.Eventually(t, "the old channel is being emptied beside the new one", func() bool {
		st := a.Status()
		return len(st.Channels) == 2 && st.Channels[0].Events == 10 && st.Channels[1].Removed && st.Channels[1].Events == 10
	})
	// It may come back with all that it holds.
	if _, faults := a.Reload(s.build(t, before)); len(faults) > 0 {
		t.Fatal(faults)
	}
	s.stage.mu.Lock()
	s.down = false
	s.stage.mu.Unlock()
	s.has(t, 20)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if left := a.Left(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// A source that sent more than is delivered is replaced when it is; the reload
// does not wait for that longer than it has to when the agent stops.
//
// flume: TestApplication testFLUME2786
func TestReloadStops(t *testing.T) {
	s := &feeds{}
	s.down = true
	a, stop := s.run(t, s.build(t, before), func(w *core.World) { w.DrainTimeout = 0 })
	s.send(10)
	suite.Eventually(t, "the events wait", func() bool { return a.Ready() == nil && a.Status().Channels[0].Events == 10 })
	done := make(chan core.Changes)
	go func() {
		changes, _ := a.Reload(s.build(t, before+"a1.sources.r.port = 2\n"))
		done <- changes
	}()
	suite.Eventually(t, "the new source waits", func() bool { return a.Status().Sources[0].State == "waiting" })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, faults := a.Reload(s.build(t, before)); !strings.Contains(fmt.Sprint(faults), "the agent is stopping") {
		t.Errorf("faults %v", faults)
	}
	if left := a.Left(); len(left) != 1 || left[0].Events != 10 {
		t.Errorf("left %v", left)
	}
}
