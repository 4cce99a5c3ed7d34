//go:build k8s

package k8s

import (
	"slices"
	"strings"
	"testing"
)

// inject --classic adds an ordinary container, which gets its signal together with the application's, and whose hook
// keeps it working meanwhile. Deleted and rolled, such pods lose nothing either. A Job would never end: refused.
func TestClusterClassic(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	all, batch, _ := strings.Cut(read(t, "testdata/classic.yaml"), "---\n")
	classic := []string{
		"inject", "--classic", "--configmap", "flow", "--log-path", "/var/log/app", "--requests", "cpu=10m,memory=32Mi",
		"--image", "localhost/millrace:e2e", "--image-pull-policy", "Never",
	}
	injected := millrace(t, all, classic...)
	kubectl(t, injected, "apply", "--validate=strict", "-f", "-")
	back := objects(t, kubectl(t, "", "-n", "shop", "get", "deployment", "classic", "-o", "json"))[0]
	if s, list := sidecar(template(back)); list != "containers" || at(s, "lifecycle", "preStop", "exec") == nil || s["restartPolicy"] != nil {
		t.Errorf("in %s: %v", list, s)
	}
	c.rolledOut("deployment/classic")
	gone := c.pods("classic")
	for _, what := range [][]string{{"delete", "pod", "--wait=false", gone[0], gone[1]}, {"rollout", "restart", "deployment/classic"}} {
		kubectl(t, "", append([]string{"-n", "shop"}, what...)...)
		c.rolledOut("deployment/classic")
		gone = append(gone, c.pods("classic")...)
	}
	kubectl(t, "", "-n", "shop", "scale", "--replicas=0", "deployment/classic")
	slices.Sort(gone)
	c.gone(slices.Compact(gone))
	kubectl(t, "", "-n", "shop", "wait", "--for=delete", "pod", "-l", "app=classic", "--timeout=180s")
	c.complete(apps{"classic-"})
	kubectl(t, "", "-n", "shop", "delete", "deployment", "classic")

	_, said, err := run(batch, binary(), classic...)
	if err == nil || !strings.Contains(said, "a Job never ends while a classic sidecar runs") {
		t.Errorf("a Job: %v %s", err, said)
	}
}
