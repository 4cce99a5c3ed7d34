package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// TestMain is also the program that the source takes for the agent's own, and
// an agent that runs a command until it is killed.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "tail":
		fmt.Println("built-in", strings.Join(os.Args[1:], " "))
		os.Exit(0)
	case os.Getenv("EXEC_TEST_COMMAND") != "":
		s := newSource()
		conf.Bind(s, map[string]string{"command": os.Getenv("EXEC_TEST_COMMAND"), "shell": "/bin/sh -c"})
		_ = s.Open(context.Background(), sourcetest.NewEnv(new(testing.T), "src"))
		_ = s.Run(context.Background(), sourcetest.NewOutlet())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The command reads a FIFO that each Feed opens, fills and closes.
func TestSuite(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{
		New: Source.New,
		Keys: func(t testing.TB) map[string]string {
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			return map[string]string{"command": "cat " + fifo, "restart": "true", "restartThrottle": "1", "batchTimeout": "10"}
		},
		Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
			_, fifo, _ := strings.Cut(in.Keys["command"], " ")
			var f *os.File
			if !suite.Within(time.Second, func() bool {
				var err error
				f, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				return err == nil
			}) {
				return nil // nobody reads any more
			}
			defer f.Close()
			if _, err := f.WriteString(strings.Join(bodies, "\n") + "\n"); err != nil {
				return nil
			}
			return bodies
		},
	})
}

// run runs a command that ends and returns its events.
func run(t *testing.T, keys map[string]string, change func(*source, *core.Env)) (*sourcetest.Outlet, error) {
	t.Helper()
	s, out := newSource(), sourcetest.NewOutlet()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	env := sourcetest.NewEnv(t, "src")
	if change != nil {
		change(s, &env)
	}
	if err := s.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	return out, s.Run(context.Background(), out)
}

// flume: TestExecSource testShellCommandSimple testShellCommandBackTicks testShellCommandComplex
// flume: TestExecSource testShellCommandScript testShellCommandEmbeddingAndEscaping
func TestLines(t *testing.T) {
	long := strings.Repeat("x", 25)
	for _, c := range []struct {
		name string
		keys map[string]string
		want []string
	}{
		{"shell", map[string]string{"shell": "/bin/sh -c", "command": "echo $(seq 5)"}, []string{"1 2 3 4 5"}},
		{"shell, lines", map[string]string{"shell": "/bin/sh -c", "command": "seq 5"}, []string{"1", "2", "3", "4", "5"}},
		{"backticks", map[string]string{"shell": "/bin/sh -c", "command": "echo `seq 1 5`"}, []string{"1 2 3 4 5"}},
		{
			"a pipeline",
			map[string]string{"shell": "/bin/sh -c", "command": `printf 'zzz\nxyz\nabcd\n1234\nijk\n' | grep -v '^x' | LC_ALL=C sort -f`},
			[]string{"1234", "abcd", "ijk", "zzz"},
		},
		{
			"a script",
			map[string]string{"shell": "/bin/sh -c", "command": "for i in 1 2 3 4 5; do if [ $i -eq 3 ]; then echo three; else echo $i; fi; done"},
			[]string{"1", "2", "three", "4", "5"},
		},
		{
			"quotes and backslashes",
			map[string]string{"shell": "/bin/sh -c", "command": `printf '%s ' '"a" \b $c' "'d' \"e\" \\f"; echo`},
			[]string{`"a" \b $c 'd' "e" \f `},
		},
		{"no shell", map[string]string{"command": "echo  a   $HOME"}, []string{"a $HOME"}},
		{"line ends", map[string]string{"command": `printf a\r\n\n\nb\rc\nd`}, []string{"a", "", "", "b\rc", "d"}},
		{"not UTF-8", map[string]string{"command": `printf \377\nb\n`, "charset": "ISO-8859-1"}, []string{"\xff", "b"}},
		{"split", map[string]string{"command": `printf ` + long + `\nb\n`, "maxEventBytes": "10"}, []string{long[:10], long[:10], long[:5], "b"}},
		{"exactly", map[string]string{"command": `printf ` + long + `\r\nb`, "maxEventBytes": "25"}, []string{long, "b"}},
		{"drop", map[string]string{"command": `printf a\n` + long + `\nb`, "maxEventBytes": "10", "longLines": "drop"}, []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := run(t, c.keys, nil)
			if got := out.Bodies(); err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("%v\ngot  %q\nwant %q", err, got, c.want)
			}
		})
	}
}

// Lines of all lengths, over the edges of blocks, and one longer than any block.
//
// flume: TestExecSource testProcess
func TestBlocks(t *testing.T) {
	var want []string
	for i := range 3000 {
		want = append(want, strings.Repeat(strconv.Itoa(i%10), i*7%900))
	}
	want[1500] = strings.Repeat("L", 300<<10)
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte(strings.Join(want, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{1 << 20, 100 << 10} {
		out, err := run(t, map[string]string{"command": "cat " + name, "batchSize": "100", "maxEventBytes": strconv.Itoa(most)}, nil)
		got := strings.Join(out.Bodies(), "\n")
		if most < 300<<10 {
			got = strings.ReplaceAll(got, "L\nL", "LL")
		}
		if err != nil || got != strings.Join(want, "\n") || out.Biggest() > 100 {
			t.Errorf("maxEventBytes %d: %d events in batches of %d, %v", most, out.Len(), out.Biggest(), err)
		}
	}
}

// A line that never ends is neither kept nor does it stop what comes after.
func TestEndlessLine(t *testing.T) {
	for _, c := range []struct {
		how    string
		events int
	}{{"split", 101}, {"drop", 1}} {
		var env core.Env
		out, err := run(t, map[string]string{
			"shell": "/bin/sh -c", "command": "head -c 104857600 /dev/zero; echo; echo end", "longLines": c.how, "batchSize": "1",
		}, func(_ *source, e *core.Env) { env = *e })
		if bodies := out.Bodies(); err != nil || len(bodies) != c.events || bodies[c.events-1] != "end" {
			t.Errorf("%s: %d events, %v", c.how, len(bodies), err)
		}
		count := int64(0)
		for _, x := range env.Metrics.Extras() {
			count += x.Load()
		}
		if count == 0 {
			t.Errorf("%s: not counted", c.how)
		}
	}
}

// flume: TestExecSource testBatchTimeout
func TestBatchTimeout(t *testing.T) {
	in := sourcetest.Start(t, sourcetest.Subject{New: Source.New}, map[string]string{
		"shell": "/bin/sh -c", "command": "echo 1; echo 2; echo 3; exec sleep 1000", "batchSize": "50000", "batchTimeout": "50",
	}, sourcetest.NewOutlet())
	suite.Eventually(t, "three lines", func() bool { return in.Out.Len() == 3 })
	in.Close()
}

// flume: TestExecSource testRestart
func TestRestart(t *testing.T) {
	in := sourcetest.Start(t, sourcetest.Subject{New: Source.New}, map[string]string{
		"command": "echo flume", "restart": "true", "restartThrottle": "1",
	}, sourcetest.NewOutlet())
	suite.Eventually(t, "five runs", func() bool { return in.Out.Len() >= 5 })
	in.Close()
}

// A full channel makes the command wait; nothing is lost.
func TestBackPressure(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Shut()
	in := sourcetest.Start(t, sourcetest.Subject{New: Source.New}, map[string]string{"command": "seq 100000", "batchSize": "1000"}, out)
	time.Sleep(5 * time.Millisecond) // lets the pipe fill in some runs
	out.Open()
	suite.Eventually(t, "all lines", func() bool { return out.Len() == 100000 })
	in.Close()
	for i, b := range out.Bodies() {
		if b != strconv.Itoa(i+1) {
			t.Fatalf("event %d is %q", i, b)
		}
	}
}

func TestStandardError(t *testing.T) {
	for _, logged := range []bool{true, false} {
		var text lockedBuffer
		_, err := run(t, map[string]string{"shell": "/bin/sh -c", "command": "echo one >&2; echo two >&2; exit 3", "logStdErr": fmt.Sprint(logged)},
			func(_ *source, env *core.Env) { env.Log = slog.New(slog.NewTextHandler(&text, nil)) })
		if err != nil {
			t.Fatal(err)
		}
		got := text.String()
		if !strings.Contains(got, `status="exit status 3" said=two`) {
			t.Errorf("the end is not logged:\n%s", got)
		}
		for _, want := range []string{"StderrLogger[1] = 'one'", "StderrLogger[2] = 'two'"} {
			if strings.Contains(got, want) != logged {
				t.Errorf("logStdErr %v: %q in the log:\n%s", logged, want, got)
			}
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestCannotStart(t *testing.T) {
	_, err := run(t, map[string]string{"command": "/no/such/command"}, nil)
	if err == nil || !strings.Contains(err.Error(), "start command: ") {
		t.Errorf("got %v", err)
	}
}

func TestChannelCloses(t *testing.T) {
	s, out := newSource(), sourcetest.NewOutlet()
	conf.Bind(s, map[string]string{"shell": "/bin/sh -c", "command": "while :; do echo x; done", "restart": "true"})
	_ = s.Open(context.Background(), sourcetest.NewEnv(t, "src"))
	out.Close(core.ErrClosed)
	if err := s.Run(context.Background(), out); !errors.Is(err, core.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// The whole group ends with the source, also those that do not listen to TERM.
//
// flume: TestExecSource testShutdown
func TestGroupEnds(t *testing.T) {
	in := sourcetest.Start(t, sourcetest.Subject{New: Source.New}, map[string]string{
		"shell": "/bin/sh -c", "command": "trap '' TERM; sleep 1000 & echo $!; echo $$; wait; wait", "batchSize": "2",
	}, sourcetest.NewOutlet())
	suite.Eventually(t, "two ids", func() bool { return in.Out.Len() == 2 })
	in.Close()
	for _, b := range in.Out.Bodies() {
		pid, _ := strconv.Atoi(b)
		suite.Eventually(t, "process "+b+" is gone", func() bool { return !alive(pid) })
	}
}

// An agent that is killed takes its command along.
func TestKilledAgent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self)
	agent.Env = append(os.Environ(), "EXEC_TEST_COMMAND=echo $$ > "+name+".tmp; mv "+name+".tmp "+name+"; exec sleep 1000")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	suite.Eventually(t, "the command runs", func() bool {
		text, err := os.ReadFile(name)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && pid > 0
	})
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	suite.Eventually(t, "the command is gone", func() bool { return !alive(pid) })
}

func TestBuiltinTail(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	missing := func(string) (string, error) { return "", exec.ErrNotFound }
	found := func(name string) (string, error) { return "/bin/" + name, nil }
	for _, c := range []struct {
		keys map[string]string
		look func(string) (string, error)
		want string
	}{
		{map[string]string{"command": "tail -F /x"}, missing, self + " tail -F /x"},
		{map[string]string{"command": "/usr/bin/tail -n +1 -F /x"}, missing, self + " tail -n +1 -F /x"},
		{map[string]string{"command": "tail -F /x"}, found, "tail -F /x"},
		{map[string]string{"command": "tail -F /x", "builtinTail": "Always"}, found, self + " tail -F /x"},
		{map[string]string{"command": "tail -F /x", "builtinTail": "never"}, missing, "tail -F /x"},
		{map[string]string{"command": "tailor x"}, missing, "tailor x"},
		{map[string]string{"command": "tail -F /x", "shell": "/bin/sh -c"}, missing, "/bin/sh -c tail -F /x"},
	} {
		s := newSource()
		conf.Bind(s, c.keys)
		s.look = c.look
		if argv, err := s.argv(); err != nil || strings.Join(argv, " ") != c.want {
			t.Errorf("%v: %q, %v", c.keys, argv, err)
		}
	}
	out, err := run(t, map[string]string{"command": "tail -F /x", "builtinTail": "always"}, nil)
	if got := out.Bodies(); err != nil || len(got) != 1 || got[0] != "built-in tail -F /x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		key, value, err string
	}{
		{"command", "", "is required"},
		{"charset", "UTF-16", "iconv"},
		{"charset", "klingon", "is not an encoding"},
		{"charset", "GBK", ""},
		{"charset", "latin1", ""},
		{"batchSize", "0", "at least 1"},
		{"longLines", "keep", "one of split, drop"},
	} {
		keys := map[string]string{"command": "x", c.key: c.value}
		if c.value == "" {
			delete(keys, c.key)
		}
		_, faults := conf.Bind(Source.New(), keys)
		if text := fmt.Sprint(faults); (c.err != "") != faults.HasErrors() || !strings.Contains(text, c.err) {
			t.Errorf("%s = %s: %s", c.key, c.value, text)
		}
	}
}

type discard struct{ core.Outlet }

func (discard) Send(_ context.Context, b *core.Batch, _ func(error)) error {
	b.Release()
	return nil
}

// BenchmarkLines is beside BenchmarkPipe, its limit: reading the pipe and no more.
func BenchmarkLines(b *testing.B) {
	for _, batch := range []string{"20", "1000"} {
		b.Run("batch "+batch, func(b *testing.B) {
			s := newSource()
			conf.Bind(s, map[string]string{"shell": "/bin/sh -c", "command": feed(b), "batchSize": batch})
			_ = s.Open(context.Background(), sourcetest.NewEnv(b, "src"))
			b.SetBytes(200)
			b.ReportAllocs()
			if err := s.Run(context.Background(), discard{}); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func feed(b *testing.B) string {
	return fmt.Sprintf("yes %s | head -c %d", strings.Repeat("x", 199), 200*b.N)
}

func BenchmarkPipe(b *testing.B) {
	p, err := start([]string{"/bin/sh", "-c", feed(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(200)
	for buf := make([]byte, 64<<10); ; {
		if _, err := p.stdout.Read(buf); err == io.EOF {
			break
		}
	}
	_ = p.wait()
	p.close()
}
