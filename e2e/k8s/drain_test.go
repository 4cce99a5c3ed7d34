//go:build k8s

package k8s

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// away is a configuration whose far end refuses every connection.
func away(t *testing.T) string {
	t.Helper()
	flow := read(t, "testdata/flow.conf")
	return strings.NewReplacer("hostname = 10.252.0.50", "hostname = 10.250.0.1", "port = 4141", "port = 4999").Replace(flow)
}

// What docs/drain.md says of the kubelet, seen.
func TestClusterDrain(t *testing.T) {
	c := startCluster(t)
	c.configure("shop", "flow-away", away(t))
	for name, f := range map[string]func(*cluster){
		"the sidecar ends last": endsLast, "its hook runs first": hookRunsFirst, "the grace period is for both": graceIsForBoth,
		"killed at the end": killedAtTheEnd, "killed before it has drained": killedUndrained, "Job": jobs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(c.in(t))
		})
	}
}

// The sidecar's signal comes when every container of the application has ended, also where one takes long.
func endsLast(c *cluster) {
	o := manifest(c.t, "last", "flow", "LINGER=1s")
	annotate(o, "millrace/container", "app,slow")
	containers := at(o, "spec", "containers").([]any)
	slow := at(manifest(c.t, "last", "flow", "LINGER=4s", "LOG=/var/log/app/app.log-slow"), "spec", "containers").([]any)[0].(map[string]any)
	slow["name"] = "slow"
	at(o, "spec").(map[string]any)["containers"] = append(containers, slow)
	p := c.start(o)
	all := p.stop()
	p.order("app", lastWords, "slow", lastWords, "millrace", signalled, "millrace", stopped)
	for _, name := range []string{"app", "slow", "millrace"} {
		p.status(all, name, 0)
	}
	c.complete(apps{"last/"})
}

// A preStop hook of the sidecar runs at the beginning. One that drains ends before
// the application does, so its last lines stay behind: why inject writes none.
func hookRunsFirst(c *cluster) {
	t := c.t
	var o map[string]any
	text := asText(t, manifest(t, "hook", "flow", "LINGER=6s"))
	must(t, json.Unmarshal([]byte(millrace(t, text, "inject", "--configmap", "flow", "--image", "localhost/millrace:e2e", "--image-pull-policy", "Never")), &o))
	container(o, "initContainers", "millrace")["lifecycle"] = map[string]any{"preStop": map[string]any{"exec": map[string]any{"command": []any{"/millrace", "drain"}}}}
	p := c.start(o)
	all := p.stop()
	p.order("millrace", asked, "millrace", stopped, "app", lastWords)
	p.status(all, "millrace", 0)
	missing, _ := c.outcome(apps{"hook/"})
	if len(missing) != 20 { // the app's lastLines
		t.Errorf("the lines after the drain are 20, and missing are %d: %v", len(missing), missing)
	}
}

// An application that takes longer than what was its own, and a sidecar that needs
// all of its drain: the period is for one after the other, and neither is killed.
func graceIsForBoth(c *cluster) {
	o := manifest(c.t, "both", "flow-away", "LINGER=7s")
	annotate(o, "millrace/drain-timeout", "3s") // 5 + 3 + 5
	p := c.start(o)
	if grace := kubectl(c.t, "", "-n", "shop", "get", "pod", "both", "-o", "jsonpath={.spec.terminationGracePeriodSeconds}"); grace != "13" {
		c.t.Errorf("grace period %s", grace)
	}
	all := p.stop()
	p.order("app", lastWords, "millrace", signalled, "millrace", stopped)
	p.status(all, "app", 0)
	p.status(all, "millrace", 0)
	_, _, lines := c.ledger.count(apps{"both/"})
	if kept, lost := p.left(); kept != lines || lost != 0 {
		c.t.Errorf("%d lines were written; the sidecar says kept %d, lost %d", lines, kept, lost)
	}
}

// An application that minds no signal is killed when the period is over. The
// sidecar gets its signal then, and has 2 seconds: enough for what is quick.
func killedAtTheEnd(c *cluster) {
	o := manifest(c.t, "deaf", "flow", "DEAF=1")
	annotate(o, "millrace/drain-timeout", "3s") // 5 + 3 + 5
	p := c.start(o)
	began := time.Now()
	all := p.stop()
	p.order("millrace", signalled, "millrace", stopped)
	p.status(all, "app", 137)
	p.status(all, "millrace", 0)
	if at, _ := p.said("millrace", signalled); at.Sub(began) < 12*time.Second { // whole seconds are counted
		c.t.Errorf("the sidecar had its signal after %v of 13 s", at.Sub(began))
	}
	c.complete(apps{"deaf/"})
}

// Where the far end is away, 2 seconds are too short for a drain of 3: killed, without a last line.
func killedUndrained(c *cluster) {
	o := manifest(c.t, "undrained", "flow-away", "DEAF=1")
	annotate(o, "millrace/drain-timeout", "3s")
	p := c.start(o)
	all := p.stop()
	p.order("millrace", signalled)
	p.status(all, "app", 137)
	p.status(all, "millrace", 137)
	if at, line := p.said("millrace", stopped); !at.IsZero() {
		c.t.Errorf("it said %s", line)
	}
	at, _ := p.said("millrace", signalled)
	c.t.Logf("killed %v after its signal, in whole seconds", all["millrace"].FinishedAt.Sub(at.Truncate(time.Second)))
}

// Jobs end, whether their applications succeed, fail first, or always fail; and so do the sidecars, drained.
func jobs(c *cluster) {
	t := c.t
	kubectl(t, read(t, "testdata/jobs.yaml"), "apply", "--validate=strict", "-f", "-")
	kubectl(t, "", "-n", "shop", "wait", "--for=condition=complete", "job/retry", "--timeout=180s")
	kubectl(t, "", "-n", "shop", "wait", "--for=condition=failed", "job/hopeless", "--timeout=180s")
	for app, want := range map[string]struct {
		runs, pods int
	}{"retry": {3, 1}, "hopeless": {3, 3}} {
		if begun, _, lines := c.ledger.count(apps{app + "-"}); begun != want.runs || lines != begun*120 {
			t.Errorf("%s: %d runs with %d lines", app, begun, lines)
		}
		out := kubectl(t, "", "-n", "shop", "get", "pods", "-l", "app="+app, "-o", `jsonpath={.items[*].status.initContainerStatuses[*].state.terminated.exitCode}`)
		if out != strings.TrimSpace(strings.Repeat("0 ", want.pods)) {
			t.Errorf("sidecars of %s ended with %q", app, out)
		}
	}
	c.complete(apps{"retry-", "hopeless-"})
	kubectl(t, "", "-n", "shop", "delete", "job", "retry", "hopeless")
}
