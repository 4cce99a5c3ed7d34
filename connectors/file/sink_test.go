package file

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

// flume: TestRollingFileSink testLifecycle testAppend2
func TestSuite(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"defaults":      {},
		"rolls":         {"sink.rollCount": "7", "sink.inUseSuffix": ".tmp"},
		"at once":       {"sink.commitInterval": "0"},
		"flume's names": {"sink.pathManager": "rolltime", "sink.rollSize": "1000", "sink.sync": "false"},
	} {
		t.Run(name, func(t *testing.T) { sinktest.Run(t, subject(keys)) })
	}
}

func subject(more map[string]string) sinktest.Subject {
	return sinktest.Subject{New: Sink.New, Backend: func(t testing.TB) sinktest.Backend {
		dir := filepath.Join(t.TempDir(), "new", "out")
		keys := map[string]string{"sink.directory": dir}
		for k, v := range more {
			keys[k] = v
		}
		fault := vfs.NewFault(vfs.OS())
		return sinktest.Backend{
			Keys:    keys,
			Prepare: func(env *core.Env) { env.FS = fault },
			Seen: func() []string {
				var lines []string
				for _, f := range list(t, vfs.OS(), dir) {
					lines = append(lines, strings.Split(strings.TrimSuffix(f.content, "\n"), "\n")...)
				}
				return lines
			},
			Break: func() { fault.Add(vfs.Rule{Kind: vfs.OpWrite, Times: -1, Err: syscall.ENOSPC, Short: true}) },
			Heal:  fault.Clear,
		}
	}}
}

type file struct{ name, content string }

var numbers = regexp.MustCompile(`(\d{13,14})-(\d+)`)

// list returns the files of dir, in the order in which they were begun.
func list(t testing.TB, fsys vfs.FS, dir string) []file {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	for _, e := range entries {
		data, err := vfs.ReadFile(fsys, filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{e.Name(), string(data)})
	}
	slices.SortFunc(files, func(a, b file) int { return order(a.name) - order(b.name) })
	return files
}

func order(name string) int {
	m := numbers.FindStringSubmatch(name)
	if m == nil {
		return 0
	}
	series, _ := strconv.Atoi(m[1])
	n, _ := strconv.Atoi(m[2])
	return series*10000 + n
}

// start opens a sink on fsys.
func start(t testing.TB, fsys vfs.FS, keys map[string]string, marks ...core.Mark) *sinktest.Instance {
	t.Helper()
	keys["sink.directory"] = "/out"
	return sinktest.Open(t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
		return sinktest.Backend{Keys: keys, Prepare: func(env *core.Env) {
			env.FS = fsys
			env.Marks = map[string]core.Mark{}
			for _, m := range marks {
				env.Marks[m.Stream] = m
			}
			env.Now = func() time.Time { return time.UnixMilli(1382534100000) }
		}}
	}})
}

func (f file) String() string { return f.name + ":" + strings.ReplaceAll(f.content, "\n", " ") }

func expect(t testing.TB, fsys vfs.FS, want ...string) {
	t.Helper()
	got := []string{}
	for _, f := range list(t, fsys, "/out") {
		got = append(got, f.String())
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func flush(t testing.TB, in *sinktest.Instance) {
	t.Helper()
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// flume: TestRollingFileSink testAppend3 testRollTime
func TestNames(t *testing.T) {
	stamp := time.UnixMilli(1382534100000).Local().Format("20060102150405")
	for _, c := range []struct {
		keys map[string]string
		want []string
	}{
		{map[string]string{}, []string{"1382534100000-1:a b ", "1382534100000-2:c d ", "1382534100000-3:e "}},
		{
			map[string]string{"sink.pathManager.prefix": "test3-", "sink.pathManager.extension": "txt"},
			[]string{"test3-1382534100000-1.txt:a b ", "test3-1382534100000-2.txt:c d ", "test3-1382534100000-3.txt:e "},
		},
		{
			map[string]string{"sink.pathManager": "RollTime", "sink.pathManager.prefix": "test4-", "sink.pathManager.extension": "txt", "sink.inUseSuffix": "_"},
			[]string{"test4-" + stamp + "-1.txt:a b ", "test4-" + stamp + "-2.txt:c d ", "test4-" + stamp + "-3.txt:e "},
		},
	} {
		mem := vfs.NewMem()
		c.keys["sink.rollCount"] = "2"
		in := start(t, mem, c.keys)
		in.Deliver([]string{"a"})
		in.Deliver([]string{"b", "c", "d", "e"})
		in.Close()
		expect(t, mem, c.want...)
	}
}

func TestNeverOverwrites(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/out", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/out/1382534100000-1", "/out/1382534100000-2.tmp"} {
		if err := vfs.WriteFile(mem, name, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := start(t, mem, map[string]string{"sink.inUseSuffix": ".tmp"})
	in.Deliver([]string{"a"})
	flush(t, in)
	expect(t, mem, "1382534100000-1:old", "1382534100000-2.tmp:old", "1382534100000-3.tmp:a ")
	in.Close()
	expect(t, mem, "1382534100000-1:old", "1382534100000-2.tmp:old", "1382534100000-3:a ")
}

func TestRollSize(t *testing.T) {
	mem := vfs.NewMem()
	in := start(t, mem, map[string]string{"sink.rollSize": "4"})
	in.Deliver([]string{"a", "b", "c", "dddddd", "e"})
	in.Deliver([]string{"f", "g"})
	in.Close()
	expect(t, mem, "1382534100000-1:a b ", "1382534100000-2:c dddddd ", "1382534100000-3:e f ", "1382534100000-4:g ")
}

// The clock acks and rolls without further events, and makes no empty files.
//
// flume: TestRollingFileSink testAppend
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		in := start(t, mem, map[string]string{"sink.rollInterval": "10", "sink.commitInterval": "50", "sink.inUseSuffix": ".tmp"})
		tx := in.Deliver([]string{"a"})
		time.Sleep(49 * time.Millisecond)
		if _, _, ended := tx.Acked(); ended {
			t.Error("acked before the commit interval is over")
		}
		time.Sleep(2 * time.Millisecond)
		if _, rolled, ended := tx.Acked(); !ended || rolled != nil {
			t.Errorf("after the commit interval: ended %v, %v", ended, rolled)
		}
		expect(t, mem, "1382534100000-1.tmp:a ")
		time.Sleep(10 * time.Second)
		expect(t, mem, "1382534100000-1:a ")
		time.Sleep(time.Hour)
		expect(t, mem, "1382534100000-1:a ")
		in.Deliver([]string{"b"})
		time.Sleep(time.Hour)
		expect(t, mem, "1382534100000-1:a ", "1382534100000-2:b ")
		in.Close()
	})
}

func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	in := start(t, mem, map[string]string{"sink.commitInterval": "0"})
	in.Deliver([]string{"a"})
	mem.SetVolume(4)
	full := in.Deliver([]string{"bbb", "ccc"})
	if bodies, rolled, _ := full.Acked(); len(bodies) > 0 || rolled == nil {
		t.Fatalf("on a full disk: acked %q, %v", bodies, rolled)
	}
	mem.SetVolume(1 << 20)
	in.Deliver([]string{"bbb", "ccc"})
	expect(t, mem, "1382534100000-1:a bbb ccc ")
	in.Close()
	expect(t, mem, "1382534100000-1:a bbb ccc ")
}

// What was written when a sync fails may never reach the disk: it is cut off and written anew.
func TestFailedSync(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem, vfs.Rule{Kind: vfs.OpSync, At: 2})
	in := start(t, fault, map[string]string{"sink.commitInterval": "0", "sink.serializer.appendNewline": "true"})
	in.Deliver([]string{"a"})
	if _, rolled, _ := in.Deliver([]string{"b"}).Acked(); rolled == nil {
		t.Fatal("acked although the sync failed")
	}
	in.Deliver([]string{"b"})
	expect(t, mem.CrashClone(nil, vfs.DropAll), "1382534100000-1:a b ")
	in.Close()
}

// The file goes away under the sink: what comes goes into another.
func TestFileTakenAway(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	in := start(t, fault, map[string]string{"sink.commitInterval": "0"})
	in.Deliver([]string{"a"})
	fault.Add(vfs.Rule{Kind: vfs.OpWrite, At: 1})
	in.Deliver([]string{"b"})
	if err := mem.Remove("/out/1382534100000-1"); err != nil {
		t.Fatal(err)
	}
	in.Deliver([]string{"b"})
	in.Deliver([]string{"b"})
	in.Close()
	expect(t, mem, "1382534100000-2:b ")
}

func TestAvro(t *testing.T) {
	mem := vfs.NewMem()
	in := start(t, mem, map[string]string{"sink.serializer": "avro_event", "sink.serializer.compressionCodec": "snappy", "sink.pathManager.extension": "avro", "sink.rollCount": "3"})
	in.Deliver([]string{"a", "b"})
	in.Deliver([]string{"c", "d"})
	in.Close()
	files := list(t, mem, "/out")
	if len(files) != 2 || files[0].name != "1382534100000-1.avro" {
		t.Fatalf("files: %q", files)
	}
	for i, want := range []int{3, 1} {
		f, err := formattest.Decode([]byte(files[i].content))
		if err != nil || len(f.Events) != want {
			t.Errorf("%s: %d events, want %d, %v", files[i].name, len(f.Events), want, err)
		}
	}
}

// Another schema is another file; what fits none is refused, wherever it is in a
// batch, and the rest is acked.
func TestSchemaRolls(t *testing.T) {
	const literal = "flume.avro.schema.literal"
	a, b := `{"type":"fixed","name":"A","size":2}`, `{"type":"fixed","name":"B","size":2}`
	for _, c := range []struct {
		name, events string // schema and body each
		rollCount    string
		want, refuse string
	}{
		{"in turn", "a:a0 a:a1 b:b0 a:a2", "0", "a0 a1|b0|a2", ""},
		{"first refused", "-:x a:a0 a:a1", "0", "a0 a1", "0"},
		{"last refused", "a:a0 a:long", "0", "a0", "1"},
		{"between", "a:a0 -:x a:a1 b:b0 -:y b:b1", "0", "a0 a1|b0 b1", "1 4"},
		{"all refused", "-:x a:long", "0", "", "0 1"},
		{"full before the last", "a:a0 a:a1 -:x", "2", "a0 a1", "2"},
		{"full between", "a:a0 -:x a:a1 a:a2", "2", "a0 a1|a2", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			in := start(t, mem, map[string]string{"sink.serializer": "avro", "sink.rollCount": c.rollCount})
			batch := core.NewBatch()
			for _, e := range strings.Fields(c.events) {
				s, body, _ := strings.Cut(e, ":")
				h := core.NewHeaders(core.Header{Key: literal, Value: map[string]string{"a": a, "b": b}[s]})
				if s == "-" {
					h = core.Headers{}
				}
				batch.Copy(h, []byte(body))
			}
			tx := &oneTx{b: batch, left: len(batch.Events)}
			in.Sink.Deliver(context.Background(), tx)
			in.Close()
			var got []string
			for _, f := range list(t, mem, "/out") {
				file, err := formattest.DecodeBodies([]byte(f.content))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, strings.Join(file.Bodies, " "))
			}
			refused := strings.Trim(fmt.Sprint(tx.refused), "[]")
			if strings.Join(got, "|") != c.want || refused != c.refuse || tx.left != 0 || tx.cause != nil {
				t.Errorf("files %q, refused %q, %d left, %v", got, refused, tx.left, tx.cause)
			}
		})
	}
}

// oneTx is a transaction that counts what is left of it.
type oneTx struct {
	b       *core.Batch
	left    int
	refused []int
	cause   error
}

func (x *oneTx) Batch() *core.Batch { return x.b }

func (x *oneTx) Ack(pick []int32, _ ...core.Mark) <-chan struct{} {
	if x.left -= len(pick); pick == nil {
		x.left = 0
	}
	c := make(chan struct{})
	close(c)
	return c
}

func (x *oneTx) Refuse(i int, _ error) {
	x.left--
	x.refused = append(x.refused, i)
}

func (x *oneTx) Rollback(cause error)  { x.cause = cause }
func (x *oneTx) Unpin() bool           { return false }
func (x *oneTx) Lost() <-chan struct{} { return nil }

// A sink that closed without a crash and comes back goes on in a young file, and leaves an old one.
func TestGoesOn(t *testing.T) {
	for _, c := range []struct {
		keys map[string]string
		want []string
	}{
		{map[string]string{}, []string{"1382534100000-1:a b "}},
		{map[string]string{"sink.rollCount": "1"}, []string{"1382534100000-1:a ", "1382534100000-2:b "}},
		{map[string]string{"sink.inUseSuffix": ".x"}, []string{"1382534100000-1:a ", "1382534100000-2:b "}},
		{map[string]string{"sink.rollInterval": "0.001s"}, []string{"1382534100000-1:a ", "1382534100000-2:b "}},
	} {
		mem := vfs.NewMem()
		in := start(t, mem, c.keys)
		tx := in.Deliver([]string{"a"})
		in.Close()
		marks := tx.Marks()
		time.Sleep(2 * time.Millisecond) // older than the shortest interval above
		in = start(t, mem, c.keys, marks[len(marks)-1])
		in.Deliver([]string{"b"})
		in.Close()
		expect(t, mem, c.want...)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ keys, err string }{
		{"", "sink.directory: is required"},
		{"sink.directory=/x", ""},
		{"sink.directory=/x sink.pathManager=com.example.Mine", "is not a path manager"},
		{"sink.directory=/x sink.serializer=XML", "is not a serializer"},
		{"sink.directory=/x sink.rollInterval=often", "rollInterval"},
	} {
		keys := map[string]string{}
		for _, kv := range strings.Fields(c.keys) {
			k, v, _ := strings.Cut(kv, "=")
			keys[k] = v
		}
		_, faults := conf.Bind(Sink.New(), keys)
		if text := fmt.Sprint(faults); (c.err != "") != faults.HasErrors() || !strings.Contains(text, c.err) {
			t.Errorf("%s: %s", c.keys, text)
		}
	}
}

func TestDirectoryIsAFile(t *testing.T) {
	mem := vfs.NewMem()
	if err := vfs.WriteFile(mem, "/out", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := Sink.New()
	conf.Bind(s, map[string]string{"sink.directory": "/out"})
	env := sourcetest.NewEnv(t, "sink")
	env.FS = mem
	if err := s.Open(context.Background(), env); err == nil || !strings.Contains(err.Error(), "make directory: /out is not a directory") {
		t.Errorf("open: %v", err)
	}
}

func FuzzState(f *testing.F) {
	st := state{name: "/out/x-1", suffix: ".tmp", length: 10, events: 3, opened: time.UnixMilli(5), format: "TEXT"}
	f.Add(st.encode())
	f.Add([]byte{stateVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := decodeState(data)
		if err != nil {
			return
		}
		if back, err := decodeState(st.encode()); err != nil || back != st {
			t.Fatalf("%+v comes back as %+v, %v", st, back, err)
		}
	})
}

// BenchmarkSink is beside BenchmarkCopy, its limit: the same bytes written in blocks.
func BenchmarkSink(b *testing.B) {
	for _, c := range []struct {
		name  string
		batch int
		sync  bool
	}{{"batch 100", 100, true}, {"batch 100, no sync", 100, false}, {"batch 1000", 1000, true}, {"batch 5000", 5000, true}} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, c.batch, c.sync) })
	}
}

func benchmark(b *testing.B, events int, sync bool) {
	s := Sink.New()
	conf.Bind(s, map[string]string{"sink.directory": b.TempDir(), "sink.sync": fmt.Sprint(sync), "sink.rollSize": "512m"})
	env := sourcetest.NewEnv(b, "sink")
	if err := s.Open(context.Background(), env); err != nil {
		b.Fatal(err)
	}
	batch := core.NewBatch()
	h := core.NewHeaders(core.Header{Key: "file", Value: "/var/log/app.log"})
	for range events {
		batch.Copy(h, []byte(strings.Repeat("x", 199)))
	}
	b.SetBytes(int64(200 * events))
	b.ReportAllocs()
	tx := &quickTx{batch: batch}
	for b.Loop() {
		s.Deliver(context.Background(), tx)
	}
	b.StopTimer()
	if err := s.Close(context.Background()); err != nil || tx.failed != nil {
		b.Fatal(err, tx.failed)
	}
}

type quickTx struct {
	batch  *core.Batch
	failed error
}

func (x *quickTx) Batch() *core.Batch                               { return x.batch }
func (x *quickTx) Ack(pick []int32, m ...core.Mark) <-chan struct{} { return closed }
func (x *quickTx) Rollback(err error)                               { x.failed = err }
func (x *quickTx) Unpin() bool                                      { return false }
func (x *quickTx) Lost() <-chan struct{}                            { return nil }
func (x *quickTx) Refuse(int, error)                                {}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func BenchmarkCopy(b *testing.B) {
	for _, every := range []int{0, commitBytes} {
		b.Run(fmt.Sprintf("sync every %d", every), func(b *testing.B) {
			f, err := vfs.OS().OpenFile(filepath.Join(b.TempDir(), "x"), os.O_CREATE|os.O_WRONLY, fs.FileMode(0o644))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			block := []byte(strings.Repeat("x", 256<<10))
			n := 0
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if _, err := f.Write(block); err != nil {
					b.Fatal(err)
				}
				if n += len(block); every > 0 && n >= every {
					n = 0
					if err := f.Sync(); err != nil {
						b.Fatal(err)
					}
				}
				if info, _ := f.Stat(); info.Size() > 512<<20 {
					_ = f.Truncate(0)
					_, _ = f.Seek(0, 0)
				}
			}
		})
	}
}

// What a failed delivery left in a file is cut off even if nothing follows it there.
func TestEndsClean(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	in := start(t, fault, map[string]string{"sink.commitInterval": "0", "sink.inUseSuffix": ".tmp"})
	in.Deliver([]string{"a"})
	fault.Add(vfs.Rule{Kind: vfs.OpSync, At: 1})
	in.Deliver([]string{"b"})
	expect(t, mem, "1382534100000-1.tmp:a b ")
	in.Close()
	for _, mode := range []vfs.CrashMode{vfs.KeepAll, vfs.DropAll} {
		expect(t, mem.CrashClone(nil, mode), "1382534100000-1:a ")
	}
}

// A recorded file that is not gone on with, since the configuration is another
// now, is cut back and published.
func TestResumeOfAnother(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"format": {"sink.serializer": "HEADER_AND_TEXT", "sink.inUseSuffix": ".tmp"},
		"suffix": {},
		"full":   {"sink.rollSize": "2", "sink.inUseSuffix": ".tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			in := start(t, mem, map[string]string{"sink.inUseSuffix": ".tmp", "sink.commitInterval": "0"})
			marks := in.Deliver([]string{"a"}).Marks()
			in.Deliver([]string{"b"})
			crashed := mem.CrashClone(nil, vfs.KeepAll)
			in.Close()
			expect(t, crashed, "1382534100000-1.tmp:a b ")
			in = start(t, crashed, keys, marks[len(marks)-1])
			expect(t, crashed.CrashClone(nil, vfs.DropAll), "1382534100000-1:a ")
			in.Close()
		})
	}
}
