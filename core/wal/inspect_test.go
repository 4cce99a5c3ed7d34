package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core/vfs"
)

// content is all files of a disk with their bytes.
func content(t testing.TB, m vfs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	list, err := m.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name := filepath.Join("/d", e.Name())
		f, err := m.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, info.Size())
		if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
			t.Fatal(err)
		}
		files[name] = string(b)
		f.Close()
	}
	return files
}

// inspected is what an inspection shows.
func inspected(t testing.TB, m vfs.FS) (bodies []string, lost uint64, problems []Problem) {
	t.Helper()
	i, err := Inspect(m, []string{"/d"})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Events(false, func(e Event) error {
		if e.Delivered {
			t.Errorf("event %d is delivered, and shown", e.Sequence)
		}
		bodies = append(bodies, string(e.Body))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, p := range i.Problems() {
		if p.Kind == Lost {
			lost += p.Events
		}
	}
	return bodies, lost, i.Problems()
}

// TestInspectDamaged compares what an inspection shows with what Open finds, for
// every bit position and every length, and that it changes nothing.
//
// flume: TestFileChannelIntegrityTool testFixCorruptRecords
func TestInspectDamaged(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	for i := range 4 {
		put(t, l, fmt.Sprint("a", i, strings.Repeat("z", 50)), fmt.Sprint("b", i))
	}
	<-l.Ack([]Range{{2, 4}}, nil)
	end := put(t, l, "a4", "b4").At.End
	saved := m.CrashClone(nil, vfs.KeepAll)
	_ = l.Close()
	list, _ := saved.ReadDir("/d")
	name := "/d/" + list[0].Name()
	for off := range 2 * (end + 16) {
		c := saved.CrashClone(nil, vfs.KeepAll)
		f, err := c.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("cut at %d", off/2)
		if off%2 == 0 {
			err = f.Truncate(off / 2)
		} else {
			what = fmt.Sprintf("bit at %d", off/2)
			b := []byte{0}
			_, _ = f.ReadAt(b, off/2)
			b[0] ^= 1 << (off / 2 % 8)
			_, err = f.WriteAt(b, off/2)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		before := content(t, c)
		shown, shownLost, problems := inspected(t, c)
		after := content(t, c)
		for name, text := range before {
			if after[name] != text || len(after) != len(before) {
				t.Fatalf("%s: the inspection changed %s", what, name)
			}
		}
		l := open(t, c)
		got, lost := all(t, l)
		_ = l.Close()
		if !slices.Equal(got, shown) || lost != shownLost {
			t.Fatalf("%s: shown %q and %d lost, found %q and %d lost", what, shown, shownLost, got, lost)
		}
		if len(got) < 8 && len(problems) == 0 && off/2 > headerSize && off%2 == 1 {
			t.Fatalf("%s: %q are left, and no problem is named", what, got)
		}
	}
}

// TestInspectLive inspects a log that is written, acked and removed meanwhile.
func TestInspectLive(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := put(t, l, fmt.Sprintf("%08d%s", i, strings.Repeat("x", 4000)))
			if i > 40 {
				l.Ack([]Range{{p.First - 40, p.First - 39}}, nil)
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	for range 50 {
		bodies, lost, _ := inspected(t, m)
		if !slices.IsSorted(bodies) || lost > 0 {
			t.Fatalf("%d events, %d lost, in order: %v", len(bodies), lost, slices.IsSorted(bodies))
		}
	}
}

func TestInspectMissingAndKept(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	for i := range 40 {
		put(t, l, fmt.Sprint(i, strings.Repeat("x", 8000)))
	}
	_ = l.Close()
	list, _ := m.ReadDir("/d")
	if len(list) < 3 {
		t.Fatalf("%d segments", len(list))
	}
	if err := m.Remove("/d/" + list[0].Name()); err != nil {
		t.Fatal(err)
	}
	f, err := m.OpenFile("/d/00000009-00000000000000000009.torn", os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	bodies, _, problems := inspected(t, m)
	kinds := map[string]uint64{}
	for _, p := range problems {
		kinds[p.Kind] += p.Events + 1
	}
	if missing := kinds[Missing]; missing == 0 || int(missing)-1+len(bodies) != 40 || kinds[Aside] != 1 {
		t.Fatalf("%d events, problems %+v", len(bodies), problems)
	}
}
