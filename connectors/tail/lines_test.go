package tail

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestLineSplitAcrossReadsAndRotation(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "be")
	r.start()
	f, err := os.OpenFile(r.path("app.log"), os.O_WRONLY|os.O_APPEND, 0)
	r.check(err)
	defer f.Close()
	r.wait("the beginning is looked at", func() bool { return r.cell("files_open") == 1 })
	r.rename("app.log", "app.log.1")
	_, err = f.WriteString("gin end\n")
	r.check(err)
	r.want("begin end")
}

func TestLinesAcrossBlocks(t *testing.T) {
	r := newRig(t, `app\.log`, "batchSize", "1000")
	var text strings.Builder
	var want []string
	for i := range 30000 {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%300))
		want = append(want, line)
		text.WriteString(line + "\n")
	}
	r.write("app.log", text.String())
	r.start()
	r.want(want...)
	if r.out.Biggest() > 1000 {
		t.Errorf("a batch of %d", r.out.Biggest())
	}
}

// flume: TestTaildirEventReader testBackoffWithoutNewLine
func TestNoFinalNewline(t *testing.T) {
	r := newRig(t, `app\.log`, "idleTimeout", "50")
	r.write("app.log", "1\n2")
	r.start()
	r.want("1", "2") // at idleTimeout
	r.wait("it is closed", func() bool { return r.cell("files_open") == 0 })
	r.add("app.log", "3\n")
	r.want("1", "2", "3")
	r.close()
	r.start()
	r.add("app.log", "4\n")
	r.want("1", "2", "3", "4")
}

// flume: TestTaildirEventReader testNewLineBoundaries
func TestLineEnds(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\r\n2\r3\r\r\n\r\n\n\x00nul\x00\n\xff\xfe\n")
	r.start()
	r.want("1", "2\r3\r", "", "", "\x00nul\x00", "\xff\xfe")
}

// A carriage return on the border of a block is a Flume bug.
func TestCarriageReturnAtBlockBorder(t *testing.T) {
	for _, at := range []int{8191, 8192, blockBytes - 1, blockBytes} {
		r := newRig(t, `app\.log`)
		one := strings.Repeat("x", at-1) + "\ry"
		two := strings.Repeat("z", at-1)
		r.write("app.log", one+"\n"+two+"\r\n")
		r.start()
		r.want(one, two)
		r.close()
	}
}

func TestLongLines(t *testing.T) {
	lines := []string{"a", strings.Repeat("b", 10), strings.Repeat("c", 11), strings.Repeat("d", 20), strings.Repeat("e", 25), "f"}
	for _, end := range []string{"\n", "\r\n"} {
		t.Run(fmt.Sprintf("split %q", end), func(t *testing.T) {
			r := newRig(t, `app\.log`, "maxEventBytes", "10")
			r.write("app.log", strings.Join(lines, end)+end)
			r.start()
			c, d, e := strings.Repeat("c", 10), strings.Repeat("d", 10), strings.Repeat("e", 10)
			r.want("a", lines[1], c, "c", d, d, e, e, "eeeee", "f")
			if n := r.cell("lines_split_total"); n != 3 {
				t.Errorf("%d lines split, want 3", n)
			}
		})
		t.Run(fmt.Sprintf("drop %q", end), func(t *testing.T) {
			r := newRig(t, `app\.log`, "maxEventBytes", "10", "longLines", "drop")
			r.write("app.log", strings.Join(lines, end)+end)
			r.start()
			r.want("a", lines[1], "f")
			if n := r.cell("lines_dropped_total"); n != 3 {
				t.Errorf("%d lines dropped, want 3", n)
			}
			r.wait("its position is at the end", func() bool { return r.cell("bytes_behind") == 0 })
		})
	}
}

func TestVeryLongLine(t *testing.T) {
	const size = 20 << 20
	for _, mode := range []string{split, drop} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, `app\.log`, "longLines", mode)
			f, err := os.Create(r.path("app.log"))
			r.check(err)
			defer f.Close()
			part := bytes.Repeat([]byte("x"), 1<<20)
			r.start()
			for range size / len(part) { // the reader follows
				_, err := f.Write(part)
				r.check(err)
			}
			_, err = f.WriteString("\nnext\n")
			r.check(err)
			r.wait("the next line", func() bool {
				b := r.out.Bodies()
				return len(b) > 0 && b[len(b)-1] == "next"
			})
			total := 0
			for _, b := range r.out.Bodies() {
				total += len(b)
			}
			if mode == split && total != size+4 || mode == drop && total != 4 {
				t.Errorf("%d bytes", total)
			}
			if n := r.cell("lines_split_total") + r.cell("lines_dropped_total"); n != 1 {
				t.Errorf("%d long lines", n)
			}
		})
	}
}

// An unfinished long line that is dropped is read on after a restart as well.
func TestLongLineAcrossRestart(t *testing.T) {
	r := newRig(t, `app\.log`, "maxEventBytes", "10", "longLines", "drop")
	r.write("app.log", "1\n"+strings.Repeat("x", 50))
	r.start()
	r.want("1")
	r.close()
	r.add("app.log", strings.Repeat("x", 50)+"\n2\n")
	r.start()
	r.want("1", "2")
}

func TestContainerLogs(t *testing.T) {
	lines := []string{
		`{"log":"hello\n","stream":"stdout","time":"2026-01-01T00:00:00.000000001Z"}`,
		`2026-01-01T00:00:00.000000001Z stdout P part one `,
		`2026-01-01T00:00:00.000000002Z stdout F and two`,
	}
	r := newRig(t, `0\.log`)
	r.write("0.log", strings.Join(lines, "\n")+"\n")
	r.start()
	r.want(lines...)
}
