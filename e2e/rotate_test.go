//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// feeder sends numbered lines to an rsyslog at a steady pace. When rsyslog is
// down it connects again and goes on with the next line: what was on its way
// then is rsyslog's loss, not ours.
type feeder struct {
	next atomic.Int64 // lines made
	stop chan struct{}
	done chan struct{}
}

const (
	feedEvery = 5 * time.Millisecond
	feedLines = 8 // each time
)

func feed(port string) *feeder {
	f := &feeder{stop: make(chan struct{}), done: make(chan struct{})}
	go f.run("127.0.0.1:" + port)
	return f
}

func (f *feeder) run(addr string) {
	defer close(f.done)
	every := time.NewTicker(feedEvery)
	defer every.Stop()
	var c net.Conn
	var b bytes.Buffer
	for {
		select {
		case <-f.stop:
			if c != nil {
				c.Close()
			}
			return
		case <-every.C:
		}
		if c == nil {
			c, _ = net.DialTimeout("tcp", addr, time.Second)
			if c == nil {
				continue // it is down: the next tick tries again
			}
		}
		b.Reset()
		for range feedLines {
			fmt.Fprintf(&b, "<13>Feb  3 04:05:06 web-1 app: %s\n", line("app", int(f.next.Add(1))))
		}
		if _, err := c.Write(b.Bytes()); err != nil {
			c.Close()
			c = nil
		}
	}
}

func (f *feeder) end() int {
	close(f.stop)
	<-f.done
	return int(f.next.Load())
}

// more waits until n more lines were sent.
func (f *feeder) more(t *testing.T, n int) {
	t.Helper()
	want := f.next.Load() + int64(n)
	eventually(t, "lines sent", func() bool { return f.next.Load() >= want })
}

// ordeal is what happens while lines flow, in an order that a seed decides.
type ordeal struct {
	rotations, stops, kills     int // of the agent
	daemonRestarts, daemonKills int
}

// plan spreads everything. Of all ways to take the agent down, the next step
// but some takes it up again, so that there are rotations meanwhile.
func (o ordeal) plan(r *rand.Rand) (steps []string) {
	for what, n := range map[string]int{"rotate": o.rotations, "stop": o.stops, "kill": o.kills, "restart rsyslog": o.daemonRestarts, "kill rsyslog": o.daemonKills} {
		for range n {
			steps = append(steps, what)
		}
	}
	slices.Sort(steps) // the map has no order: the seed alone decides
	r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	return steps
}

type rotation struct {
	t      *testing.T
	name   string // of rsyslog and of the logrotate configuration
	port   string
	log    string
	out    string
	agent  *agent
	feeder *feeder
	rand   *rand.Rand
	before func() // the agent is taken down

	one bool // the agent looks for app.log alone: it must see every other rotation
}

// newRotation starts rsyslog, which writes a log, and the agent, which follows it.
func newRotation(t *testing.T, name, mode string, v vars) *rotation {
	dir := workDir(t)
	r := &rotation{t: t, name: name, port: port(t), log: filepath.Join(dir, "log/app.log"), out: filepath.Join(dir, "out"), before: func() {}}
	seed := uint64(1)
	if text := os.Getenv("MILLRACE_E2E_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("MILLRACE_E2E_SEED=%d", seed)
	r.rand = rand.New(rand.NewPCG(seed, 0))
	daemon(t, nil, "rsyslog.sh", "file", name, r.port, r.log)
	args := []string{"write", name, mode, r.log}
	if mode == "create" {
		args = append(args, name)
	}
	service(t, vars{"LOGROTATE_KEEP": "10000"}, "logrotate.sh", args...)
	// A writer that never rests is followed until half of the drain time is over.
	r.agent = newAgent(t, dir, "rotate.conf", v, "--drain-timeout", "2s").start()
	r.feeder = feed(r.port)
	return r
}

func (r *rotation) rotate() { r.t.Helper(); service(r.t, nil, "logrotate.sh", "run", r.name) }
func (r *rotation) rsyslog() {
	r.t.Helper()
	service(r.t, nil, "rsyslog.sh", "file", r.name, r.port, r.log)
}

// endure does all that o says.
func (r *rotation) endure(o ordeal) {
	r.t.Helper()
	for i, step := range o.plan(r.rand) {
		r.feeder.more(r.t, 50+r.rand.IntN(400))
		down := r.agent.cmd == nil
		if down && (step == "stop" || step == "kill" || r.rand.IntN(3) == 0) {
			r.up()
		}
		switch step {
		case "rotate":
			if r.one {
				r.catchUp()
			}
			r.rotate()
		case "stop":
			r.agent.ready() // before that SIGTERM may find no handler yet
			r.before()
			r.agent.stop()
		case "kill":
			r.before()
			r.agent.kill9()
		case "restart rsyslog":
			service(r.t, nil, "rsyslog.sh", "stop", r.name)
			r.rsyslog()
		case "kill rsyslog":
			service(r.t, nil, "rsyslog.sh", "kill9", r.name)
			r.rsyslog()
		}
		r.t.Logf("%2d. %s (agent down before: %v, %d lines sent)", i+1, step, down, r.feeder.next.Load())
	}
}

// catchUp waits until everything but the newest file is delivered.
func (r *rotation) catchUp() {
	r.t.Helper()
	files := generations(r.t, r.log)
	old := 0
	for _, f := range files[:len(files)-1] {
		old += len(linesOf(r.t, f))
	}
	if countRolled(r.out) >= old {
		return
	}
	if r.agent.cmd == nil {
		r.agent.spawn()
	}
	eventually(r.t, "old files delivered", func() bool { return countRolled(r.out) >= old })
}

// up starts the agent; one time in two what comes next comes before it is ready.
func (r *rotation) up() {
	r.t.Helper()
	r.agent.spawn()
	if r.rand.IntN(2) == 0 {
		r.agent.ready()
	}
}

// settle stops the writer, lets the agent deliver everything and stops it.
// It returns how many lines were sent.
func (r *rotation) settle(delivered func() bool) int {
	r.t.Helper()
	sent := r.feeder.end()
	service(r.t, nil, "rsyslog.sh", "stop", r.name) // which writes what it still has
	if r.agent.cmd == nil {
		r.agent.spawn()
	}
	r.agent.ready()
	wait(r.t, delivered)
	r.before()
	r.agent.stop()
	return sent
}

// wait waits for ok, in vain if need be: what is missing then is told by the caller.
func wait(t *testing.T, ok func() bool) {
	t.Helper()
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(patience / 2); !ok() && time.Now().Before(end); <-every.C {
	}
}

// TestRotateCreate is the main job: rsyslog writes a log, logrotate moves it
// away and makes a new one, everything is restarted and killed, and every line
// that is in the log files is in the output: in order, once.
func TestRotateCreate(t *testing.T) {
	t.Run("all names", func(t *testing.T) {
		r := newRotation(t, "create", "create", nil)
		rotateCreate(r, ordeal{rotations: pick(10, 60), stops: pick(4, 20), kills: pick(4, 30), daemonRestarts: pick(1, 4), daemonKills: pick(1, 6)})
	})
	// As most configurations have it. What was moved away is found by its inode.
	t.Run("one name", func(t *testing.T) {
		r := newRotation(t, "create-one", "create", vars{"E2E_FILES": `app\.log`})
		r.one = true
		rotateCreate(r, ordeal{rotations: pick(6, 40), stops: pick(2, 15), kills: pick(3, 20)})
	})
}

func rotateCreate(r *rotation, o ordeal) {
	t := r.t
	r.endure(o)
	var truth []string
	sent := r.settle(func() bool {
		truth = rotated(t, r.log)
		return countRolled(r.out) >= len(truth)
	})
	t.Logf("%d lines sent, %d in %d log files", sent, len(truth), len(generations(t, r.log)))
	if len(truth) < sent/2 {
		t.Errorf("rsyslog wrote %d lines of %d: this test shows little", len(truth), sent)
	}
	same(t, "lines delivered", truth, rolled(t, r.out))
}

// TestRotateCopyTruncate: the same where logrotate copies the log and truncates
// it. Lines that are written between the two are in no file: they are lost
// unless the agent was faster. Nothing else may be lost, nothing come twice,
// and what the agent says is lost is no more than what is. Lines of one
// generation of the log come in order; that the rest of a copy comes before the
// first lines of the truncated log is not promised.
func TestRotateCopyTruncate(t *testing.T) {
	r := newRotation(t, "copytruncate", "copytruncate", nil)
	var said float64
	r.before = func() { said += r.agent.metric("millrace_source_bytes_lost_total") } // a life's counter ends with it
	r.endure(ordeal{rotations: pick(10, 60), stops: pick(3, 15), kills: pick(3, 20)})
	sent := r.settle(func() bool {
		return r.agent.metric("millrace_source_bytes_behind") == 0 && r.agent.metric("millrace_channel_events") == 0
	})
	got, truth := rolled(t, r.out), rotated(t, r.log)
	var first []int // number of the first line of each generation
	for _, f := range generations(t, r.log) {
		if all := linesOf(t, f); len(all) > 0 {
			_, n, _ := read(all[0])
			first = append(first, n)
		}
	}

	seen := make(map[int]bool, len(got))
	var twice, late, foreign, missing []string
	last := make(map[int]int) // line of a generation
	for _, l := range got {
		_, n, ok := read(l)
		gen := sort.SearchInts(first, n+1)
		switch {
		case !ok:
			// The copy may have been made while a line was being written.
			if !slices.Contains(truth, l) {
				foreign = append(foreign, l)
			}
			continue
		case seen[n]:
			twice = append(twice, l)
		case n < last[gen]:
			late = append(late, l)
		}
		seen[n], last[gen] = true, n
	}
	for _, l := range truth {
		if _, n, ok := read(l); ok && !seen[n] {
			missing = append(missing, l)
		}
	}
	none(t, "lines that are in no log file", foreign)
	none(t, "lines delivered again", twice)
	none(t, "lines delivered after a later one of the same generation", late)
	none(t, "lines of the log files that were not delivered", missing)

	var lost, runs int
	for n := 1; n <= sent; n++ {
		if !seen[n] {
			lost += len(line("app", n)) + 1
			if n == 1 || seen[n-1] {
				runs++
			}
		}
	}
	t.Logf("%d lines sent, %d in %d log files, %d delivered; %d bytes lost in %d places; the agent said at least %.0f",
		sent, len(truth), len(generations(t, r.log)), len(got), lost, runs, said)
	if rotations := len(generations(t, r.log)) - 1; runs > rotations {
		t.Errorf("lines are missing in %d places, there were %d rotations", runs, rotations)
	}
	if said > float64(lost) {
		t.Errorf("the agent said that at least %.0f bytes were lost: it were %d", said, lost)
	}
}

// TestCopyTruncateStepByStep takes the two steps of copytruncate one at a time,
// so that the agent is surely where it seldom is in TestRotateCopyTruncate.
func TestCopyTruncateStepByStep(t *testing.T) {
	all := lines("app", 1000)
	start := func(t *testing.T) (*rotation, func(from, to int), func(n int)) {
		dir := workDir(t)
		r := &rotation{t: t, log: filepath.Join(dir, "log/app.log"), out: filepath.Join(dir, "out")}
		r.agent = newAgent(t, dir, "rotate.conf", nil)
		return r, func(from, to int) { appendTo(t, r.log, joined(all[from:to])) },
			func(n int) {
				t.Helper()
				wait(t, func() bool { return countRolled(r.out) >= n })
			}
	}
	copyLog := func(t *testing.T, r *rotation) {
		text, err := os.ReadFile(r.log)
		must(t, err)
		write(t, r.log+".1", string(text))
	}

	// Lines between copy and truncation, which the agent was fast enough to get:
	// then the copy is shorter than what was read, and must not be read again.
	t.Run("agent ahead of the copy", func(t *testing.T) {
		r, grow, delivered := start(t)
		grow(0, 300)
		r.agent.start()
		delivered(300)
		copyLog(t, r)
		grow(300, 400)
		delivered(400)
		must(t, os.Truncate(r.log, 0))
		grow(400, 700)
		delivered(700)
		r.agent.stop()
		grow(700, 1000)
		r.agent.start()
		delivered(1000)
		r.agent.stop() // once its files are at rest
		same(t, "lines", all, rolled(t, r.out))
	})

	// The rest of the copy is older than what is in the truncated log.
	t.Run("agent down", func(t *testing.T) {
		r, grow, delivered := start(t)
		grow(0, 300)
		r.agent.start()
		delivered(300)
		r.agent.stop()
		grow(300, 700)
		copyLog(t, r)
		must(t, os.Truncate(r.log, 0))
		grow(700, 1000)
		r.agent.start()
		delivered(1000)
		r.agent.stop()
		same(t, "lines", all, rolled(t, r.out))
	})

	// The beginning of a line that is truncated before its end came is a loss
	// that the agent knows of.
	t.Run("half a line", func(t *testing.T) {
		r, grow, delivered := start(t)
		grow(0, 300)
		half := all[300][:len(all[300])/2]
		appendTo(t, r.log, half)
		r.agent.start()
		delivered(300)
		eventually(t, "half a line was seen", func() bool {
			return r.agent.metric("millrace_source_bytes_behind") == float64(len(half))
		})
		must(t, os.Truncate(r.log, 0))
		grow(301, 600)
		delivered(599)
		if said := r.agent.metric("millrace_source_bytes_lost_total"); said != float64(len(half)) {
			t.Errorf("%d bytes are lost, the agent says at least %.0f", len(half), said)
		}
		if n := r.agent.metric("millrace_source_truncations_total"); n != 1 {
			t.Errorf("%.0f truncations", n)
		}
		r.agent.stop()
		same(t, "lines", append(all[:300:300], all[301:600]...), rolled(t, r.out))
	})
}
