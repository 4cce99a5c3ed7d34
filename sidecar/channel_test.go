package sidecar

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

// disk is what a tree of files holds, by path.
func disk(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// filled is a log of two directories and several segments. Every event has a
// header and a body of its own; number 3 is no UTF-8; the first two are acked.
type filled struct {
	dirs []string
	log  *wal.Log
}

const filledEvents = 60

func fillLog(t *testing.T) *filled {
	t.Helper()
	dir := t.TempDir()
	l := &filled{dirs: []string{filepath.Join(dir, "d1"), filepath.Join(dir, "d2")}}
	for _, d := range l.dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	l.log, err = wal.Open(wal.Options{
		FS: vfs.OS(), Dirs: l.dirs, SegmentBytes: 4096, AckDelay: time.Millisecond, Retry: time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.log.Close() })
	for i := range filledEvents / 2 {
		b := core.NewBatch()
		for n := 2*i + 1; n <= 2*i+2; n++ {
			b.Copy(core.NewHeaders(core.Header{Key: "n", Value: fmt.Sprint(n)}), []byte(filledBody(n)))
		}
		done := make(chan error, 1)
		l.log.Put(&wal.Put{Batch: b, Time: time.Now().UnixNano(), Marked: true, Stream: "s", Pos: int64(i), Done: func(_ *wal.Put, err error) { done <- err }})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	<-l.log.Ack([]wal.Range{{From: 1, To: 3}}, []core.Mark{{Stream: "k", Pos: 1}})
	return l
}

func filledBody(n int) string {
	if n == 3 {
		return "\xff\x00 3"
	}
	return fmt.Sprintf("event %d <€> %s", n, strings.Repeat("x", 150))
}

// tool runs a channel command and checks that it has changed nothing.
func (l *filled) tool(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	root := filepath.Dir(l.dirs[0])
	before := disk(t, root)
	code, out, said = call(t, nil, append([]string{"channel"}, args...)...)
	if !maps.Equal(before, disk(t, root)) {
		t.Errorf("%v has changed the directory", args)
	}
	return code, out, said
}

func jsonLines(t *testing.T, text string) (list []exported) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e exported
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// check compares events with those that fillLog has put, from the number first on.
func check(t *testing.T, list []exported, first int) {
	t.Helper()
	if len(list) != filledEvents-first+1 {
		t.Fatalf("%d events, want %d", len(list), filledEvents-first+1)
	}
	for i, e := range list {
		n := first + i
		body := string(e.Base64)
		if e.Body != nil {
			body = *e.Body
		}
		if e.Sequence != uint64(n) || body != filledBody(n) || e.Delivered != (n < 3) || len(e.Headers) != 1 || e.Headers["n"] != fmt.Sprint(n) {
			t.Errorf("event %d: %+v, body %.20q", n, e, body)
		}
	}
}

func TestChannelTools(t *testing.T) {
	l := fillLog(t)
	for _, state := range []string{"open", "closed"} {
		t.Run(state, func(t *testing.T) {
			code, out, said := l.tool(t, append([]string{"fsck", "--format", "json"}, l.dirs...)...)
			var r channelReport
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK {
				t.Fatalf("%d %s: %v", code, said, err)
			}
			if !r.Sound || r.Pending != filledEvents-2 || r.Read != r.Pending || len(r.Segments) < 3 || r.Positions["s"] != filledEvents/2-1 || !slices.Equal(r.Sinks, []string{"k"}) || r.InUse {
				t.Errorf("%s", out)
			}
			code, out, said = l.tool(t, "fsck", l.dirs[0], l.dirs[1])
			if want := fmt.Sprintf("sound: %d events undelivered, %[1]d read back whole", filledEvents-2); code != exitOK || !strings.Contains(out, want) {
				t.Errorf("%d %s%s", code, out, said)
			}
			// Options may come after the directories.
			code, out, said = l.tool(t, "cat", l.dirs[1], l.dirs[0], "--format", "json")
			if code != exitOK || said != "" {
				t.Fatalf("%d %s", code, said)
			}
			check(t, jsonLines(t, out), 3)
			if _, out, _ = l.tool(t, "cat", "-a", "--format", "json", l.dirs[0], l.dirs[1]); len(jsonLines(t, out)) < filledEvents-2 {
				t.Errorf("--all shows %d events", len(jsonLines(t, out)))
			}
			_, out, _ = l.tool(t, "cat", "--format", "body", l.dirs[0], l.dirs[1])
			if want := filledBody(3) + "\n" + filledBody(4) + "\n"; !strings.HasPrefix(out, want) {
				t.Errorf("%.200q", out)
			}
			_, out, _ = l.tool(t, "cat", l.dirs[0], l.dirs[1])
			if first, _, _ := strings.Cut(out, "\n"); !strings.HasPrefix(first, "3 2") || !strings.HasSuffix(first, `Z "{n=3}" "\xff\x00 3"`) {
				t.Errorf("%s", first)
			}
			file := filepath.Join(t.TempDir(), "out.json")
			if code, _, said = l.tool(t, "export", "--out", file, l.dirs[0], l.dirs[1]); code != exitOK {
				t.Fatalf("%d %s", code, said)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			check(t, jsonLines(t, string(text)), 3)
			if code, _, said = l.tool(t, "export", "--out", file, l.dirs[0], l.dirs[1]); code != exitUsage || !strings.Contains(said, "is there already") {
				t.Errorf("export over a file: %d %s", code, said)
			}
		})
		if err := l.log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Damage is told, with its place and its price, and costs only what it hits.
func TestChannelToolsDamaged(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"a flipped bit":  func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"a hole":         func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+64]); return b },
		"cut short":      func(b []byte) []byte { return b[:len(b)/2] },
		"nothing":        func([]byte) []byte { return nil },
		"a rotten start": func(b []byte) []byte { b[20] ^= 1; return b },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			l := fillLog(t)
			if err := l.log.Close(); err != nil {
				t.Fatal(err)
			}
			segments, err := filepath.Glob(l.dirs[1] + "/*.wal") // the second of all, sealed
			if err != nil || len(segments) == 0 {
				t.Fatal(segments, err)
			}
			text, err := os.ReadFile(segments[0])
			if err == nil {
				err = os.WriteFile(segments[0], change(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			code, out, said := l.tool(t, "fsck", "--format", "json", l.dirs[0], l.dirs[1])
			var r channelReport
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatal(err)
			}
			lost := uint64(0)
			for _, x := range r.Problems {
				if x.Kind == wal.Lost {
					lost += x.Events
				}
			}
			if uint64(r.Read)+lost != filledEvents-2 {
				t.Errorf("%d events read and %d lost of %d", r.Read, lost, filledEvents-2)
			}
			if name == "a rotten start" { // of the frames nothing is lost
				if lost > 0 {
					t.Errorf("%d lost", lost)
				}
				return
			}
			if code != exitFailed || r.Sound || lost == 0 || lost > filledEvents/2 {
				t.Errorf("%d, %d lost: %s%s", code, lost, out, said)
			}
			code, out, said = l.tool(t, "cat", "--format", "json", l.dirs[0], l.dirs[1])
			if n := len(jsonLines(t, out)); code != exitFailed || n != int(r.Read) || !strings.Contains(said, "cannot be read") {
				t.Errorf("cat: %d, %d events, %s", code, n, said)
			}
		})
	}
}

// What a newer version has written is refused by all, and stays as it is.
func TestChannelNewerFormat(t *testing.T) {
	l := fillLog(t)
	if err := l.log.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(l.dirs[0] + "/*.wal")
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	text[8]++ // the version; then its header's checksum
	sum := crc32.Checksum(text[:60], crc32.MakeTable(crc32.Castagnoli))
	copy(text[60:64], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"fsck"}, {"cat"}, {"export", "--out", filepath.Join(t.TempDir(), "x")}} {
		code, out, said := l.tool(t, append(args, l.dirs...)...)
		if code != exitFailed || out != "" || !strings.Contains(said, "format 2: written by a newer version") || !strings.Contains(said, segments[0]) {
			t.Errorf("%v: %d %s%s", args, code, out, said)
		}
	}
	before := disk(t, filepath.Dir(l.dirs[0]))
	file := write(t, "a.conf", fileChannel(filepath.Join(t.TempDir(), "c"), l.dirs...))
	code, _, said := call(t, nil, "agent", "-n", "a1", "-f", file, "--no-reload-conf", "--admin", "off")
	if code != exitFailed || !strings.Contains(said, "newer version") {
		t.Errorf("agent: %d %s", code, said)
	}
	after := disk(t, filepath.Dir(l.dirs[0]))
	maps.DeleteFunc(after, func(name, _ string) bool { return filepath.Base(name) == "in_use.lock" })
	if !maps.Equal(before, after) {
		t.Error("the agent has changed what it refused")
	}
}

// fileChannel is a configuration whose channel fills, for it has no sink.
func fileChannel(checkpoint string, data ...string) string {
	return `
a1.sources = r1
a1.channels = c1
a1.sources.r1.type = seq
a1.sources.r1.totalEvents = 20
a1.sources.r1.channels = c1
a1.channels.c1.type = file
a1.channels.c1.minimumRequiredSpace = 1048576
a1.channels.c1.checkpointDir = ` + checkpoint + `
a1.channels.c1.dataDirs = ` + strings.Join(data, ", ") + "\n"
}

// Of two agents on one directory the second ends, and says why; the first is none the worse for it.
func TestChannelInUse(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	r := start(t, "-n", "a1", "--no-reload-conf", "-f", write(t, "a.conf", fileChannel(filepath.Join(dir, "c"), data))).ready()
	suite.Eventually(t, "all events stored", func() bool {
		_, out, _ := call(t, nil, "channel", "fsck", data)
		return strings.Contains(out, "sound: 20 events undelivered, 20 read back whole") && strings.Contains(out, "an agent is using it")
	})
	other := write(t, "b.conf", fileChannel(filepath.Join(dir, "other"), data))
	code, _, said := call(t, nil, "agent", "-n", "a1", "-f", other, "--no-reload-conf", "--admin", "off")
	if code != exitFailed || !strings.Contains(said, data+" is in use by another channel or agent") {
		t.Errorf("second agent: %d %s", code, said)
	}
	code, _, said = call(t, nil, "channel", "import", data)
	if code != exitFailed || !strings.Contains(said, data+" is in use") {
		t.Errorf("import: %d %s", code, said)
	}
	if code := r.stop(); code != exitOK {
		t.Errorf("the first agent ended with %d: %s", code, r.err)
	}
	if code, out, _ := call(t, nil, "channel", "fsck", data); code != exitOK || !strings.Contains(out, "20 read back whole") || strings.Contains(out, "using it") {
		t.Errorf("%d %s", code, out)
	}
}

func TestChannelCommandLine(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"channel", exitUsage, "channel fsck DIR..."},
		{"channel --help", exitOK, "channel fsck DIR..."},
		{"channel mend x", exitUsage, "channel fsck DIR..."},
		{"channel fsck", exitUsage, "name the channel's data directories"},
		{"channel import", exitUsage, "name Flume's data directories"},
		{"channel fsck " + empty + "/nowhere", exitFailed, "no such file"},
		{"channel fsck " + empty, exitOK, "no segment of a file channel is there"},
		{"channel fsck " + empty + " --format xml", exitUsage, "is not one of text, json"},
		{"channel fsck --format json " + empty, exitOK, `"segments": []`},
		{"channel export " + empty, exitUsage, "name the file to write"},
		{"channel import " + empty, exitFailed, "no data files of Flume's"},
	} {
		if code, out, said := call(t, nil, strings.Fields(c.args)...); code != c.code || !strings.Contains(out+said, c.says) {
			t.Errorf("%s: %d, says %s%s", c.args, code, out, said)
		}
	}
}

// flumeFiles are a data file with one committed event, as Flume's own classes wrote it.
func flumeFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"log-1": "7f00000031170d0100000011e80300000000000019d007000000000000170a0c0a060a016b12017612026869" + "11ac2a93d80000000000" +
			"7f0000001f170d0400000011e80300000000000019d107000000000000050d0100000000" + "8080808080",
		"log-1.meta": "2e0d030000001501000000190000000000000000210000000000000000310000000000000000390000000000000000",
	} {
		b, err := hex.DecodeString(text)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Import puts each event once, however often it is killed and begun again, and
// leaves Flume's files whole, at one place or the other.
func TestChannelImport(t *testing.T) {
	dir := flumeFiles(t)
	kept := disk(t, dir)
	if code, _, said := call(t, nil, "channel", "fsck", dir); code != exitFailed || !strings.Contains(said, "channel import") {
		t.Errorf("fsck on Flume's files: %d %s", code, said)
	}
	to := filepath.Join(t.TempDir(), "to")
	for range 2 {
		code, out, said := call(t, nil, "channel", "import", "--to", to, dir)
		if code != exitOK || !strings.Contains(out, "Flume's files are as they were") {
			t.Fatalf("%d %s%s", code, out, said)
		}
		for name, text := range kept {
			if disk(t, dir)[name] != text {
				t.Errorf("%s has changed", name)
			}
		}
	}
	one := func(dir string) {
		t.Helper()
		code, out, said := call(t, nil, "channel", "cat", "--format", "json", dir)
		list := jsonLines(t, out)
		if code != exitOK || len(list) != 1 || *list[0].Body != "hi" || len(list[0].Headers) != 1 || list[0].Headers["k"] != "v" {
			t.Errorf("%d %s%s", code, out, said)
		}
	}
	one(to)

	// In place, killed before, between and after the renames.
	for done := range 4 {
		dir := flumeFiles(t)
		if _, _, err := importFlume("", []string{dir}, dir); err != nil {
			t.Fatal(err)
		}
		moves, err := movesIn(dir, func(name string) bool { return strings.HasPrefix(name, "log-") })
		if err != nil || len(moves) != 2 {
			t.Fatal(moves, err)
		}
		if done > 0 {
			text, _ := json.Marshal(moves)
			if err := os.WriteFile(filepath.Join(dir, movesName), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, asideName), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, m := range moves[:done-1] {
				if err := os.Rename(m.From, m.To); err != nil {
					t.Fatal(err)
				}
			}
		}
		code, out, said := call(t, nil, "channel", "import", dir)
		if done == 0 && code != exitOK || done > 0 && (code != exitFailed || !strings.Contains(said, "no data files")) {
			t.Errorf("%d renames done: %d %s%s", done, code, out, said)
		}
		one(dir)
		for name, text := range disk(t, flumeFiles(t)) {
			if got := disk(t, dir)[filepath.Join(dir, asideName, filepath.Base(name))]; got != text {
				t.Errorf("%s is not aside as it was", filepath.Base(name))
			}
		}
	}
}
