//go:build k8s

package k8s

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// pod is one that is made and ended to see how: what its containers said and
// with which status they ended can be asked when it is over.
type pod struct {
	*cluster
	name string
	logs map[string]*os.File // by container; open, so they can be read when the kubelet has removed them
}

// manifest is testdata/pod.yaml with a name and a configuration, and these variables for the application.
func manifest(t *testing.T, name, flow string, env ...string) map[string]any {
	t.Helper()
	var o map[string]any
	text := strings.NewReplacer("NAME", name, "FLOW", flow).Replace(read(t, "testdata/pod.yaml"))
	must(t, yaml.Unmarshal([]byte(text), &o))
	setEnv(container(o, "containers", "app"), env...)
	return o
}

// setEnv sets NAME=VALUE in a container, also over what is there.
func setEnv(c map[string]any, env ...string) {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		kept := []any{}
		for _, have := range c["env"].([]any) {
			if at(have, "name") != name {
				kept = append(kept, have)
			}
		}
		c["env"] = append(kept, map[string]any{"name": name, "value": value})
	}
}

func container(o map[string]any, list, name string) map[string]any {
	all, _ := at(o, "spec", list).([]any)
	for _, c := range all {
		if at(c, "name") == name {
			return c.(map[string]any)
		}
	}
	return nil
}

func annotate(o map[string]any, key, value string) {
	at(o, "metadata", "annotations").(map[string]any)[key] = value
}

func asText(t *testing.T, o map[string]any) string {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	return string(text)
}

// start makes a pod of a manifest, and waits until its applications have written lines.
func (c *cluster) start(o map[string]any) *pod {
	t := c.t
	t.Helper()
	p := &pod{cluster: c, name: at(o, "metadata", "name").(string), logs: map[string]*os.File{}}
	kubectl(t, asText(t, o), "create", "--validate=strict", "-f", "-")
	containers := at(o, "spec", "containers").([]any)
	eventually(t, p.name+" writes", func() bool {
		begun, _, lines := c.ledger.count(apps{p.name + "/"})
		return begun >= len(containers) && lines >= 100
	})
	uid := kubectl(t, "", "-n", "shop", "get", "pod", p.name, "-o", "jsonpath={.metadata.uid}")
	for _, c := range append(containers, map[string]any{"name": "millrace"}) {
		name := at(c, "name").(string)
		f, err := os.Open(filepath.Join(os.Getenv("STATE"), "pod-logs", "shop_"+p.name+"_"+uid, name, "0.log"))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		p.logs[name] = f
	}
	return p
}

// end is the state in which a container of the pod has ended.
type end struct {
	ExitCode   int
	Reason     string
	FinishedAt time.Time
}

// ended waits until every container of the pod has ended, asks how, and lets the pod go.
func (p *pod) ended() (all map[string]end, status map[string]any) {
	t := p.t
	t.Helper()
	var o struct {
		Status struct {
			Reason                                   string
			ContainerStatuses, InitContainerStatuses []struct {
				Name  string
				State struct{ Terminated *end }
			}
		}
	}
	eventually(t, p.name+" has ended", func() bool {
		text := []byte(kubectl(t, "", "-n", "shop", "get", "pod", p.name, "-o", "json"))
		must(t, json.Unmarshal(text, &o))
		must(t, json.Unmarshal(text, &status))
		all = map[string]end{}
		for _, s := range append(o.Status.ContainerStatuses, o.Status.InitContainerStatuses...) {
			if s.State.Terminated == nil {
				return false
			}
			all[s.Name] = *s.State.Terminated
		}
		return len(all) > 0
	})
	kubectl(t, "", "-n", "shop", "patch", "pod", p.name, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	kubectl(t, "", "-n", "shop", "delete", "pod", p.name, "--ignore-not-found", "--timeout=180s")
	return all, status["status"].(map[string]any)
}

// stop deletes the pod, and returns how its containers ended.
func (p *pod) stop() map[string]end {
	p.t.Helper()
	kubectl(p.t, "", "-n", "shop", "delete", "pod", p.name, "--wait=false")
	all, _ := p.ended()
	return all
}

// said returns when a container has said this, for the first time; zero if it never did.
func (p *pod) said(container, words string) (at time.Time, line string) {
	p.t.Helper()
	f := p.logs[container]
	text, err := os.ReadFile(fmt.Sprint("/proc/self/fd/", f.Fd())) // from its beginning, also where it has no name any more
	must(p.t, err)
	for line := range strings.Lines(string(text)) {
		when, rest, _ := strings.Cut(line, " ")
		if !strings.Contains(rest, words) {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, when)
		must(p.t, err)
		_, rest, _ = strings.Cut(rest, " F ")
		return at, rest
	}
	return at, ""
}

// What a sidecar and an application of the tests say.
const (
	signalled = "signal: draining"
	asked     = "asked to drain"
	stopped   = `"msg":"stopped"`
	heard     = "heard SIGTERM"
	lastWords = "ends after line"
)

// order checks that things were said in this order: container, words, container, words, ...
func (p *pod) order(steps ...string) {
	p.t.Helper()
	var before time.Time
	for i := 0; i < len(steps); i += 2 {
		at, line := p.said(steps[i], steps[i+1])
		if at.IsZero() {
			p.t.Errorf("%s: %s never said %q", p.name, steps[i], steps[i+1])
			continue
		}
		since := "first"
		if !before.IsZero() {
			since = "after " + at.Sub(before).Round(time.Millisecond).String()
		}
		p.t.Logf("%s: %s (%s): %s", p.name, steps[i], since, strings.TrimSpace(line))
		if at.Before(before) {
			p.t.Errorf("%s: %s said %q before what comes before it", p.name, steps[i], steps[i+1])
		}
		before = at
	}
}

// status checks a container's exit status.
func (p *pod) status(all map[string]end, container string, want int) {
	p.t.Helper()
	if got := all[container]; got.ExitCode != want {
		p.t.Errorf("%s: %s ended with %d (%s), not %d", p.name, container, got.ExitCode, got.Reason, want)
	}
}

// left is what the sidecar's last line says.
func (p *pod) left() (kept, lost int) {
	p.t.Helper()
	_, line := p.said("millrace", stopped)
	var report struct{ Kept, Lost int }
	if err := json.Unmarshal([]byte(line), &report); err != nil {
		p.t.Errorf("%s: the sidecar's last line is %q: %v", p.name, line, err)
	}
	return report.Kept, report.Lost
}
