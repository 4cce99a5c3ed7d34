//go:build e2e

package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrometheusTools: Prometheus's own promtool finds nothing wrong with what a
// running agent answers, nor with the alert rules, whose tests pass.
func TestPrometheusTools(t *testing.T) {
	dir := workDir(t)
	web := port(t)
	a := newAgent(t, dir, "drain.conf", vars{"E2E_WEB": web, "E2E_CHANNEL": "file"}, "--state-dir", filepath.Join(dir, "state")).start()
	if code := post("http://127.0.0.1:"+web, "line\n"); code != http.StatusOK {
		t.Fatalf("post: %d", code)
	}
	text, _ := a.get("/metrics")
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"check", "rules", "../deploy/prometheus/millrace-alerts.yaml"}, {"test", "rules", "../deploy/prometheus/millrace-alerts.promtool.yaml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	a.stop()
}
