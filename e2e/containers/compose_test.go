//go:build e2e

// Package containers runs the examples of compose/ and the image in a real Docker
// engine, where one can be started; base images come from Debian's packages.
package containers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long anything may take on a loaded machine. Nothing here measures.
const patience = 3 * time.Minute

const docker = "/usr/bin/docker" // Debian's: another on the path may not fit

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	every := time.NewTicker(500 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(patience); !ok(); <-every.C {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// run runs a program, and fails the test with what it said if it fails.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, said, err := try(program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, said)
	}
	return out
}

func try(program string, args ...string) (out, said string, err error) {
	c := exec.Command(program, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err = c.Run()
	return stdout.String(), stderr.String(), err
}

// engine starts a Docker engine, or skips the test with the reason; then it makes the images.
func engine(t *testing.T, images ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		if _, _, err := try("docker", "info"); err != nil {
			t.Skip("no Docker engine answers, and only root can start one")
		}
	}
	out, said, err := try("./docker.sh", "up")
	if err != nil {
		t.Skipf("no Docker engine can be started here: %s", said)
	}
	if m := regexp.MustCompile(`DOCKER_HOST=(\S+)`).FindStringSubmatch(out); m != nil {
		t.Setenv("DOCKER_HOST", m[1])
		t.Cleanup(func() { run(t, "./docker.sh", "down") })
	}
	run(t, "./base.sh", images...)
}

// project is one example that is up.
type project struct {
	t         *testing.T
	dir, name string
}

func start(t *testing.T, example string) *project {
	t.Helper()
	p := &project{t: t, dir: filepath.Join("../../compose", example), name: "e2e-" + example}
	t.Cleanup(func() {
		if t.Failed() {
			out, _, _ := try("docker-compose", p.args("logs", "--no-color", "--tail", "30")...)
			t.Log(out)
		}
		run(t, "docker-compose", p.args("down", "-v", "-t", "5")...)
	})
	p.compose("up", "-d")
	return p
}

func (p *project) args(args ...string) []string {
	return append([]string{"-f", filepath.Join(p.dir, "compose.yaml"), "-p", p.name}, args...)
}

func (p *project) compose(args ...string) string {
	p.t.Helper()
	return run(p.t, "docker-compose", p.args(args...)...)
}

// lines are those of the files in a directory of a volume, sorted, without those that are there again.
func (p *project) lines(volume, dir string) []string {
	p.t.Helper()
	out := run(p.t, docker, "run", "--rm", "--network", "none", "-v", p.name+"_"+volume+":/v:ro", "busybox:1.37", "sh", "-c",
		fmt.Sprintf("cat /v/%s/* 2>/dev/null || true", dir))
	return sorted(out)
}

func sorted(text string) []string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(all)
	return slices.Compact(all)
}

// orders are the first n lines that an example's application writes, that is how it formats those that say yes to keep.
func orders(format string, n int, keep func(i int) bool) []string {
	var all []string
	for i := 1; i <= n; i++ {
		if keep == nil || keep(i) {
			all = append(all, fmt.Sprintf(format, i))
		}
	}
	slices.Sort(all)
	return all
}

const lines = 300 // that an application writes

// are waits until a place has the lines.
func are(t *testing.T, what string, want []string, got func() []string) {
	t.Helper()
	eventually(t, what, func() bool { return len(got()) >= len(want) })
	if all := got(); !slices.Equal(all, want) {
		t.Errorf("%s: %d lines, not %d: %.500q", what, len(all), len(want), all)
	}
}

// The sidecar has every line of the application, also those that it reads only when it is told to end.
func TestComposeSidecar(t *testing.T) {
	engine(t, "busybox", "millrace")
	p := start(t, "sidecar")
	want := orders("order %d accepted", lines, nil)
	eventually(t, "half of the lines", func() bool { return len(p.lines("state", "files")) > lines/2 })
	eventually(t, "the application has written all", func() bool {
		out, _, _ := try("docker-compose", p.args("exec", "-T", "app", "wc", "-l", "/var/log/app/app.log")...)
		return strings.HasPrefix(out, fmt.Sprint(lines, " "))
	})
	p.compose("stop")
	out := p.compose("logs", "--no-color", "agent")
	if !strings.Contains(out, `"msg":"stopped"`) || !strings.Contains(out, `"lost":0`) {
		t.Errorf("its last line: %s", out)
	}
	are(t, "what the sidecar has written", want, func() []string { return p.lines("state", "files") })
}

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
