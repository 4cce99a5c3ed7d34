//go:build e2e

package containers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// The image is what it shall be: nobody's root, nothing writable, well by its own probe; and it says so.
func TestImage(t *testing.T) {
	engine(t, "busybox", "millrace")
	format := `{{.Config.User}} {{index .Config.Labels "org.opencontainers.image.title"}} {{.Config.Healthcheck.Test}} {{.Size}}`
	if out := run(t, docker, "image", "inspect", "-f", format, "millrace:latest"); !strings.HasPrefix(out, "65532:65532 millrace [CMD /millrace healthcheck] ") {
		t.Error(out)
	}
	conf, err := filepath.Abs("../../compose/sidecar")
	must(t, err)
	const name = "e2e-image"
	_, _, _ = try(docker, "rm", "-f", name) // of a run that was cut
	run(t, docker, "run", "-d", "--name", name, "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--health-interval", "1s", "-v", conf+":/etc/millrace:ro", "millrace:latest")
	t.Cleanup(func() { run(t, docker, "rm", "-f", "-v", name) })
	eventually(t, "healthy by its own probe", func() bool {
		return strings.TrimSpace(run(t, docker, "inspect", "-f", "{{.State.Health.Status}}", name)) == "healthy"
	})
	run(t, docker, "stop", "-t", "20", name)
	if code := strings.TrimSpace(run(t, docker, "inspect", "-f", "{{.State.ExitCode}}", name)); code != "0" {
		t.Error("it ended with", code)
	}
}

// The image that Docker builds of the Dockerfile is the one that is made without it.
func TestDockerfile(t *testing.T) {
	engine(t, "busybox", "millrace", "static")
	binary, err := filepath.Abs("../../build/millrace")
	must(t, err)
	context := t.TempDir()
	dir := filepath.Join(context, "dist", "linux_"+runtime.GOARCH)
	must(t, os.MkdirAll(dir, 0o755))
	text, err := os.ReadFile(binary)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "millrace"), text, 0o755))
	c := exec.Command(docker, "build", "-q", "--build-arg", "BIN=prebuilt", "-t", "millrace:dockerfile", "-f", "../../Dockerfile", context)
	c.Env = append(os.Environ(), "DOCKER_BUILDKIT=1") // it leaves the stage alone that is not needed
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var configs [2]map[string]any
	for i, name := range []string{"millrace:latest", "millrace:dockerfile"} {
		var full map[string]any
		must(t, json.Unmarshal([]byte(run(t, docker, "image", "inspect", "-f", "{{json .Config}}", name)), &full))
		configs[i] = map[string]any{}
		for _, key := range []string{"User", "Entrypoint", "Cmd", "Volumes", "Labels", "Healthcheck"} {
			configs[i][key] = full[key]
		}
		delete(full["Labels"].(map[string]any), "org.opencontainers.image.version")
		for _, e := range full["Env"].([]any) {
			if name, value, _ := strings.Cut(e.(string), "="); name != "PATH" { // which Docker adds
				configs[i][name] = value
			}
		}
	}
	if !reflect.DeepEqual(configs[0], configs[1]) {
		t.Errorf("made:  %v\nbuilt: %v", configs[0], configs[1])
	}
	if out := run(t, docker, "run", "--rm", "--network", "none", "--read-only", "millrace:dockerfile", "version"); !strings.Contains(out, "Millrace") {
		t.Error(out)
	}
	// A volume that Docker makes belongs to the user that writes into it.
	for _, image := range []string{"millrace:latest", "millrace:dockerfile"} {
		const name = "e2e-volume"
		_, _, _ = try(docker, "rm", "-f", "-v", name) // of a run that was cut
		run(t, docker, "create", "--name", name, "--network", "none", image)
		owner := run(t, docker, "run", "--rm", "--network", "none", "--volumes-from", name, "busybox:1.37", "stat", "-c", "%u:%g", "/var/lib/millrace")
		run(t, docker, "rm", "-v", name)
		if strings.TrimSpace(owner) != "65532:65532" {
			t.Errorf("%s: its volume belongs to %s", image, owner)
		}
	}
}

// make image builds the binary inside, out of nothing but the repository.
func TestImageFromSource(t *testing.T) {
	long(t)
	engine(t, "static", "golang")
	c := exec.Command("make", "-C", "../..", "image", "VERSION=from-source", "DOCKERFLAGS=--network=host")
	c.Env = append(os.Environ(), "PATH=/usr/bin:"+os.Getenv("PATH")) // Debian's Docker
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.3000s", err, out)
	}
	made["millrace"] = false // millrace:latest is this one now
	if out := run(t, docker, "run", "--rm", "--network", "none", "--read-only", "millrace:from-source", "version"); !strings.Contains(out, "from-source") {
		t.Error(out)
	}
}
