//go:build e2e

// Package e2e runs the program as it is shipped against programs that nobody
// here wrote: rsyslog, logrotate, syslog-ng, logger, ncat, curl, Apache Flume.
//
//	MILLRACE_BIN     the binary, build/millrace by default
//	MILLRACE_E2E     short (default) or long: how much, never what
//	MILLRACE_E2E_KEEP=DIR  keep what the tests write, for a look afterwards
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// long reports whether there is time for big numbers.
func long() bool { return os.Getenv("MILLRACE_E2E") == "long" }

// pick is one number for the short form and another for the long one.
func pick(short, big int) int {
	if long() {
		return big
	}
	return short
}

// patience is how long anything may take that should take no time. It is for
// loaded machines: nothing here measures.
const patience = 60 * time.Second

// eventually waits until ok, and fails the test when that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(patience); !ok(); <-every.C {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// workDir is a directory for one test; kept if the caller wants it.
func workDir(t *testing.T) string {
	keep := os.Getenv("MILLRACE_E2E_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, t.Name())
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

// ports are those that port has returned: the system may give one again before its user listens.
var ports sync.Map

// port returns one that is free for TCP and UDP on the loopback, and that no test was given before.
func port(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		_, text, _ := net.SplitHostPort(l.Addr().String())
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err != nil {
			continue
		}
		u.Close()
		if _, given := ports.LoadOrStore(text, true); !given {
			return text
		}
	}
}

func binary() string {
	if b := os.Getenv("MILLRACE_BIN"); b != "" {
		return b
	}
	b, _ := filepath.Abs("../build/millrace")
	return b
}

// vars are what a configuration of scenarios/ asks of its environment.
type vars map[string]string

func (v vars) list() (l []string) {
	for name, value := range v {
		l = append(l, name+"="+value)
	}
	return l
}

// millrace runs the program to its end.
func millrace(t *testing.T, v vars, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.Command(binary(), args...)
	var out, err bytes.Buffer
	c.Stdout, c.Stderr, c.Env = &out, &err, append(os.Environ(), v.list()...)
	if e := c.Run(); e != nil && c.ProcessState == nil {
		t.Fatal(e)
	}
	return out.String(), err.String(), c.ProcessState.ExitCode()
}

// agent is a configuration with a life: started, stopped, killed, started again.
type agent struct {
	t     *testing.T
	conf  string
	env   []string
	flags []string
	admin string
	log   string   // the log of all its lives
	stdin *os.File // nil: none

	cmd   *exec.Cmd // nil while it is down
	ended chan struct{}
}

// newAgent makes the agent a1 of scenarios/<conf>. It is down.
func newAgent(t *testing.T, dir, conf string, v vars, flags ...string) *agent {
	a := &agent{t: t, conf: filepath.Join("scenarios", conf), flags: flags, admin: "127.0.0.1:" + port(t), log: filepath.Join(dir, "agent.log")}
	a.env = append(os.Environ(), "E2E_DIR="+dir)
	a.env = append(a.env, v.list()...)
	t.Cleanup(func() {
		if a.cmd != nil {
			_ = a.cmd.Process.Kill() // it may have ended by itself: then its log says why
			<-a.ended
		}
		if t.Failed() {
			t.Logf("end of %s:\n%s", a.log, tailOf(a.log, 60))
		}
	})
	return a
}

// spawn starts the process and does not wait.
func (a *agent) spawn() {
	a.t.Helper()
	log, err := os.OpenFile(a.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	must(a.t, err)
	defer log.Close()
	args := append([]string{"agent", "-n", "a1", "-f", a.conf, "--no-reload-conf", "--admin", a.admin}, a.flags...)
	a.cmd = exec.Command(binary(), args...)
	a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = a.env, log, log
	if a.stdin != nil {
		a.cmd.Stdin = a.stdin
	}
	// Of a test that panics nothing must stay.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(a.t, a.cmd.Start())
	a.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan struct{}) {
		_ = c.Wait() // the exit code is looked at by who waits for ended
		close(ended)
	}(a.cmd, a.ended)
}

// start starts the process and waits until it is ready.
func (a *agent) start() *agent {
	a.t.Helper()
	a.spawn()
	a.ready()
	return a
}

func (a *agent) ready() {
	a.t.Helper()
	eventually(a.t, "agent ready", func() bool {
		select {
		case <-a.ended:
			a.t.Fatalf("the agent ended with %d instead of becoming ready", a.cmd.ProcessState.ExitCode())
		default:
		}
		_, code := a.get("/readyz")
		return code == http.StatusOK
	})
}

// get asks the admin server; code 0 if it does not answer.
func (a *agent) get(path string) (body string, code int) { return get("http://" + a.admin + path) }

func get(url string) (body string, code int) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return "", 0
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return "", 0
	}
	return string(text), r.StatusCode
}

// metric is the sum of a metric over its labels; 0 while the agent does not answer.
func (a *agent) metric(name string) (sum float64) {
	text, _ := a.get("/metrics")
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == '{' || rest[0] == ' ') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				a.t.Fatalf("%s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

func (a *agent) signal(s syscall.Signal) { must(a.t, a.cmd.Process.Signal(s)) }

// wait waits for the process's end and returns its exit code.
func (a *agent) wait() int {
	a.t.Helper()
	select {
	case <-a.ended:
	case <-time.After(patience):
		a.t.Fatal("the agent does not end")
	}
	code := a.cmd.ProcessState.ExitCode()
	a.cmd = nil
	return code
}

// stop ends the agent by SIGTERM, as an orchestrator does.
func (a *agent) stop() {
	a.t.Helper()
	a.signal(syscall.SIGTERM)
	if code := a.wait(); code != 0 {
		a.t.Fatalf("stopped agent: exit code %d", code)
	}
}

func (a *agent) kill9() {
	a.t.Helper()
	a.signal(syscall.SIGKILL)
	a.wait()
}

// lastLine is the JSON line that a stopped agent ends with.
type lastLine struct {
	Msg        string
	Kept, Lost int
	Left       []struct {
		Channel string
		Events  int
		Kept    bool
	}
}

func (a *agent) lastLine() lastLine {
	a.t.Helper()
	return a.lastLineOf(tailOf(a.log, 1))
}

func (a *agent) lastLineOf(text string) (l lastLine) {
	a.t.Helper()
	text, _, _ = strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(text), &l); err != nil || l.Msg != "stopped" {
		a.t.Fatalf("the last line is not what was left: %q %v", text, err)
	}
	return l
}

// tailOf returns the last n lines of a file.
func tailOf(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var last []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if last = append(last, s.Text()); len(last) > n {
			last = last[1:]
		}
	}
	return strings.Join(last, "\n")
}

// service runs a script of services/ to its end. What it starts is stopped by
// the script's own stop.
func service(t *testing.T, env vars, script string, args ...string) {
	t.Helper()
	if out, err := serviceErr(env, script, args...); err != nil {
		t.Fatalf("%s %s: %v\n%s", script, strings.Join(args, " "), err, out)
	}
}

func serviceErr(env vars, script string, args ...string) (string, error) {
	c := exec.Command("bash", append([]string{"services/" + script}, args...)...)
	c.Env = append(os.Environ(), env.list()...)
	// A daemon that a script leaves behind must not hold the pipe.
	var out bytes.Buffer
	c.Stdout, c.Stderr, c.WaitDelay = &out, &out, 10*time.Second
	err := c.Run()
	return out.String(), err
}

// daemon starts a service that has a name, and stops it when the test ends.
func daemon(t *testing.T, env vars, script string, args ...string) {
	t.Helper()
	service(t, env, script, args...)
	t.Cleanup(func() {
		if out, err := serviceErr(nil, script, "stop", args[1]); err != nil {
			t.Errorf("stop %s %s: %v\n%s", script, args[1], err, out)
		}
	})
}

func certs() string {
	home := os.Getenv("MILLRACE_E2E_HOME")
	if home == "" {
		h, _ := os.UserHomeDir()
		home = filepath.Join(h, ".cache/millrace-e2e")
	}
	return filepath.Join(home, "certs")
}

// run runs one of the tools that feed the agent, with text on its standard input.
func run(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
