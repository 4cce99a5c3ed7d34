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

// The kubelet itself evicts a pod, whose volume has become larger than it may. By its source it grants 1 second
// until the sidecar's turn, and then 2, whatever the pod's grace period is: what is quick arrives; what the
// far end does not take goes with the emptyDir.
func TestClusterEvictedByKubelet(t *testing.T) {
	c := startCluster(t)
	c.configure("shop", "flow-away", away(t))
	for _, flow := range []string{"flow", "flow-away"} {
		t.Run(flow, func(t *testing.T) {
			t.Parallel()
			evict(c.in(t), "evicted-"+flow, flow)
		})
	}
}

func evict(c *cluster, name, flow string) {
	t := c.t
	o := manifest(t, name, flow, "FILL=300") // 8 MiB
	spec := at(o, "spec").(map[string]any)
	spec["volumes"] = []any{map[string]any{"name": "logs", "emptyDir": map[string]any{"sizeLimit": "4Mi"}}}
	container(o, "containers", "app")["volumeMounts"] = []any{map[string]any{"name": "logs", "mountPath": "/var/log/app"}}
	p := c.start(o)
	all, status := p.ended()
	t.Logf("%v: %v", status["reason"], status["message"])
	if status["reason"] != "Evicted" {
		t.Errorf("the pod has ended otherwise: %v", status)
	}
	// The exit status is not always known: the kubelet removes these containers at once.
	t.Logf("the sidecar ended with %d (%s)", all["millrace"].ExitCode, all["millrace"].Reason)
	if flow == "flow" {
		p.order("app", lastWords, "millrace", signalled, "millrace", stopped)
		c.complete(apps{name + "/"})
		return
	}
	p.order("app", lastWords, "millrace", signalled)
	at, _ := p.said("millrace", signalled)
	t.Logf("killed %v after its signal, in whole seconds", all["millrace"].FinishedAt.Sub(at.Truncate(time.Second)))
	if at, line := p.said("millrace", stopped); !at.IsZero() || all["millrace"].ExitCode != 137 {
		t.Errorf("it was not killed in the middle of its drain: %s", line)
	}
	missing, _ := c.outcome(apps{name + "/"})
	_, _, lines := c.ledger.count(apps{name + "/"})
	if len(missing) != lines {
		t.Errorf("%d of %d lines are at the collector, which the sidecar could not reach", lines-len(missing), lines)
	}
}
