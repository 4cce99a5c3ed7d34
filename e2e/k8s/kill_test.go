//go:build k8s

package k8s

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The kernel kills the sidecar for its memory: a memory channel beside the log's own
// way takes what the test posts, and nobody takes it out. The log's lines are none the worse:
// positions and file channel are on the emptyDir, and the container that starts again goes on there.
func TestClusterSidecarOutOfMemory(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.configure("shop", "flow-fat", read(t, "testdata/fat.conf"))
	o := manifest(t, "fat", "flow-fat")
	annotate(o, "millrace/limits", "memory=64Mi")
	p := c.start(o)
	const kills = 2
	for n := 1; n <= kills; n++ {
		url := "http://" + c.address("shop", "fat") + ":8099/"
		eventually(t, fmt.Sprint("the kernel has killed the sidecar for the ", n, ". time"), func() bool {
			post(url, make([]byte, 4<<20))
			count, reason := c.restarts("fat")
			return count >= n && reason == "OOMKilled 137"
		})
		_, _, lines := c.ledger.count(apps{"fat/"})
		t.Logf("killed after line %d", lines)
		eventually(t, "it is ready again, and more is written", func() bool {
			_, code := get("http://" + c.address("shop", "fat") + ":9700/readyz")
			_, _, more := c.ledger.count(apps{"fat/"})
			return code == 200 && more > lines+200
		})
	}
	all := p.stop()
	p.status(all, "app", 0)
	if end := all["millrace"]; end.ExitCode > 1 { // 1: what was posted and in memory is lost, as it says
		t.Errorf("the sidecar ended with %d (%s)", end.ExitCode, end.Reason)
	}
	if double := c.complete(apps{"fat/"}); double > kills*100 { // the sink's batch that was under way
		t.Errorf("%d were delivered more than once by %d kills", double, kills)
	}
}

// restarts is how often the sidecar of a pod was started again, and how it had ended.
func (c *cluster) restarts(pod string) (n int, reason string) {
	c.t.Helper()
	out := kubectl(c.t, "", "-n", "shop", "get", "pod", pod, "-o",
		`jsonpath={range .status.initContainerStatuses[?(@.name=="millrace")]}{.restartCount} {.lastState.terminated.reason} {.lastState.terminated.exitCode}{end}`)
	count, reason, _ := strings.Cut(out, " ")
	_, err := fmt.Sscan(count, &n)
	must(c.t, err)
	return n, reason
}

// post sends a body; that there is no answer, because nobody lives to give one, is meant.
func post(url string, body []byte) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if r, err := c.Post(url, "application/octet-stream", bytes.NewReader(body)); err == nil {
		r.Body.Close()
	}
}

// The kubelet itself evicts a pod, whose volume has become larger than it may. It grants 1 second until the
// sidecar's turn, and then 2, whatever the pod's grace period is: what is quick arrives; what the far end does not
// take goes with the emptyDir.
func TestClusterEvictedByKubelet(t *testing.T) {
	c := startCluster(t)
	c.configure("shop", "flow-away", away(t))
	t.Run("delivered", func(t *testing.T) {
		t.Parallel()
		c := c.in(t)
		p, _ := c.evict("evicted", "flow")
		p.order("app", lastWords, "millrace", signalled, "millrace", stopped)
		c.complete(apps{"evicted/"})
	})
	t.Run("the application takes long", func(t *testing.T) {
		t.Parallel()
		c := c.in(t)
		p, _ := c.evict("evicted-slow", "flow", "LINGER=1h")
		p.order("app", heard, "millrace", signalled, "millrace", stopped)
		began, _ := p.said("app", heard)
		at, _ := p.said("millrace", signalled)
		if after := at.Sub(began); after < 500*time.Millisecond { // the application hears of it a little late
			t.Errorf("the sidecar had its signal after %v of 1 s", after)
		}
		c.complete(apps{"evicted-slow/"})
	})
	t.Run("the far end is away", func(t *testing.T) {
		t.Parallel()
		c := c.in(t)
		p, end := c.evict("evicted-away", "flow-away")
		p.order("app", lastWords, "millrace", signalled)
		at, _ := p.said("millrace", signalled)
		t.Logf("killed %v after its signal, in whole seconds", end.FinishedAt.Sub(at.Truncate(time.Second)))
		if at, line := p.said("millrace", stopped); !at.IsZero() || end.ExitCode != 137 {
			t.Errorf("it was not killed in the middle of its drain: %s", line)
		}
		missing, _ := c.outcome(apps{"evicted-away/"})
		if _, _, lines := c.ledger.count(apps{"evicted-away/"}); len(missing) != lines {
			t.Errorf("%d of %d lines are at the collector, which the sidecar could not reach", lines-len(missing), lines)
		}
	})
}

// evict runs a pod until the kubelet has evicted it for what is in its volume, and says how its sidecar ended.
func (c *cluster) evict(name, flow string, env ...string) (*pod, end) {
	t := c.t
	t.Helper()
	o := manifest(t, name, flow, append(env, "FILL=300")...) // 8 MiB
	spec := at(o, "spec").(map[string]any)
	spec["volumes"] = []any{map[string]any{"name": "logs", "emptyDir": map[string]any{"sizeLimit": "4Mi"}}}
	container(o, "containers", "app")["volumeMounts"] = []any{map[string]any{"name": "logs", "mountPath": "/var/log/app"}}
	p := c.start(o)
	all, status := p.ended()
	if status["reason"] != "Evicted" {
		t.Errorf("the pod has ended otherwise: %v", status)
	}
	// The exit status is not always known (then it says 137): the kubelet removes these containers at once.
	t.Logf("%v: %v The sidecar ended with %d (%s)", status["reason"], status["message"], all["millrace"].ExitCode, all["millrace"].Reason)
	return p, all["millrace"]
}
