package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// runAgent runs a configuration until stop. addr is that of its http source.
func runAgent(t *testing.T, text string, drain time.Duration) (a *core.Agent, addr string, stop func()) {
	t.Helper()
	o := conf.FromText("agent.conf", text)
	loaded, faults := conf.Load(o)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	cfg, faults := loaded.Build("a1", &core.Catalog{
		Sources: []core.Type[core.Source]{Source}, Channels: []core.Type[core.Channel]{memory.Channel},
		Sinks: []core.Type[core.Sink]{Sink}, Selectors: []core.Type[core.Selector]{selector.Replicating},
	}, o)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	listening := make(chan string, 1)
	a = core.NewAgent(cfg, core.World{
		Log: slog.New(slog.DiscardHandler), FS: vfs.OS(), Now: time.Now, ListenPacket: net.ListenPacket, DrainTimeout: drain,
		Listen: func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err == nil {
				listening <- l.Addr().String()
			}
			return l, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, context.Background()) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(suite.Deadline):
			t.Fatal("the agent does not end")
		}
	}
	select {
	case addr = <-listening:
	case <-time.After(suite.Deadline):
		t.Fatal("the agent does not listen")
	}
	return a, addr, stop
}

const relay = `
a1.sources = r
a1.channels = c dead
a1.sinks = k d
a1.sources.r.type = http
a1.sources.r.channels = c
a1.sources.r.bind = 127.0.0.1
a1.sources.r.port = 0
a1.channels.c.type = memory
a1.channels.dead.type = memory
a1.sinks.k.type = http
a1.sinks.k.channel = c
a1.sinks.k.deadLetter = dead
a1.sinks.d.type = org.apache.flume.sink.http.HttpSink
a1.sinks.d.channel = dead
`

// put posts events to a source until it takes them.
func put(t *testing.T, addr string, bodies ...string) {
	t.Helper()
	var events []map[string]string
	for _, b := range bodies {
		events = append(events, map[string]string{"body": b})
	}
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	c := client()
	defer c.CloseIdleConnections()
	suite.Eventually(t, "the source takes events", func() bool {
		r, err := c.Post("http://"+addr, "application/json", bytes.NewReader(text))
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		return r.StatusCode == 200
	})
}

// Source, channel, sink and dead letter channel: the poison event is put aside
// with its reason, and the rest arrives, though the far end fails at first.
func TestPoisonToDeadLetter(t *testing.T) {
	poison := func(body string) (int, string) {
		if strings.Contains(body, "poison") {
			return 400, "mapper_parsing_exception"
		}
		return 201, ""
	}
	for _, format := range []string{formatBulk, formatLines} {
		t.Run(format, func(t *testing.T) {
			failures := 2
			f := newFarEnd(t, func(w http.ResponseWriter, g got) []string {
				switch {
				case failures > 0: // one request at a time
					failures--
					w.WriteHeader(503)
					return nil
				case format == formatLines && strings.Contains(g.body, "poison"):
					w.WriteHeader(400)
					return nil
				case format == formatLines:
					return takers[format](w, g)
				}
				return (&elastic{item: poison}).bulk(w, g)
			})
			f.Start()
			dead := start(t, nil)
			a, addr, stop := runAgent(t, relay+fmt.Sprintf(`
a1.sinks.k.endpoint = %s/logs/_bulk
a1.sinks.k.format = %s
a1.sinks.k.batchSize = 50
a1.sinks.k.incrementMetrics.2XX = false
a1.sinks.d.endpoint = http://%s/
a1.sinks.d.format = flume_json
`, f.URL, format, dead.addr), suite.Deadline)
			bodies := suite.Bodies(0, 100)
			bodies[42] = "poison"
			put(t, addr, bodies...)
			suite.Eventually(t, "delivery", func() bool { return len(f.seen()) == 99 && dead.Len() == 1 })
			stop()
			if got := f.seen(); !slices.Equal(got, slices.Delete(bodies, 42, 43)) {
				t.Errorf("%q", got)
			}
			e := dead.Events()[0]
			if why := e.Headers.Value(core.DeadLetterReason); string(e.Body) != "poison" || !strings.Contains(why, "400") || e.Headers.Value(core.DeadLetterSink) != "k" {
				t.Errorf("dead letter %q: %s", e.Body, why)
			}
			for _, g := range a.Cells() {
				want := map[string]int64{"k": 0, "d": 1}[g.Name] // k's are not to be counted
				if n := g.EventDrainSuccess.Load(); g.Name != "r" && n != want {
					t.Errorf("sink %s: EventDrainSuccess %d, want %d", g.Name, n, want)
				}
			}
		})
	}
}

// An agent ends in time though its far end hangs; what is not delivered is left in the channel.
func TestStopWhileFarEndHangs(t *testing.T) {
	f := newFarEnd(t, nil)
	f.tell(f.hang)
	f.Start()
	for _, concurrency := range []string{"1", "3"} {
		a, addr, stop := runAgent(t, relay+fmt.Sprintf(`
a1.sinks.k.endpoint = %s
a1.sinks.k.concurrency = %s
a1.sinks.k.requestTimeout = 1h
a1.sinks.d.endpoint = %[1]s
`, f.URL, concurrency), 50*time.Millisecond)
		put(t, addr, "one", "two", "three", "four")
		suite.Eventually(t, "a request", func() bool { return len(f.requests()) > 0 })
		stop()
		if left := a.Left(); len(left) != 1 || left[0].Channel != "c" || left[0].Events != 4 {
			t.Errorf("left %+v", left)
		}
	}
}

// With batchTimeout a request waits for its batch to fill; the order to stop ends the wait.
func TestBatchTimeout(t *testing.T) {
	f := newFarEnd(t, takers[formatLines])
	f.Start()
	in := strings.NewReplacer("FAR", f.URL).Replace(`
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = http
a1.sources.r.channels = c
a1.sources.r.bind = 127.0.0.1
a1.sources.r.port = 0
a1.channels.c.type = memory
a1.sinks.k.type = http
a1.sinks.k.channel = c
a1.sinks.k.endpoint = FAR/logs
a1.sinks.k.format = lines
a1.sinks.k.batchSize = 4
a1.sinks.k.batchTimeout = 1h
`)
	_, addr, stop := runAgent(t, in, suite.Deadline)
	for _, body := range suite.Bodies(0, 6) {
		res, err := http.Post("http://"+addr, "text/plain", strings.NewReader(body))
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
	}
	suite.Eventually(t, "the first four are sent", func() bool { return len(f.seen()) == 4 })
	stop()
	var sizes []int
	for _, r := range f.requests() {
		sizes = append(sizes, strings.Count(r.body, "\n"))
	}
	if !slices.Equal(sizes, []int{4, 2}) || !slices.Equal(f.seen(), suite.Bodies(0, 6)) {
		t.Errorf("requests of %v events: %q", sizes, f.seen())
	}
}
