package file

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// The machine stops at every operation in turn, and again after that, and each
// time the disk holds something else of what was not synced. At the end every
// event is in the files once, in order, and nothing that was published has changed.
func TestCrash(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"text":          {},
		"rolls":         {"sink.rollCount": "5"},
		"rolls by size": {"sink.rollSize": "40", "sink.inUseSuffix": ".tmp"},
		"published":     {"sink.rollCount": "4", "sink.inUseSuffix": ".tmp", "sink.commitInterval": "0"},
		"avro":          {"sink.serializer": "avro_event", "sink.rollCount": "9"},
		"bodies":        {"sink.serializer": "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder", "sink.inUseSuffix": ".tmp"},
		"roll time":     {"sink.pathManager": "ROLLTIME", "sink.rollCount": "6", "sink.inUseSuffix": "_"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 7
			}
			for at := 1; ; at += step {
				for mode := range vfs.CrashModes {
					more := crashes(t, keys, at, vfs.CrashMode(mode))
					if t.Failed() {
						t.Fatalf("crash at operation %d, mode %d", at, mode)
					}
					if !more {
						return
					}
				}
			}
		})
	}
}

const crashEvents = 40

// crashes runs a sink that crashes at operation at, then at a random one, then
// to the end. False: it came to its end before at.
func crashes(t *testing.T, keys map[string]string, at int, mode vfs.CrashMode) bool {
	w := &world{t: t, keys: keys, rng: rand.New(rand.NewPCG(uint64(at), uint64(mode))), mem: vfs.NewMem(), published: map[string]string{}}
	for i := range crashEvents {
		w.bodies = append(w.bodies, fmt.Sprintf("event-%02d", i))
	}
	w.acked = make([]bool, crashEvents)
	if !w.life(at, mode) {
		return false
	}
	if w.life(1+w.rng.IntN(20), mode) {
		w.life(0, mode)
	}
	w.check()
	return true
}

// world is what outlives a crash: a disk, and a channel that stores acks with their marks.
type world struct {
	t         *testing.T
	keys      map[string]string
	rng       *rand.Rand
	mem       *vfs.Mem
	bodies    []string
	acked     []bool
	marks     map[string]core.Mark
	lives     int
	published map[string]string
}

// life runs one sink; crash 0: to its good end. It reports whether it crashed.
func (w *world) life(crash int, mode vfs.CrashMode) bool {
	t := w.t
	fault := vfs.NewFault(w.mem)
	if crash > 0 {
		fault.Add(vfs.Rule{At: crash, Crash: true, Short: w.rng.IntN(2) == 0})
	}
	if w.rng.IntN(3) == 0 { // something fails before
		kind := []vfs.Kind{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate, vfs.OpTruncate, vfs.OpRename}[w.rng.IntN(6)]
		fault.Add(vfs.Rule{Kind: kind, At: 1 + w.rng.IntN(5), Times: 1 + w.rng.IntN(2), Short: kind != vfs.OpCreate && w.rng.IntN(2) == 0})
	}
	c := &channel{fault: fault, lazy: w.rng.IntN(2) == 0, acked: append([]bool(nil), w.acked...)}
	w.lives++
	keys := map[string]string{"sink.directory": "/out"}
	for k, v := range w.keys {
		keys[k] = v
	}
	s := Sink.New()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	now := time.UnixMilli(1382534100000 + int64(w.lives)*1000)
	env := core.Env{
		Name: "k", Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: new(metric.Group), FS: fault,
		Now: func() time.Time { return now }, Marks: w.marks,
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	crashed := func() bool {
		if fault.Crashed() {
			stop() // nobody waits for a channel that is dead
			return true
		}
		return false
	}
	err := s.Open(ctx, env)
	for i := 0; err != nil && !crashed() && i < 10; i++ {
		err = s.Open(ctx, env)
	}
	switch {
	case err != nil && !crashed():
		t.Fatal(err)
	case err == nil:
		w.deliver(ctx, s, c, crashed)
		_ = s.Close(ctx) // without effect after a crash
	}
	c.waiters.Wait()
	if !crashed() {
		c.store(len(c.log), w)
		for i, done := range w.acked {
			if !done {
				t.Fatalf("event %d is not acked at the end", i)
			}
		}
		return false
	}
	c.store(c.stored+w.rng.IntN(len(c.log)-c.stored+1), w)
	w.mem = w.mem.CrashClone(w.rng, mode)
	w.readPublished()
	return true
}

// bodySchema is the schema of the event with that body: of every five in turn another one.
func bodySchema(body string) string {
	var i int
	_, _ = fmt.Sscanf(body, "event-%d", &i) // it is one of ours
	return fmt.Sprintf(`{"type":"fixed","name":"E%d","size":8}`, i/5%2)
}

// avroBodies reports whether events have a schema each.
func (w *world) avroBodies() bool { return strings.HasPrefix(w.keys["sink.serializer"], "org.") }

func (w *world) headers(i int) core.Headers {
	if !w.avroBodies() {
		return core.Headers{}
	}
	return core.NewHeaders(core.Header{Key: "flume.avro.schema.literal", Value: bodySchema(w.bodies[i])})
}

// deliver hands over what is not acked, in order, with rollbacks put back in front.
func (w *world) deliver(ctx context.Context, s core.Sink, c *channel, crashed func() bool) {
	for round := 0; !crashed(); round++ {
		c.mu.Lock()
		if round == 1000 {
			w.t.Fatalf("it does not go on: %v", c.cause)
		}
		var pick []int
		most := 1 + w.rng.IntN(12)
		for i := range w.bodies {
			if !c.acked[i] && !c.leased(i) && len(pick) < most {
				pick = append(pick, i)
			}
		}
		c.mu.Unlock()
		if len(pick) == 0 {
			if err := s.Flush(ctx); err == nil {
				c.mu.Lock()
				left := len(c.out)
				c.mu.Unlock()
				if left == 0 {
					return
				}
			}
			continue
		}
		b := core.NewBatch()
		for _, i := range pick {
			b.Copy(w.headers(i), []byte(w.bodies[i]))
		}
		tx := &crashTx{c: c, b: b, pick: pick, left: len(pick)}
		c.mu.Lock()
		c.out = append(c.out, tx)
		c.mu.Unlock()
		s.Deliver(ctx, tx)
		if w.rng.IntN(4) == 0 {
			_ = s.Flush(ctx)
		}
	}
}

// channel keeps acks in memory until they are stored: at once, or a little later.
type channel struct {
	fault   *vfs.Fault
	lazy    bool
	waiters sync.WaitGroup

	mu     sync.Mutex
	acked  []bool
	out    []*crashTx
	log    []ack
	stored int // acks that are on disk
	cause  error
}

type ack struct {
	events []int
	marks  []core.Mark
}

func (c *channel) leased(i int) bool {
	for _, tx := range c.out {
		for _, p := range tx.pick {
			if p == i {
				return true
			}
		}
	}
	return false
}

// store applies the first n acks to the world.
func (c *channel) store(n int, w *world) {
	for _, a := range c.log[:n] {
		for _, i := range a.events {
			w.acked[i] = true
		}
		for _, m := range a.marks {
			w.marks = map[string]core.Mark{m.Stream: m}
		}
	}
}

type crashTx struct {
	c    *channel
	b    *core.Batch
	pick []int
	left int
}

func (x *crashTx) Batch() *core.Batch { return x.b }

func (x *crashTx) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	stored := make(chan struct{})
	if c.fault.Crashed() {
		return stored
	}
	a := ack{marks: m}
	if pick == nil {
		for i := range x.pick {
			pick = append(pick, int32(i))
		}
	}
	for _, i := range pick {
		if e := x.pick[i]; !c.acked[e] {
			c.acked[e] = true
			a.events = append(a.events, e)
			x.left--
		}
	}
	if x.left == 0 {
		x.end()
	}
	c.log = append(c.log, a)
	n := len(c.log)
	store := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.fault.Crashed() {
			c.stored = max(c.stored, n)
			close(stored)
		}
	}
	if c.lazy {
		c.waiters.Go(store)
	} else {
		c.stored = n
		close(stored)
	}
	return stored
}

func (x *crashTx) end() {
	for i, tx := range x.c.out {
		if tx == x {
			x.c.out = append(x.c.out[:i], x.c.out[i+1:]...)
		}
	}
}

func (x *crashTx) Rollback(cause error) {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	x.c.cause = cause
	x.end()
}

func (x *crashTx) Unpin() bool           { return false }
func (x *crashTx) Lost() <-chan struct{} { return nil }
func (x *crashTx) Refuse(int, error)     { panic("nothing is refused") }

// readPublished checks that what was published is as it was, and notes what is new.
func (w *world) readPublished() {
	suffix := w.keys["sink.inUseSuffix"]
	if suffix == "" {
		return
	}
	now := map[string]string{}
	if _, err := w.mem.Stat("/out"); err == nil {
		for _, f := range list(w.t, w.mem, "/out") {
			if !strings.HasSuffix(f.name, suffix) {
				now[f.name] = f.content
			}
		}
	}
	for name, content := range w.published {
		if now[name] != content {
			w.t.Errorf("published file %s was %q, is %q", name, content, now[name])
		}
	}
	w.published = now
}

func (w *world) check() {
	w.readPublished()
	var got []string
	most := w.keys["sink.rollCount"]
	for _, f := range list(w.t, w.mem, "/out") {
		var bodies []string
		switch {
		case w.avroBodies():
			file, err := formattest.DecodeBodies([]byte(f.content))
			if err != nil {
				w.t.Errorf("%s: %v", f.name, err)
			}
			bodies = file.Bodies
			for _, b := range bodies {
				if file.Meta["avro.schema"] != bodySchema(b) {
					w.t.Errorf("%s has %s", f.name, b)
				}
			}
		case w.keys["sink.serializer"] != "":
			file, err := formattest.Decode([]byte(f.content))
			if err != nil {
				w.t.Errorf("%s: %v", f.name, err)
			}
			for _, e := range file.Events {
				bodies = append(bodies, string(e.Body))
			}
		default:
			bodies = strings.Fields(f.content)
		}
		if n := len(got) + len(bodies); most != "" && n < crashEvents && fmt.Sprint(len(bodies)) != most {
			w.t.Errorf("%s has %d events, want %s", f.name, len(bodies), most)
		}
		got = append(got, bodies...)
	}
	if want := w.bodies; strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("in the files: %s", strings.Join(got, " "))
		for _, f := range list(w.t, w.mem, "/out") {
			w.t.Logf("%v", f)
		}
	}
}
