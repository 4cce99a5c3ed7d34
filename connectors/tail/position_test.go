package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

// positions are those of a stopped rig.
func (r *rig) positions() string {
	r.t.Helper()
	data, err := os.ReadFile(r.keys["positionFile"])
	r.check(err)
	return string(data)
}

func (r *rig) setPositions(text string) {
	r.t.Helper()
	r.check(os.MkdirAll(filepath.Dir(r.keys["positionFile"]), 0o755))
	r.check(os.WriteFile(r.keys["positionFile"], []byte(text), 0o644))
}

func entry(ino uint64, pos int, path string) string {
	return fmt.Sprintf(`{"inode":%d,"pos":%d,"file":"%s"}`, ino, pos, path)
}

func TestPositionFileIsFlumes(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("a.log", "1\n2\nhalf")
	r.start()
	r.want("1", "2")
	r.close()
	if got, want := r.positions(), "["+entry(ino(t, r.path("a.log")), 4, r.path("a.log"))+"]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// flume: TestTaildirEventReader testLoadPositionFile
func TestPositionsOfFlumeAreTakenOver(t *testing.T) {
	r := newRig(t, `.*\.log.*`)
	r.write("a.log", "1\n2\n")
	r.write("b.log.1", "3\n4\n") // was b.log when Flume saw it
	r.write("c.log", "5\n6\n")   // its record is of another file of that inode
	r.setPositions("[" + entry(ino(t, r.path("a.log")), 2, r.path("a.log")) + "," +
		entry(ino(t, r.path("b.log.1")), 2, r.path("b.log")) + "," +
		entry(ino(t, r.path("c.log")), 2, r.path("x.log")) + `, {"file":"/gone","extra":[1],"pos":"7","inode":"12"}]`)
	r.start()
	r.wantSet("2", "4", "5", "6")
}

func TestPositionFileEdited(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("a.log", "1\n2\n")
	r.write("b.log", "3\n4\n")
	r.start()
	r.wantSet("1", "2", "3", "4")
	r.close()
	before := r.positions()
	// b.log's entry stays as it is: the channels know its stream.
	r.setPositions(strings.Replace(before, `"pos":4,"file":"`+r.path("a.log"), `"pos":2,"file":"`+r.path("a.log"), 1))
	if r.positions() == before {
		t.Fatal("nothing was edited")
	}
	r.start()
	r.wantSet("1", "2", "3", "4", "2")
	if !strings.Contains(r.logs.String(), "changed by somebody else") {
		t.Error("not logged")
	}
	r.close()
	r.start()
	r.add("b.log", "5\n")
	r.wantSet("1", "2", "3", "4", "2", "5")
}

func TestPositionFileDeleted(t *testing.T) {
	for name, destroy := range map[string]func(r *rig){
		"deleted": func(r *rig) { r.check(os.Remove(r.keys["positionFile"])) },
		"emptied": func(r *rig) { r.setPositions("") },
		"both deleted": func(r *rig) {
			r.check(os.Remove(r.keys["positionFile"]))
			r.check(os.Remove(r.keys["positionFile"] + ".millrace"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, `.*\.log`)
			r.write("a.log", "1\n2\n")
			r.start()
			r.want("1", "2")
			r.close()
			destroy(r)
			r.start()
			r.want("1", "2", "1", "2")
		})
	}
}

// A position file that is damaged costs no more than what can not be read, and
// nothing where the file beside it knows better.
func TestPositionFileDamaged(t *testing.T) {
	for name, damage := range map[string]func(text string) string{
		"cut in half":   func(text string) string { return text[:len(text)/2] },
		"wrong types":   func(string) string { return `[1, "x", {"inode":"x","pos":{},"file":2}, {"inode":1}` },
		"not an array":  func(string) string { return `{"inode":1,"pos":2,"file":"x"}` },
		"not JSON":      func(string) string { return "\x00\x01garbage" },
		"garbage after": func(text string) string { return text + "]]}" },
	} {
		for _, alone := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " alone ", alone), func(t *testing.T) {
				r := newRig(t, `.*\.log`)
				r.write("a.log", "1\n")
				r.write("b.log", "2\n")
				r.start()
				r.wantSet("1", "2")
				r.close()
				r.setPositions(damage(r.positions()))
				if alone {
					r.check(os.Remove(r.keys["positionFile"] + ".millrace"))
				}
				r.start()
				r.add("a.log", "3\n")
				r.add("b.log", "4\n")
				// What is known beside is used; without it what can not be read is read again.
				r.wait("the new lines", func() bool {
					b := r.out.Bodies()
					return contains(b, "3") && contains(b, "4")
				})
				if n := r.out.Len(); !alone && n != 4 || n > 6 {
					t.Errorf("%d events: %q", n, r.out.Bodies())
				}
			})
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestSideFileDamaged(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("a.log", "1\n")
	r.start()
	r.want("1")
	r.close()
	r.check(os.WriteFile(r.keys["positionFile"]+".millrace", []byte(`{"format":1,"positions":["x"],"files":[{"inode"`), 0o644))
	r.add("a.log", "2\n")
	r.start()
	r.want("1", "2")
}

// A crash between the writing of the two files must not look like an edit.
func TestCrashBetweenTheFiles(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("a.log", "1\n")
	r.start()
	r.want("1")
	r.close()
	before := r.positions()
	r.add("a.log", "2\n")
	r.start()
	r.want("1", "2")
	r.close()
	r.setPositions(before) // the file beside is one write ahead
	r.start()
	r.add("a.log", "3\n")
	r.want("1", "2", "3")
}

// The directory cannot be synced, so that a position file is perhaps there; after
// the next file beside it the machine stops. Whichever position file is found then
// is one of its own.
func TestCrashAfterAFailedSave(t *testing.T) {
	record := func(pos int64) []*record {
		return []*record{{id: fileid.ID{Ino: 1}, path: "/log/a", pos: pos, stream: "s", tail: fileid.Print{Off: 1, N: 1}}}
	}
	disk := vfs.NewMem()
	fault := vfs.NewFault(disk)
	if err := vfs.MakeDir(fault, "/pos", 0o755); err != nil {
		t.Fatal(err)
	}
	b := &book{fs: fault, path: "/pos/p.json"}
	if _, err := b.load(slog.New(slog.DiscardHandler), ""); err != nil {
		t.Fatal(err)
	}
	if err := b.save(record(1)); err != nil {
		t.Fatal(err)
	}
	fault.Add(vfs.Rule{Kind: vfs.OpSyncDir, At: 2, Err: errors.New("no")}) // of the position file
	if err := b.save(record(2)); err == nil {
		t.Fatal("the second save does not fail")
	}
	fault.Add(vfs.Rule{Kind: vfs.OpSyncDir, At: 1, Crash: true}) // of the file beside the third
	if err := b.save(record(3)); err == nil {
		t.Fatal("the third save does not fail")
	}
	again := &book{fs: disk, path: "/pos/p.json"}
	found, err := again.load(slog.New(slog.DiscardHandler), "")
	if err != nil || len(found) != 1 || found[0].stream != "s" {
		t.Errorf("%v, %d records: %+v", err, len(found), found)
	}
}

// early is an outlet that looks whether a file is there when the first batch is sent.
type early struct {
	*sourcetest.Outlet
	file  string
	once  sync.Once
	there bool
}

func (e *early) Send(ctx context.Context, b *core.Batch, done func(error)) error {
	e.once.Do(func() {
		_, err := os.Stat(e.file)
		e.there = err == nil
	})
	return e.Outlet.Send(ctx, b, done)
}

// A new stream is written down before anything of it is sent, though that fails at first.
func TestFirstSaveIsTriedAgain(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.fs = vfs.NewFault(vfs.OS(), vfs.Rule{Kind: vfs.OpRename, Path: "p.json.millrace*", Times: 3, Err: errors.New("no")})
	out := &early{Outlet: r.out, file: filepath.Join(r.dir, "pos", "p.json.millrace")}
	r.outlet = out
	r.write("a.log", "1\n")
	r.start()
	r.want("1")
	r.close()
	if !out.there {
		t.Error("the first line is sent before its stream is written down")
	}
}

// flume: TestTaildirSource testErrorCounterFileHandlingFail
func TestPositionFileCannotBeWritten(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("a.log", "1\n")
	full := &fullDisk{FS: r.fs}
	r.fs = full
	r.start()
	r.want("1")
	r.wait("it is counted", func() bool { return r.cells.GenericProcessingFail.Load() > 0 })
	r.add("a.log", "2\n")
	r.want("1", "2")
	r.end()
	if err := r.src.Close(); err == nil {
		t.Error("Close does not tell")
	}
}

// fullDisk refuses to make position files.
type fullDisk struct{ vfs.FS }

func (f *fullDisk) Rename(from, to string) error {
	return fmt.Errorf("rename %s: no space left on device", from)
}

func TestGsonEscapes(t *testing.T) {
	got := appendPositions(nil, []*record{{id: fileid.ID{Dev: 1, Ino: 2}, pos: 3, path: "/a=b/<c>&'d'\"\\\t\n\x01ü\u2028\xff"}})
	want := `[{"inode":2,"pos":3,"file":"/a\u003db/\u003cc\u003e\u0026\u0027d\u0027\"\\\t\n\u0001ü\u2028` + "\ufffd" + `"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	entries, bad := parsePositions(got)
	if len(entries) != 1 || len(bad.notes) != 0 || entries[0].pos != 3 {
		t.Errorf("read back: %v, %v", entries, bad)
	}
}

func FuzzPositions(f *testing.F) {
	f.Add([]byte(`[{"inode":2496275,"pos":12,"file":"/var/log/test1/example.log"}]`))
	f.Add([]byte(`[{"inode":"1","pos":1.5,"file":null},{}]x`))
	f.Add([]byte(`{"format":1,"positions":["absent"],"files":[{"inode":1,"dev":2,"pos":3,"off":3,"len":3,"sum":9,"past":"1 1 7 2 2 8","born":1,"mtime":5,"stream":"s","file":"f"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, bad := parsePositions(data)
		for _, e := range entries {
			if e.pos < 0 || !e.anyDev || e.stream != "" {
				t.Fatalf("bad entry %+v", e)
			}
		}
		if len(bad.notes) == 0 && len(entries) > 0 {
			again, worse := parsePositions(appendPositions(nil, entries))
			if len(worse.notes) > 0 || len(again) != len(entries) || again[0].pos != entries[0].pos || again[0].id.Ino != entries[0].id.Ino {
				t.Fatalf("written and read again: %v, %v", again, worse)
			}
		}
		records, written, err := parseSide(data)
		if err != nil {
			return
		}
		for _, r := range records {
			if r.pos < 0 || r.tail.N > fileid.Bytes || int64(r.tail.N) > r.tail.Off {
				t.Fatalf("bad record %+v", r)
			}
		}
		merge(slog.New(slog.DiscardHandler), records, entries, bad.cut)
		_ = written
		if len(records) > 0 {
			side := append([]byte(`{"format":1,"files":`), appendRecords(nil, records)...)
			again, _, err := parseSide(append(side, '}'))
			if err != nil || len(again) != len(records) || again[0].tail != records[0].tail || !slices.Equal(again[0].past, records[0].past) || !bytes.Equal([]byte(again[0].stream), []byte(records[0].stream)) {
				t.Fatalf("written and read again: %v, %v", again, err)
			}
		}
	})
}
