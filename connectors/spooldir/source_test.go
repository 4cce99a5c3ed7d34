package spooldir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// What each key does to one directory, and how the directory looks afterwards.
//
// flume: TestSpoolDirectorySource testValidSortOrder testRecursion_SetToTrue testRecursion_SetToFalse
// flume: TestSpoolDirectorySource testEndWithZeroByteFiles testWithAllEmptyFiles testWithEmptyAndDataFiles
// flume: TestReliableSpoolingFileEventReader testIncludePattern testIgnorePattern testIncludeExcludePatternNoConflict
// flume: TestReliableSpoolingFileEventReader testIncludeExcludePatternConflict testFileDeletion
// flume: TestReliableSpoolingFileEventReader testConsumeFileRandomly testConsumeFileOldest testConsumeFileYoungest
// flume: TestSpoolingFileLineReader testBehaviorWithEmptyFile testLineExceedsMaxLineLength
// flume: TestLineDeserializer testSimpleViaBuilder testSimpleViaFactory
// flume: TestBlobDeserializer testSimple testSimpleViaBuilder testSimpleViaFactory testBatch testMaxLineLength
func TestKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys  []string
		files []string // name, content; the first is the oldest
		want  []string
		left  []string
	}{
		"defaults": {nil, []string{"a", "1\n2\n", "b", "3"}, []string{"1", "2", "3"}, []string{"a.COMPLETED", "b.COMPLETED"}},
		"fileSuffix": {
			[]string{"fileSuffix", ".DONE"},
			[]string{"a", "1\n", "b.DONE", "no\n", "c.COMPLETED", "2\n"},
			[]string{"1", "2"},
			[]string{"a.DONE", "b.DONE", "c.COMPLETED.DONE"},
		},
		"deletePolicy": {[]string{"deletePolicy", "IMMEDIATE"}, []string{"a", "1\n", "b.COMPLETED", "no\n"}, []string{"1"}, []string{"b.COMPLETED"}},
		"trackingPolicy": {
			[]string{"trackingPolicy", "tracker_dir", "trackerDir", "seen"},
			[]string{"a", "1\n", "d/b", "no\n"},
			[]string{"1"},
			[]string{"a", "d", "seen"},
		},
		"trackerDir below a directory that is searched": {
			[]string{"trackingPolicy", "tracker_dir", "trackerDir", "seen", "recursiveDirectorySearch", "true", "fileSuffix", ".X"},
			[]string{"a", "1\n"},
			[]string{"1"},
			[]string{"a", "seen"},
		},
		"includePattern": {[]string{"includePattern", `[ab]\.log`}, []string{"a.log", "1\n", "b.log", "2\n", "b.log.1", "no\n"}, []string{"1", "2"}, []string{"a.log.COMPLETED", "b.log.1", "b.log.COMPLETED"}},
		"ignorePattern wins": {
			[]string{"includePattern", "a.*", "ignorePattern", `^.*\.tmp$`},
			[]string{"a", "1\n", "a.tmp", "no\n", "b", "no\n"},
			[]string{"1"},
			[]string{"a.COMPLETED", "a.tmp", "b"},
		},
		"an expression of Java": {[]string{"includePattern", `(?!b)\w++\.log`}, []string{"a.log", "1\n", "b.log", "no\n"}, []string{"1"}, []string{"a.log.COMPLETED", "b.log"}},
		"recursiveDirectorySearch": {
			[]string{"recursiveDirectorySearch", "true", "ignorePattern", "skip.*"},
			[]string{"a", "1\n", "d/e/f/b", "2\n", "skipped/c", "no\n", ".hidden/d", "no\n"},
			[]string{"1", "2"},
			[]string{"a.COMPLETED", "d", "skipped"},
		},
		"youngest first": {[]string{"consumeOrder", "Youngest"}, []string{"a", "1\n", "b", "2\n"}, []string{"2", "1"}, []string{"a.COMPLETED", "b.COMPLETED"}},
		"random":         {[]string{"consumeOrder", "random"}, []string{"b", "2\n", "a", "1\n"}, []string{"1", "2"}, []string{"a.COMPLETED", "b.COMPLETED"}},
		"names":          {nil, []string{"a b\tc", "1\n", "żółć 世界", "2\n", "\xff\xfe", "3\n", ".hidden", "no\n"}, []string{"1", "2", "3"}, []string{"a b\tc.COMPLETED", "żółć 世界.COMPLETED", "\xff\xfe.COMPLETED"}},
		"empty files are events": {
			nil,
			[]string{"a", "", "b", "1\n", "c", "", "d", "\n"},
			[]string{"", "1", "", ""},
			[]string{"a.COMPLETED", "b.COMPLETED", "c.COMPLETED", "d.COMPLETED"},
		},
		"maxLineLength": {
			[]string{"bufferMaxLineLength", "10"},
			[]string{"a", "abcdefghijklmnopqrstuvwxyz\nabcdefghijklmnopqrst\nx\n"},
			[]string{"abcdefghij", "klmnopqrst", "uvwxyz", "abcdefghij", "klmnopqrst", "x"},
			[]string{"a.COMPLETED"},
		},
		"carriage returns stay": {[]string{"deserializer", "org.apache.flume.serialization.LineDeserializer$Builder"}, []string{"a", "a\r\nb\n\nc"}, []string{"a\r", "b", "", "c"}, []string{"a.COMPLETED"}},
		"inputCharset":          {[]string{"inputCharset", "ISO-8859-1"}, []string{"a", "\xe9\n"}, []string{"é"}, []string{"a.COMPLETED"}},
		"outputCharset":         {[]string{"deserializer.outputCharset", "ISO-8859-1"}, []string{"a", "é\n"}, []string{"\xe9"}, []string{"a.COMPLETED"}},
		"decodeErrorPolicy fail": {
			nil,
			[]string{"a", "1\n2\xff\n3\n", "b", "4\n"},
			[]string{"1", "4"},
			[]string{"a.FAILED", "b.COMPLETED"},
		},
		"decodeErrorPolicy replace": {[]string{"decodeErrorPolicy", "replace"}, []string{"a", "1\xff\n"}, []string{"1\ufffd"}, []string{"a.COMPLETED"}},
		"decodeErrorPolicy ignore":  {[]string{"decodeErrorPolicy", "IGNORE"}, []string{"a", "1\xff\n\xe4"}, []string{"1", ""}, []string{"a.COMPLETED"}},
		"asideSuffix": {
			[]string{"asideSuffix", ".BAD"}, []string{"a", "\xff\n", "b.BAD", "no\n"}, nil, []string{"a.BAD", "b.BAD"},
		},
		"aside, deleted ones are kept": {[]string{"deletePolicy", "immediate"}, []string{"a", "\xff\n"}, nil, []string{"a.FAILED"}},
		"gzip":                         {nil, []string{"a.gz", gz(t, "1\n2\n") + gz(t, "3\n"), "b", "4\n"}, []string{"1", "2", "3", "4"}, []string{"a.gz.COMPLETED", "b.COMPLETED"}},
		"gzip of nothing":              {nil, []string{"a.gz", gz(t, "")}, []string{""}, []string{"a.gz.COMPLETED"}},
		"gzip, damaged":                {nil, []string{"a.gz", gz(t, "1\n")[:20], "b", "2\n"}, []string{"1", "2"}, []string{"a.gz.FAILED", "b.COMPLETED"}},
		"compression none":             {[]string{"compression", "none", "deserializer", "BLOB"}, []string{"a.gz", "\x1f\x8b\x08 no gzip"}, []string{"\x1f\x8b\x08 no gzip"}, []string{"a.gz.COMPLETED"}},
		"blob":                         {[]string{"deserializer", "org.apache.flume.sink.solr.morphline.BlobDeserializer$Builder"}, []string{"a", "1\n\xff", "b", gz(t, "x"), "c", ""}, []string{"1\n\xff", gz(t, "x"), ""}, []string{"a.COMPLETED", "b.COMPLETED", "c.COMPLETED"}},
		"maxBlobLength":                {[]string{"deserializer", "blob", "deserializer.maxBlobLength", "10"}, []string{"a", "0123456789abcdefghijKLMNO", "b", "0123456789"}, []string{"0123456789", "abcdefghij", "KLMNO", "0123456789"}, []string{"a.COMPLETED", "b.COMPLETED"}},
		"multiline":                    {[]string{"multiline.startPattern", `^\S`}, []string{"a", "E1\n at\n at\nE2\n at", "b", " x\nE3\n"}, []string{"E1\n at\n at", "E2\n at", " x", "E3"}, []string{"a.COMPLETED", "b.COMPLETED"}},
		"container": {
			[]string{"container", "cri", "deserializer.maxLineLength", "20"},
			[]string{"a", "2016-10-06T00:17:09.669794202Z stdout P one \n2016-10-06T00:17:09.669794202Z stderr F E\n2016-10-06T00:17:09.669794202Z stdout F two\n"},
			[]string{"one two", "E"}, // a batch for each stream
			[]string{"a.COMPLETED"},
		},
		"not avro": {[]string{"deserializer", "AVRO"}, []string{"a", "text\n", "b", ""}, nil, []string{"a.FAILED", "b.FAILED"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.keys...)
			for i := 0; i < len(c.files); i += 2 {
				r.put(c.files[i], c.files[i+1])
				r.age(c.files[i], 1000-i)
			}
			r.start()
			r.names(c.left...)
			r.want(c.want...)
			if name == "trackingPolicy" {
				suite.Eventually(t, "the tracker file, and no other", func() bool { return slices.Equal(namesIn(t, r.path("seen")), []string{"a.COMPLETED"}) })
			}
			if _, err := os.Stat(r.path(".flumespool/" + metaName)); err == nil {
				r.in.Close()
				if _, err := os.Stat(r.path(".flumespool/" + metaName)); err == nil {
					t.Error("a meta file is left")
				}
			}
		})
	}
}

// flume: TestReliableSpoolingFileEventReader testConsumeFileOldestWithLexicographicalComparision
// flume: TestReliableSpoolingFileEventReader testConsumeFileYoungestWithLexicographicalComparision
func TestSameTimeGoesByName(t *testing.T) {
	for _, order := range []string{"oldest", "youngest"} {
		r := newRig(t, "consumeOrder", order, "recursiveDirectorySearch", "true")
		for _, name := range []string{"3", "z/2", "1"} {
			r.put(name, name+"\n")
			r.age(name, 0)
		}
		r.start()
		r.want("1", "z/2", "3")
	}
}

// flume: TestSpoolDirectorySource testPutFilenameHeader testPutBasenameHeader
// flume: TestSpoolingFileLineReader testNameCorrespondsToLatestRead
func TestHeaders(t *testing.T) {
	r := newRig(t, "fileHeader", "true", "basenameHeader", "true", "recursiveDirectorySearch", "true", "basenameHeaderKey", "name")
	r.put("d/a b", "1\n")
	r.age("d/a b", 1)
	r.put("c", "2\n")
	r.age("c", 0)
	r.put("empty", "")
	r.age("empty", -1)
	r.start()
	r.want("1", "2", "")
	for i, want := range []string{"d/a b", "c", "empty"} { // each event has its own file's, not that of the one opened next
		h := r.out.Events()[i].Headers
		if file, _ := h.Get("file"); file != r.path(want) {
			t.Errorf("file is %q, want %q", file, want)
		}
		if name, _ := h.Get("name"); name != filepath.Base(want) || h.Len() != 2 {
			t.Errorf("name is %q, of %d headers", name, h.Len())
		}
	}
}

// flume: TestSpoolDirectorySource testInvalidSortOrder
// flume: TestReliableSpoolingFileEventReader testNullConsumeOrder
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want string
	}{
		"no spoolDir":     {[]string{"spoolDir", ""}, "spoolDir"},
		"deletePolicy":    {[]string{"deletePolicy", "sometimes"}, "must be one of never, immediate"},
		"consumeOrder":    {[]string{"consumeOrder", "newest"}, "must be one of oldest, youngest, random"},
		"includePattern":  {[]string{"includePattern", "["}, "includePattern"},
		"deserializer":    {[]string{"deserializer", "LINES"}, "must be one of LINE, AVRO, BLOB"},
		"own class":       {[]string{"deserializer", "com.example.Mine$Builder"}, "class of your own"},
		"schemaType":      {[]string{"deserializer", "AVRO", "deserializer.schemaType", "URL"}, "must be one of HASH, LITERAL"},
		"blob length":     {[]string{"deserializer", "BLOB", "deserializer.maxBlobLength", "0"}, "between 1"},
		"other's key":     {[]string{"deserializer", "BLOB", "inputCharset", "UTF-16"}, "no effect with deserializer = BLOB"},
		"joined records":  {[]string{"deserializer", "AVRO", "multiline.startPattern", "x"}, "go with LINE"},
		"equal suffixes":  {[]string{"asideSuffix", ".COMPLETED"}, "same as fileSuffix"},
		"old name":        {[]string{"bufferMaxLineLength", "1"}, "deserializer.maxLineLength"},
		"tracking policy": {[]string{"trackingPolicy", "none"}, "must be one of rename, tracker_dir"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.keys...)
			_, faults := conf.Bind(new(source), r.keys)
			if text := fmt.Sprint(faults); !strings.Contains(text, c.want) {
				t.Errorf("got %s, want %q", text, c.want)
			}
		})
	}
}

// flume: TestReliableSpoolingFileEventReader testRenameTrackingPolicyOnReadonlySpoolDirectory
func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	for name, c := range map[string]struct{ dir, tracker, want string }{
		"no directory": {filepath.Join(dir, "missing"), "t", "look at spoolDir"},
		"a file":       {filepath.Join(dir, "file"), "t", "is not a directory"},
		"trackerDir":   {dir, "file", "make trackerDir"},
		"read only":    {"/proc/self/fdinfo", dir, "check that files of spoolDir can be renamed"},
	} {
		s := new(source)
		if _, faults := conf.Bind(s, map[string]string{"spoolDir": c.dir, "trackerDir": c.tracker}); faults.HasErrors() {
			t.Fatal(faults)
		}
		if err := s.Open(context.Background(), sourcetest.NewEnv(t, "s")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A spool directory that can not be written to is enough where nothing is renamed in it.
//
// flume: TestReliableSpoolingFileEventReader testTrackerDirTrackingPolicyOnReadonlySpoolDirectory
func TestReadOnlyDirectory(t *testing.T) {
	s := new(source)
	if _, faults := conf.Bind(s, map[string]string{"spoolDir": "/proc/self/fdinfo", "trackerDir": t.TempDir(), "trackingPolicy": "tracker_dir"}); faults.HasErrors() {
		t.Fatal(faults)
	}
	must(t, s.Open(context.Background(), sourcetest.NewEnv(t, "s")))
	must(t, s.Close())
}

// The spool directory may be a link, and so may files; not directories.
func TestLinks(t *testing.T) {
	r := newRig(t, "recursiveDirectorySearch", "true")
	elsewhere := t.TempDir()
	must(t, os.WriteFile(filepath.Join(elsewhere, "x"), []byte("1\n"), 0o644))
	must(t, os.Symlink(filepath.Join(elsewhere, "x"), r.path("link")))
	must(t, os.Symlink(elsewhere, r.path("dir")))
	must(t, os.Symlink("nowhere", r.path("dangling")))
	link := filepath.Join(t.TempDir(), "spool")
	must(t, os.Symlink(r.dir, link))
	r.keys["spoolDir"] = link
	r.start()
	r.want("1")
	r.names("dangling", "dir", "link.COMPLETED")
	if _, err := os.Stat(filepath.Join(elsewhere, "x")); err != nil {
		t.Error("the target of a link was touched")
	}
}

// A file that appears again is not read, whatever tells that it is finished,
// until that is taken away.
func TestNameAppearsAgain(t *testing.T) {
	for name, keys := range map[string][]string{"rename": nil, "tracker": {"trackingPolicy", "tracker_dir"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, keys...)
			done := r.path("a.COMPLETED")
			if keys != nil {
				done = r.path(".flumespool/a.COMPLETED")
			}
			r.put("a", "1\n")
			r.start()
			suite.Eventually(t, "a is finished", func() bool { _, err := os.Stat(done); return err == nil })
			must(t, os.WriteFile(r.path(".a"), []byte("2\n"), 0o644))
			must(t, os.Chtimes(r.path(".a"), r.in.Env.Now(), r.in.Env.Now().Add(1e9))) // newer than the tracker file, whatever the clock's grain
			must(t, os.Rename(r.path(".a"), r.path("a")))
			r.put("b", "3\n")
			r.counts("files_skipped_total", 1)
			r.want("1", "3")
			if keys == nil { // tracker files are read at start
				must(t, os.Remove(done))
				r.want("1", "3", "2")
				r.names("a.COMPLETED", "b.COMPLETED")
			}
			r.counts("files_skipped_total", 1)
		})
	}
}

// A finished name that is taken while the file is being read is no reason to stop.
func TestFinishedNameIsTaken(t *testing.T) {
	r := newRig(t)
	r.out.Hold()
	r.put("a", "1\n")
	r.start()
	suite.Eventually(t, "a is read", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() > 0 })
	must(t, os.WriteFile(r.path("a.COMPLETED"), nil, 0o644))
	r.out.Release()
	r.names("a.1.COMPLETED", "a.COMPLETED")
	r.want("1")
}

// Nothing is finished before it is delivered.
//
// flume: TestSpoolingFileLineReader testBasicSpooling
func TestFinishedAfterDelivery(t *testing.T) {
	r := newRig(t, "deletePolicy", "immediate")
	r.out.Hold()
	r.put("a", "1\n")
	r.put("b", "2\n")
	r.start()
	suite.Eventually(t, "both are read, one after the other", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() == 2 })
	r.names("a", "b")
	r.out.Release()
	r.names()
	r.want("1", "2")
}

// A file that is still being written is read on when it rests, line by line.
func TestGrowingFile(t *testing.T) {
	r := newRig(t, "batchSize", "2")
	r.out.Shut()
	r.put("a", "1\n2\n3\n4")
	r.start()
	suite.Eventually(t, "reading begins", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() > 0 })
	f, err := os.OpenFile(r.path("a"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("4\n5\n")
	must(t, err)
	must(t, f.Close())
	r.out.Open()
	r.want("1", "2", "3", "44", "5")
	r.names("a.COMPLETED")
	r.counts("files_changed_total", 1)
}

// So is one that grows when it was read and not yet finished.
func TestGrowsBeforeItIsFinished(t *testing.T) {
	r := newRig(t)
	r.out.Hold()
	r.put("a", "1\n2")
	r.start()
	suite.Eventually(t, "it is read", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() > 0 })
	f, err := os.OpenFile(r.path("a"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("2\n3\n")
	must(t, err)
	must(t, f.Close())
	r.out.Release()
	r.want("1", "2", "2", "3")
	r.names("a.COMPLETED")
}

// One that was changed otherwise is set aside, and stays.
func TestChangedFile(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"same size": func(r *rig) { r.age("a", 500) },
		"shorter":   func(r *rig) { must(r.t, os.Truncate(r.path("a"), 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "deletePolicy", "immediate")
			r.out.Hold()
			r.put("a", "1\n2\n")
			r.start()
			suite.Eventually(t, "it is read", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() > 0 })
			change(r)
			r.out.Release()
			r.names("a.FAILED")
			r.want("1", "2")
			r.counts("files_changed_total", 1)
			r.counts("files_failed_total", 1)
		})
	}
}

func TestReplacedAndRemovedFiles(t *testing.T) {
	r := newRig(t)
	r.out.Hold()
	r.put("a", "1\n")
	r.put("b", "2\n")
	r.start()
	suite.Eventually(t, "they are read", func() bool { return r.in.Env.Metrics.AppendBatchReceived.Load() == 2 })
	must(t, os.Rename(r.path("a"), r.path(".kept"))) // its inode must not be used again
	r.put("a", "3\n")
	must(t, os.Remove(r.path("b")))
	r.out.Release()
	r.want("1", "2", "3")
	r.names("a.COMPLETED")
}

// What can not be read now holds up nothing, and is tried again from its place.
//
// flume: TestSpoolDirectorySource testErrorCounterEventReadFail
func TestUnreadableFile(t *testing.T) {
	for name, rule := range map[string]vfs.Rule{
		"open":   {Kind: vfs.OpOpen, Path: "a", At: 1, Err: syscall.EACCES},
		"read":   {Kind: vfs.OpRead, Path: "a", At: 1, Err: syscall.EIO},
		"second": {Kind: vfs.OpRead, Path: "a", At: 2, Err: syscall.EIO},
		"finish": {Kind: vfs.OpRename, Path: "a*", At: 1, Err: syscall.EROFS},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "inputCharset", "UTF-16") // which looks at the beginning first
			r.put("a", gz(t, "\x001\x00\n"))
			r.put("b", "\x002\x00\n")
			r.fault = []vfs.Rule{rule}
			r.live(-1, false, false)
			got := r.out.Bodies()
			if slices.Sort(got); !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("got %q", got)
			}
			r.names("a.COMPLETED", "b.COMPLETED")
			if m := r.cells; m.EventReadFail.Load()+m.GenericProcessingFail.Load() != 1 || (m.EventReadFail.Load() == 1) != (name != "finish") {
				t.Errorf("%d failures to read, %d others", m.EventReadFail.Load(), m.GenericProcessingFail.Load())
			}
		})
	}
}

// flume: TestReliableSpoolingFileEventReader testLargeNumberOfFilesOLDEST testLargeNumberOfFilesYOUNGEST
// flume: TestReliableSpoolingFileEventReader testLargeNumberOfFilesRANDOM testLargeNumberOfFilesOLDESTTrackerDir
// flume: TestReliableSpoolingFileEventReader testLargeNumberOfFilesYOUNGESTTrackerDir
// flume: TestReliableSpoolingFileEventReader testLargeNumberOfFilesRANDOMTrackerDir
func TestManyFiles(t *testing.T) {
	for _, order := range []string{"oldest", "random"} {
		r := newRig(t, "consumeOrder", order, "recursiveDirectorySearch", "true", "fileSuffix", ".x")
		want := make(map[string]bool)
		for d := range 9 {
			for f := range 37 {
				name := fmt.Sprintf("d%d/e%d/f%02d", d, d, f)
				r.put(name, name+"\n")
				want[name] = true
			}
		}
		r.start()
		r.counts("files_finished_total", int64(len(want)))
		for _, b := range r.out.Bodies() {
			if !want[b] {
				t.Fatalf("%s came twice", b)
			}
			delete(want, b)
		}
		if len(want) > 0 {
			t.Errorf("%d files are missing", len(want))
		}
	}
}
