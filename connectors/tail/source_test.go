package tail

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core/conf"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		keys  map[string]string
		fault string
	}{
		{map[string]string{}, "filegroups: is required"},
		{map[string]string{"filegroups": "g"}, "no group has a pattern"},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/(b"}, "missing closing )"},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/(?<!x)b"}, "regular expression"},
		{map[string]string{"filegroups": "g h", "filegroups.g": "/a/b"}, `group "h" has no filegroups.h`},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/b", "filegroups.i": "/c/d"}, `"i" is not in filegroups`},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/b", "headers.g": "x"}, "names no header"},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/b", "headers.x.k": "v"}, `no group "x"`},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/b", "maxBatchCount": "0"}, "the default"},
		{map[string]string{"filegroups": "g", "filegroups.g": "/a/b", "longLines": "skip"}, "one of split, drop"},
	} {
		_, faults := conf.Bind(Source.New(), c.keys)
		if !strings.Contains(fmt.Sprint(faults), c.fault) {
			t.Errorf("%v: got %v, want %q", c.keys, faults, c.fault)
		}
	}
}

// Upstream: testRegexFileNameFilteringEndToEnd, testFileConsumeOrder, testHeaderMapping, testPutFilenameHeader.
//
// flume: TestTaildirEventReader testBasicReadFiles testBatchedReadsAcrossFileBoundary
// flume: TestTaildirMatcher testRegexFileNameFiltering
// flume: TestTaildirSource testRegexFileNameFilteringEndToEnd testHeaderMapping testFileConsumeOrder
// flume: TestTaildirSource testPutFilenameHeader
func TestGroupsHeadersAndOrder(t *testing.T) {
	r := newRig(t, `[ab].log`, "fileHeader", "true", "fileHeaderKey", "path", "headers.g.a.b", "v", "batchSize", "2")
	r.keys["filegroups"] = "h g undefined"
	r.keys["filegroups.h"] = filepath.Join(r.dir, "logs") + `/c.log.*`
	old := time.Now().Add(-time.Hour)
	for i, name := range []string{"c.log.2", "b.log", "a.log", "a.log.1", "c.log.1"} {
		r.write(name, name+" 1\n"+name+" 2\n"+name+" 3\n")
		r.check(os.Chtimes(r.path(name), old, old.Add(time.Duration(i)*time.Minute)))
	}
	r.start()
	var want []string
	for _, name := range []string{"c.log.2", "c.log.1", "b.log", "a.log"} {
		want = append(want, name+" 1", name+" 2", name+" 3")
	}
	r.want(want...)
	for _, e := range r.out.Events() {
		name, _, _ := strings.Cut(string(e.Body), " ")
		h, has := e.Headers.Get("a.b")
		if p := e.Headers.Value("path"); p != r.path(name) || has != (name < "c") || has && h != "v" {
			t.Errorf("%s: path %q, header %q", e.Body, p, h)
		}
	}
	if r.out.Biggest() != 2 {
		t.Errorf("a batch of %d", r.out.Biggest())
	}
}

// Upstream: testMaxBatchCount.
//
// flume: TestTaildirSource testMaxBatchCount
func TestMaxBatchCount(t *testing.T) {
	r := newRig(t, `.*\.log`, "batchSize", "1", "maxBatchCount", "2")
	r.write("1.log", "f1l1\nf1l2\nf1l3\nf1l4\n")
	r.write("2.log", "f2l1\nf2l2\nf2l3\nf2l4\n")
	at := time.Now().Add(-time.Minute)
	r.check(os.Chtimes(r.path("1.log"), at, at))
	r.start()
	r.want("f1l1", "f1l2", "f2l1", "f2l2", "f1l3", "f1l4", "f2l3", "f2l4")
}

// flume: TestTaildirEventReader testByteOffsetHeader
func TestByteOffsetHeader(t *testing.T) {
	r := newRig(t, `.*\.log`, "byteOffsetHeader", "true")
	r.write("a.log", "file1line1\nfile1line2\nfile1line3\n")
	r.start()
	r.want("file1line1", "file1line2", "file1line3")
	for i, e := range r.out.Events() {
		if got := e.Headers.Value("byteoffset"); got != fmt.Sprint(11*i) || e.Pos != int64(11*i+11) {
			t.Errorf("event %d: byteoffset %s, pos %d", i, got, e.Pos)
		}
	}
}

// flume: TestTaildirEventReader testSkipToEndPosition
func TestSkipToEnd(t *testing.T) {
	r := newRig(t, `.*\.log`, "skipToEnd", "true")
	r.write("a.log", "old\n")
	r.start()
	r.wait("the first look", func() bool { _, err := os.Stat(r.keys["positionFile"]); return err == nil })
	r.write("b.log", "new file\n")
	r.want("new file")
	r.add("a.log", "new line\n")
	r.want("new file", "new line")
	// A source that begins again in the same process skips nothing.
	r.close()
	r.write("c.log", "while closed\n")
	r.open()
	r.want("new file", "new line", "while closed")
}

// More bytes are read whatever the time of the last change says.
//
// flume: TestTaildirEventReader testUpdateWhenLastUpdatedSameAsModificationTime
func TestGrownAtTheSameTime(t *testing.T) {
	r := newRig(t, `a\.log`, "idleTimeout", "10")
	at := time.Now().Add(-time.Hour)
	touch := func() { r.check(os.Chtimes(r.path("a.log"), at, at)) }
	r.write("a.log", "1\n")
	touch()
	r.start()
	r.want("1")
	for _, running := range []bool{true, false} {
		r.wait("it is closed", func() bool { return r.cell("files_open") == 0 })
		if !running {
			r.close()
		}
		r.add("a.log", "more\n")
		touch()
		if !running {
			r.start()
		}
		n := map[bool]int{true: 2, false: 3}[running]
		r.wait("the new line", func() bool { return r.out.Len() == n })
	}
	r.want("1", "more", "more")
}

func TestMaxEventsOfTheChannel(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.max = 7
	r.write("a.log", strings.Repeat("x\n", 100))
	r.start()
	r.wait("all", func() bool { return r.out.Len() == 100 })
	if r.out.Biggest() != 7 {
		t.Errorf("a batch of %d", r.out.Biggest())
	}
}

// A busy file does not keep the others waiting.
func TestFairness(t *testing.T) {
	r := newRig(t, `.*\.log`, "batchSize", "1000")
	var busy strings.Builder
	for i := range 200000 {
		fmt.Fprintf(&busy, "busy %d %s\n", i, strings.Repeat("x", 100))
	}
	r.write("a.log", busy.String())
	r.write("b.log", "quiet\n")
	at := time.Now().Add(-time.Minute)
	r.check(os.Chtimes(r.path("a.log"), at, at))
	r.start()
	r.wait("all", func() bool { return r.out.Len() == 200001 })
	for i, e := range r.out.Events() {
		if string(e.Body) == "quiet" {
			if i > 2*turnBytes/100 {
				t.Errorf("the quiet file came after %d events", i)
			}
			return
		}
	}
}

// TestHistories makes random histories of what writers and rotation do, and of
// restarts and crashes, and expects every line exactly once.
// MILLRACE_HISTORIES=n runs n of them; a failure names its seed.
func TestHistories(t *testing.T) {
	n, first := 12, rand.Uint64N(1<<32)
	if testing.Short() {
		n = 3
	}
	if s := os.Getenv("MILLRACE_HISTORIES"); s != "" {
		_, err := fmt.Sscan(s, &n)
		if err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &first); err != nil {
			t.Fatal(err)
		}
	}
	// They mostly wait, for the source: many at once take no longer.
	var next atomic.Int64
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				seed := first + uint64(i)
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { history(t, seed) })
			}
		})
	}
	work.Wait()
}

// historian is a history under way.
type historian struct {
	*rig
	rnd   *rand.Rand
	lines int
	want  []string
	half  map[string]bool // files that end in the middle of a line
	steps []string
	copy  int
	seen  map[string]bool // files the source has read something of
}

func history(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	// Either rotated files match the pattern, or they do not.
	inside := rnd.IntN(2) == 0
	pattern := `[abc]\.log`
	if inside {
		pattern = `[abc].*`
	}
	h := &historian{rig: newRig(t, pattern, "batchSize", fmt.Sprint(1+rnd.IntN(10)), "maxEventBytes", "4096"), rnd: rnd, half: map[string]bool{}, seen: map[string]bool{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("seed", seed, "inside", inside, strings.Join(h.steps, "; "))
		}
	})
	h.start()
	for range 60 {
		name := string(rune('a'+rnd.IntN(3))) + ".log"
		switch op := rnd.IntN(20); {
		case op < 8:
			h.lay(name)
		case op < 10:
			if h.half[name] {
				continue
			}
			h.step("rest of line in", name)
			h.half[name] = true
			h.lines++
			h.add(name, fmt.Sprintf("line %d ", h.lines))
		case op < 13:
			h.rotate(name, inside)
		case op < 14:
			h.copytruncate(name, inside)
		case op < 15:
			h.arrive()
			h.step("truncate", name)
			if h.exists(name) && !h.half[name] {
				h.check(os.Truncate(h.path(name), 0))
			}
		case op < 16:
			h.arrive()
			h.step("delete", name)
			if h.exists(name) && !h.half[name] {
				h.check(os.Remove(h.path(name)))
				h.seen[name] = false
			}
		case op < 17:
			h.step("restart")
			h.close()
			h.offline(name, inside)
			h.start()
		case op < 18:
			h.step("kill")
			h.out.Hold()
			h.kill()
			h.offline(name, inside)
			h.start()
		default:
			h.arrive()
		}
	}
	for name := range h.half {
		h.lay(name)
	}
	h.arrive()
	h.close()
	h.wantSet(h.want...)
}

func (h *historian) step(words ...string) { h.steps = append(h.steps, strings.Join(words, " ")) }

func (h *historian) exists(name string) bool {
	_, err := os.Stat(h.path(name))
	return err == nil
}

// lay appends a few lines.
func (h *historian) lay(name string) {
	var text strings.Builder
	if h.half[name] {
		delete(h.half, name)
		h.want = append(h.want, fmt.Sprintf("line %d end", h.halfLine(name)))
		text.WriteString("end\n")
	}
	for range 1 + h.rnd.IntN(5) {
		h.lines++
		line := fmt.Sprintf("line %d %s", h.lines, strings.Repeat("x", h.rnd.IntN(200)))
		h.want = append(h.want, line)
		text.WriteString(line + "\n")
	}
	h.step("write", name, "up to", fmt.Sprint(h.lines))
	h.add(name, text.String())
}

// halfLine is the number of the line that a file ends in.
func (h *historian) halfLine(name string) int {
	data, err := os.ReadFile(h.path(name))
	h.check(err)
	var n int
	_, err = fmt.Sscanf(string(data[strings.LastIndexByte(string(data), '\n')+1:]), "line %d ", &n)
	h.check(err)
	return n
}

// rotate renames a file as logrotate does, keeping two.
func (h *historian) rotate(name string, inside bool) {
	if !h.exists(name) || h.half[name] {
		return
	}
	if !inside {
		h.arrive() // the source must have seen the file before it is out of its sight
	} else if h.exists(name + ".2") {
		h.arrive() // what is deleted must have been read
	}
	h.step("rotate", name)
	if h.exists(name + ".2") {
		h.check(os.Remove(h.path(name + ".2")))
	}
	if h.exists(name + ".1") {
		h.rename(name+".1", name+".2")
	}
	h.rename(name, name+".1")
	h.seen[name] = false
}

func (h *historian) copytruncate(name string, inside bool) {
	if !h.exists(name) || h.half[name] {
		return
	}
	h.arrive()
	if !inside {
		h.lay(name)
		h.arrive() // a copy is recognised by what was read
	}
	h.lay(name)
	data, err := os.ReadFile(h.path(name))
	h.check(err)
	h.copy++
	h.step("copytruncate", name)
	copied := fmt.Sprintf("%s.copy%d", name, h.copy)
	if h.rnd.IntN(2) == 0 {
		copied = fmt.Sprintf("%s-%d.log", name[:1], h.copy) // as with logrotate's dateext and extension
	}
	h.check(os.WriteFile(h.path(copied), data, 0o644))
	if len(data) >= 2*fileid.Bytes && h.rnd.IntN(3) == 0 { // of shorter ones too little is known
		h.lay(name) // between the copy and the truncation: in time for the source, not for the copy
		h.arrive()
	}
	h.check(os.Truncate(h.path(name), 0))
	h.lay(name)
}

// offline does something while the source is not running.
func (h *historian) offline(name string, inside bool) {
	switch h.rnd.IntN(4) {
	case 0:
		h.lay(name)
	case 1:
		if h.exists(name) && !h.half[name] && !h.exists(name+".1") && (inside || h.seen[name]) {
			h.step("rotate offline", name)
			h.lay(name)
			h.rename(name, name+".1")
			h.seen[name] = false
			h.lay(name)
		}
	}
}

// arrive waits until all that was written has arrived.
func (h *historian) arrive() {
	h.step("arrive")
	h.wantSet(h.want...)
	for _, name := range []string{"a.log", "b.log", "c.log"} {
		if h.exists(name) && !h.half[name] {
			h.seen[name] = true
		}
	}
}
