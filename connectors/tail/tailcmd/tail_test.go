package tailcmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core/suite"
)

// TestMain is also the command, as the exec source runs it: in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("TAILCMD_TEST") != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want options
		err  string
	}{
		{"-F /x", options{lines: 10, follow: true, reopen: true, files: []string{"/x"}}, ""},
		{"-f -n 5 /x", options{lines: 5, follow: true, files: []string{"/x"}}, ""},
		{"-n0 -F /x /y", options{lines: 0, follow: true, reopen: true, files: []string{"/x", "/y"}}, ""},
		{"-fn+1 /x", options{lines: 1, fromStart: true, follow: true, files: []string{"/x"}}, ""},
		{"-n +100 -q /x", options{lines: 100, fromStart: true, quiet: true, files: []string{"/x"}}, ""},
		{"-20f", options{}, "20f"},
		{"-20 /x", options{lines: 20, files: []string{"/x"}}, ""},
		{"--follow=name --retry --lines=3 /x", options{lines: 3, follow: true, reopen: true, files: []string{"/x"}}, ""},
		{"--lines 3 --quiet -- -x", options{lines: 3, quiet: true, files: []string{"-x"}}, ""},
		{"/x -f", options{lines: 10, follow: true, files: []string{"/x"}}, ""},
		{"", options{}, "no file"},
		{"-f", options{}, "no file"},
		{"-f -", options{}, "standard input"},
		{"-c 5 /x", options{}, "-c is not an option"},
		{"--pid=1 /x", options{}, "--pid=1 is not an option"},
		{"-n many /x", options{}, "many"},
		{"/x -n", options{}, "needs a number"},
	} {
		got, err := parse(strings.Fields(c.args))
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.args, err)
			}
		case err != nil || !reflect.DeepEqual(got, c.want):
			t.Errorf("%q: %+v, %v", c.args, got, err)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWithoutFollowing(t *testing.T) {
	dir := t.TempDir()
	var long strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	small, big := write(t, filepath.Join(dir, "small"), "a\nb\nc"), write(t, filepath.Join(dir, "big"), long.String())
	empty := write(t, filepath.Join(dir, "empty"), "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{small}, "a\nb\nc"},
		{[]string{"-n", "2", small}, "b\nc"},
		{[]string{"-n0", small}, ""},
		{[]string{"-n+2", small}, "b\nc"},
		{[]string{"-n+9", small}, ""},
		{[]string{"-n1", big}, "line 29999\n"},
		{[]string{"-n+29999", big}, "line 29998\nline 29999\n"},
		{[]string{"-n30000", big}, long.String()},
		{[]string{"-n29999", big}, strings.TrimPrefix(long.String(), "line 0\n")},
		{[]string{empty}, ""},
		{[]string{"-n1", small, big}, "==> " + small + " <==\nc\n==> " + big + " <==\nline 29999\n"},
		{[]string{"-q", "-n1", small, big}, "cline 29999\n"},
	} {
		var out, said bytes.Buffer
		if status := Main(c.args, &out, &said); status != 0 || out.String() != c.want || said.Len() > 0 {
			t.Errorf("%q: status %d, %q, %q", c.args, status, out.String()[:min(out.Len(), 100)], &said)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"/no/such/file"}, statusFail, "no such file"},
		{[]string{"-f", "/no/such/file"}, statusFail, "no such file"},
		{[]string{"/"}, statusFail, "is a directory"},
		{[]string{"-x"}, statusUsage, "usage: millrace tail"},
	} {
		var out, said bytes.Buffer
		if status := Main(c.args, &out, &said); status != c.status || !strings.Contains(said.String(), c.says) {
			t.Errorf("%q: status %d, %q", c.args, status, &said)
		}
	}
	var said bytes.Buffer
	if status := Main([]string{write(t, filepath.Join(t.TempDir(), "x"), "x\n")}, broken{}, &said); status != statusFail {
		t.Errorf("with a broken pipe: status %d, %s", status, &said)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// output is what a running command has printed.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// follow runs the command in a process of its own until the test's end.
func follow(t *testing.T, args ...string) (out, said *output, ended chan error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, said, ended = new(output), new(output), make(chan error, 1)
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "TAILCMD_TEST=1")
	c.Stdout, c.Stderr = out, said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		ended <- c.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-done
	})
	return out, said, ended
}

func (o *output) expect(t *testing.T, want string) {
	t.Helper()
	if !suite.Within(suite.Deadline, func() bool { return o.String() == want }) {
		t.Fatalf("printed %q, want %q", o, want)
	}
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "log"), "1\n2\n3\npart")
	out, said, _ := follow(t, "-n", "2", "-F", name)
	out.expect(t, "3\n") // the unfinished line is one of the two
	appendTo(t, name, "ly\n4\n")
	out.expect(t, "3\npartly\n4\n")
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, name, "5\n")
	out.expect(t, "3\npartly\n4\n5\n")
	// Another file takes its place. (One that is removed and made again within
	// a poll may get its inode again: nobody can tell the two apart then.)
	if err := os.Rename(write(t, name+".new", "again\n"), name); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "the file that took its place", func() bool { return strings.HasSuffix(out.String(), "again\n") })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "it waits for the file", func() bool { return strings.Contains(said.String(), "Waiting for") })
	appendTo(t, name, "and again\n")
	suite.Eventually(t, "the file that is made again", func() bool { return strings.HasSuffix(out.String(), "and again\n") })
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "the truncation is seen", func() bool {
		// Which truncation it sees is the watcher's affair: offer a line until one comes.
		if strings.HasSuffix(out.String(), "after\n") {
			return true
		}
		appendTo(t, name, "after\n")
		return false
	})
}

func TestFollowMissing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	out, said, _ := follow(t, "-F", name)
	suite.Eventually(t, "it says that the file is missing", func() bool { return strings.Contains(said.String(), "not there yet") })
	appendTo(t, name, "1\n")
	out.expect(t, "1\n")
}

func TestFollowSeveral(t *testing.T) {
	dir := t.TempDir()
	a, b := write(t, filepath.Join(dir, "a"), "1\n"), write(t, filepath.Join(dir, "b"), "2\n")
	out, _, _ := follow(t, "-f", a, b)
	begin := "==> " + a + " <==\n1\n\n==> " + b + " <==\n2\n"
	out.expect(t, begin)
	appendTo(t, b, "3\n")
	out.expect(t, begin+"3\n")
	appendTo(t, a, "4\n")
	out.expect(t, begin+"3\n\n==> "+a+" <==\n4\n")
}

// Without -F the end of the file is the end of the command.
func TestFollowRemoved(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "log"), "1\n")
	out, said, ended := follow(t, "-f", name)
	out.expect(t, "1\n")
	appendTo(t, name, "2\n")
	out.expect(t, "1\n2\n")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(said.String(), "no file is left") {
		t.Errorf("%v, %q", err, said)
	}
}

func FuzzSeek(f *testing.F) {
	f.Add([]byte("a\nb\nc"), uint8(2))
	f.Add([]byte("\n\n"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		size := int64(len(data))
		text := string(data)
		lines := strings.SplitAfter(text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		want := strings.Join(lines[max(0, len(lines)-int(n)):], "")
		from, err := lastLines(bytes.NewReader(data), size, int64(n))
		if err != nil || text[from:] != want {
			t.Fatalf("last %d of %q: %q, %v", n, text, text[from:], err)
		}
		if from, err = skipLines(bytes.NewReader(data), size, int64(n)+1); err != nil || text[from:] != strings.Join(lines[min(len(lines), int(n)+1):], "") {
			t.Fatalf("%q without %d lines: %q, %v", text, n+1, text[from:], err)
		}
		if end, err := afterLastNewline(bytes.NewReader(data), size); err != nil || end != int64(strings.LastIndex(text, "\n")+1) {
			t.Fatalf("last newline of %q: %d, %v", text, end, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("-n 5 -F x")
	f.Fuzz(func(t *testing.T, line string) {
		if o, err := parse(strings.Fields(line)); err == nil && (len(o.files) == 0 || o.lines < 0) {
			t.Fatalf("%q gives %+v", line, o)
		}
	})
}
