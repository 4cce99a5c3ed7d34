package tail

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
)

// trace is the n-th event of a Java program, of as many lines as n says.
func trace(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "2026-01-31 12:00:00,%03d ERROR [main] event %d", n%1000, n)
	for i := range n % 5 {
		if i == 0 {
			b.WriteString("\njava.lang.IllegalStateException: no such thing")
		}
		fmt.Fprintf(&b, "\n\tat com.example.Thing.method%d(Thing.java:%d)", i, n)
		if i == 3 {
			b.WriteString("\nCaused by: java.io.IOException")
		}
	}
	return b.String()
}

func traces(from, to int) (all []string) {
	for n := from; n < to; n++ {
		all = append(all, trace(n))
	}
	return all
}

func text(events ...string) string { return strings.Join(events, "\n") + "\n" }

// java are the keys for traces. The time is far away: what ends an event is a line or a file.
func java(timeout string) []string {
	return []string{"multiline.startPattern", `^\d{4}-`, "multiline.timeout", timeout}
}

const never = "3600000"

// saved waits until the position file has text.
func (r *rig) saved(text string) {
	r.t.Helper()
	r.wait("the position file says "+text, func() bool {
		data, err := os.ReadFile(r.keys["positionFile"])
		return err == nil && strings.Contains(string(data), text)
	})
}

func TestMultilineStackTraces(t *testing.T) {
	r := newRig(t, `app\.log`, append(java("50"), "batchSize", "7")...)
	all := traces(0, 300)
	r.write("app.log", text(all...))
	r.start()
	r.want(all...) // the last one after 50 ms
	for i, e := range r.out.Events() {
		if i > 0 && e.Pos <= r.out.Events()[i-1].Pos {
			t.Fatalf("event %d at %d", i, e.Pos)
		}
	}
	if r.out.Biggest() != 7 {
		t.Errorf("a batch of %d", r.out.Biggest())
	}
	r.wait("nothing is left", func() bool { return r.cell("bytes_behind") == 0 })
}

// An event that grows slowly is one event; what waits is not stored as done.
func TestMultilineWaitsForMore(t *testing.T) {
	r := newRig(t, `app\.log`, java(never)...)
	r.write("app.log", text(trace(0), trace(4)))
	r.start()
	r.want(trace(0))
	r.saved(fmt.Sprintf(`"pos":%d,`, len(trace(0))+1))
	lines := strings.SplitAfter(trace(3), "\n")
	lines[len(lines)-1] += "\n"
	r.add("app.log", lines[0])
	r.want(trace(0), trace(4))
	for _, l := range lines[1:] {
		r.add("app.log", l[:3])
		r.add("app.log", l[3:])
	}
	r.add("app.log", text(trace(1)))
	r.want(trace(0), trace(4), trace(3))
}

// The end of a file that was renamed belongs to the event that began before;
// the next file waits for it.
func TestMultilineAcrossRenameAndCreate(t *testing.T) {
	for _, how := range []string{"running", "closed", "killed"} {
		t.Run(how, func(t *testing.T) {
			timeout := "300"
			r := newRig(t, `app\.log`, java(timeout)...)
			half := trace(4)[:len(trace(4))/2]
			r.write("app.log", text(trace(1))+half)
			r.start()
			r.want(trace(1)) // the half has a first line
			r.wait("it is read", func() bool { return r.cell("files_open") == 1 && r.cell("bytes_behind") > 0 })
			switch how {
			case "closed":
				r.close()
			case "killed":
				r.saved(fmt.Sprintf(`"pos":%d,`, len(trace(1))+1))
				r.kill()
			}
			f, err := os.OpenFile(r.path("app.log"), os.O_WRONLY|os.O_APPEND, 0)
			r.check(err)
			defer f.Close()
			r.rename("app.log", "app.log.1")
			r.write("app.log", text(trace(2), trace(3)))
			_, err = f.WriteString(trace(4)[len(half):] + "\n")
			r.check(err)
			if how != "running" {
				r.start()
			}
			r.want(trace(1), trace(4), trace(2), trace(3))
		})
	}
}

// Copied and truncated, with the event unfinished: it is finished from the
// copy, and comes before what is written into the truncated file.
func TestMultilineAcrossCopyTruncate(t *testing.T) {
	for _, how := range []string{"running", "closed", "killed"} {
		for _, pattern := range []string{`app\.log`, `app\.log.*`} {
			t.Run(how+" "+pattern, func(t *testing.T) {
				r := newRig(t, pattern, java("300")...)
				whole := text(traces(0, 40)...)
				cut := len(text(traces(0, 38)...)) + 100 // within the 39th
				r.write("app.log", whole[:cut])
				r.start()
				r.want(traces(0, 38)...)
				switch how {
				case "closed":
					r.close()
				case "killed":
					r.saved(fmt.Sprintf(`"pos":%d,`, len(text(traces(0, 38)...))))
					r.kill()
				}
				r.add("app.log", whole[cut:])
				r.copyTruncate("app.log", "app.log.1")
				r.add("app.log", text(traces(40, 42)...))
				if how != "running" {
					r.start()
				}
				r.want(traces(0, 42)...)
			})
		}
	}
}

func (r *rig) copyTruncate(from, to string) {
	r.t.Helper()
	data, err := os.ReadFile(r.path(from))
	r.check(err)
	r.write(to, string(data))
	r.check(os.Truncate(r.path(from), 0))
}

// criLine is a line as kubelet's runtimes write it.
func criLine(n int, stream, tag, text string) string {
	return fmt.Sprintf("2026-01-31T12:00:%02d.%09dZ %s %s %s\n", n/1000%60, n%1000*1e6, stream, tag, text)
}

const partBytes = 16 << 10

// pod is a container's two texts, as lines of both in one file.
type pod struct {
	rnd    *rand.Rand
	format string
	n      int
	open   map[string]string // what is left of a line of the stream
	want   map[string][]string
}

func newPod(format string) *pod {
	return &pod{rnd: rand.New(rand.NewPCG(1, 2)), format: format, open: map[string]string{}, want: map[string][]string{}}
}

// lines makes n physical lines. Some logical ones have parts of 16 KiB, between
// which the other stream goes on.
func (p *pod) lines(n int) string {
	var b strings.Builder
	for range n {
		stream := []string{"stdout", "stderr"}[p.rnd.IntN(2)]
		rest, unfinished := p.open[stream]
		if !unfinished {
			p.n++
			rest = fmt.Sprintf("%s line %d.", stream, p.n)
			if p.rnd.IntN(8) == 0 {
				rest += strings.Repeat(strconv.Itoa(p.n%10), p.rnd.IntN(3*partBytes))
			}
			p.want[stream] = append(p.want[stream], rest)
		}
		b.WriteString(p.line(stream, rest))
	}
	return b.String()
}

// finish ends the lines that are unfinished.
func (p *pod) finish() string {
	var b strings.Builder
	for _, stream := range []string{"stdout", "stderr"} {
		for p.open[stream] != "" {
			b.WriteString(p.line(stream, p.open[stream]))
		}
	}
	return b.String()
}

func (p *pod) line(stream, rest string) string {
	cut := min(len(rest), partBytes)
	now, left := rest[:cut], rest[cut:]
	if delete(p.open, stream); left != "" {
		p.open[stream] = left
	}
	if p.format == "cri" {
		return criLine(p.n, stream, map[bool]string{true: "P", false: "F"}[left != ""], now)
	}
	if left == "" {
		now += "\n"
	}
	data, err := json.Marshal(map[string]string{"log": now, "stream": stream, "time": "2026-01-31T12:00:00.123456789Z"})
	if err != nil {
		panic(err)
	}
	return string(data) + "\n"
}

func (p *pod) total() int { return len(p.want["stdout"]) + len(p.want["stderr"]) }

// streams returns the bodies of what arrived, by stream.
func (r *rig) streams() map[string][]string {
	got := map[string][]string{}
	for _, e := range r.out.Events() {
		s := e.Headers.Value("stream")
		if _, err := strconv.ParseInt(e.Headers.Value("timestamp"), 10, 64); err != nil {
			r.t.Fatalf("timestamp: %v", err)
		}
		got[s] = append(got[s], string(e.Body))
	}
	return got
}

func (r *rig) wantPod(p *pod) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d lines", p.total()), func() bool { return r.out.Len() >= p.total() })
	got := r.streams()
	for _, s := range []string{"stdout", "stderr"} {
		if !slices.Equal(got[s], p.want[s]) {
			for i := range got[s] {
				if i >= len(p.want[s]) || got[s][i] != p.want[s][i] {
					r.t.Fatalf("%s: event %d of %d is %.60q", s, i, len(p.want[s]), got[s][i])
				}
			}
			r.t.Fatalf("%s: %d events, want %d", s, len(got[s]), len(p.want[s]))
		}
	}
	if len(got) > 2 {
		r.t.Errorf("streams %d", len(got))
	}
}

// kubelet lays out a node's log directories: containers/x.log leads to
// pods/.../0.log, which the kubelet renames.
type kubelet struct {
	r    *rig
	log  string
	turn int
}

func newKubelet(r *rig) *kubelet {
	k := &kubelet{r: r, log: filepath.Join(r.dir, "pods", "default_web-0_1b2c", "app", "0.log")}
	r.check(os.MkdirAll(filepath.Dir(k.log), 0o755))
	r.check(os.WriteFile(k.log, nil, 0o644))
	r.check(os.Symlink(k.log, r.path("web-0_default_app-0123.log")))
	return k
}

func (k *kubelet) write(text string) {
	k.r.t.Helper()
	f, err := os.OpenFile(k.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	k.r.check(err)
	_, err = io.WriteString(f, text)
	k.r.check(err)
	k.r.check(f.Close())
}

func (k *kubelet) rotate() {
	k.r.t.Helper()
	k.turn++
	k.r.check(os.Rename(k.log, fmt.Sprintf("%s.20260131-12%04d", k.log, k.turn)))
	k.write("")
}

// Rotation by the kubelet, with the agent running, stopped or killed meanwhile.
func TestKubernetesRotation(t *testing.T) {
	for _, format := range []string{"cri", "docker"} {
		for _, how := range []string{"running", "closed", "killed"} {
			t.Run(format+" "+how, func(t *testing.T) {
				r := newRig(t, `.*\.log`, "container", "auto", "multiline.timeout", never, "batchSize", "9", "fileHeader", "true")
				k, p := newKubelet(r), newPod(format)
				k.write(p.lines(100))
				r.start()
				for range 4 {
					at := r.out.Len()
					k.write(p.lines(60))
					r.wait("some of it", func() bool { return r.out.Len() > at })
					switch how {
					case "closed":
						r.close()
					case "killed":
						r.kill()
					}
					k.write(p.lines(60))
					k.write(p.finish())
					k.rotate()
					old := p.total()
					k.write(p.lines(60))
					if how != "running" {
						r.start()
					}
					// A file that is rotated out of the pattern before it was seen is not read.
					r.wait("some of the new file", func() bool { return r.out.Len() > old })
				}
				k.write(p.finish())
				r.wantPod(p)
				for _, e := range r.out.Events() {
					if h := e.Headers.Value("file"); h != r.path("web-0_default_app-0123.log") {
						t.Fatalf("file %q", h)
					}
				}
			})
		}
	}
}

// A restart within a line that the runtime cut, of one stream, while the other
// has gone on: neither comes twice, neither is torn.
func TestRestartWithinParts(t *testing.T) {
	for _, format := range []string{"cri", "docker"} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s kill %v", format, kill), func(t *testing.T) {
				r := newRig(t, `0\.log`, "container", format, "multiline.timeout", never, "batchSize", "5")
				p := newPod(format)
				for i := range 25 {
					r.add("0.log", p.lines(30))
					r.start()
					want := p.total() - len(p.open)
					r.wait("all that is finished", func() bool { return r.out.Len() >= want })
					if kill && i%2 == 0 {
						r.kill()
					} else {
						r.close()
					}
				}
				r.start()
				r.add("0.log", p.finish())
				r.wantPod(p)
			})
		}
	}
}

// What a crash finds under way is neither lost nor repeated, whatever was
// written down last.
func TestCrashesWithTracesOfTwoStreams(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	r := newRig(t, `0\.log`, "container", "cri", "multiline.startPattern", `^\S`, "multiline.timeout", never, "batchSize", "4", "maxBatchCount", "3")
	want := map[string][]string{}
	last := map[string]int{}
	r.start()
	for n := range 1500 {
		stream := []string{"stdout", "stderr"}[rnd.IntN(2)]
		if last[stream] == 0 || rnd.IntN(3) == 0 {
			want[stream] = append(want[stream], fmt.Sprint("event ", n))
		} else {
			want[stream][len(want[stream])-1] += fmt.Sprint("\n at ", n)
		}
		last[stream]++
		_, body, _ := strings.Cut("\n"+want[stream][len(want[stream])-1], "\n")
		body = body[strings.LastIndexByte(body, '\n')+1:]
		r.add("0.log", criLine(n, stream, "F", body))
		switch rnd.IntN(40) {
		case 0:
			r.out.Hold() // what comes now is lost in the crash
		case 1:
			r.out.Release()
		case 2:
			r.kill()
			r.start()
		case 3:
			r.close()
			r.start()
		}
	}
	r.out.Release()
	r.add("0.log", criLine(1, "stdout", "F", "end")+criLine(1, "stderr", "F", "end"))
	r.wait("all", func() bool { return r.out.Len() >= len(want["stdout"])+len(want["stderr"]) })
	got := r.streams()
	for s := range want {
		if !slices.Equal(got[s], want[s]) {
			t.Errorf("%s: %d events, want %d", s, len(got[s]), len(want[s]))
		}
	}
}

// On a busy file the events of a stream that says no more still come.
func TestTimeoutOfOneStreamWhileTheOtherIsBusy(t *testing.T) {
	r := newRig(t, `0\.log`, "container", "cri", "multiline.startPattern", `^\S`, "multiline.timeout", "30")
	r.add("0.log", criLine(0, "stderr", "F", "E")+criLine(0, "stderr", "F", " at x"))
	r.start()
	n := 0
	r.wait("the event of standard error", func() bool {
		n++
		r.add("0.log", criLine(n, "stdout", "F", fmt.Sprint("line ", n)))
		return slices.Contains(r.out.Bodies(), "E\n at x")
	})
}

// Flume's own place in the file is where an event begins that is not stored.
func TestContainerPositionIsTheSafeOne(t *testing.T) {
	r := newRig(t, `0\.log`, "container", "cri", "multiline.timeout", never)
	one := criLine(1, "stderr", "F", "one")
	r.write("0.log", one+criLine(2, "stderr", "P", "begun ")+criLine(3, "stdout", "F", "two"))
	r.start()
	r.want("one", "two")
	r.saved(fmt.Sprintf(`"pos":%d,`, len(one)))
	r.close()
	r.add("0.log", criLine(4, "stderr", "F", "and done"))
	r.start()
	r.want("one", "two", "begun and done")
}

// Taking the keys away, or adding them, loses nothing.
func TestKeysChange(t *testing.T) {
	r := newRig(t, `0\.log`)
	one, two := criLine(1, "stdout", "F", "one"), criLine(2, "stderr", "P", "begun ")
	three := criLine(3, "stdout", "F", "three")
	r.write("0.log", one)
	r.start()
	r.want(strings.TrimSuffix(one, "\n"))
	r.close()
	r.keys["container"], r.keys["multiline.timeout"] = "cri", never
	r.add("0.log", two+"noise\n"+three)
	r.start()
	r.want(strings.TrimSuffix(one, "\n"), "noise", "three")
	r.close()
	delete(r.keys, "container")
	delete(r.keys, "multiline.timeout")
	r.start()
	r.want(strings.TrimSuffix(one, "\n"), "noise", "three", strings.TrimSuffix(two, "\n"), "noise", strings.TrimSuffix(three, "\n"))
}

// A file that is gone gives up what is unfinished in it.
func TestUnfinishedInAFileThatIsGone(t *testing.T) {
	r := newRig(t, `app\.log`, append(java("30"), "idleTimeout", "20")...)
	r.write("app.log", text(trace(1), trace(3)))
	r.start()
	r.want(trace(1), trace(3))
	r.keys["multiline.timeout"] = never
	r.close()
	r.start()
	r.add("app.log", text(trace(4)))
	r.wait("it is read", func() bool { return r.cell("bytes_behind") > 0 && r.cell("files_open") == 0 })
	r.check(os.Remove(r.path("app.log")))
	r.want(trace(1), trace(3), trace(4))
}

func TestLongContainerLinesInAFile(t *testing.T) {
	r := newRig(t, `0\.log`, "container", "cri", "maxEventBytes", "10", "longLines", "drop", "multiline.timeout", "30")
	r.write("0.log", criLine(1, "stdout", "F", "0123456789")+criLine(1, "stdout", "P", "01234")+criLine(1, "stdout", "P", "56789")+
		criLine(1, "stdout", "F", "x")+strings.Repeat("y", 300<<10)+"\n"+criLine(1, "stdout", "F", "next"))
	r.start()
	r.want("0123456789", "next")
	if n, m := r.cell("container_lines_long_total"), r.cell("lines_dropped_total"); n != 1 || m != 1 {
		t.Errorf("%d and %d long lines", n, m)
	}
}

// The suite, with bodies as first lines of traces, and as lines of a container.
func TestSuiteJoined(t *testing.T) {
	for name, c := range map[string]struct {
		keys map[string]string
		wrap func(i int, body string) string
		more string // of an event, behind the body
	}{
		"multiline": {
			map[string]string{"multiline.endPattern": "^end$"},
			func(_ int, body string) string { return body + "\n  at x\nend\n" }, "\n  at x\nend",
		},
		"multiline start": {
			map[string]string{"multiline.startPattern": `^\S`, "multiline.timeout": "20"},
			func(_ int, body string) string { return body + "\n  at x\n" }, "\n  at x",
		},
		"cri": {
			map[string]string{"container": "cri"},
			func(i int, body string) string {
				return criLine(i, "stdout", "P", body[:len(body)/2]) + criLine(i, "stdout", "F", body[len(body)/2:])
			}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Subject{
				New: Source.New, Replay: true,
				Keys: func(t testing.TB) map[string]string {
					dir := t.TempDir()
					keys := map[string]string{
						"filegroups": "g", "filegroups.g": dir + `/.*\.log`, "batchSize": "7",
						"positionFile": filepath.Join(dir, "pos", "p.json"), "pollInterval": "5", "writePosInterval": "20",
					}
					for k, v := range c.keys {
						keys[k] = v
					}
					return keys
				},
				Feed: func(t testing.TB, in *sourcetest.Instance, bodies []string) []string {
					path := filepath.Join(filepath.Dir(in.Keys["filegroups.g"]), "a.log")
					f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					var b strings.Builder
					handed := make([]string, len(bodies))
					for i, body := range bodies {
						b.WriteString(c.wrap(i, body))
						handed[i] = body + c.more
					}
					if _, err := f.WriteString(b.String()); err != nil {
						t.Fatal(err)
					}
					return handed
				},
			})
		})
	}
}

// While an event waits to be sent its text's position stays before it, though
// the joiner is done with it; that of another text does not.
func TestPositionsWaitForWhatIsNotSent(t *testing.T) {
	s := Source.New().(*source)
	if _, faults := conf.Bind(s, map[string]string{"filegroups": "g", "filegroups.g": `/logs/a\.log`, "container": "cri"}); faults.HasErrors() {
		t.Fatal(faults)
	}
	st := &stream{joined: true, join: s.lines.Joiner(lines.NewCounters(new(metric.Group)), 100, false, lines.Positions{})}
	at := int64(0)
	add := func(line string) (begin int64) {
		begin, at = at, at+int64(len(line))
		for _, e := range st.join.Add(lines.Line{Text: []byte(strings.TrimSuffix(line, "\n")), Begin: begin, End: at}, time.Now()) {
			st.part[e.Stream].hold(e.Begin)
		}
		return begin
	}
	add(criLine(1, "stderr", "F", "x"))
	one := add(criLine(2, "stdout", "F", "one"))
	add(criLine(3, "stdout", "F", "two"))
	begun := add(criLine(4, "stdout", "P", "begun"))
	st.pos = at
	want := func(raw, stdout, stderr int64) {
		t.Helper()
		if got := st.positions(); got != (lines.Positions{raw, stdout, stderr}) {
			t.Errorf("%v, want %v", got, []int64{raw, stdout, stderr})
		}
	}
	want(at, one, 0)
	sent := func(text lines.Stream, pos int64, stored bool) {
		if st.part[text].sent, st.part[text].held = pos, 0; stored {
			st.part[text].done.Store(pos)
		}
	}
	sent(lines.Stderr, one, true)
	want(at, one, at)
	sent(lines.Stdout, begun, false)
	want(at, 0, at)
	sent(lines.Stdout, begun, true)
	want(at, begun, at)
	if st.stored() != begun {
		t.Errorf("stored %d", st.stored())
	}
}
