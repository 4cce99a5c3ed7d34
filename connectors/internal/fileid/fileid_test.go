package fileid

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/vfs"
)

func TestPrint(t *testing.T) {
	text := strings.Repeat("x", 1000) + "the end"
	p, err := Take(strings.NewReader(text), 1007)
	if err != nil || p.N != Bytes || !p.Possible() || !p.In(strings.NewReader(text+"more")) {
		t.Errorf("%+v %v", p, err)
	}
	if PrintOf(1007, []byte(text)) != p || PrintOf(1007, []byte(text[1007-Bytes:])) != p {
		t.Error("differs from that of what was read")
	}
	for _, other := range []string{text[:1006], strings.Replace(text, "the", "THE", 1), ""} {
		if p.In(strings.NewReader(other)) {
			t.Errorf("fits %d other bytes", len(other))
		}
	}
	if p, err = Take(strings.NewReader("ab"), 1); err != nil || p.N != 1 || !p.In(strings.NewReader("a")) {
		t.Errorf("%+v %v", p, err)
	}
	if _, err = Take(strings.NewReader("ab"), 3); err == nil {
		t.Error("took a fingerprint behind the end")
	}
	if !(Print{}).In(strings.NewReader("")) {
		t.Error("the empty one does not fit")
	}
	for _, p := range []Print{{Off: 1, N: 2}, {Off: 1000, N: Bytes + 1}, {N: -1}} {
		if p.Possible() {
			t.Errorf("%+v is possible", p)
		}
	}
}

func TestIdentity(t *testing.T) {
	fsys, path := vfs.OS(), filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, _ := f.Stat()
	id, born := Of(fi), Born(f)
	if err := os.Rename(path, path+".b"); err != nil {
		t.Fatal(err)
	}
	if fi, err = fsys.Stat(path + ".b"); err != nil || Of(fi) != id || id == (ID{}) {
		t.Errorf("%v is %v after a rename, %v", id, Of(fi), err)
	}
	if Born(f) != born {
		t.Error("it was born again")
	}
	m := vfs.NewMem()
	g, err := m.OpenFile("/a", os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if fi, _ = g.Stat(); Of(fi) == (ID{}) || Born(g) != 0 {
		t.Error("a file in memory")
	}
}
