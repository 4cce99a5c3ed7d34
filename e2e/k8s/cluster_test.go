//go:build k8s

package k8s

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is the namespace of the tests in a real cluster, with the webhook and the collector that are shipped.
type cluster struct {
	t      *testing.T
	dir    string // of volumes
	ledger *ledger
}

// pods lists the names of those of an app that are not on their way out.
func (c *cluster) pods(app string) []string {
	out := kubectl(c.t, "", "-n", "shop", "get", "pods", "-l", "app="+app, "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.metadata.deletionTimestamp}={.status.phase}{"\n"}{end}`)
	var names []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), "==Running"); ok {
			names = append(names, name)
		}
	}
	return names
}

func (c *cluster) rolledOut(kind ...string) {
	c.t.Helper()
	for _, k := range kind {
		kubectl(c.t, "", "-n", "shop", "rollout", "status", k, "--timeout=180s")
	}
}

// gone waits until none of these pods is there any more: its sidecar has ended too.
func (c *cluster) gone(names []string) {
	c.t.Helper()
	for _, n := range names {
		kubectl(c.t, "", "-n", "shop", "wait", "--for=delete", "pod/"+n, "--timeout=180s")
	}
}

// killSidecar kills the container millrace of a pod as the kernel does when memory is out, and waits until the kubelet
// has started it again: it starts nothing any more in a pod that is told to end meanwhile (docs/drain.md).
func (c *cluster) killSidecar(pod string) {
	c.t.Helper()
	id := kubectl(c.t, "", "-n", "shop", "get", "pod", pod, "-o", `jsonpath={.status.initContainerStatuses[?(@.name=="millrace")].containerID}`)
	id = strings.TrimPrefix(id, "containerd://")
	out, err := exec.Command("ctr", "-a", os.Getenv("CONTAINERD_SOCKET"), "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id).CombinedOutput()
	if err != nil {
		c.t.Fatalf("kill %s of %s: %v %s", id, pod, err, out)
	}
	eventually(c.t, "the sidecar of "+pod+" runs again", func() bool {
		now := kubectl(c.t, "", "-n", "shop", "get", "pod", pod, "-o",
			`jsonpath={range .status.initContainerStatuses[?(@.name=="millrace")]}{.containerID} {.state.running.startedAt}{end}`)
		another, started, _ := strings.Cut(now, " ")
		return another != "containerd://"+id && started != ""
	})
}

// killedForMemory counts the pods whose application was killed by the kernel for its memory, as their status says.
func (c *cluster) killedForMemory() (n int) {
	c.t.Helper()
	out := kubectl(c.t, "", "-n", "shop", "get", "pods", "-l", "app=hungry", "-o",
		`jsonpath={range .items[*]}{.status.containerStatuses[*].lastState.terminated.reason},{.status.containerStatuses[*].state.terminated.reason}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "OOMKilled") {
			n++
		}
	}
	return n
}

// startCluster brings up what is shipped, webhook and collector, and the namespace
// of the tests; what is up already stays.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: filepath.Join(os.Getenv("STATE"), "volumes")}
	var err error
	c.ledger, err = theLedger()
	must(t, err)
	for _, name := range []string{"collector", "db-0", "db-1", "ship-logs", "ship-state"} {
		must(t, os.MkdirAll(filepath.Join(c.dir, name), 0o777))
		must(t, os.Chmod(filepath.Join(c.dir, name), 0o777)) // fsGroup does nothing to such a volume
	}
	kubectl(t, strings.ReplaceAll(read(t, "testdata/volumes.yaml"), "DIR", c.dir), "apply", "-f", "-")
	kubectl(t, "", "apply", "-k", "kustomize/collector")
	kubectl(t, "", "apply", "-k", "kustomize/webhook")
	kubectl(t, "", "-n", "millrace", "rollout", "status", "deployment/millrace-webhook", "--timeout=180s")
	kubectl(t, "", "-n", "millrace", "rollout", "status", "statefulset/millrace-collector", "--timeout=180s")
	kubectl(t, "", "apply", "-f", "testdata/namespace.yaml")
	c.configure("shop", "flow", read(t, "testdata/flow.conf"))
	return c
}

// in is the same for a subtest.
func (c *cluster) in(t *testing.T) *cluster { return &cluster{t: t, dir: c.dir, ledger: c.ledger} }

// configure makes a ConfigMap of a configuration, or changes it.
func (c *cluster) configure(namespace, name, flow string) {
	c.t.Helper()
	out := kubectl(c.t, flow, "-n", namespace, "create", "configmap", name, "--from-file=flume.conf=/dev/stdin", "--dry-run=client", "-o", "json")
	kubectl(c.t, out, "apply", "-f", "-")
}

// outcome waits until these pods' applications have ended and what their sidecars
// have sent is in the collector's files; then says what is not.
func (c *cluster) outcome(of apps) (missing []string, double int) {
	c.t.Helper()
	eventually(c.t, "every application has ended", func() bool { begun, ended, _ := c.ledger.count(of); return begun == ended })
	files := filepath.Join(c.dir, "collector/files")
	eventually(c.t, "every line is in the collector's files", func() bool {
		still := c.still()
		missing, double = c.ledger.missing(of, delivered(c.t, files))
		return len(missing) == 0 || still
	})
	runs, _, lines := c.ledger.count(of)
	if runs == 0 {
		c.t.Fatal("none has begun")
	}
	c.t.Logf("%d terminations, %d lines, %d missing, %d delivered more than once", runs, lines, len(missing), double)
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	if len(c.ledger.bad) > 0 {
		c.t.Errorf("out of order in the ledger: %v", c.ledger.bad)
	}
	return missing, double
}

// complete is an outcome with nothing missing.
func (c *cluster) complete(of apps) (double int) {
	c.t.Helper()
	missing, double := c.outcome(of)
	if len(missing) > 0 {
		c.t.Errorf("missing: %.2000v", missing)
	}
	return double
}

// Pods are deleted, evicted, rolled, their applications and sidecars killed for
// memory, and Jobs end: every line that an application's volume has taken is at the collector.
func TestClusterLosesNoLine(t *testing.T) {
	c := startCluster(t)
	workloads := read(t, "testdata/shop.yaml")
	kubectl(t, workloads, "apply", "--validate=strict", "-f", "-")
	began := time.Now()
	c.injected(workloads)
	c.rolledOut("deployment/web", "statefulset/db")
	t.Logf("rolled out after %v", time.Since(began).Round(time.Second))

	all := apps{"web-", "db-", "hungry-", "batch-"}
	var gone []string
	oom := 0
	for round := range 3 {
		web, db := c.pods("web"), c.pods("db")
		// Deleted.
		kubectl(t, "", append([]string{"-n", "shop", "delete", "pod", "--wait=false"}, web[:2]...)...)
		c.killSidecar(db[0])
		gone = append(gone, web[:2]...)
		c.rolledOut("deployment/web")
		// Evicted.
		web = c.pods("web")
		for _, name := range append(web[:2:2], c.pods("db")[1]) {
			eviction := `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"` + name + `","namespace":"shop"}}`
			kubectl(t, eviction, "create", "--raw", "/api/v1/namespaces/shop/pods/"+name+"/eviction", "-f", "-")
			gone = append(gone, name)
		}
		if round == 1 {
			c.reload()
		}
		// Rolled.
		gone = append(gone, c.pods("web")...)
		kubectl(t, "", "-n", "shop", "rollout", "restart", "deployment/web", "statefulset/db")
		c.rolledOut("deployment/web", "statefulset/db")
		web = c.pods("web")
		c.killSidecar(web[0])
		hungry := c.pods("hungry")
		eventually(t, "their applications are killed for memory", func() bool { return c.killedForMemory() >= len(hungry) })
		oom += c.killedForMemory()
		// A new pod is not held back for having failed.
		kubectl(t, "", append([]string{"-n", "shop", "delete", "pod", "--wait=false"}, hungry...)...)
		gone = append(gone, hungry...)
		t.Logf("round %d after %v", round+1, time.Since(began).Round(time.Second))
	}
	kubectl(t, "", "-n", "shop", "wait", "--for=condition=complete", "job/batch", "--timeout=300s")
	if out := kubectl(t, "", "-n", "shop", "get", "pods", "-l", "app=batch", "-o", `jsonpath={.items[*].status.initContainerStatuses[*].state.terminated.exitCode}`); len(strings.Fields(out)) < 10 {
		t.Errorf("sidecars of the Job's pods ended with %q", out)
	}
	for _, app := range []string{"web", "db", "hungry"} {
		gone = append(gone, c.pods(app)...)
	}
	kubectl(t, "", "-n", "shop", "scale", "--replicas=0", "deployment/web", "deployment/hungry", "statefulset/db")
	slices.Sort(gone)
	c.gone(slices.Compact(gone))
	kubectl(t, "", "-n", "shop", "wait", "--for=delete", "pod", "-l", "app in (web,db,hungry)", "--timeout=180s")
	c.complete(all)
	t.Logf("%d killed for memory; %v", oom, time.Since(began).Round(time.Second))
	_, ended, _ := c.ledger.count(all)
	if ended < 50 {
		t.Errorf("only %d terminations", ended)
	}
	bundle, err := base64.StdEncoding.DecodeString(kubectl(t, "", "get", "mutatingwebhookconfiguration", "millrace-webhook", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}"))
	if n := bytes.Count(bundle, []byte("BEGIN CERTIFICATE")); err != nil || n < 2 {
		t.Errorf("two replicas have %d certificates in the bundle: %v", n, err)
	}
}

// still tells that the collector has nothing left to deliver: what is missing then never comes.
func (c *cluster) still() bool {
	body, code := get("http://" + c.address("millrace", "millrace-collector-0") + ":9700/metrics")
	return code == 200 && strings.Contains(body, `millrace_channel_events{channel="disk"} 0`)
}

func (c *cluster) address(namespace, pod string) string {
	c.t.Helper()
	return kubectl(c.t, "", "-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
}

// injected checks that the webhook has made of the workloads what inject makes of
// them: these names are taken, so both are made once more under others, not for good.
func (c *cluster) injected(workloads string) {
	t := c.t
	t.Helper()
	for _, name := range []string{"web", "db", "hungry", "batch"} {
		workloads = strings.ReplaceAll(workloads, "metadata: {name: "+name+",", "metadata: {name: "+name+"-again,")
	}
	create := []string{"create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"}
	byHand := millrace(t, workloads, "inject", "--image", "localhost/millrace:e2e", "--image-pull-policy", "Never")
	got, want := objects(t, kubectl(t, workloads, create...)), objects(t, kubectl(t, byHand, create...))
	compare(t, "by hand", 4, got, want, func(o map[string]any) {
		delete(at(template(o), "metadata", "annotations").(map[string]any), "millrace/injected")
	})
}

// reload changes the ConfigMap, and waits until a running sidecar has taken it.
func (c *cluster) reload() {
	t := c.t
	t.Helper()
	pod := c.pods("db")[0]
	c.configure("shop", "flow", read(t, "testdata/flow.conf")+"\na1.sources.app.interceptors = when\na1.sources.app.interceptors.when.type = timestamp\n")
	began := time.Now()
	eventually(t, "the sidecar has taken the new configuration", func() bool {
		body, _ := get("http://" + c.address("shop", pod) + ":9700/metrics")
		return strings.Contains(body, `millrace_reloads_total{result="ok"} 1`)
	})
	t.Logf("a changed ConfigMap was taken after %v, by %s", time.Since(began).Round(time.Second), pod)
}
