package tail

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/vfs"
)

const deadline = 30 * time.Second

// rig is a running source over a directory of its own.
type rig struct {
	t      testing.TB
	dir    string
	keys   map[string]string
	out    *sourcetest.Outlet
	outlet core.Outlet // instead of out, if set
	fs     vfs.FS
	max    int
	cells  *metric.Group
	logs   *logs

	src   *source
	stop  context.CancelFunc
	ended chan error
}

// logs keeps what was logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newRig makes a rig that follows names of the pattern, with further keys as k, v, k, v.
func newRig(t testing.TB, pattern string, more ...string) *rig {
	r := &rig{t: t, dir: t.TempDir(), out: sourcetest.NewOutlet(), fs: vfs.OS(), logs: new(logs)}
	r.keys = map[string]string{
		"filegroups": "g", "filegroups.g": filepath.Join(r.dir, "logs") + "/" + pattern,
		"positionFile": filepath.Join(r.dir, "pos", "p.json"), "pollInterval": "5", "writePosInterval": "20",
	}
	for i := 0; i < len(more); i += 2 {
		r.keys[more[i]] = more[i+1]
	}
	if err := os.Mkdir(filepath.Join(r.dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.stop != nil {
			r.close()
		}
		if t.Failed() {
			t.Log(r.logs)
		}
	})
	return r
}

func (r *rig) start() {
	r.t.Helper()
	r.src = Source.New().(*source)
	if _, faults := conf.Bind(r.src, maps.Clone(r.keys)); faults.HasErrors() {
		r.t.Fatal(faults)
	}
	r.open()
}

// open opens and runs the source that is there.
func (r *rig) open() {
	r.t.Helper()
	r.cells = &metric.Group{Kind: metric.Source, Name: "r1"}
	env := core.Env{
		Agent: "a1", Name: "r1", Log: slog.New(slog.NewTextHandler(r.logs, nil)), Metrics: r.cells,
		FS: r.fs, Now: time.Now, MaxEvents: r.max,
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := r.src.Open(ctx, env); err != nil {
		stop()
		r.t.Fatal(err)
	}
	r.stop, r.ended = stop, make(chan error, 1)
	var out core.Outlet = r.out
	if r.outlet != nil {
		out = r.outlet
	}
	go func() { r.ended <- r.src.Run(ctx, out) }()
}

func (r *rig) end() {
	r.t.Helper()
	r.stop()
	r.stop = nil
	select {
	case <-r.ended:
	case <-time.After(deadline):
		r.t.Fatal("the source does not stop")
	}
}

// close stops and closes the source.
func (r *rig) close() {
	r.t.Helper()
	r.end()
	r.out.Release()
	if err := r.src.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// kill ends the source without a Close, as a crash does.
func (r *rig) kill() {
	r.t.Helper()
	r.end()
	r.out.Crash()
	for _, f := range r.src.t.files {
		f.close()
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, "logs", name) }

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write makes a file anew, keeping its inode if it is there.
func (r *rig) write(name, text string) {
	r.t.Helper()
	r.check(os.WriteFile(r.path(name), []byte(text), 0o644))
}

// add appends to a file.
func (r *rig) add(name, text string) {
	r.t.Helper()
	f, err := os.OpenFile(r.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	r.check(err)
	_, err = f.WriteString(text)
	r.check(err)
	r.check(f.Close())
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	r.check(os.Rename(r.path(from), r.path(to)))
}

// wait waits until ok.
func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	until := time.Now().Add(deadline)
	for !ok() {
		if time.Now().After(until) {
			r.t.Fatalf("not within %v: %s; there are %d events", deadline, what, r.out.Len())
		}
		time.Sleep(time.Millisecond)
	}
}

func shorten(s []string) []string { return s[:min(len(s), 30)] }

// want waits until exactly these bodies have arrived, in this order.
func (r *rig) want(bodies ...string) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d events", len(bodies)), func() bool { return r.out.Len() >= len(bodies) })
	if got := r.out.Bodies(); !slices.Equal(got, bodies) {
		r.t.Fatalf("got %q, want %q", shorten(got), shorten(bodies))
	}
}

// wantSet is want in any order.
func (r *rig) wantSet(bodies ...string) {
	r.t.Helper()
	for until := time.Now().Add(deadline); r.out.Len() < len(bodies) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	extra := r.out.Bodies()
	var missing []string
	for _, w := range bodies {
		if i := slices.Index(extra, w); i >= 0 {
			extra = slices.Delete(extra, i, i+1)
		} else {
			missing = append(missing, w)
		}
	}
	if len(missing) > 0 || len(extra) > 0 {
		r.t.Fatalf("missing %q, too many %q", shorten(missing), shorten(extra))
	}
}

// cell returns the value of one of the source's own metrics.
func (r *rig) cell(name string) int64 {
	for _, e := range r.cells.Extras() {
		if e.Name == name {
			return e.Value()
		}
	}
	r.t.Fatalf("no metric %s", name)
	return 0
}

func ino(t testing.TB, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fileid.Of(fi).Ino
}
