package tail

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/vfs"
)

// collector is a sink that keeps bodies.
type collector struct {
	mu     sync.Mutex
	bodies []string
	stuck  bool
}

func (c *collector) Keys(k *conf.Keys) {
	var n int
	k.Batch(&n, "batchSize", 100, "Events.")
}

func (c *collector) Open(context.Context, core.Env) error { return nil }
func (c *collector) Close(context.Context) error          { return nil }

func (c *collector) Write(_ context.Context, b *core.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck {
		return fmt.Errorf("far end is down")
	}
	for _, e := range b.Events {
		c.bodies = append(c.bodies, string(e.Body))
	}
	return nil
}

func (c *collector) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bodies)
}

// startAgent runs taildir, memory channel and collector; stop ends it.
func startAgent(t *testing.T, r *rig, c *collector, drain time.Duration) (stop func()) {
	t.Helper()
	var text strings.Builder
	for k, v := range r.keys {
		fmt.Fprintf(&text, "a1.sources.r.%s = %s\n", k, strings.ReplaceAll(v, `\`, `\\`))
	}
	text.WriteString(`
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = TAILDIR
a1.sources.r.channels = c
a1.channels.c.type = memory
a1.channels.c.capacity = 1000
a1.sinks.k.type = collector
a1.sinks.k.channel = c
`)
	o := conf.FromText("agent.conf", text.String())
	loaded, faults := conf.Load(o)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	cfg, faults := loaded.Build("a1", &core.Catalog{
		Sources:   []core.Type[core.Source]{Source},
		Channels:  []core.Type[core.Channel]{memory.Channel},
		Sinks:     []core.Type[core.Sink]{core.WriterType(core.Type[core.Writer]{Name: "collector", New: func() core.Writer { return c }})},
		Selectors: []core.Type[core.Selector]{selector.Replicating},
	}, o)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	a := core.NewAgent(cfg, core.World{
		Log: slog.New(slog.NewTextHandler(r.logs, nil)), FS: vfs.OS(), Now: time.Now,
		Listen: net.Listen, ListenPacket: net.ListenPacket, DrainTimeout: drain,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, context.Background()) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(deadline):
			t.Fatal("the agent does not end")
		}
	}
}

// When it is told to stop, the source reads on until its files are at rest.
func TestDrain(t *testing.T) {
	r := newRig(t, `.*\.log`)
	var text strings.Builder
	for i := range 50000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	r.write("a.log", text.String())
	c := new(collector)
	stop := startAgent(t, r, c, 2*deadline)
	r.wait("the first event", func() bool { return c.len() > 0 })
	r.write("b.log", "last words\n")
	stop()
	if n := c.len(); n != 50001 {
		t.Errorf("%d events delivered", n)
	}
	if got := r.positions(); !strings.Contains(got, fmt.Sprintf(`"pos":%d`, text.Len())) {
		t.Error(got)
	}
}

// Positions never go past what was delivered, although the channel keeps events in memory only.
func TestMemoryChannelLosesNothing(t *testing.T) {
	r := newRig(t, `.*\.log`)
	c := &collector{stuck: true}
	r.write("a.log", "1\n2\n3\n")
	stop := startAgent(t, r, c, time.Millisecond)
	r.wait("positions are kept", func() bool { _, err := os.Stat(r.keys["positionFile"]); return err == nil })
	stop()
	if got := r.positions(); !strings.Contains(got, `"pos":0`) {
		t.Error(got)
	}
	c.stuck = false
	stop = startAgent(t, r, c, deadline)
	r.wait("all of it", func() bool { return c.len() == 3 })
	stop()
}

// The state directory of the agent is where positions go by default, and
// Flume's own default place is read once.
func TestDefaultPositionFile(t *testing.T) {
	home, state := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	s := new(source)
	path, _, err := s.positions(core.Env{Name: "r1"})
	if want := filepath.Join(home, ".flume", "taildir_position.json"); err != nil || path != want {
		t.Errorf("got %s, %v, want %s", path, err, want)
	}
	path, old, err := s.positions(core.Env{Name: "r1", Dir: state})
	if want := filepath.Join(state, "r1", "taildir_position.json"); err != nil || path != want {
		t.Errorf("got %s, %v, want %s", path, err, want)
	}
	if err := os.MkdirAll(filepath.Dir(old), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, []byte(`[{"inode":1,"pos":2,"file":"/x"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &book{fs: vfs.OS(), path: path}
	records, err := b.load(slog.New(slog.DiscardHandler), old)
	if err != nil || len(records) != 1 || records[0].pos != 2 {
		t.Errorf("got %v, %v", records, err)
	}
}
