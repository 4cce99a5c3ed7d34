//go:build k8s

package k8s

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// hook is a webhook that runs beside the API server, as a process.
type hook struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    string
	status string
}

// startHook starts one with a self-made certificate, and a configuration that calls it.
func startHook(t *testing.T, dir string) *hook {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     string `json:"certificate-authority"`
			}
		}
		Users []struct{ User struct{ Token string } }
	}
	must(t, json.Unmarshal([]byte(read(t, os.Getenv("KUBECONFIG"))), &config))
	account := filepath.Join(dir, "account")
	write(t, filepath.Join(account, "token"), config.Users[0].User.Token)
	write(t, filepath.Join(account, "ca.crt"), read(t, config.Clusters[0].Cluster.CA))
	address := strings.Split(strings.TrimPrefix(config.Clusters[0].Cluster.Server, "https://"), ":")

	const listen = "127.0.0.1:19443"
	text := kubectl(t, "", "kustomize", "../../deploy/kubernetes/webhook/overlays/templates")
	docs := strings.Split(text, "\n---\n")
	for _, doc := range docs {
		if !strings.Contains(doc, "kind: MutatingWebhookConfiguration") {
			continue
		}
		head, _, _ := strings.Cut(doc, "    service:\n")
		_, tail, _ := strings.Cut(doc, "  failurePolicy:")
		text = head + "    url: https://" + listen + "/mutate\n  failurePolicy:" + tail
	}
	kubectl(t, text, "apply", "-f", "-")
	t.Cleanup(func() { _, _, _ = run("", "kubectl", "delete", "mutatingwebhookconfiguration", "millrace-webhook") })

	h := &hook{t: t, log: filepath.Join(dir, "webhook.log")}
	log, err := os.Create(h.log)
	must(t, err)
	defer log.Close()
	h.cmd = exec.Command(binary(), "webhook", "--listen", listen, "--status", "127.0.0.1:0", "--host", "127.0.0.1",
		"--service-account", account, "--grace", "0s", "--image", "millrace:e2e")
	h.cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST="+address[0], "KUBERNETES_SERVICE_PORT="+address[1])
	h.cmd.Stderr = log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, h.cmd.Start())
	t.Cleanup(h.stop)
	eventually(t, "the webhook is ready", func() bool {
		m := regexp.MustCompile(` status=(\S+)`).FindStringSubmatch(read(t, h.log))
		if m == nil {
			return false
		}
		h.status = "http://" + m[1]
		_, code := get(h.status + "/readyz")
		return code == 200
	})
	return h
}

func (h *hook) stop() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(syscall.SIGTERM) // it may have ended: then Wait says so
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("the webhook ended with %v\n%s", err, read(h.t, h.log))
	}
	h.cmd = nil
}

// bare is an object without what is different each time.
func bare(o map[string]any) map[string]any {
	meta := o["metadata"].(map[string]any)
	for _, key := range []string{"uid", "creationTimestamp", "managedFields", "resourceVersion", "selfLink"} {
		delete(meta, key)
	}
	walk(o, func(m map[string]any) {
		for key := range m {
			if strings.HasSuffix(key, "controller-uid") { // of a Job's labels
				delete(m, key)
			}
		}
	})
	return o
}

// asManifest are objects that the API server has given, as somebody may give them back to it in another namespace.
func asManifest(t *testing.T, all []map[string]any) string {
	t.Helper()
	for _, o := range all {
		delete(bare(o)["metadata"].(map[string]any), "namespace")
		delete(o, "status")
		if o["kind"] == "Job" {
			delete(o["spec"].(map[string]any), "selector") // of its own making
		}
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": all})
	must(t, err)
	return string(text)
}

func walk(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, c := range v {
			walk(c, f)
		}
	case []any:
		for _, c := range v {
			walk(c, f)
		}
	}
}

// compare compares objects, each without what the function takes out.
func compare(t *testing.T, with string, n int, got, want []map[string]any, without func(map[string]any)) {
	t.Helper()
	if len(got) != n || len(want) != n {
		t.Fatal(len(got), len(want))
	}
	for i := range got {
		g, w := bare(got[i]), bare(want[i])
		if c, _ := sidecar(template(g)); c == nil || c["restartPolicy"] != "Always" {
			t.Errorf("%v has no sidecar: %v", g["kind"], c)
		}
		without(g)
		without(w)
		if !reflect.DeepEqual(g, w) {
			a, _ := json.Marshal(g)
			b, _ := json.Marshal(w)
			t.Errorf("%v:\n%s\n%s\n%s", g["kind"], a, with, b)
		}
	}
}

// The webhook, called by a real API server, makes of workloads of every kind what
// inject makes of their manifests; what it refuses, whoever asked is told.
func TestAPIWebhookIsAsInject(t *testing.T) {
	dir := t.TempDir()
	_, _, _ = run("", "kubectl", "create", "namespace", "hooked") // it may be there
	kubectl(t, "", "label", "--overwrite", "namespace", "hooked", "millrace-injection=enabled")
	h := startHook(t, dir)
	create := func(in string, more ...string) (string, string, error) {
		return run(in, "kubectl", append([]string{"-n", "hooked", "create", "--validate=strict", "-o", "json", "-f", "-"}, more...)...)
	}
	manifest := read(t, "testdata/workloads.yaml")
	injected := millrace(t, manifest, "inject", "--configmap", "app-flow", "--image", "millrace:e2e")

	// The bundle is known to the API server a moment after it was written.
	eventually(t, "the webhook is called", func() bool {
		_, said, err := create(manifest, "--dry-run=server")
		if err != nil && !strings.Contains(said, "failed calling webhook") {
			t.Fatal(said)
		}
		return err == nil
	})
	hooked, said, err := create(manifest, "--dry-run=server")
	if err != nil {
		t.Fatal(said)
	}
	byHand, said, err := create(injected, "--dry-run=server")
	if err != nil {
		t.Fatal(said)
	}
	compare(t, "by hand", 6, objects(t, hooked), objects(t, byHand), func(o map[string]any) {
		// The note says what was there, and the API server had put its defaults there before it called.
		delete(at(template(o), "metadata", "annotations").(map[string]any), "millrace/injected")
	})
	// With these defaults in the manifest the note is the same as well.
	_, _, _ = run("", "kubectl", "create", "namespace", "plain") // it may be there
	plain := kubectl(t, manifest, "-n", "plain", "create", "--dry-run=server", "-o", "json", "-f", "-")
	full := millrace(t, asManifest(t, objects(t, plain)), "inject", "--configmap", "app-flow", "--image", "millrace:e2e")
	byHand, said, err = create(full, "--dry-run=server")
	if err != nil {
		t.Fatal(said)
	}
	compare(t, "with defaults by hand", 6, objects(t, hooked), objects(t, byHand), func(map[string]any) {})

	// What was created for good is read back with it.
	if _, said, err := create(strings.Split(manifest, "---\n")[1]); err != nil {
		t.Fatal(said)
	}
	t.Cleanup(func() { _, _, _ = run("", "kubectl", "-n", "hooked", "delete", "deployment", "deployment") })
	back := objects(t, kubectl(t, "", "-n", "hooked", "get", "deployment", "deployment", "-o", "json"))[0]
	if c, list := sidecar(template(back)); list != "initContainers" || c["restartPolicy"] != "Always" || c["image"] != "millrace:e2e" {
		t.Errorf("read back: %v in %s", c, list)
	}

	refused := "apiVersion: v1\nkind: Pod\nmetadata: {name: faulty, annotations: {millrace/configmap: c, millrace/stat: x}}\nspec: {containers: [{name: app, image: app:1}]}\n"
	if _, said, err := create(refused); err == nil || !strings.Contains(said, "metadata.annotations[millrace/stat]: there is no such annotation") {
		t.Error(err, said)
	}
	unasked := "apiVersion: v1\nkind: Pod\nmetadata: {name: unasked}\nspec: {containers: [{name: app, image: app:1}]}\n"
	out, said, err := create(unasked, "--dry-run=server")
	if err != nil {
		t.Fatal(said)
	}
	if c, _ := sidecar(objects(t, out)[0]); c != nil {
		t.Error("a pod that did not ask has a sidecar")
	}
	metrics, _ := get(h.status + "/metrics")
	for _, result := range []string{`reason="",result="refused"} 1`, `reason="unasked",result="skipped"} 1`, `reason="injected",result="skipped"} 12`} {
		if !strings.Contains(metrics, "millrace_webhook_reviews_total{"+result+"\n") {
			t.Errorf("no %s in\n%s", result, metrics)
		}
	}
	log := read(t, h.log)
	for _, says := range []string{"msg=refused kind=Pod namespace=hooked name=faulty", `msg="left as it is" kind=Pod namespace=hooked name=unasked`, "kind=CronJob namespace=hooked name=cronjob"} {
		if !strings.Contains(log, says) {
			t.Errorf("the log does not say %s:\n%s", says, log)
		}
	}

	h.stop()
	if _, said, err := create(unasked, "--dry-run=server"); err == nil || !strings.Contains(said, "failed calling webhook") {
		t.Error("failurePolicy Fail, and no webhook:", fmt.Sprint(err), said)
	}
}
