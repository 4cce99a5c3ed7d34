package tail

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

func TestRenameAndCreate(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\n2\n")
	r.start()
	r.want("1", "2")
	old, err := os.OpenFile(r.path("app.log"), os.O_WRONLY|os.O_APPEND, 0)
	r.check(err)
	defer old.Close()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "5\n")
	r.want("1", "2", "5")
	_, err = old.WriteString("3\n4\n") // the writer has not reopened yet
	r.check(err)
	r.want("1", "2", "5", "3", "4")
}

func TestCopytruncate(t *testing.T) {
	for pattern, copied := range map[string]string{`app\.log`: "app.log.1", `app\.log.*`: "app.log.1", `.*\.log`: "app-20261130.log"} { // the copy matches, or it does not
		for _, stopped := range []bool{false, true} {
			t.Run(fmt.Sprint(pattern, " stopped ", stopped), func(t *testing.T) {
				r := newRig(t, pattern)
				r.write("app.log", "1\n2\n")
				r.start()
				r.want("1", "2")
				if stopped {
					r.close()
				} else {
					r.out.Shut() // 3 has been looked at, and is not sent
				}
				r.add("app.log", "3\n")
				data, err := os.ReadFile(r.path("app.log"))
				r.check(err)
				r.write(copied, string(data))
				r.check(os.Truncate(r.path("app.log"), 0))
				r.add("app.log", "4\n")
				if stopped {
					r.start()
				} else {
					r.out.Open()
				}
				r.wantSet("1", "2", "3", "4")
				r.add("app.log", "5\n")
				r.wantSet("1", "2", "3", "4", "5")
				if n := r.cell("bytes_lost_total"); n != 0 {
					t.Errorf("%d bytes lost", n)
				}
			})
		}
	}
}

// Many a script copies over the last copy: cp app.log app.log.1 && : > app.log.
func TestCopytruncateOverTheLastCopy(t *testing.T) {
	for _, how := range []string{"all read", "behind", "restarted"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, `app\.log`)
			r.start()
			var all []string
			for i := range 4 {
				text := ""
				for j := range 3 {
					line := strings.Repeat(fmt.Sprint(i), i+1) + fmt.Sprint("-", j) // no two rounds are of one length
					text, all = text+line+"\n", append(all, line)
				}
				half := text[:strings.Index(text, "\n")+1]
				r.add("app.log", half)
				r.wantSet(all[:len(all)-2]...)
				if how == "behind" {
					r.out.Shut()
				}
				r.add("app.log", text[len(half):])
				if how != "behind" {
					r.wantSet(all...)
				}
				if how == "restarted" {
					r.close()
				}
				data, err := os.ReadFile(r.path("app.log"))
				r.check(err)
				r.write("app.log.1", string(data))
				r.check(os.Truncate(r.path("app.log"), 0))
				if how == "restarted" {
					r.start()
				} else {
					r.out.Open()
				}
				r.wantSet(all...)
			}
			if n := r.cell("bytes_lost_total"); n != 0 {
				t.Errorf("%d bytes lost", n)
			}
		})
	}
}

func TestCopytruncateCountsWhatIsLost(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "one\nunfini")
	r.start()
	r.want("one")
	r.wait("the rest is looked at", func() bool { return r.cell("bytes_behind") == 6 })
	r.check(os.Truncate(r.path("app.log"), 0))
	r.add("app.log", "two\n")
	r.want("one", "two")
	if n := r.cell("bytes_lost_total"); n != 6 {
		t.Errorf("%d bytes lost, want 6", n)
	}
	if n := r.cell("truncations_total"); n != 1 {
		t.Errorf("%d truncations", n)
	}
}

// The source starts between the copy and the truncation, and has read nothing of
// what is there: it knew the file when it was empty.
func TestCopytruncateWhileStarting(t *testing.T) {
	for _, copied := range []string{"app.log.1", "app-1.log"} { // listed behind app.log, and before
		t.Run(copied, func(t *testing.T) {
			r := newRig(t, `app.*`)
			r.write("app.log", "old\n")
			r.start()
			r.want("old")
			r.check(os.Truncate(r.path("app.log"), 0))
			r.wait("the truncation is seen", func() bool { return r.cell("truncations_total") == 1 })
			r.close()
			r.add("app.log", "1\n2\n")
			r.write(copied, "1\n2\n")
			r.start()
			r.want("old", "1", "2")
			r.check(os.Truncate(r.path("app.log"), 0))
			r.add("app.log", "3\n")
			r.want("old", "1", "2", "3")
		})
	}
}

// listed is a file system that does something once before it lists a directory.
type listed struct {
	vfs.FS
	first atomic.Pointer[func()]
}

func (l *listed) ReadDir(dir string) ([]fs.DirEntry, error) {
	if do := l.first.Swap(nil); do != nil {
		(*do)()
	}
	return l.FS.ReadDir(dir)
}

// A file that was empty is written and copied between two looks at it, and the copy is seen first.
func TestCopytruncateOfWhatWasEmpty(t *testing.T) {
	r := newRig(t, `app.*`)
	disk := &listed{FS: vfs.OS()} // which is not watched
	r.fs = disk
	r.write("app.log", "")
	nothing := func() {}
	disk.first.Store(&nothing)
	r.start()
	r.wait("it is listed", func() bool { return disk.first.Load() == nil })
	write := func() { // in the next listing
		r.add("app.log", "1\n2\n")
		r.write("app-1.log", "1\n2\n")
	}
	disk.first.Store(&write)
	r.want("1", "2")
	r.check(os.Truncate(r.path("app.log"), 0))
	r.add("app.log", "3\n")
	r.want("1", "2", "3")
}

// A copy that is not followed by a truncation is a file of its own.
func TestCopyThatStays(t *testing.T) {
	r := newRig(t, `app\.log.*`)
	r.write("app.log", "1\n")
	r.start()
	r.want("1")
	r.write("app.log.bak", "1\n")
	r.add("app.log.bak", "other\n") // it goes its own way
	r.wantSet("1", "1", "other")
}

func TestTruncatedAndGrownPastThePosition(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "old 1\nold 2\n")
	r.start()
	r.want("old 1", "old 2")
	r.write("app.log", "new 1\nnew 2\nnew 3\n")
	r.want("old 1", "old 2", "new 1", "new 2", "new 3")
	r.write("app.log", "NEW 1\nNEW 2\nNEW 3\n") // as long as before
	r.want("old 1", "old 2", "new 1", "new 2", "new 3", "NEW 1", "NEW 2", "NEW 3")
}

func TestHoleAfterTruncation(t *testing.T) {
	r := newRig(t, `app\.log`)
	f, err := os.Create(r.path("app.log"))
	r.check(err)
	defer f.Close()
	_, err = f.WriteString("1\n2\n")
	r.check(err)
	r.start()
	r.want("1", "2")
	r.check(f.Truncate(0))
	_, err = f.WriteString("3\n") // at its old offset: four NULs come before
	r.check(err)
	r.want("1", "2", "3")
	if n := r.cell("hole_bytes_total"); n != 4 {
		t.Errorf("%d bytes of a hole, want 4", n)
	}
}

func TestSeveralRotationsWhileBehind(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "0\n")
	r.start()
	r.want("0")
	r.out.Shut()
	r.add("app.log", "a\n")
	want := []string{"0", "a"}
	for i := range 5 {
		for n := i; n > 0; n-- {
			r.rename(fmt.Sprintf("app.log.%d", n), fmt.Sprintf("app.log.%d", n+1))
		}
		r.rename("app.log", "app.log.1")
		line := fmt.Sprintf("line %d", i)
		want = append(want, line)
		r.write("app.log", line+"\n")
		id := ino(t, r.path("app.log"))
		r.wait("it is open", func() bool { return strings.Contains(openFiles(t), fmt.Sprint(" ", id, " ")) })
	}
	r.out.Open()
	r.wantSet(want...)
}

// openFiles lists the inodes this process has open, each between blanks.
func openFiles(t testing.TB) string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	all := " "
	for _, fd := range fds {
		if fi, err := os.Stat("/proc/self/fd/" + fd.Name()); err == nil {
			all += fmt.Sprint(fileid.Of(fi).Ino, " ")
		}
	}
	return all
}

func TestSeveralRotationsWhileStopped(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill ", kill), func(t *testing.T) {
			r := newRig(t, `app\.log`)
			r.write("app.log", "1\n")
			r.start()
			r.want("1")
			if kill {
				r.kill()
			} else {
				r.close()
			}
			r.add("app.log", "2\n3\n")
			r.rename("app.log", "app.log.1")
			r.rename("app.log.1", "app.log.2")
			r.write("app.log", "4\n")
			r.start()
			r.wantSet("1", "2", "3", "4")
			if !strings.Contains(r.logs.String(), "rotated away") {
				t.Error("not logged")
			}
			r.close()
			r.start()
			r.add("app.log", "5\n")
			r.wantSet("1", "2", "3", "4", "5")
		})
	}
}

func TestRotationChainWithGzip(t *testing.T) {
	r := newRig(t, `app\.log.*`)
	r.write("app.log", "1\n2\n")
	r.start()
	r.want("1", "2")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "3\n")
	r.want("1", "2", "3")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprint(w, "1\n2\n")
	r.check(w.Close())
	r.write("app.log.2.gz", z.String())
	r.check(os.Remove(r.path("app.log.1")))
	r.wait("the .gz is looked at", func() bool { return strings.Contains(r.logs.String(), "compressed") })
	r.add("app.log", "4\n")
	r.want("1", "2", "3", "4")
}

func TestInodeReuse(t *testing.T) {
	r := newRig(t, `[ab]\.log`)
	r.write("a.log", "old line one\n")
	r.start()
	r.want("old line one")
	id := ino(t, r.path("a.log"))
	r.close()
	r.check(os.Remove(r.path("a.log")))
	r.reuse(id, "b.log", "new line one\nnew line two\n")
	r.start()
	r.want("old line one", "new line one", "new line two")
}

// reuse writes a file that has an inode which is free, if the file system gives it.
func (r *rig) reuse(id uint64, name, text string) {
	r.t.Helper()
	for range 200 {
		r.write(name, text)
		if ino(r.t, r.path(name)) == id {
			return
		}
		other := r.path(name) + ".other" // keeps its inode busy
		r.check(os.Rename(r.path(name), other+fmt.Sprint(ino(r.t, r.path(name)))))
	}
	r.write(name, text)
	r.t.Log("the inode is not used again here")
}

func TestEqualFirstLines(t *testing.T) {
	r := newRig(t, `a\.log`)
	head := strings.Repeat("# the same header in every file\n", 40)
	r.write("a.log", head+"a\n")
	r.start()
	r.wait("all of a.log", func() bool { return r.out.Len() == 41 })
	r.close()
	id := ino(t, r.path("a.log"))
	r.check(os.Remove(r.path("a.log")))
	r.reuse(id, "a.log", head+"B\nC\n")
	r.start()
	r.wait("all of it", func() bool { return r.out.Len() == 41+42 })
	if got := r.out.Bodies(); got[81] != "B" || got[82] != "C" {
		t.Errorf("got %q", got[80:])
	}
}

// flume: TestTaildirEventReader testIncludeEmptyFile
func TestEmptyAndOneByteFiles(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.write("empty.log", "")
	r.write("one.log", "x")
	r.write("newline.log", "\n")
	r.start()
	r.want("")
	r.add("empty.log", "e\n")
	r.want("", "e")
	r.add("one.log", "y\n")
	r.want("", "e", "xy")
}

func TestShorterThanTheStoredPosition(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\n2\n3\n")
	r.start()
	r.want("1", "2", "3")
	r.close()
	r.write("app.log", "4\n")
	r.start()
	r.want("1", "2", "3", "4")
}

// flume: TestTaildirEventReader testDeleteFiles
// flume: TestTaildirMatcher getMatchingFiles getMatchingFilesNoCache
func TestDeleteAndRecreate(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\n")
	r.start()
	r.want("1")
	for i := range 5 {
		r.check(os.Remove(r.path("app.log")))
		r.write("app.log", fmt.Sprintf("again %d\n", i))
		r.wait("it arrives", func() bool { return r.out.Len() == 2+i })
	}
	r.want("1", "again 0", "again 1", "again 2", "again 3", "again 4")
}

func TestSymlinkSwitch(t *testing.T) {
	r := newRig(t, `0\.log`)
	target := func(name, text string) string {
		p := filepath.Join(r.dir, name)
		r.check(os.WriteFile(p, []byte(text), 0o644))
		return p
	}
	one := target("one", "1\n")
	r.check(os.Symlink(one, r.path("0.log")))
	r.start()
	r.want("1")
	r.check(os.Symlink(target("two", "2\n"), r.path("new")))
	r.rename("new", "0.log")
	r.want("1", "2")
	f, err := os.OpenFile(one, os.O_WRONLY|os.O_APPEND, 0)
	r.check(err)
	defer f.Close()
	_, err = f.WriteString("late\n")
	r.check(err)
	r.want("1", "2", "late")
}

func TestSymlinkWhoseTargetIsRotated(t *testing.T) {
	r := newRig(t, `0\.log`)
	target := filepath.Join(r.dir, "x-json.log")
	r.check(os.WriteFile(target, []byte("1\n"), 0o644))
	r.check(os.Symlink(target, r.path("0.log")))
	r.start()
	r.want("1")
	r.check(os.Rename(target, target+".1"))
	r.check(os.WriteFile(target, []byte("2\n"), 0o644))
	r.want("1", "2")
}

func TestRenameInsideThePattern(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprint("stopped ", stopped), func(t *testing.T) {
			r := newRig(t, `.*`, "fileHeader", "true")
			r.write("a", "1\n")
			r.start()
			r.want("1")
			if stopped {
				r.close()
			}
			r.rename("a", "b")
			r.add("b", "2\n")
			if stopped {
				r.start()
			}
			r.want("1", "2")
			r.add("b", "3\n")
			r.want("1", "2", "3")
			if got := r.out.Events()[2].Headers.Value("file"); got != r.path("b") {
				t.Errorf("file header is %q", got)
			}
		})
	}
}

func TestMoveToAnotherGroupWhileClosed(t *testing.T) {
	r := newRig(t, `.*\.log`, "idleTimeout", "10")
	other := filepath.Join(r.dir, "other")
	r.check(os.Mkdir(other, 0o755))
	r.keys["filegroups"] = "g h"
	r.keys["filegroups.h"] = other + `/.*\.log`
	r.write("a.log", "1\n")
	r.start()
	r.want("1")
	r.wait("it is closed", func() bool { return r.cell("files_open") == 0 })
	r.check(os.Rename(r.path("a.log"), filepath.Join(other, "a.log")))
	r.check(os.WriteFile(filepath.Join(other, "b.log"), []byte("2\n"), 0o644))
	r.want("1", "2")
}

// flume: TestTaildirMatcher testDirectoriesAreNotListed
func TestReplacedByADirectory(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\n")
	r.start()
	r.want("1")
	r.check(os.Remove(r.path("app.log")))
	r.check(os.Mkdir(r.path("app.log"), 0o755))
	r.wait("it is noticed", func() bool { return r.cell("files_open") <= 1 })
	r.check(os.Remove(r.path("app.log")))
	r.write("app.log", "2\n")
	r.want("1", "2")
}

// locked refuses to open log files while it is locked.
type locked struct {
	vfs.FS
	refuse atomic.Bool
}

func (l *locked) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if strings.HasSuffix(name, ".log") && l.refuse.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return l.FS.OpenFile(name, flag, perm)
}

// flume: TestTaildirSource testErrorCounterEventReadFail
func TestUnreadableThenReadable(t *testing.T) {
	r := newRig(t, `app\.log`)
	l := &locked{FS: r.fs}
	l.refuse.Store(true)
	r.fs = l
	r.write("app.log", "1\n")
	r.start()
	r.wait("the failure is counted", func() bool { return r.cells.EventReadFail.Load() > 2 })
	if n := strings.Count(r.logs.String(), "will try again"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	l.refuse.Store(false)
	r.want("1")
}

func TestDirectoryAppearsLater(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.check(os.Remove(filepath.Join(r.dir, "logs")))
	r.start()
	r.wait("it is said", func() bool { return strings.Contains(r.logs.String(), "waiting for it") })
	r.check(os.Mkdir(filepath.Join(r.dir, "logs"), 0o755))
	r.write("app.log", "1\n")
	r.want("1")
	// And it goes, and comes again.
	r.check(os.RemoveAll(filepath.Join(r.dir, "logs")))
	r.wait("it is said", func() bool { return strings.Count(r.logs.String(), "waiting for it") == 2 })
	r.check(os.Mkdir(filepath.Join(r.dir, "logs"), 0o755))
	r.write("app.log", "2\n")
	r.want("1", "2")
}

// flume: TestTaildirEventReader testLargeNumberOfFiles
func TestThousandFilesAtOnce(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.start()
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprintf("line of %d", i))
		r.write(fmt.Sprintf("%d.log", i), want[i]+"\n")
	}
	r.wantSet(want...)
	for i := range 1000 {
		r.add(fmt.Sprintf("%d.log", i), "again\n")
		want = append(want, "again")
	}
	r.wantSet(want...)
}

func TestWatchdog(t *testing.T) {
	r := newRig(t, `app\.log`)
	r.write("app.log", "1\n")
	r.start()
	r.want("1")
	r.out.Shut()
	r.add("app.log", "2\n")
	r.wait("the file counts as stuck", func() bool { return r.cell("stuck_seconds") > 0 })
	r.out.Open()
	r.want("1", "2")
	r.wait("it does no more", func() bool { return r.cell("stuck_seconds") == 0 && r.cell("bytes_behind") == 0 })
}

// What is known of files that are gone is forgotten, in the position files and in the channels.
func TestOldStateIsCleaned(t *testing.T) {
	r := newRig(t, `.*\.log`, "idleTimeout", "10")
	r.start()
	for i := range 5 {
		name := fmt.Sprintf("%d.log", i)
		r.write(name, "x\n")
		r.wait("it is read", func() bool { return r.out.Len() == i+1 })
		r.check(os.Remove(r.path(name)))
	}
	r.wait("the position file is empty", func() bool {
		data, err := os.ReadFile(r.keys["positionFile"])
		return err == nil && string(data) == "[]"
	})
}

// Too many open files are not the end: those at rest are closed.
func TestTooManyOpenFiles(t *testing.T) {
	r := newRig(t, `.*\.log`)
	few := &limited{FS: r.fs, most: 8}
	r.fs = few
	r.start()
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		r.write(fmt.Sprintf("%d.log", i), want[i]+"\n")
	}
	r.wantSet(want...)
}

// limited opens at most so many log files at a time.
type limited struct {
	vfs.FS
	most, open int32
}

type limitedFile struct {
	vfs.File
	l *limited
}

func (l *limited) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if !strings.HasSuffix(name, ".log") {
		return l.FS.OpenFile(name, flag, perm)
	}
	if atomic.AddInt32(&l.open, 1) > l.most {
		atomic.AddInt32(&l.open, -1)
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	f, err := l.FS.OpenFile(name, flag, perm)
	if err != nil {
		atomic.AddInt32(&l.open, -1)
		return nil, err
	}
	return &limitedFile{f, l}, nil
}

func (f *limitedFile) Close() error {
	atomic.AddInt32(&f.l.open, -1)
	return f.File.Close()
}

// forgetful counts the streams that are forgotten.
type forgetful struct {
	core.Outlet
	n atomic.Int32
}

func (f *forgetful) Forget(stream string) {
	f.n.Add(1)
	f.Outlet.Forget(stream)
}

func TestStreamsAreForgotten(t *testing.T) {
	r := newRig(t, `.*\.log`, "idleTimeout", "10")
	out := &forgetful{Outlet: r.out}
	r.outlet = out
	r.write("a.log", "1\n")
	r.write("b.log", "2\n")
	r.start()
	r.wantSet("1", "2")
	r.write("a.log", "3\n") // another generation
	r.wantSet("1", "2", "3")
	r.wait("the first is forgotten", func() bool { return out.n.Load() == 1 })
	r.check(os.Remove(r.path("b.log")))
	r.wait("the second is forgotten", func() bool { return out.n.Load() == 2 })
	// While it is stopped too.
	r.close()
	r.check(os.Remove(r.path("a.log")))
	r.start()
	r.wait("the third is forgotten", func() bool { return out.n.Load() == 3 })
}

// What is no regular file is not opened: a FIFO would hold the source.
func TestFIFO(t *testing.T) {
	r := newRig(t, `.*\.log`)
	r.check(syscall.Mkfifo(r.path("a.log"), 0o644))
	r.write("b.log", "1\n")
	r.start()
	r.want("1")
	r.check(os.Remove(r.path("a.log")))
	r.write("a.log", "2\n")
	r.want("1", "2")
}
