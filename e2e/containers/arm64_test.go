//go:build e2e

package containers

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// qemu runs a program for arm64: Debian's qemu-user-static.
const qemu = "qemu-aarch64-static"

const arm64Flow = `a1.sources = app
a1.channels = disk
a1.sinks = files
a1.sources.app.type = taildir
a1.sources.app.channels = disk
a1.sources.app.filegroups = logs
a1.sources.app.filegroups.logs = %[1]s/logs/.*\\.log
a1.channels.disk.type = file
a1.channels.disk.minimumRequiredSpace = 50000000
a1.sinks.files.type = file_roll
a1.sinks.files.channel = disk
a1.sinks.files.sink.directory = %[1]s/out
`

// The binary of the arm64 image runs: its version, a flow without a network, and
// lines from a log through the file channel into files, across kill -9, to a drain.
func TestARM64(t *testing.T) {
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip("no ", qemu, " here: install Debian's qemu-user-static")
	}
	dir := t.TempDir()
	run(t, "make", "-s", "-C", "../..", "binaries", "ARCHES=arm64", "DIST="+dir)
	bin := filepath.Join(dir, "linux_arm64", "millrace")
	if out := run(t, qemu, bin, "version"); !strings.Contains(out, "for linux/arm64") {
		t.Error(out)
	}
	if out := run(t, qemu, bin, "test", "../../compose/quickstart/flume.test.yaml"); !strings.Contains(out, " passed, 0 failed") {
		t.Error(out)
	}

	conf := filepath.Join(dir, "flume.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, arm64Flow, dir), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "logs"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
	var want strings.Builder
	log, err := os.OpenFile(filepath.Join(dir, "logs", "app.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	got := func() string {
		files, err := filepath.Glob(filepath.Join(dir, "out", "*"))
		must(t, err)
		var all strings.Builder
		for _, name := range files { // named by the time of their start
			text, err := os.ReadFile(name)
			must(t, err)
			all.Write(text)
		}
		return all.String()
	}
	for round, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		for n := range 1000 {
			_, err := fmt.Fprintf(io.MultiWriter(&want, log), "order %d accepted\n", round*1000+n)
			must(t, err)
		}
		c := exec.Command(qemu, bin, "agent", "--name", "a1", "--conf-file", conf, "--state-dir", filepath.Join(dir, "state"), "--admin", "127.0.0.1:0")
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		must(t, c.Start())
		if end == syscall.SIGKILL { // as soon as there is anything
			eventually(t, "lines come out", func() bool { return len(got()) > 0 })
		} else {
			eventually(t, "all lines come out", func() bool { return len(got()) >= want.Len() })
		}
		must(t, c.Process.Signal(end))
		err := c.Wait()
		if end == syscall.SIGTERM && (err != nil || !strings.Contains(said.String(), `"kept":0,"lost":0`)) {
			t.Errorf("round %d: %v\n%s", round, err, said.String())
		}
	}
	if got() != want.String() {
		t.Errorf("%d bytes were written, %d delivered, or in another order", want.Len(), len(got()))
	}
}
