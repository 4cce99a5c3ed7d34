//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logWriter writes events into a log, a few bytes or lines at a time.
type logWriter struct {
	t      *testing.T
	log    string
	f      *os.File
	rest   []string // writes that the last event still needs
	events []string // that were begun, with what must come out
}

func newLogWriter(t *testing.T, log string) *logWriter {
	w := &logWriter{t: t, log: log}
	must(t, os.MkdirAll(filepath.Dir(log), 0o755))
	w.open()
	return w
}

func (w *logWriter) open() {
	w.t.Helper()
	if w.f != nil {
		must(w.t, w.f.Close())
	}
	var err error
	w.f, err = os.OpenFile(w.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	must(w.t, err)
}

// write makes n of the pending writes.
func (w *logWriter) write(n int) {
	w.t.Helper()
	for range min(n, len(w.rest)) {
		_, err := w.f.WriteString(w.rest[0])
		must(w.t, err)
		w.rest = w.rest[1:]
	}
}

func (w *logWriter) finish() { w.t.Helper(); w.write(len(w.rest)) }

// java begins the n-th event of a Java program: a stack trace that is written
// line by line, some lines in two pieces.
func (w *logWriter) java(r *rand.Rand, n int) {
	lines := []string{fmt.Sprintf("2026-01-31 12:00:00 ERROR java %d %s", n, pads[n%len(pads)])}
	for i := range r.IntN(12) {
		lines = append(lines, fmt.Sprintf("\tat com.example.C%d.run(C%d.java:%d)", i, i, n))
		if i == 6 {
			lines = append(lines, "Caused by: java.io.IOException: "+pads[i])
		}
	}
	w.events = append(w.events, strings.Join(lines, "\n"))
	for _, l := range lines {
		cut := r.IntN(len(l))
		w.rest = append(w.rest, l[:cut], l[cut:]+"\n")
	}
}

// cri begins lines of both streams; long ones are in parts of 16 KiB, which
// those of the other stream lie between.
func (w *logWriter) cri(r *rand.Rand, n int) {
	const part = 16 << 10
	var lines [2][]string
	for i, stream := range []string{"stdout", "stderr"} {
		text := fmt.Sprintf("%s %d %s", stream, n, pads[n%len(pads)])
		if r.IntN(5) == 0 {
			text += strings.Repeat("0123456789", r.IntN(3*part/10))
		}
		w.events = append(w.events, text)
		for text != "" {
			tag, piece := "F", text
			if len(text) > part {
				tag, piece = "P", text[:part]
			}
			text = text[len(piece):]
			lines[i] = append(lines[i], fmt.Sprintf("2026-01-31T12:00:00.%09dZ %s %s %s\n", n, stream, tag, piece))
		}
	}
	for len(lines[0])+len(lines[1]) > 0 {
		if i := r.IntN(2); len(lines[i]) > 0 {
			w.rest = append(w.rest, lines[i][0])
			lines[i] = lines[i][1:]
		}
	}
}

// whole returns the bodies in the sink's files, torn ones as they are.
func whole(t *testing.T, dir string) (all []string) {
	t.Helper()
	for _, l := range rolled(t, dir) {
		if _, body, ok := strings.Cut(l, "} "); ok && l[0] == '{' {
			all = append(all, body)
		} else if len(all) > 0 {
			all[len(all)-1] += "\n" + l
		}
	}
	return all
}

// TestContainerLogsAndTraces kills the agent in the middle of stack traces and
// of a container's lines, while both logs are rotated, also in the middle of an
// event and while the agent is down. Every event comes out whole, once.
func TestContainerLogsAndTraces(t *testing.T) {
	dir := workDir(t)
	out := filepath.Join(dir, "out")
	seed := uint64(1)
	if text := os.Getenv("MILLRACE_E2E_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("MILLRACE_E2E_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	java := newLogWriter(t, filepath.Join(dir, "log/app.log"))
	pod := newLogWriter(t, filepath.Join(dir, "pods/default_web-0_1b2c/app/0.log"))
	link := filepath.Join(dir, "containers/web-0_default_app-0123.log")
	must(t, os.MkdirAll(filepath.Dir(link), 0o755))
	must(t, os.Symlink(pod.log, link))
	a := newAgent(t, dir, "container.conf", nil)
	a.spawn()

	n, rotations := 0, 0
	seen := 0 // of pod's events, those in its older files
	// begin begins an event in both logs and writes some of it.
	begin := func() {
		n++
		java.finish()
		pod.finish()
		java.java(r, n)
		pod.cri(r, n)
		java.write(r.IntN(len(java.rest)))
		pod.write(r.IntN(len(pod.rest)))
	}
	for step := range pick(24, 150) {
		for range 5 + r.IntN(40) {
			begin()
		}
		switch step % 4 {
		case 0:
			a.kill9()
		case 1:
			// What is rotated out of a link before it was seen is nobody's: so
			// much of it is awaited.
			if a.cmd == nil {
				a.spawn()
			}
			eventually(t, "some of the newest file", func() bool {
				got := whole(t, out)
				return slices.ContainsFunc(pod.events[seen:], func(e string) bool { return slices.Contains(got, e) })
			})
			if r.IntN(2) == 0 {
				a.kill9()
			}
		case 2:
			rotations++
			// The program still writes into the file that has another name now.
			for i := rotations; i > 0; i-- {
				from := java.log
				if i > 1 {
					from += fmt.Sprint(".", i-1)
				}
				must(t, os.Rename(from, fmt.Sprint(java.log, ".", i)))
			}
			java.finish()
			java.open()
			// A runtime ends a line before it opens the next file.
			must(t, os.Rename(pod.log, fmt.Sprintf("%s.20260131-12%04d", pod.log, rotations)))
			pod.finish()
			pod.open()
			seen = len(pod.events)
		case 3:
			if a.cmd == nil {
				a.spawn()
			}
			if r.IntN(2) == 0 {
				a.ready()
				a.stop()
				a.spawn()
			}
		}
	}
	java.finish()
	pod.finish()
	if a.cmd == nil {
		a.spawn()
	}
	a.ready()
	want := slices.Sorted(slices.Values(slices.Concat(java.events, pod.events)))
	wait(t, func() bool { return len(whole(t, out)) >= len(want) })
	a.stop()
	got := slices.Sorted(slices.Values(whole(t, out)))
	t.Logf("%d events, %d rotations", len(want), rotations)
	same(t, "events", want, got)
}

// TestStandardInput: what a pipe gave and what came of it, after its end.
func TestStandardInput(t *testing.T) {
	dir := workDir(t)
	a := newAgent(t, dir, "stdin.conf", nil)
	want := lines("stdin", pick(50000, 1000000))
	write(t, filepath.Join(dir, "in"), joined(want))
	in, err := os.Open(filepath.Join(dir, "in"))
	must(t, err)
	defer in.Close()
	a.stdin = in
	a.start()
	wait(t, func() bool { return countRolled(filepath.Join(dir, "out")) >= len(want) })
	if text, _ := a.get("/status"); !strings.Contains(text, "finished") {
		t.Errorf("the source has not finished: %s", text)
	}
	a.stop()
	same(t, "lines", want, rolled(t, filepath.Join(dir, "out")))
}
