package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// both runs a test on the real file system and on Mem: they must agree.
func both(t *testing.T, f func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { f(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		must(t, m.MkdirAll("/w", 0o755))
		f(t, m, "/w")
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t *testing.T, fsys FS, name string) string {
	t.Helper()
	b, err := ReadFile(fsys, name)
	must(t, err)
	return string(b)
}

func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "a")
		f := create(t, fsys, name)
		_, err := f.Write([]byte("hello"))
		must(t, err)
		_, err = f.WriteAt([]byte("J"), 0)
		must(t, err)
		must(t, f.Allocate(0, 8))
		if info, err := f.Stat(); err != nil || info.Size() != 8 || info.Sys() == nil {
			t.Fatal(info, err)
		}
		must(t, f.Sync())
		must(t, f.Truncate(5))
		if got := content(t, fsys, name); got != "Jello" {
			t.Fatal(got)
		}
		p := make([]byte, 8)
		if n, err := f.ReadAt(p, 3); n != 2 || !errors.Is(err, io.EOF) {
			t.Fatal(n, err)
		}
		if off, err := f.Seek(-1, io.SeekEnd); off != 4 || err != nil {
			t.Fatal(off, err)
		}
		if n, err := f.Read(p); n != 1 || err != nil || p[0] != 'o' {
			t.Fatal(n, err)
		}
		a, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = a.Write([]byte("!"))
		must(t, err)
		must(t, a.Close())
		must(t, fsys.Rename(name, name+"2"))
		must(t, fsys.SyncDir(dir))
		if _, err := fsys.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if got := content(t, fsys, name+"2"); got != "Jello!" {
			t.Fatal(got)
		}
		must(t, MakeDir(fsys, filepath.Join(dir, "x", "y"), 0o755))
		list, err := fsys.ReadDir(dir)
		must(t, err)
		if len(list) != 2 || list[0].Name() != "a2" || !list[1].IsDir() {
			t.Fatal(list)
		}
		if err := MakeDir(fsys, name+"2", 0o755); err == nil {
			t.Fatal("a file is no directory")
		}
		must(t, WriteFile(fsys, name, []byte("one"), 0o644))
		must(t, WriteFile(fsys, name, []byte("two"), 0o644))
		if got := content(t, fsys, name); got != "two" {
			t.Fatal(got)
		}
		must(t, fsys.Remove(name))
		if err := fsys.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		free, total, err := fsys.Space(dir)
		if err != nil || free <= 0 || total < free {
			t.Fatal(free, total, err)
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "in_use.lock")
		l, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), name) {
			t.Fatal(err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
	})
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestCrashKeepsWhatIsSynced(t *testing.T) {
	m := NewMem()
	must(t, MakeDir(m, "/d", 0o755))
	f := create(t, m, "/d/a")
	old := strings.Repeat("o", 3000)
	_, err := f.Write([]byte(old))
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	_, err = f.WriteAt([]byte(strings.Repeat("n", 5000)), 1000)
	must(t, err)
	must(t, m.Rename("/d/a", "/d/b"))
	seen := map[string]bool{}
	for seed := range uint64(100) {
		for mode := range CrashMode(CrashModes) {
			c := m.CrashClone(rng(seed), mode)
			name := "/d/a"
			if _, err := c.Stat(name); err != nil {
				name = "/d/b"
			}
			got := content(t, c, name)
			if !strings.HasPrefix(got, old[:1000]) {
				t.Fatalf("mode %d: synced bytes are gone", mode)
			}
			for i, b := range got {
				if b != 'o' && b != 'n' && b != 0 || b == 'o' && i >= 3000 {
					t.Fatalf("mode %d: byte %q at %d", mode, b, i)
				}
			}
			switch {
			case mode == DropAll && (got != old || name != "/d/a"),
				mode == KeepAll && (len(got) != 6000 || strings.Contains(got[1000:], "o") || name != "/d/b"):
				t.Fatalf("mode %d: %s %d bytes", mode, name, len(got))
			case mode == Sectors && strings.Contains(got, "\x00n"):
				seen["later kept, earlier lost"] = true
			case mode == TearLast && strings.Contains(got, "no"):
				seen["torn"] = true
			}
		}
	}
	if len(seen) != 2 {
		t.Fatal("not every kind of damage was made:", seen)
	}
}

func TestFailedSyncIsNotRepaired(t *testing.T) {
	m := NewMem()
	fault := NewFault(m, Rule{Kind: OpSync, At: 1})
	f := create(t, fault, "/a")
	must(t, m.SyncDir("/"))
	_, err := f.Write([]byte("gone"))
	must(t, err)
	if err := f.Sync(); err == nil {
		t.Fatal("the rule did not strike")
	}
	must(t, f.Sync())
	if got := content(t, m, "/a"); got != "gone" {
		t.Fatal(got)
	}
	if got := content(t, m.CrashClone(rng(1), KeepAll), "/a"); got == "gone" {
		t.Fatal("a failed sync was repaired by a later one")
	}
	_, err = f.WriteAt([]byte("here"), 0)
	must(t, err)
	must(t, f.Sync())
	if got := content(t, m.CrashClone(rng(1), DropAll), "/a"); got != "here" {
		t.Fatalf("%q", got)
	}
}

func TestFaultScript(t *testing.T) {
	m := NewMem()
	f := NewFault(m,
		Rule{Kind: OpWrite, Path: "*.wal", At: 2, Err: syscall.ENOSPC, Short: true},
		Rule{Kind: OpRename, At: 1, Crash: true})
	a := create(t, f, "/x.wal")
	if _, err := a.Write([]byte("1234")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Write([]byte("5678")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	if _, err := a.Write([]byte("9")); err != nil {
		t.Fatal(err)
	}
	if err := f.Rename("/x.wal", "/y.wal"); !errors.Is(err, ErrCrashed) {
		t.Fatal(err)
	}
	if err := a.Sync(); !errors.Is(err, ErrCrashed) || !f.Crashed() {
		t.Fatal(err)
	}
	if got := content(t, m, "/y.wal"); got != "1234569" {
		t.Fatal(got)
	}
	if f.Ops() != 5 || f.Count(OpWrite) != 3 {
		t.Fatal(f.Ops(), f.Count(OpWrite))
	}
}

func TestVolumeOfMem(t *testing.T) {
	m := NewMem()
	m.SetVolume(10)
	f := create(t, m, "/a")
	if n, err := f.Write(make([]byte, 12)); n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	if err := f.Allocate(0, 11); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, m.Remove("/a"))
	if free, _, _ := m.Space("/"); free != 10 {
		t.Fatal(free)
	}
}
