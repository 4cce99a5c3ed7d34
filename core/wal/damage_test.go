package wal

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// damaged is one way to harm one file.
type damaged struct {
	path string
	off  int64
	how  string // "flip" one bit, "byte" all of them, "cut" the file there
}

func (d damaged) do(t *testing.T, m vfs.FS) {
	t.Helper()
	f, err := m.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := []byte{0}
	switch d.how {
	case "cut":
		err = f.Truncate(d.off)
	default:
		if _, err = f.ReadAt(b, d.off); err != nil {
			break
		}
		if b[0] ^= 0xff; d.how == "flip" {
			b[0] ^= 0xff ^ 1<<(d.off%8)
		}
		_, err = f.WriteAt(b, d.off)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryByte damages a log of three segments at every byte and cuts it at
// every length, as an agent left it and as a crash did. Whatever is hit: the
// log opens, what is good is delivered, in order and once, what is not is
// counted and its bytes are kept, and the log goes on.
func TestEveryByte(t *testing.T) {
	for _, state := range []string{"sealed", "crashed"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			saved, puts, acked := threeSegments(t, state == "sealed")
			list, err := saved.ReadDir("/d")
			if err != nil || len(list) != 3 {
				t.Fatal(list, err)
			}
			cases := 0
			for i, e := range list {
				path := "/d/" + e.Name()
				text, err := vfs.ReadFile(saved, path)
				if err != nil {
					t.Fatal(err)
				}
				end := int64(len(strings.TrimRight(string(text), "\x00"))) + 2*align // what is reserved behind it is all the same
				for off := range min(end, int64(len(text))) {
					for _, how := range []string{"flip", "byte", "cut"} {
						if testing.Short() && (off+int64(len(how)))%7 != 0 {
							continue
						}
						w := wreck{saved: saved, d: damaged{path, off, how}, number: uint64(i + 1), newest: i == 2, puts: puts, acked: acked}
						w.test(t)
						if cases++; t.Failed() {
							t.Fatalf("%+v", w.d)
						}
					}
				}
			}
			t.Logf("%d damaged logs", cases)
		})
	}
}

// threeSegments makes the log: its puts, and the sequences that are acked.
func threeSegments(t *testing.T, sealed bool) (*vfs.Mem, []*Put, Ranges) {
	m := disk(t)
	opt := options(m)
	opt.SegmentBytes = 700
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var puts []*Put
	for i := 0; l.number < 3 || len(puts) < 9; i++ {
		puts = append(puts, put(t, l, fmt.Sprintf("%02d-a%s", i, strings.Repeat("z", 40)), fmt.Sprintf("%02d-b", i)))
		if i == 1 || i == 6 {
			<-l.Ack([]Range{{puts[i].First, puts[i].First + 1}}, []core.Mark{{Stream: "k", Pos: int64(i)}})
		}
	}
	if sealed {
		_ = l.Close()
	}
	acked := Ranges{{puts[1].First, puts[1].First + 1}, {puts[6].First, puts[6].First + 1}}
	return m.CrashClone(nil, vfs.DropAll), puts, acked
}

// wreck is one damaged log and what must become of it.
type wreck struct {
	saved  *vfs.Mem
	d      damaged
	number uint64
	newest bool
	puts   []*Put
	acked  Ranges
}

// reads is more than recovery and delivery may take: what loops for ever fails here.
const reads = 2000

func (w *wreck) test(t *testing.T) {
	m := w.saved.CrashClone(nil, vfs.DropAll)
	w.d.do(t, m)
	fault := vfs.NewFault(m, vfs.Rule{Kind: vfs.OpRead, At: reads, Times: -1})
	opt := options(fault)
	opt.SegmentBytes = 700
	l, err := Open(opt)
	if err != nil {
		t.Fatalf("%+v: the log does not open: %v", w.d, err)
	}
	got, lost := all(t, l)
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("not in order, or twice: %q", got)
	}
	kept := w.kept(t, m)
	var missing uint64
	for i, p := range w.puts {
		for j := range p.Len() {
			body, seq := string(p.Batch.Events[j].Body), p.First+uint64(j)
			has := slices.Contains(got, body)
			got = slices.DeleteFunc(got, func(s string) bool { return s == body })
			if has || w.acked.Has(seq) {
				continue
			}
			missing++
			switch {
			case w.d.how == "cut" && p.At.Segment == w.number && w.d.off < p.At.End:
			case w.d.how != "cut" && p.At.Segment == w.number && w.d.off >= p.At.Off && w.d.off < p.At.End:
			case w.newest && strings.Contains(kept, body): // behind what looks like a torn tail: it is kept
			default:
				t.Errorf("put %d, event %d at %+v was not hit and is gone", i, j, p.At)
			}
		}
	}
	if len(got) > 0 {
		t.Errorf("foreign: %q", got)
	}
	s := l.Stats()
	switch {
	case missing == 0 || lost == missing && s.Damaged > 0:
	case s.Torn == 1 && kept != "":
	case w.newest && w.d.how == "cut" && w.atEdge():
		// Of frames that are gone as a whole from the end of the newest segment there is no trace.
	default:
		t.Errorf("%d events are gone, %d are counted as lost: %+v", missing, lost, s)
	}
	w.goesOn(t, l, m)
}

// kept is what recovery has copied aside.
func (w *wreck) kept(t *testing.T, m vfs.FS) (text string) {
	t.Helper()
	for name, b := range content(t, m) {
		if strings.HasSuffix(name, ".torn") {
			text += b
		}
	}
	return text
}

// atEdge tells whether the cut is between frames, or leaves no more than zeros behind one.
func (w *wreck) atEdge() bool {
	text, err := vfs.ReadFile(w.saved, w.d.path)
	if err != nil {
		return false
	}
	off := int64(headerSize)
	for off < w.d.off {
		_, size, err := parseFrame(text[off:], 0)
		if err != nil || off+size > w.d.off {
			break
		}
		off += size
	}
	return off >= w.d.off || w.d.off < headerSize || len(strings.TrimRight(string(text[off:w.d.off]), "\x00")) == 0
}

// goesOn delivers all there is, puts more, and opens the log again, twice: a
// start that fails or finds something else each time is a crash loop.
func (w *wreck) goesOn(t *testing.T, l *Log, m *vfs.Mem) {
	for _, b := range l.Backlog() {
		l.Ack([]Range{b.Seqs}, nil)
	}
	more := put(t, l, "more")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		opt := options(m)
		opt.SegmentBytes = 700
		l, err := Open(opt)
		if err != nil {
			t.Fatalf("%+v: the log does not open again: %v", w.d, err)
		}
		if got, lost := all(t, l); !slices.Equal(got, []string{"more"}) || lost > 0 {
			t.Errorf("after all was delivered there is %q, %d lost", got, lost)
		}
		if last := w.puts[len(w.puts)-1]; w.d.how != "cut" && more.First <= last.First && !w.newest {
			t.Errorf("sequence %d was given out again", more.First)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
