package core_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/interceptor"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/sinkgroup"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// stage is what the components of a test share.
type stage struct {
	mu       sync.Mutex
	got      []string
	headers  []core.Headers
	opened   []string // "open x", "run x", "close x"
	sinkErr  error
	runs     int
	failures int    // runs that fail
	refuse   string // body the far end never takes
	down     bool
	openErr  error
}

func (s *stage) note(what string) {
	s.mu.Lock()
	s.opened = append(s.opened, what)
	s.mu.Unlock()
}

// counter puts total events, then waits.
type counter struct {
	s     *stage
	total int
}

func (c *counter) Keys(k *conf.Keys) { k.Int(&c.total, "total", 10, "Events.") }
func (c *counter) Open(context.Context, core.Env) error {
	c.s.note("open source")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.openErr
}

func (c *counter) Close() error {
	c.s.note("close source")
	return nil
}

func (c *counter) Run(ctx context.Context, out core.Outlet) error {
	c.s.mu.Lock()
	c.s.runs++
	fail := c.s.runs <= c.s.failures
	c.s.mu.Unlock()
	if fail {
		return errors.New("not today")
	}
	for i := range c.total {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte(fmt.Sprint("event ", i)))
		if err := out.Put(ctx, b); err != nil {
			return err
		}
	}
	<-ctx.Done()
	c.s.note("stop source")
	return nil
}

// collector is a far end in memory.
type collector struct{ s *stage }

func (c *collector) Keys(k *conf.Keys) {
	var n int
	k.Batch(&n, "batchSize", 3, "Events.")
}

func (c *collector) Open(context.Context, core.Env) error {
	c.s.note("open sink")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.sinkErr
}

func (c *collector) Close(context.Context) error {
	c.s.note("close sink")
	return nil
}

func (c *collector) Write(_ context.Context, b *core.Batch) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.down {
		return errors.New("far end is down")
	}
	refused := core.EventErrors{}
	for i, e := range b.Events {
		if c.s.refuse != "" && string(e.Body) == c.s.refuse {
			refused[i] = errors.New("never")
			continue
		}
		c.s.got = append(c.s.got, string(e.Body))
		c.s.headers = append(c.s.headers, e.Headers)
	}
	if len(refused) > 0 {
		return refused
	}
	return nil
}

func (s *stage) catalog() *core.Catalog {
	return &core.Catalog{
		Sources:      []core.Type[core.Source]{{Name: "counter", New: func() core.Source { return &counter{s: s} }}},
		Channels:     []core.Type[core.Channel]{memory.Channel},
		Sinks:        []core.Type[core.Sink]{core.WriterType(core.Type[core.Writer]{Name: "collector", New: func() core.Writer { return &collector{s} }})},
		Selectors:    []core.Type[core.Selector]{selector.Replicating, selector.Multiplexing},
		Processors:   []core.Type[core.SinkProcessor]{sinkgroup.Default, sinkgroup.Failover},
		Interceptors: []core.Type[core.Interceptor]{interceptor.Static},
	}
}

// start runs text's agent a1; stop ends it and returns what Run returned.
func (s *stage) start(t *testing.T, text string, change ...func(*core.World)) (a *core.Agent, stop func() error) {
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
	w := world(change...)
	a = core.NewAgent(c, w)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, context.Background()) }()
	return a, func() error {
		cancel()
		return within(t, ended)
	}
}

func world(change ...func(*core.World)) core.World {
	w := core.World{
		Log: slog.New(slog.DiscardHandler), FS: vfs.OS(), Now: time.Now,
		Listen: net.Listen, ListenPacket: net.ListenPacket, DrainTimeout: suite.Deadline,
	}
	for _, f := range change {
		f(&w)
	}
	return w
}

func within(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(2 * suite.Deadline):
		t.Fatal("the agent does not end")
		return nil
	}
}

func (s *stage) bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

const line = `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = counter
a1.sources.r.channels = c
a1.channels.c.type = memory
a1.sinks.k.type = collector
a1.sinks.k.channel = c
`

// flume: TestPollableSourceRunner testLifecycle
// flume: TestExecSource testMonitoredCounterGroup
// flume: TestApplication testBasicConfiguration
// flume: TestLifecycleSupervisor testSuperviseBroken testStopServce
func TestAgentLife(t *testing.T) {
	s := &stage{failures: 1}
	a, stop := s.start(t, line+"a1.sources.r.interceptors = i\na1.sources.r.interceptors.i.type = static\n")
	suite.Eventually(t, "ten events are delivered although the first run failed", func() bool { return len(s.bodies()) == 10 })
	suite.Eventually(t, "the agent is ready", func() bool { return a.Ready() == nil })
	st := a.Status()
	if len(st.Sources) != 1 || st.Sources[0].State != "running" || st.Sources[0].Restarts != 1 || st.Sources[0].Accepted != 10 {
		t.Errorf("status %+v", st.Sources)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if a.Ready() == nil {
		t.Error("ready after the end")
	}
	if v := s.headers[0].Value("key"); v != "value" {
		t.Errorf("interceptor's header %q", v)
	}
	want := []string{"open sink", "open source", "close source", "open source", "stop source", "close sink", "close source"}
	if !slices.Equal(s.opened, want) {
		t.Errorf("life %q, want %q", s.opened, want)
	}
}

// What is in the channel when the order to stop comes is delivered first.
func TestAgentDrains(t *testing.T) {
	s := &stage{down: true}
	a, stop := s.start(t, line)
	suite.Eventually(t, "all events wait in the channel", func() bool {
		st := a.Status()
		return len(st.Channels) == 1 && st.Channels[0].Events == 10
	})
	s.mu.Lock()
	s.down = false
	s.mu.Unlock()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.bodies()); n != 10 || len(a.Left()) != 0 {
		t.Errorf("%d events delivered, left %v", n, a.Left())
	}
}

func TestAgentDoesNotStartHalf(t *testing.T) {
	s := &stage{openErr: errors.New("port is in use")}
	_, stop := s.start(t, line)
	err := stop()
	if err == nil || !strings.Contains(err.Error(), "source r (counter): port is in use") {
		t.Errorf("got %v", err)
	}
	if want := []string{"open sink", "open source", "close sink"}; !slices.Equal(s.opened, want) {
		t.Errorf("life %q, want %q", s.opened, want)
	}
}

// As Flume does when it is asked to: what cannot open is tried again, and holds back nothing else.
//
// flume: TestBasicSourceSemantics testDoConfigureThrowsException testDoStartThrowsException
func TestAgentTriesToOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{openErr: errors.New("port is in use"), sinkErr: errors.New("no directory")}
		a, stop := s.start(t, line, func(w *core.World) { w.RetryOpen = true })
		synctest.Wait()
		if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "port is in use") {
			t.Errorf("ready: %v", err)
		}
		s.mu.Lock()
		s.openErr, s.sinkErr = nil, nil
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(s.bodies()); n != 10 || a.Ready() != nil {
			t.Errorf("%d events delivered, ready: %v", n, a.Ready())
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A refused event goes to the dead letter channel with its reason; the rest is delivered.
func TestDeadLetter(t *testing.T) {
	s := &stage{refuse: "event 4"}
	a, stop := s.start(t, line+"a1.sinks.k.deadLetter = dead\na1.channels = c dead\na1.channels.dead.type = memory\n")
	suite.Eventually(t, "nine events are delivered", func() bool { return len(s.bodies()) == 9 })
	suite.Eventually(t, "one is in the dead letter channel", func() bool {
		for _, ch := range a.Status().Channels {
			if ch.Name == "dead" {
				return ch.Events == 1
			}
		}
		return false
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if left := a.Left(); len(left) != 1 || left[0].Channel != "dead" || left[0].Kept {
		t.Errorf("left %+v", left)
	}
}

// The dead letter channel is full: the refused event stays where it is, the rest is delivered.
func TestDeadLetterFull(t *testing.T) {
	ch, dead := mem(t, "capacity", "10", "transactionCapacity", "10"), mem(t, "capacity", "2")
	p := replicate(t, dead)
	if err := p.Put(context.Background(), batchOf("x", "y")); err != nil {
		t.Fatal(err)
	}
	s := &stage{refuse: "b"}
	r := &core.SinkRunner{
		Name: "k", Log: slog.New(slog.DiscardHandler), Channel: ch, Dead: dead,
		Sink: core.WriterSink(&collector{s}), Take: core.Take{Events: 10},
	}
	work, stop := context.WithCancel(context.Background())
	drain, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(work, drain) })
	if err := replicate(t, ch).Put(context.Background(), batchOf("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "the others are delivered", func() bool { return slices.Equal(s.bodies(), []string{"a", "c"}) })
	suite.Eventually(t, "the refused one stays", func() bool { return ch.Len().Events == 1 })
	drainAll(t, dead.Channel)
	suite.Eventually(t, "it goes when there is room", func() bool { return dead.Len().Events == 1 && ch.Len().Events == 0 })
	stop()
	wg.Wait()
	end()
	if got := drainAll(t, dead.Channel); !slices.Equal(got, []string{"b"}) {
		t.Errorf("dead letters %q", got)
	}
}
