package stdin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// pipes are the writing ends, by configuration.
var pipes sync.Map

// testSource reads the FIFO that its own key names, instead of standard input.
type testSource struct {
	*source
	fifo string
}

func (s *testSource) Keys(k *conf.Keys) {
	k.String(&s.fifo, "fifo", "", "What to read.")
	s.source.Keys(k)
}

func (s *testSource) Open(ctx context.Context, env core.Env) error {
	f, err := os.OpenFile(s.fifo, os.O_RDWR, 0) // with a writer, so that it has no end
	if err != nil {
		return err
	}
	s.file = f
	return s.source.Open(ctx, env)
}

func (s *testSource) Close() error { return errors.Join(s.source.Close(), s.file.Close()) }

func TestSuite(t *testing.T) {
	for name, more := range map[string]map[string]string{
		"lines":     {},
		"multiline": {"multiline.startPattern": ".", "batchSize": "7"},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Subject{
				New: func() core.Source { return &testSource{source: newSource(nil)} },
				Keys: func(t testing.TB) map[string]string {
					fifo := filepath.Join(t.TempDir(), "fifo")
					if err := syscall.Mkfifo(fifo, 0o600); err != nil {
						t.Fatal(err)
					}
					f, err := os.OpenFile(fifo, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = f.Close() })
					pipes.Store(fifo, f)
					keys := map[string]string{"fifo": fifo, "batchTimeout": "10", "multiline.timeout": "20"}
					for k, v := range more {
						keys[k] = v
					}
					return keys
				},
				Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
					f, _ := pipes.Load(in.Keys["fifo"])
					if err := f.(*os.File).SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
						t.Fatal(err)
					}
					if _, err := f.(*os.File).WriteString(strings.Join(bodies, "\n") + "\n"); err != nil {
						return nil // nobody reads any more
					}
					return bodies
				},
			})
		})
	}
}

// read reads f to its end.
func read(t *testing.T, f *os.File, keys map[string]string) ([]string, error) {
	t.Helper()
	s, out := newSource(f), sourcetest.NewOutlet()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := s.Open(context.Background(), sourcetest.NewEnv(t, "src")); err != nil {
		t.Fatal(err)
	}
	err := s.Run(context.Background(), out)
	return out.Bodies(), err
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	var want []string
	for i := range 20000 {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", i%200)))
	}
	if err := os.WriteFile(name, []byte(strings.Join(want, "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := read(t, f, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d events, want %d, %v", len(got), len(want), err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("it was closed: %v", err)
	}
}

// As `... | millrace agent` is: another process writes, and ends.
func TestPipeOfAnotherProcess(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := exec.Command("/bin/sh", "-c", `printf 'E\n at a\n'; printf ' at b\nF\n at'; printf ' c'`)
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got, err := read(t, r, map[string]string{"multiline.startPattern": `^\S`})
	if e := c.Wait(); e != nil || err != nil || !slices.Equal(got, []string{"E\n at a\n at b", "F\n at c"}) {
		t.Errorf("%q, %v, %v", got, err, e)
	}
}

// A lone line is put after batchTimeout, while the writer lives; the flags of
// what others have too stay as they are.
func TestIdlePipe(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	defer r.Close()
	defer w.Close()
	s, out := newSource(r), sourcetest.NewOutlet()
	conf.Bind(s, map[string]string{"batchTimeout": "20"})
	_ = s.Open(context.Background(), sourcetest.NewEnv(t, "src"))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, out) }()
	if _, err := w.WriteString("one\ntwo"); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "one line", func() bool { return out.Len() == 1 })
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[0]), syscall.F_GETFL, 0)
	if errno != 0 || flags&syscall.O_NONBLOCK != 0 {
		t.Errorf("flags %o, %v", flags, errno)
	}
	stop()
	// Outside of an agent there may be no time for what has no end yet.
	if err := <-ended; err != nil || !slices.Equal(out.Bodies()[:1], []string{"one"}) || out.Len() > 2 {
		t.Errorf("%q, %v", out.Bodies(), err)
	}
}

// A source that takes another's place waits until that has ended.
func TestOneAtATime(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start := func() (out *sourcetest.Outlet, stop func()) {
		s := newSource(r)
		conf.Bind(s, map[string]string{"batchTimeout": "5"})
		_ = s.Open(context.Background(), sourcetest.NewEnv(t, "src"))
		out = sourcetest.NewOutlet()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, out) }()
		return out, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	one, stopOne := start()
	fmt.Fprintln(w, "a")
	suite.Eventually(t, "the first reads", func() bool { return one.Len() == 1 })
	two, stopTwo := start()
	fmt.Fprintln(w, "b")
	suite.Eventually(t, "it still reads", func() bool { return one.Len() == 2 })
	stopOne()
	fmt.Fprintln(w, "c")
	suite.Eventually(t, "the second reads", func() bool { return two.Len() == 1 })
	stopTwo()
	w.Close()
}

func TestClosedInput(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, f, nil); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	f.Close()
	if _, err := read(t, f, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestChannelCloses(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fmt.Fprintln(w, "a")
	s, out := newSource(r), sourcetest.NewOutlet()
	conf.Bind(s, map[string]string{"batchSize": "1"})
	_ = s.Open(context.Background(), sourcetest.NewEnv(t, "src"))
	out.Close(core.ErrClosed)
	if err := s.Run(context.Background(), out); !errors.Is(err, core.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
