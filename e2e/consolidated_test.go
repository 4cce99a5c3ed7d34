//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// site is an agent that tails a log, which is rotated.
type site struct {
	*agent
	host    string
	log     string
	sent    []string // all lines, whichever file they are in by now
	grown   int      // times
	rotated int
}

// dawn is the time of the first line of each log; one comes every ten seconds.
var dawn = time.Date(2026, 3, 28, 22, 30, 0, 0, time.UTC)

func (s *site) grow(n int) {
	s.t.Helper()
	if s.grown++; s.grown%3 == 0 {
		s.rotate()
	}
	from := len(s.sent)
	for i := range n {
		at := dawn.Add(time.Duration(from+i) * 10 * time.Second)
		s.sent = append(s.sent, fmt.Sprint(at.UnixMilli(), " ", line(s.host, from+i+1)))
	}
	appendTo(s.t, s.log, joined(s.sent[from:]))
}

// rotate renames as logrotate does without copytruncate, and forgets no file.
func (s *site) rotate() {
	s.t.Helper()
	for n := s.rotated; n >= 1; n-- {
		must(s.t, os.Rename(fmt.Sprint(s.log, ".", n), fmt.Sprint(s.log, ".", n+1)))
	}
	must(s.t, os.Rename(s.log, s.log+".1"))
	s.rotated++
}

// TestConsolidatedIntoHDFS is Flume's consolidated flow from end to end: logs that
// are rotated, agents in front of two collectors, a real HDFS behind these. Agents
// and collectors are killed, a data node too. Every line is in a finished file, in
// the directory of its host and its time, and what is there twice is no more than
// what the hops between agents and collectors may repeat.
func TestConsolidatedIntoHDFS(t *testing.T) {
	const batch = 20   // of the avro sinks in scenarios/consolidate-hdfs.conf
	const noted = 1000 // more than an agent sends in 20 ms: answered, and not yet noted in its channel
	sites, kills, chunk := pick(4, 12), pick(1, 10), pick(250, 300)
	dir := workDir(t)
	nodes := pick(1, 3)
	nn := hdfs(t, nodes, nil)
	ports := []string{port(t), port(t)}
	var collectors []*agent
	for i, p := range ports {
		name := fmt.Sprint("collector", i)
		v := vars{"E2E_ONE": p, "E2E_HOST": name, "E2E_HDFS": nn.uri + "/logs", "HADOOP_CONF_DIR": filepath.Join(nn.dir, "conf-cli")}
		collectors = append(collectors, newAgent(t, home(t, dir, name), "consolidate-hdfs.conf", v, "-n", "collector").start())
	}
	var all []*site
	for i := range sites {
		s := &site{host: fmt.Sprint("site", i)}
		h := home(t, dir, s.host)
		s.log = filepath.Join(h, "in/app.log")
		write(t, s.log, "")
		s.agent = newAgent(t, h, "consolidate-hdfs.conf", vars{"E2E_ONE": ports[0], "E2E_TWO": ports[1], "E2E_HOST": s.host}, "-n", []string{"balance", "failover"}[i%2])
		s.spawn()
		all = append(all, s)
	}
	grow := func(n int) {
		t.Helper()
		for _, s := range all {
			s.grow(n)
		}
	}
	// delivers lets the logs grow until the collector has brought something more into HDFS.
	delivers := func(c *agent) {
		t.Helper()
		before := c.metric("millrace_sink_events_drained_total")
		next := time.Now()
		eventually(t, "the collector delivers", func() bool {
			if time.Now().After(next) {
				grow(20)
				next = time.Now().Add(time.Second)
			}
			return c.metric("millrace_sink_events_drained_total") > before
		})
	}
	most := 0
	for round := range kills {
		for i, c := range collectors {
			delivers(c)
			grow(chunk) // some of it is on its way
			c.kill9()
			most += sites * ahead * batch
			grow(chunk)
			delivers(collectors[1-i]) // the other one takes over
			c.start()
		}
		s := all[round%sites]
		s.grow(chunk)
		eventually(t, "it sends", func() bool {
			return s.metric("millrace_channel_events") > 0 || s.metric("millrace_sink_events_drained_total") > 0
		})
		s.kill9()
		most += 2*ahead*batch + noted
		grow(chunk)
		s.start()
		if long() && round%3 == 0 {
			dn := fmt.Sprint("dn", round/3%nodes+1)
			nn.do(t, "kill9", dn)
			delivers(collectors[0])
			delivers(collectors[1])
			nn.do(t, "up", dn)
		}
	}
	grow(chunk)
	files := consolidated(t, nn, all, collectors)
	var sent, got []string
	for _, s := range all {
		sent = append(sent, s.sent...)
	}
	for _, f := range files {
		for _, l := range f.lines {
			if want := directory(l); path.Dir(f.path) != want {
				t.Errorf("%.60q is in %s, and not in %s", l, f.path, want)
			}
		}
		got = append(got, f.lines...)
	}
	again(t, sent, got, most)
	t.Logf("%d agents, %d kills of collectors and %d of agents, %d rotations, %d files in HDFS", sites, 2*kills, kills, all[0].rotated*sites, len(files))
}

// directory is where a line belongs: by its host, and the time that it begins with.
func directory(l string) string {
	stamp, text, _ := strings.Cut(l, " ")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	host, _, ok := read(text)
	if err != nil || !ok {
		return "none: the line is torn"
	}
	return "/logs/" + host + time.UnixMilli(ms).UTC().Format("/2006-01-02/15")
}

// consolidated waits until every line is in a file with its final name, by what
// Hadoop reads, and returns these files.
func consolidated(t *testing.T, nn nameNode, sites []*site, collectors []*agent) []stored {
	t.Helper()
	agents := slices.Clone(collectors)
	want := map[string]bool{}
	for _, s := range sites {
		agents = append(agents, s.agent)
		for _, l := range s.sent {
			want[l] = true
		}
	}
	var why string
	for end := time.Now().Add(5 * patience); ; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not finished: %s", why)
		}
		if why = underWay(t, nn, agents); why != "" {
			continue
		}
		files := nn.read(t, "/logs")
		seen := map[string]bool{}
		for _, f := range files {
			for _, l := range f.lines {
				seen[l] = want[l]
			}
		}
		missing := 0
		for l := range want {
			if !seen[l] {
				missing++
			}
		}
		if why = fmt.Sprint(missing, " lines are missing"); missing == 0 {
			return files
		}
	}
}

// underWay says what is still on its way; nothing: all is, or seems to be, in HDFS.
func underWay(t *testing.T, nn nameNode, agents []*agent) string {
	t.Helper()
	for _, a := range agents {
		if _, code := a.get("/healthz"); code != 200 || a.metric("millrace_channel_events") > 0 {
			return fmt.Sprint("events in a channel of ", a.conf, a.flags)
		}
	}
	files, ok := nn.list(t, "/logs")
	if !ok || len(files) == 0 {
		return "the name node does not answer"
	}
	for _, f := range files {
		if f.inUse() {
			return f.path
		}
	}
	return ""
}
