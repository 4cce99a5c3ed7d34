package sidecar

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.yaml.in/yaml/v3"
)

// everyMetric is /metrics of an agent that has a component of each kind that the files of deploy ask about.
func everyMetric(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	r := start(t, "-f", write(t, "a.conf", strings.NewReplacer("= memory", "= file", "channels = c\na1.sinks", "channels = c\na1.channels.c.minimumRequiredSpace = 1000000\na1.channels.c.checkpointDir = "+
		dir+"/c\na1.channels.c.dataDirs = "+dir+"/d\na1.sinks").Replace(flow))).ready()
	r.delivered("k", 1)
	return r.get("/metrics")
}

var (
	metricName  = regexp.MustCompile(`\b(?:millrace|go|process)_[a-z_]+`)
	labelsAsked = regexp.MustCompile(`(?:by|without|on) *\(([^)]*)\)|\{\{ *\$labels\.(\w+) *\}\}`)
)

// The dashboard and the alert rules ask for metrics and labels that there are, and /metrics as a whole is lint-free.
func TestDashboardAndAlerts(t *testing.T) {
	text := everyMetric(t)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	known := metricName.FindAllString(text, -1)
	labels := []string{"job", "instance", "le"} // Prometheus's own, and the histogram's
	for _, m := range regexp.MustCompile(`[{,]([a-z_]+)="`).FindAllStringSubmatch(text, -1) {
		labels = append(labels, m[1])
	}
	for file, exprs := range deployed(t) {
		asked := 0
		for _, e := range exprs {
			for _, name := range metricName.FindAllString(e, -1) {
				asked++
				if !slices.Contains(known, name) {
					t.Errorf("%s asks for %s, which there is not: %s", file, name, e)
				}
			}
			for _, m := range labelsAsked.FindAllStringSubmatch(e, -1) {
				for _, l := range strings.FieldsFunc(m[1]+m[2], func(r rune) bool { return r == ',' || r == ' ' }) {
					if !slices.Contains(labels, l) {
						t.Errorf("%s asks for label %s, which there is not: %s", file, l, e)
					}
				}
			}
		}
		if asked < 10 {
			t.Errorf("%s asks for %d metrics only: is it read rightly?", file, asked)
		}
	}
}

// deployed are the expressions and texts of the files in deploy.
func deployed(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	read := func(pattern string, add func(file string, text []byte)) {
		files, err := filepath.Glob(filepath.Join("..", "deploy", pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			add(f, text)
		}
	}
	read("prometheus/*-alerts.yaml", func(file string, text []byte) {
		var rules struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr string
					Annotations map[string]string
				}
			}
		}
		if err := yaml.Unmarshal(text, &rules); err != nil {
			t.Fatal(err)
		}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				all[file] = append(all[file], r.Expr, r.Annotations["summary"])
				if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%s: alert %s does not say what to do", file, r.Alert)
				}
			}
		}
	})
	read("grafana/*.json", func(file string, text []byte) {
		var board struct {
			Panels []struct {
				ID      int
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
			Templating struct{ List []struct{ Definition string } }
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for _, p := range board.Panels {
			if seen[p.ID] {
				t.Errorf("%s: two panels have the number %d", file, p.ID)
			}
			seen[p.ID] = true
			for _, q := range p.Targets {
				all[file] = append(all[file], q.Expr)
			}
		}
		for _, v := range board.Templating.List {
			all[file] = append(all[file], v.Definition)
		}
	})
	return all
}
