//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// line is the n-th line of a writer: it knows its place, and a checksum tells
// whether it is whole. Lengths vary, so that lines and blocks never fall together.
func line(writer string, n int) string {
	text := fmt.Sprintf("%s %d %s", writer, n, pads[n%len(pads)])
	return fmt.Sprintf("%08x %s", crc32.ChecksumIEEE([]byte(text)), text)
}

var pads = func() (p [97]string) {
	for i := range p {
		p[i] = strings.Repeat("abcdefghijklmnopqrstuvwxyz-", 8)[:(i*37)%200] + "."
	}
	return p
}()

// read takes a line apart; ok is false if it is not what line made.
func read(text string) (writer string, n int, ok bool) {
	f := strings.SplitN(text, " ", 4)
	if len(f) != 4 {
		return "", 0, false
	}
	n, err := strconv.Atoi(f[2])
	return f[1], n, err == nil && n >= 0 && text == line(f[1], n)
}

// lines are the first n lines of a writer.
func lines(writer string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = line(writer, i+1)
	}
	return all
}

func joined(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}

// split makes lines of text; a last one without its newline counts.
func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// rolled returns what a file_roll sink has written into a directory, its files
// in the order in which they were made: <start>-<number>.
func rolled(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	type file struct {
		name         string
		start, count int
	}
	var files []file
	for _, e := range entries {
		f := file{name: e.Name()}
		if _, err := fmt.Sscanf(f.name, "%d-%d", &f.start, &f.count); err != nil {
			t.Fatalf("%s: not a name that file_roll makes", f.name)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.start-b.start, a.count-b.count) })
	var all []string
	for _, f := range files {
		all = append(all, linesOf(t, filepath.Join(dir, f.name))...)
	}
	return all
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return split(string(text))
}

// countRolled counts newlines in a directory's files: cheaper than rolled, for waiting.
func countRolled(dir string) (n int) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		n += strings.Count(string(text), "\n")
	}
	return n
}

// rotated returns the lines of a log and its rotated predecessors, oldest first:
// app.log.2, app.log.1, app.log.
func rotated(t *testing.T, log string) (all []string) {
	t.Helper()
	for _, f := range generations(t, log) {
		all = append(all, linesOf(t, f)...)
	}
	return all
}

func generations(t *testing.T, log string) []string {
	t.Helper()
	files, err := filepath.Glob(log + ".*")
	must(t, err)
	age := func(f string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(f, log+"."))
		must(t, err)
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return age(b) - age(a) })
	if _, err := os.Stat(log); err == nil {
		files = append(files, log)
	}
	return files
}

// same fails the test unless got is want, line for line, and says what is
// lost, what is there twice and what is out of its place.
func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if slices.Equal(want, got) {
		return
	}
	count := make(map[string]int, len(want))
	for _, l := range want {
		count[l]++
	}
	var more, lost []string
	for _, l := range got {
		if count[l]--; count[l] < 0 {
			more = append(more, l)
		}
	}
	for _, l := range want {
		if count[l] > 0 {
			count[l]--
			lost = append(lost, l)
		}
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	t.Errorf("%s: %d lines of %d, %d lost, %d repeated or foreign; the first difference is line %d\nlost:     %s\nrepeated: %s\nat the difference, wanted: %s\n                   got:    %s",
		what, len(got), len(want), len(lost), len(more), at+1, few(lost), few(more), few(want[at:]), few(got[at:]))
}

// none fails the test if there are such lines.
func none(t *testing.T, what string, all []string) {
	t.Helper()
	if len(all) > 0 {
		t.Errorf("%d %s:%s", len(all), what, few(all))
	}
}

// few shows the first of many lines.
func few(all []string) string {
	var b strings.Builder
	for i, l := range all {
		if i == 3 {
			fmt.Fprintf(&b, " … and %d more", len(all)-i)
			break
		}
		fmt.Fprintf(&b, " %.40q", l)
	}
	return b.String()
}

var lineHead = regexp.MustCompile(`[0-9a-f]{8} [a-z0-9-]+ \d+ `)

// linePrefix is what a line in text begins with, or "".
func linePrefix(text string) string { return lineHead.FindString(text) }

// flow waits until n lines are in the files of a directory. It gives up when no
// more come: a loaded machine may be slow, it is not still.
func flow(t *testing.T, dir string, n int) {
	t.Helper()
	for had := countRolled(dir); had < n; {
		eventually(t, fmt.Sprintf("more than %d of %d lines in %s", had, n, dir), func() bool { return countRolled(dir) > had })
		had = countRolled(dir)
	}
}

// repeats counts what came more often than it was sent, and fails if something did not come at all.
func repeats(t *testing.T, sent, got []string) (n int) {
	t.Helper()
	count := make(map[string]int, len(sent))
	for _, l := range got {
		count[l]++
	}
	for _, l := range sent {
		if count[l] == 0 {
			t.Errorf("lost: %.60q", l)
		}
		n += count[l] - 1
		delete(count, l)
	}
	for l := range count {
		t.Errorf("foreign: %.60q", l)
	}
	return n
}

// complete waits until all lines that were sent are in the files of the
// directories together, and returns what is in them.
func complete(t *testing.T, sent []string, outs ...string) (got []string) {
	t.Helper()
	want := make(map[string]bool, len(sent))
	for _, l := range sent {
		want[l] = true
	}
	missing := func() int {
		got = nil
		seen := make(map[string]bool, len(sent))
		for _, out := range outs {
			for _, l := range rolled(t, out) {
				got = append(got, l)
				if want[l] {
					seen[l] = true
				}
			}
		}
		return len(want) - len(seen)
	}
	for left := missing(); left > 0; {
		eventually(t, fmt.Sprintf("fewer than %d of %d lines are missing", left, len(want)), func() bool {
			now := missing()
			fewer := now < left
			left = now
			return fewer
		})
	}
	return got
}

// again fails if more lines came twice than may.
func again(t *testing.T, sent, got []string, most int) {
	t.Helper()
	n := repeats(t, sent, got)
	t.Logf("%d lines, %d repeated of at most %d", len(sent), n, most)
	if n > most {
		t.Errorf("%d lines repeated, more than the %d that may", n, most)
	}
}
