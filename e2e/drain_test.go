//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// post sends a body and returns the code of the answer, 0 if there is none.
func post(url, body string) int {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body) // the code says it all
	return r.StatusCode
}

// obstacle is a plain file in the place of a sink's directory: nobody, not even
// root, can write into it.
type obstacle struct {
	t   *testing.T
	dir string
}

func blocked(t *testing.T, dir string) obstacle {
	t.Helper()
	must(t, os.RemoveAll(dir))
	write(t, dir, "")
	return obstacle{t, dir}
}

func (o obstacle) unblock() {
	o.t.Helper()
	must(o.t, os.Remove(o.dir))
	must(o.t, os.Mkdir(o.dir, 0o755))
}

// crowd are clients that post batches of lines until the agent does not answer.
type crowd struct {
	wg      sync.WaitGroup
	mu      sync.Mutex
	stored  []string // answered 200
	unknown []string // no answer: the agent may have them or not
	refused int      // answered otherwise: the agent must not have them
}

func gather(url string, clients int) *crowd {
	c := new(crowd)
	for i := range clients {
		c.wg.Go(func() {
			for n := 1; ; {
				var batch []string
				for range 10 {
					batch = append(batch, line(fmt.Sprintf("client%d", i), n))
					n++
				}
				code := post(url, joined(batch))
				c.mu.Lock()
				switch code {
				case 200:
					c.stored = append(c.stored, batch...)
				case 0:
					c.unknown = append(c.unknown, batch...)
				default:
					c.refused++
				}
				c.mu.Unlock()
				if code != 200 {
					return
				}
			}
		})
	}
	return c
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stored)
}

// check compares what was delivered with what was answered.
func (c *crowd) check(t *testing.T, got []string) {
	t.Helper()
	count := make(map[string]int)
	for _, l := range got {
		count[l]++
	}
	var lost, more []string
	for _, l := range c.stored {
		if count[l] == 0 {
			lost = append(lost, l)
		}
	}
	for l, n := range count {
		if n > 1 || !slices.Contains(c.stored, l) && !slices.Contains(c.unknown, l) {
			more = append(more, l)
		}
	}
	none(t, "acknowledged lines lost", lost)
	none(t, "lines repeated, or refused and delivered", more)
	t.Logf("%d lines acknowledged, %d without an answer, %d refusals, %d delivered", len(c.stored), len(c.unknown), c.refused, len(got))
}

// drainRig is an agent with clients that post while it is told to stop.
type drainRig struct {
	*agent
	out string
	url string
}

func newDrainRig(t *testing.T, channel string, flags ...string) drainRig {
	dir := workDir(t)
	web := port(t)
	a := newAgent(t, dir, "drain.conf", vars{"E2E_WEB": web, "E2E_CHANNEL": channel}, append(flags, "--state-dir", filepath.Join(dir, "state"))...)
	return drainRig{a, filepath.Join(dir, "out"), "http://127.0.0.1:" + web}
}

func (r drainRig) crowd() *crowd {
	r.t.Helper()
	c := gather(r.url, 4)
	want := pick(2000, 20000)
	eventually(r.t, "lines posted", func() bool { return c.count() >= want })
	return c
}

// TestDrainDelivers: SIGTERM while clients post. What was acknowledged is
// delivered before the process ends, also from memory.
//
// flume: TestIntegration testIntegration
func TestDrainDelivers(t *testing.T) {
	for _, channel := range []string{"file", "memory"} {
		t.Run(channel, func(t *testing.T) {
			r := newDrainRig(t, channel)
			r.start()
			c := r.crowd()
			r.stop()
			c.wg.Wait()
			if l := r.lastLine(); l.Kept+l.Lost+len(l.Left) != 0 {
				t.Errorf("left: %+v", l)
			}
			c.check(t, rolled(t, r.out))
		})
	}
}

// TestDrainKeeps: the sink cannot write. What was acknowledged stays in the
// channel, the last line says how much, and the next life delivers it.
func TestDrainKeeps(t *testing.T) {
	r := newDrainRig(t, "file", "--drain-timeout", "2s")
	r.start()
	wall := blocked(t, r.out)
	c := r.crowd()
	r.stop()
	c.wg.Wait()
	left := r.lastLine()
	if len(left.Left) != 1 || left.Left[0].Channel != "store" || !left.Left[0].Kept || left.Kept != left.Left[0].Events || left.Lost != 0 {
		t.Fatalf("left: %+v", left)
	}
	if n := left.Kept; n < len(c.stored) || n > len(c.stored)+len(c.unknown) {
		t.Errorf("%d events are left; %d were acknowledged, %d had no answer", n, len(c.stored), len(c.unknown))
	}
	wall.unblock()
	r.start()
	wait(t, func() bool { return countRolled(r.out) >= left.Kept })
	r.stop()
	got := rolled(t, r.out)
	if len(got) != left.Kept {
		t.Errorf("%d events were left, %d were delivered later", left.Kept, len(got))
	}
	c.check(t, got)
}

// TestSecondSignal: the drain would take very long; a second SIGTERM ends it.
func TestSecondSignal(t *testing.T) {
	r := newDrainRig(t, "file", "--drain-timeout", "1h")
	r.start()
	wall := blocked(t, r.out)
	c := r.crowd()
	r.signal(syscall.SIGTERM)
	eventually(t, "not ready", func() bool { _, code := r.get("/readyz"); return code == http.StatusServiceUnavailable })
	if _, code := r.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d while draining", code)
	}
	c.wg.Wait()
	r.stop()
	left := r.lastLine()
	if left.Kept < len(c.stored) || left.Kept > len(c.stored)+len(c.unknown) {
		t.Errorf("%d events are left; %d were acknowledged, %d had no answer", left.Kept, len(c.stored), len(c.unknown))
	}
	wall.unblock()
	r.start()
	wait(t, func() bool { return countRolled(r.out) >= left.Kept })
	r.stop()
	c.check(t, rolled(t, r.out))
}

// TestMemoryLost: events that a memory channel could not get rid of are lost.
// That is said, and the exit code is another.
func TestMemoryLost(t *testing.T) {
	r := newDrainRig(t, "memory", "--drain-timeout", "1s")
	r.start()
	blocked(t, r.out)
	c := r.crowd()
	r.signal(syscall.SIGTERM)
	if code := r.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	c.wg.Wait()
	// The error is logged behind the line that is the last otherwise.
	left := r.lastLineOf(tailOf(r.log, 2))
	if left.Lost < len(c.stored) || left.Lost > len(c.stored)+len(c.unknown) || left.Kept != 0 {
		t.Errorf("left: %+v; %d were acknowledged, %d had no answer", left, len(c.stored), len(c.unknown))
	}
}

// TestDrainReadsOn: the application goes on writing after the sidecar has got its
// SIGTERM. What it writes is read until the files are at rest, and delivered.
func TestDrainReadsOn(t *testing.T) {
	dir := workDir(t)
	a := newAgent(t, dir, "rotate.conf", vars{"E2E_POLL": "2000"}, "--state-dir", filepath.Join(dir, "state")) // at rest is what two looks find unchanged
	log := filepath.Join(dir, "log", "app.log")
	appendTo(t, log, "")
	a.start()
	n, total := 0, pick(2000, 20000)
	more := func(count int) {
		for range count {
			n++
			appendTo(t, log, line("app", n)+"\n")
		}
	}
	more(total / 4)
	a.signal(syscall.SIGTERM)
	eventually(t, "not ready", func() bool { _, code := a.get("/readyz"); return code == http.StatusServiceUnavailable })
	more(total - n)
	if code := a.wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if l := a.lastLine(); l.Kept+l.Lost != 0 {
		t.Errorf("left: %+v", l)
	}
	var want []string
	for i := range n {
		want = append(want, line("app", i+1))
	}
	got := rolled(t, filepath.Join(dir, "out"))
	if !slices.Equal(got, want) {
		t.Errorf("%d lines written, %d delivered", len(want), len(got))
	}
}

// TestDrainHook: what a preStop hook runs. It waits until all is delivered, and
// says so in a line of JSON; its SIGTERM then ends the agent at once.
func TestDrainHook(t *testing.T) {
	r := newDrainRig(t, "file")
	r.start()
	c := r.crowd()
	out, stderr, code := millrace(t, nil, "drain", "--admin", r.admin)
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"msg":"drained","agent":"a1","kept":0,"lost":0,"left":[]`) {
		t.Errorf("%d %s %s", code, out, stderr)
	}
	c.wg.Wait()
	c.check(t, rolled(t, r.out))
	if _, code := r.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d after the drain", code)
	}
	r.stop()
}

// TestDrainHookKeeps: the sink cannot write. The hook ends when the drain's time is over, and says what stays.
func TestDrainHookKeeps(t *testing.T) {
	r := newDrainRig(t, "file", "--drain-timeout", "1s")
	r.start()
	blocked(t, r.out)
	c := r.crowd()
	out, stderr, code := millrace(t, nil, "drain", "--admin", r.admin)
	c.wg.Wait()
	if code != 0 || !strings.Contains(out, `"lost":0`) || !strings.Contains(out, `"channel":"store"`) {
		t.Errorf("%d %s %s", code, out, stderr)
	}
	r.stop()
	if l := r.lastLineOf(tailOf(r.log, 1)); l.Kept < len(c.stored) {
		t.Errorf("%d acknowledged, left %+v", len(c.stored), l)
	}
}
