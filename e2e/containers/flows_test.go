//go:build e2e

package containers

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// long skips what make e2e has no time for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("MILLRACE_E2E") != "long" {
		t.Skip("only make e2e-long runs all examples; make e2e runs one")
	}
}

func isError(i int) bool { return i%5 == 0 }

// untilStopped makes an application write on, however slow the machine is, until it is stopped.
const untilStopped = "1000000"

// stopped stops the application and returns the lines that it has written.
func (p *project) stopped() []string {
	p.t.Helper()
	p.compose("stop", "app")
	return p.lines("logs", ".")
}

// Every line is at the collector, although collector and agent are killed on the way.
func TestComposeMultiAgent(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace")
	t.Setenv("LINES", untilStopped)
	p := start(t, "multi-agent")
	for _, service := range []string{"collector", "agent"} {
		before := len(p.lines("collector", "files"))
		eventually(t, "more lines", func() bool { return len(p.lines("collector", "files")) > before+lines/10 })
		p.compose("kill", service)
		p.compose("start", service)
	}
	are(t, "what the collector has", p.stopped(), func() []string { return p.lines("collector", "files") })
}

// While the first collector is away the second is sent to; together they have every line.
func TestComposeFailover(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace")
	t.Setenv("LINES", untilStopped)
	p := start(t, "failover")
	eventually(t, "some lines at the first", func() bool { return len(p.lines("first", "files")) > lines/10 })
	if second := p.lines("second", "files"); len(second) > 1 {
		t.Errorf("the second has %d lines although the first is there", len(second))
	}
	p.compose("kill", "first")
	eventually(t, "lines at the second", func() bool { return len(p.lines("second", "files")) > lines/10 })
	want := p.stopped()
	p.compose("start", "first") // what it had acknowledged and not yet written is on its disk
	are(t, "what both have", want, func() []string {
		return sorted(strings.Join(append(p.lines("first", "files"), p.lines("second", "files")...), "\n"))
	})
}

func TestComposeReplicating(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace")
	p := start(t, "replicating")
	want := orders("order %d accepted", lines, nil)
	for _, dir := range []string{"archive", "audit"} {
		are(t, dir, want, func() []string { return p.lines("state", "files/"+dir) })
	}
}

func TestComposeMultiplexing(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace")
	p := start(t, "multiplexing")
	are(t, "errors", orders("ERROR order %d failed", lines, isError), func() []string { return p.lines("state", "files/errors") })
	rest := orders("INFO order %d accepted", lines, func(i int) bool { return !isError(i) })
	are(t, "the rest", rest, func() []string { return p.lines("state", "files/rest") })
}

// Three applications, two collectors: every line of all of them is in HDFS.
func TestComposeConsolidation(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace", "hadoop")
	p := start(t, "consolidation")
	seen := func() []string {
		out, _, err := try("docker-compose", p.args("exec", "-T", "namenode", "hdfs", "dfs", "-cat", "/events/*/*")...)
		if err != nil {
			return nil // there is no file yet
		}
		return sorted(out)
	}
	eventually(t, "every line is in HDFS", func() bool { return len(seen()) >= 3*lines })
	all := seen()
	apps := map[string][]string{}
	for _, line := range all {
		app, order, _ := strings.Cut(line, " ")
		apps[app] = append(apps[app], order)
	}
	if len(apps) != 3 || len(all) != 3*lines {
		t.Errorf("%d applications, %d lines", len(apps), len(all))
	}
	for app, got := range apps {
		slices.Sort(got)
		if want := orders("order %d accepted", lines, nil); !slices.Equal(got, want) {
			t.Errorf("%s: %d lines: %.300q", app, len(got), got)
		}
	}
}

// The first agent only writes into the topic that is the channel, the second only delivers from it; each is killed on the way.
func TestComposeKafkaChannel(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace", "kafka")
	t.Setenv("LINES", untilStopped)
	p := start(t, "kafka-channel")
	for _, service := range []string{"reader", "writer"} {
		before := len(p.lines("reader", "files"))
		eventually(t, "more lines", func() bool { return len(p.lines("reader", "files")) > before+lines/10 })
		p.compose("kill", service)
		p.compose("start", service)
	}
	are(t, "what the second has", p.stopped(), func() []string { return p.lines("reader", "files") })
}

// Every line is in an object once, although the agent is killed on the way.
func TestComposeS3(t *testing.T) {
	long(t)
	engine(t, "busybox", "millrace", "versitygw")
	t.Setenv("LINES", untilStopped)
	p := start(t, "s3")
	objects := func() []string {
		out := strings.TrimSpace(p.text("objects", "logs/orders/*"))
		all := strings.Split(out, "\n")
		slices.Sort(all)
		return all
	}
	eventually(t, "the first object", func() bool { return len(objects()) > lines/10 })
	p.compose("kill", "agent")
	p.compose("start", "agent")
	are(t, "the objects", p.stopped(), objects)
}
