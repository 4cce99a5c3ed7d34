//go:build e2e

package e2e

import (
	"bufio"
	"compress/gzip"
	bin "encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// spooled is what was put into the spool directories: lines of so many writers,
// each the lines of one file, and what of it has come out.
type spooled struct {
	t     *testing.T
	lines map[string]int // of each writer
	bytes int64          // as they come out
}

// file makes a file of about so many bytes, hidden until it is whole. put is
// given each line.
func (s *spooled) file(path string, size int, wrap func(io.Writer) (put func(text string), end func())) {
	s.t.Helper()
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	tmp := filepath.Join(filepath.Dir(path), ".making")
	f, err := os.Create(tmp)
	must(s.t, err)
	b := bufio.NewWriterSize(f, 1<<20)
	put, end := wrap(b)
	writer := fmt.Sprintf("f-%d", len(s.lines))
	n := 0
	for at := 0; at < size; {
		n++
		text := line(writer, n)
		put(text)
		at += len(text) + 1
	}
	s.lines[writer] = n
	s.bytes += int64(size)
	end()
	must(s.t, b.Flush())
	must(s.t, f.Close())
	must(s.t, os.Rename(tmp, path))
}

func asText(w io.Writer) (func(string), func()) {
	first := true
	return func(text string) {
		if !first { // no newline at the end of the file
			text = "\n" + text
		}
		first = false
		_, _ = io.WriteString(w, text) // the error stays until Flush
	}, func() {}
}

func asGzip(w io.Writer) (func(string), func()) {
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	put, _ := asText(z)
	return put, func() { _ = z.Close() }
}

// asAvro makes an object container file, with a block for every 1000 records.
func asAvro(w io.Writer) (func(string), func()) {
	const schema, marker = `{"type":"record","name":"Line","fields":[{"name":"text","type":"string"}]}`, "0123456789abcdef"
	var head []byte
	text := func(to []byte, s string) []byte { return append(bin.AppendVarint(to, int64(len(s))), s...) }
	head = bin.AppendVarint([]byte("Obj\x01"), 1)
	head = append(text(text(head, "avro.schema"), schema), 0)
	_, _ = w.Write(append(head, marker...))
	var block []byte
	records := 0
	end := func() {
		size := bin.AppendVarint(bin.AppendVarint(nil, int64(records)), int64(len(block)))
		_, _ = w.Write(size)
		_, _ = w.Write(append(block, marker...))
		block, records = block[:0], 0
	}
	return func(s string) {
		block = text(block, s)
		if records++; records == 1000 {
			end()
		}
	}, end
}

// check reads what a file_roll sink has written and compares it with what was
// put in: every line once.
func (s *spooled) check(out string) {
	s.t.Helper()
	seen := make(map[string][]uint64, len(s.lines))
	for w, n := range s.lines {
		seen[w] = make([]uint64, n/64+1)
	}
	var foreign, repeated []string
	came := 0
	files, err := filepath.Glob(filepath.Join(out, "*"))
	must(s.t, err)
	for _, name := range files {
		f, err := os.Open(name)
		must(s.t, err)
		in := bufio.NewScanner(f)
		in.Buffer(make([]byte, 1<<20), 1<<20)
		for in.Scan() {
			text := in.Text()
			if len(text) > 2 && text[8] != ' ' { // a record: its length stands before the text
				_, n := bin.Varint([]byte(text))
				text = text[max(n, 0):]
			}
			w, n, ok := read(text)
			if !ok || n < 1 || n > s.lines[w] {
				foreign = append(foreign, text)
				continue
			}
			if bit := uint64(1) << (n % 64); seen[w][n/64]&bit != 0 {
				repeated = append(repeated, text)
			} else {
				seen[w][n/64] |= bit
				came++
			}
		}
		must(s.t, in.Err())
		must(s.t, f.Close())
	}
	want := 0
	for _, n := range s.lines {
		want += n
	}
	s.t.Logf("%d files, %d lines, about %d MB: %d came, %d lost, %d repeated, %d foreign", len(s.lines), want, s.bytes>>20, came, want-came, len(repeated), len(foreign))
	none(s.t, "lines repeated", repeated)
	none(s.t, "foreign lines", foreign)
	if came != want {
		s.t.Errorf("%d lines lost", want-came)
	}
}

// sizeOf is how many bytes the files of a directory have.
func sizeOf(dir string) (n int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// until waits as long as a number grows.
func until(t *testing.T, what string, want int64, number func() int64) {
	t.Helper()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	last, grown := int64(-1), time.Now()
	for n := number(); n < want; n = number() {
		if n > last {
			last, grown = n, time.Now()
		}
		if time.Since(grown) > patience {
			t.Fatalf("%s: %d of %d, and no more within %v", what, n, want, patience)
		}
		<-every.C
	}
}

// unfinished counts the files that are still to be read, below a directory.
func unfinished(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !strings.HasSuffix(path, ".COMPLETED") {
			n++
		}
		return nil
	})
	return n
}

// TestSpooldir: a mixed lot of files, an agent that is killed again and again,
// and every line comes out once.
//
// flume: TestSpooldirSource testManySpooldirs
func TestSpooldir(t *testing.T) {
	dir := workDir(t)
	s := &spooled{t: t, lines: make(map[string]int)}
	text, records, out := filepath.Join(dir, "text"), filepath.Join(dir, "records"), filepath.Join(dir, "out")
	for _, d := range []string{text, records, out} {
		must(t, os.MkdirAll(d, 0o755))
	}
	big := pick(6<<20, 640<<20)
	small := func(n int) {
		for i := range n {
			s.file(filepath.Join(text, []string{".", "dir", "dir/deeper", "żółć 世界"}[i%4], fmt.Sprintf("%s %04d.log", []string{"small", "имя", "名前"}[i%3], len(s.lines))), 50+i*97%5000, asText)
		}
	}
	begun := time.Now()
	small(pick(200, 2000))
	for i := range 5 {
		s.file(filepath.Join(text, fmt.Sprintf("large-%d.log", i)), big, asText)
	}
	for i := range 2 {
		s.file(filepath.Join(text, "dir", fmt.Sprintf("packed-%d.log.gz", i)), big/2, asGzip)
		s.file(filepath.Join(records, fmt.Sprintf("lines-%d.avro", i)), big, asAvro)
	}
	must(t, os.WriteFile(filepath.Join(text, "ignored.tmp"), []byte("no\n"), 0o644))
	t.Logf("made %d files in %v", len(s.lines), time.Since(begun).Round(time.Second))

	begun = time.Now()
	kills := pick(5, 12)
	a := newAgent(t, dir, "spooldir.conf", vars{"E2E_SEGMENT": fmt.Sprint(pick(3_000_000, 200_000_000))})
	for i := range kills {
		a.start()
		until(t, "written", s.bytes*int64(i+1)/int64(kills+1), func() int64 { return sizeOf(out) })
		a.kill9()
		if i == kills/2 {
			small(100) // come while nobody looks
		}
	}
	a.start()
	until(t, "finished", 0, func() int64 { return int64(1 - unfinished(text) - unfinished(records)) }) // ignored.tmp stays
	eventually(t, "the channel is empty", func() bool { return a.metric("millrace_channel_events") == 0 })
	a.stop()
	t.Logf("read and written in %v, with %d kills", time.Since(begun).Round(time.Second), kills)
	s.check(out)
	if n := unfinished(records); n != 0 {
		t.Errorf("%d records files are not deleted", n)
	}
}
