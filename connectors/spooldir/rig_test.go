package spooldir

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// rig is a spool directory and the source that reads it.
type rig struct {
	t    testing.TB
	dir  string
	keys map[string]string
	out  *sourcetest.Outlet
	in   *sourcetest.Instance

	fault []vfs.Rule    // for live
	cells *metric.Group // of the last life
}

// newRig makes one with the keys k, v, k, v.
func newRig(t testing.TB, kv ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), out: sourcetest.NewOutlet()}
	r.keys = map[string]string{"spoolDir": r.dir, "pollDelay": "5"}
	for i := 0; i < len(kv); i += 2 {
		r.keys[kv[i]] = kv[i+1]
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// put puts a file into the directory as one should: whole.
func (r *rig) put(name, content string) {
	r.t.Helper()
	path := r.path(name)
	must(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
	tmp := filepath.Join(filepath.Dir(path), ".new")
	must(r.t, os.WriteFile(tmp, []byte(content), 0o644))
	must(r.t, os.Rename(tmp, path))
}

// age sets the time of a file's last change to so many seconds before a fixed time.
func (r *rig) age(name string, seconds int) {
	r.t.Helper()
	at := time.Unix(1_700_000_000-int64(seconds), 0)
	must(r.t, os.Chtimes(r.path(name), at, at))
}

func (r *rig) start() {
	r.t.Helper()
	r.in = sourcetest.Start(r.t, sourcetest.Subject{New: Source.New}, r.keys, r.out)
	in := r.in
	r.t.Cleanup(in.Stop)
}

// want waits for exactly these bodies.
func (r *rig) want(bodies ...string) {
	r.t.Helper()
	suite.Within(suite.Deadline, func() bool { return r.out.Len() >= len(bodies) })
	if got := r.out.Bodies(); !slices.Equal(got, bodies) {
		r.t.Fatalf("got  %q\nwant %q", got, bodies)
	}
}

// names waits until the directory has these names, hidden ones left out.
func (r *rig) names(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	var got []string
	if !suite.Within(suite.Deadline, func() bool {
		got = namesIn(r.t, r.dir)
		return slices.Equal(got, want)
	}) {
		r.t.Fatalf("directory has %q, want %q", got, want)
	}
}

func namesIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *rig) count(name string) int64 { return r.in.Env.Metrics.Counter(name, "").Value() }

// counts waits for a counter.
func (r *rig) counts(name string, want int64) {
	r.t.Helper()
	if !suite.Within(suite.Deadline, func() bool { return r.count(name) == want }) {
		r.t.Fatalf("%s is %d, want %d", name, r.count(name), want)
	}
}

// life is an outlet that takes only so many batches; forgetful: as a memory
// channel it knows no positions.
type life struct {
	*sourcetest.Outlet
	left      int
	spent     chan struct{}
	forgetful bool
}

func (l *life) Send(ctx context.Context, b *core.Batch, done func(error)) error {
	if l.left == 0 {
		close(l.spent)
		<-ctx.Done()
		b.Release()
		return ctx.Err()
	}
	l.left--
	return l.Outlet.Send(ctx, b, done)
}

func (l *life) Position(stream string) (int64, bool) {
	if l.forgetful {
		return 0, false
	}
	return l.Outlet.Position(stream)
}

// live runs a source for so many batches, or until the directory has nothing to
// read, and ends it by kill or by Close. It reports whether it was the batches.
func (r *rig) live(batches int, kill, forgetful bool) bool {
	r.t.Helper()
	s := new(source)
	_, faults := conf.Bind(s, r.keys)
	if faults.HasErrors() {
		r.t.Fatal(faults)
	}
	env := sourcetest.NewEnv(r.t, "src")
	r.cells = env.Metrics
	if r.fault != nil {
		env.FS = vfs.NewFault(env.FS, r.fault...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	must(r.t, s.Open(ctx, env))
	l := &life{Outlet: r.out, left: batches, spent: make(chan struct{}), forgetful: forgetful}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	spent := false
	suite.Eventually(r.t, "the source reads", func() bool {
		select {
		case <-l.spent:
			spent = true
			return true
		default:
			return r.finished()
		}
	})
	cancel()
	must(r.t, <-ended)
	if !kill {
		must(r.t, s.Close())
	}
	return spent
}

// finished reports whether every file is.
func (r *rig) finished() bool {
	for _, name := range namesIn(r.t, r.dir) {
		if !strings.HasSuffix(name, ".COMPLETED") && !strings.HasSuffix(name, ".FAILED") {
			return false
		}
	}
	return true
}

func gz(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	must(t, err)
	must(t, w.Close())
	return b.String()
}

const stringSchema = `{"type":"record","name":"MyRecord","namespace":"org.apache.flume","fields":[{"name":"foo","type":"string"}]}`

// stringRecord is a record of stringSchema.
func stringRecord(text string) string {
	return string(append(binary.AppendVarint(nil, int64(len(text))), text...))
}

// avroFile is an object container file of blocks of records; sync is where its markers are.
func avroFile(t testing.TB, schema, codec string, blocks ...[]string) (content string, sync []int64) {
	t.Helper()
	var b []byte
	text := func(s string) { b = append(binary.AppendVarint(b, int64(len(s))), s...) }
	b = append(b, "Obj\x01"...)
	b = binary.AppendVarint(b, 2)
	text("avro.schema")
	text(schema)
	text("avro.codec")
	text(codec)
	b = append(b, 0)
	const marker = "0123456789abcdef"
	mark := func() { sync, b = append(sync, int64(len(b))), append(b, marker...) }
	mark()
	for _, records := range blocks {
		b = binary.AppendVarint(b, int64(len(records)))
		text(pack(t, codec, strings.Join(records, "")))
		mark()
	}
	return string(b), sync
}

func pack(t testing.TB, codec, data string) string {
	t.Helper()
	var b bytes.Buffer
	switch codec {
	case "null":
		return data
	case "deflate":
		w, err := flate.NewWriter(&b, 6)
		must(t, err)
		_, err = w.Write([]byte(data))
		must(t, err)
		must(t, w.Close())
	case "snappy":
		b.Write(snappy.Encode(nil, []byte(data)))
		b.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(data))))
	case "zstandard":
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		must(t, err)
		_, err = w.Write([]byte(data))
		must(t, err)
		must(t, w.Close())
	default:
		t.Fatalf("no codec %s", codec)
	}
	return b.String()
}
