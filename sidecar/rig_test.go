package sidecar

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// call runs the program to its end and returns what it said.
func call(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	p := Program{Args: append([]string{"millrace"}, args...), Env: lookup(env), Stdout: &out, Stderr: &err}
	if strings.HasPrefix(args[0], "/") { // the name it is called by
		p.Args = args
	}
	code = Run(p)
	return code, out.String(), err.String()
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// write puts text into a file of a directory of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// running is an agent that runs in this process.
type running struct {
	t       *testing.T
	signals chan os.Signal
	out     *buffer
	err     *buffer
	code    chan int
	once    sync.Once
	exit    int
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// home is the environment of agents.
var home = map[string]string{"HOME": "/"}

// start runs an agent with these arguments; it is stopped at the end of the test at the latest.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	return startAs(t, false, args...)
}

// startDeaf is start for an agent that the system tells of no changed files.
func startDeaf(t *testing.T, args ...string) *running {
	t.Helper()
	return startAs(t, true, args...)
}

func startAs(t *testing.T, deaf bool, args ...string) *running {
	t.Helper()
	r := &running{t: t, signals: make(chan os.Signal, 2), out: new(buffer), err: new(buffer), code: make(chan int, 1)}
	p := Program{
		Args: append([]string{"millrace", "agent", "--admin", "127.0.0.1:0"}, args...), Env: lookup(home),
		Stdout: r.out, Stderr: r.err, Signals: r.signals, deaf: deaf,
	}
	go func() { r.code <- Run(p) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// ready waits until the agent is.
func (r *running) ready() *running {
	r.t.Helper()
	suite.Eventually(r.t, "ready", func() bool {
		select {
		case code := <-r.code:
			r.code <- code
			r.t.Fatalf("the agent ended with %d:\n%s", code, r.err)
		default:
		}
		return r.admin() != "" && ask(r.admin(), "/readyz", time.Second) == nil
	})
	return r
}

var adminAddr = regexp.MustCompile(`admin"?[=:]"?(127\.0\.0\.1:\d+)`)

// admin is the address of the admin server, empty until it is known.
func (r *running) admin() string {
	m := adminAddr.FindStringSubmatch(r.err.String())
	if m == nil {
		return ""
	}
	return m[1]
}

// says waits for a text in the agent's log.
func (r *running) says(text string) {
	r.t.Helper()
	suite.Eventually(r.t, text, func() bool { return strings.Contains(r.err.String(), text) })
}

// atRest tells whether all sources that make events of their own are at their end, and no channel holds anything.
func (r *running) atRest() bool {
	var st core.Status
	if err := json.Unmarshal([]byte(r.get("/status")), &st); err != nil {
		return false
	}
	return !slices.ContainsFunc(st.Sources, func(s core.SourceStatus) bool { return s.Type == "seq" && s.State != "finished" }) &&
		!slices.ContainsFunc(st.Channels, func(c core.ChannelStatus) bool { return c.Events > 0 })
}

// stop stops the agent and returns its exit code.
func (r *running) stop() int {
	r.once.Do(func() {
		r.signals <- syscall.SIGTERM
		select {
		case r.exit = <-r.code:
		case <-time.After(suite.Deadline):
			r.t.Fatalf("the agent does not end:\n%s", r.err)
		}
	})
	return r.exit
}

// status asks the agent what it does.
func (r *running) status() shownStatus {
	r.t.Helper()
	answer, err := http.Get("http://" + r.admin() + "/status")
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	var s shownStatus
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// shownStatus is what a reader of /status finds.
type shownStatus struct {
	core.Status
	Reload struct {
		OK, Failed int64
		Last       struct {
			Trigger, Result string
			core.Changes
			Faults []struct {
				File         string
				Line         int
				Key, Message string
			}
		}
	}
}

// delivered waits until a sink has delivered n events.
func (r *running) delivered(sink string, n int64) {
	r.t.Helper()
	suite.Eventually(r.t, "delivery", func() bool {
		for _, s := range r.status().Sinks {
			if s.Name == sink {
				return s.Delivered >= n
			}
		}
		return false
	})
}

// lastLine is the line of JSON that ends an agent.
type lastLine struct {
	Level, Msg, Agent string
	Kept, Lost        int
	Left              []struct {
		Channel string
		Events  int
		Kept    bool
	}
}

func (r *running) lastLine() (l lastLine) {
	r.t.Helper()
	r.stop()
	for line := range strings.Lines(r.err.String()) {
		if strings.HasPrefix(line, "{") && strings.Contains(line, `"msg":"stopped"`) {
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				r.t.Fatal(err)
			}
			return l
		}
	}
	r.t.Fatalf("no last line:\n%s", r.err)
	return l
}

// freePort is a port that nobody used a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// get fetches a page of the admin server.
func (r *running) get(path string) string {
	r.t.Helper()
	answer, err := http.Get("http://" + r.admin() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	return read(r.t, answer)
}

func read(t *testing.T, answer *http.Response) string {
	t.Helper()
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
