//go:build k8s

package k8s

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readmeCommands are the lines of README's chapter on Kubernetes that concern a manifest; those of the webhook, which
// need an image of that name in a registry, are tried with the image of the tests by startCluster.
func readmeCommands(t *testing.T) (all []string) {
	t.Helper()
	_, chapter, found := strings.Cut(read(t, "../../README.md"), "\n## In Kubernetes\n")
	if !found {
		t.Fatal("README has no such chapter")
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	for i, block := range strings.Split(chapter, "```") {
		for line := range strings.Lines(block) {
			if i%2 == 1 && !strings.Contains(line, "webhook") && strings.TrimSpace(line) != "" {
				all = append(all, strings.TrimSpace(line))
			}
		}
	}
	return all
}

// README's commands do what they say as they are written, in a fresh clone, with an application and a configuration as
// deploy.yaml and flume.conf. Only the image has the name that it has here, by the environment.
func TestClusterREADME(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "millrace")
	sh := func(command string) string {
		t.Helper()
		c := exec.Command("bash", "-euo", "pipefail", "-c", command)
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "build")+":"+os.Getenv("PATH"),
			"MILLRACE_IMAGE=localhost/millrace:e2e", "MILLRACE_IMAGE_PULL_POLICY=Never")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	if out, said, err := run("", "git", "clone", "--quiet", "../..", dir); err != nil {
		t.Fatal(err, out, said)
	}
	const example = "../../deploy/kubernetes/example/"
	original := read(t, example+"deploy.yaml")
	write(t, filepath.Join(dir, "deploy.yaml"), original)
	write(t, filepath.Join(dir, "flume.conf"), read(t, example+"flume.conf"))
	sh("make build")
	t.Cleanup(func() { _, _, _ = run("", "kubectl", "delete", "deployment/shop", "configmap/shop-millrace") })

	ran, applied, kept, looked := 0, 0, 0, 0
	for _, line := range readmeCommands(t) {
		ran++
		switch {
		case strings.Contains(line, "kubectl apply -f -"):
			t.Log(line + "\n" + sh(line))
			applied++
			kubectl(t, "", "rollout", "status", "deployment/shop", "--timeout=120s")
			eventually(t, "the application's lines come out of the sidecar", func() bool {
				return strings.Contains(kubectl(t, "", "logs", "deployment/shop", "-c", "millrace"), "order 3 accepted")
			})
		case strings.Contains(line, "kubectl logs"):
			looked++
			out := sh(line)
			t.Log(line + "\n" + out)
			if !strings.Contains(out, "accepted") {
				t.Errorf("%s shows no line of the application:\n%s", line, out)
			}
		case strings.Contains(line, "--uninject"):
			t.Log(line + "\n" + sh(line))
			if got := read(t, filepath.Join(dir, "deploy.yaml")); got != original {
				t.Errorf("what is taken out again leaves\n%s", got)
			}
		case strings.Contains(line, " -o deploy.yaml"):
			t.Log(line + "\n" + sh(line))
			kept++
			out := kubectl(t, "", "apply", "-f", filepath.Join(dir, "deploy.yaml"))
			if !strings.Contains(out, "deployment.apps/shop unchanged") {
				t.Errorf("what is kept is not what was tried: %s", out)
			}
		default:
			t.Log(line + "\n" + sh(line))
		}
	}
	t.Logf("%d commands ran, %d that look among them", ran, looked)
	if applied == 0 || kept == 0 || ran < 3 {
		t.Errorf("%d commands, %d apply and %d keep: are these README's?", ran, applied, kept)
	}
}
