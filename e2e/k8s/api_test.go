//go:build k8s

package k8s

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Whatever manifest the API server takes as it was, it takes with the sidecar in
// it, to the last field; and it keeps what makes the sidecar one, which it
// would drop without a word if it were misspelt.
func TestAPITakesGoldenManifests(t *testing.T) {
	files, err := filepath.Glob("../../sidecar/inject/testdata/*.txt")
	must(t, err)
	made := map[string]bool{}
	taken, sidecars := 0, 0
	var not []string
	for _, file := range files {
		_, rest, _ := strings.Cut(read(t, file), "-- in --\n")
		in, out, ok := strings.Cut(rest, "\n-- out --\n")
		if !ok || strings.Contains(filepath.Base(file), "uninject") {
			continue // it is refused, or about taking out
		}
		for _, m := range regexp.MustCompile(`namespace"?: *"?([a-z-]+)`).FindAllStringSubmatch(in, -1) {
			if ns := m[1]; !made[ns] {
				made[ns] = true
				_, _, _ = run("", "kubectl", "create", "namespace", ns) // it may be there
			}
		}
		dry := []string{"create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"}
		if _, said, err := run(completed(t, in), "kubectl", dry...); err != nil {
			not = append(not, filepath.Base(file)+": "+strings.TrimSpace(said))
			continue
		}
		taken++
		back, said, err := run(completed(t, out), "kubectl", dry...)
		if err != nil {
			t.Errorf("%s: %s", file, said)
			continue
		}
		for _, o := range objects(t, back) {
			c, list := sidecar(template(o))
			if c == nil {
				continue
			}
			sidecars++
			if list == "initContainers" && c["restartPolicy"] != "Always" {
				t.Errorf("%s: the sidecar came back with restartPolicy %v", file, c["restartPolicy"])
			}
		}
	}
	t.Logf("%d manifests taken, %d sidecars read back; %d are no manifests that it takes:\n%s", taken, sidecars, len(not), strings.Join(not, "\n"))
	if taken < 60 || sidecars < 60 {
		t.Errorf("too few")
	}
}

// completed are the workloads and ConfigMaps of a golden manifest, with what the
// API server asks of them and has nothing to do with injecting: selectors, images.
func completed(t *testing.T, text string) string {
	t.Helper()
	var all []any
	var d interface{ Decode(v any) error } = yaml.NewDecoder(strings.NewReader(text))
	if strings.HasPrefix(text, `{"`) || strings.HasPrefix(text, "{\n") {
		d = json.NewDecoder(strings.NewReader(text))
	}
	for {
		var o map[string]any
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		items, isList := o["items"].([]any)
		if !isList {
			items = []any{o}
		}
		for _, item := range items {
			if o, ok := item.(map[string]any); ok && complete(o) {
				all = append(all, o)
			}
		}
	}
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": all})
	must(t, err)
	return string(list)
}

func complete(o map[string]any) bool {
	if o == nil {
		return false // a document without content
	}
	maps.DeleteFunc(o, func(key string, _ any) bool { return strings.HasPrefix(key, "x-") || key == "status" })
	if at(o, "metadata", "name") == nil && at(o, "metadata", "generateName") == nil {
		set(o, "e2e", "metadata", "name")
	}
	if o["kind"] == "ConfigMap" {
		return true
	}
	pod := template(o)
	if at(pod, "spec", "containers") == nil {
		return false
	}
	for _, list := range []string{"containers", "initContainers"} {
		containers, _ := at(pod, "spec", list).([]any)
		for _, c := range containers {
			if at(c, "image") == nil {
				set(c.(map[string]any), "app:1", "image")
			}
		}
	}
	switch o["kind"] {
	case "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet":
		o["apiVersion"] = "apps/v1"
		set(pod, "e2e", "metadata", "labels", "e2e")
		set(o, map[string]any{"matchLabels": at(pod, "metadata", "labels")}, "spec", "selector")
	case "ReplicationController":
		set(pod, "e2e", "metadata", "labels", "e2e")
		set(o, at(pod, "metadata", "labels"), "spec", "selector")
	case "Job", "CronJob":
		if at(pod, "spec", "restartPolicy") == nil {
			set(pod, "Never", "spec", "restartPolicy")
		}
	}
	claims, _ := at(o, "spec", "volumeClaimTemplates").([]any)
	for _, c := range claims {
		set(c.(map[string]any), "1Gi", "spec", "resources", "requests", "storage")
		set(c.(map[string]any), []any{"ReadWriteOnce"}, "spec", "accessModes")
	}
	return true
}

// set puts a value at the end of keys, making the objects on the way.
func set(o map[string]any, value any, keys ...string) {
	for _, k := range keys[:len(keys)-1] {
		next, ok := o[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			o[k] = next
		}
		o = next
	}
	o[keys[len(keys)-1]] = value
}

// The kustomizations that are shipped are taken, to the last field.
func TestAPITakesDeployedManifests(t *testing.T) {
	dirs, err := filepath.Glob("../../deploy/kubernetes/*/*/kustomization.yaml")
	must(t, err)
	overlays, err := filepath.Glob("../../deploy/kubernetes/*/overlays/*/kustomization.yaml")
	must(t, err)
	_, _, _ = run("", "kubectl", "create", "namespace", "millrace") // a dry run makes none
	for _, file := range slices.Concat(dirs, overlays) {
		text := kubectl(t, "", "kustomize", filepath.Dir(file))
		back := objects(t, kubectl(t, text, "apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"))
		if len(back) < 5 {
			t.Errorf("%s: only %d objects", file, len(back))
		}
	}
	if len(dirs)+len(overlays) < 5 {
		t.Error("only", dirs, overlays)
	}
}
