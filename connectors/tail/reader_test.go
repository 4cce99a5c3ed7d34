package tail

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// cutAll reads a file that grows by parts, without any goroutine, and returns the bodies.
func cutAll(t testing.TB, longest int, mode string, parts ...[]byte) []string {
	s := Source.New().(*source)
	if _, faults := conf.Bind(s, map[string]string{
		"filegroups": "g", "filegroups.g": `/logs/a\.log`, "batchSize": "3", "skipCompressed": "false",
		"maxEventBytes": fmt.Sprint(longest), "longLines": mode,
	}); faults.HasErrors() {
		t.Fatal(faults)
	}
	mem := vfs.NewMem()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(mem.MkdirAll("/logs", 0o755))
	check(mem.MkdirAll("/pos", 0o755))
	f, err := mem.OpenFile("/logs/a.log", os.O_WRONLY|os.O_CREATE, 0o644)
	check(err)
	dirs, err := makeDirs(s.groups)
	check(err)
	tl := newTailer(s, core.Env{
		Name: "r1", Log: slog.New(slog.DiscardHandler), Metrics: new(metric.Group), FS: mem, Now: time.Now,
	}, dirs)
	tl.book = &book{fs: mem, path: "/pos/p.json", last: absent}
	tl.out = new(discard)
	tl.queue, tl.ticker = make(chan parcel, 1), time.NewTicker(time.Hour)
	defer tl.ticker.Stop()
	var bodies []string
	var last int64
	take := func() {
		for {
			select {
			case p := <-tl.queue:
				for _, e := range p.b.Events {
					if e.Pos <= last {
						t.Fatalf("event at %d after one at %d", e.Pos, last)
					}
					last = e.Pos
					bodies = append(bodies, string(e.Body))
				}
				if _, pos, _ := p.b.Marked(); pos != last {
					t.Fatalf("marked %d, want %d", pos, last)
				}
				p.b.Release()
				p.done(nil)
			default:
				return
			}
		}
	}
	tl.begin()
	for _, part := range parts {
		_, err := f.Write(part)
		check(err)
		tl.dirs[0].due = time.Time{}
		tl.look(time.Now())
		for round := tl.ready(); len(round) > 0; round = tl.ready() {
			// One batch a turn, so that nothing waits for a receiver.
			tl.c.maxBatches = 1
			if err := tl.turn(round[0]); err != nil {
				t.Fatal(err)
			}
			take()
		}
	}
	return bodies
}

// wantLines is what cutAll must return.
func wantLines(data []byte, longest int, mode string) []string {
	var want []string
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			// A long line is split as it grows; at least so much of it that what is left may still fit.
			for mode == split && len(data) >= longest+2 {
				want, data = append(want, string(data[:longest])), data[longest:]
			}
			return want
		}
		line := bytes.TrimSuffix(data[:i], []byte("\r"))
		data = data[i+1:]
		if len(line) > longest && mode == drop {
			continue
		}
		for len(line) > longest {
			want, line = append(want, string(line[:longest])), line[longest:]
		}
		want = append(want, string(line))
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\r\n\nthree\rx\r\r\nrest"), 5, uint8(4), false)
	f.Add([]byte(strings.Repeat("x", 3000)+"\r\ny\n"), 700, uint8(255), true)
	f.Add([]byte("0123456789\r\n0123456789\n012345678\r\r\n"), 11, uint8(10), false)
	f.Fuzz(func(t *testing.T, data []byte, cut int, longest uint8, dropped bool) {
		if len(data) == 0 || data[0] == 0 {
			return
		}
		mode := split
		if dropped {
			mode = drop
		}
		most := int(longest) + 1
		cut = max(0, min(cut, len(data)))
		got := cutAll(t, most, mode, data[:cut], data[cut:])
		if want := wantLines(data, most, mode); !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

// Lines longer than a block, with and without an end, at all kinds of sizes.
func TestLongLineSizes(t *testing.T) {
	const most = 1 << 20
	for _, n := range []int{blockBytes - 1, blockBytes, blockBytes + 1, most - 1, most, most + 1, most + 2, 2 * most, 2*most + 1} {
		for _, end := range []string{"\n", "\r\n"} {
			for _, mode := range []string{split, drop} {
				data := []byte("first\n" + strings.Repeat("x", n) + end + "last\n")
				for _, cut := range []int{len(data), 6 + n, 6 + n + 1, n / 2} {
					got, want := cutAll(t, most, mode, data[:cut], data[cut:]), wantLines(data, most, mode)
					if !slices.Equal(got, want) {
						t.Errorf("%d bytes, %q, %s, cut at %d: got %d events, want %d", n, end, mode, cut, len(got), len(want))
					}
				}
			}
		}
	}
}
