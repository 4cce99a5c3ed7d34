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
	"sync"
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

// ours tells that the engine was started by these tests, for their end to stop it.
var ours bool

// noEngine starts an engine, once for all tests; it returns why there is none, else nothing.
var noEngine = sync.OnceValue(func() string {
	if os.Getuid() != 0 {
		if _, _, err := try("docker", "info"); err != nil {
			return "no Docker engine answers, and only root can start one"
		}
	}
	out, said, err := try("./docker.sh", "up")
	if err != nil {
		return "no Docker engine can be started here: " + said
	}
	if m := regexp.MustCompile(`DOCKER_HOST=(\S+)`).FindStringSubmatch(out); m != nil {
		ours = true
		if err := os.Setenv("DOCKER_HOST", m[1]); err != nil {
			return err.Error()
		}
	}
	return ""
})

var made = map[string]bool{}

// engine sees to an engine with these images, or skips the test with the reason.
func engine(t *testing.T, images ...string) {
	t.Helper()
	if why := noEngine(); why != "" {
		t.Skip(why)
	}
	for _, image := range images {
		if !made[image] {
			run(t, "./base.sh", image)
			made[image] = true
		}
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if ours {
		if _, said, err := try("./docker.sh", "down"); err != nil {
			fmt.Fprintln(os.Stderr, "docker.sh down:", err, said)
			code = 1
		}
	}
	os.Exit(code)
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
	return sorted(p.text(volume, dir))
}

// text is what the files in a directory of a volume hold.
func (p *project) text(volume, dir string) string {
	p.t.Helper()
	return run(p.t, docker, "run", "--rm", "--network", "none", "-v", p.name+"_"+volume+":/v:ro", "busybox:1.37", "sh", "-c",
		fmt.Sprintf("cat /v/%s/* 2>/dev/null || true", dir))
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
