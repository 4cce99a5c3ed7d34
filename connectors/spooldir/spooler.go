package spooldir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
)

const (
	saveTime  = 3 * time.Second
	retryTime = time.Second
	lineLimit = 4096 // files read to their end whose events are under way
	gonePiece = 256  // finished files that share a sync of their directories
)

// spooler is an open source. Its fields belong to the goroutine in run, but for
// what mu guards.
type spooler struct {
	c          *source
	env        core.Env
	log        *slog.Logger
	root       string // absolute
	trackerDir string // absolute
	tracker    tracker

	out   core.Outlet
	files map[identity]*file // not finished
	line  []*file            // the same, in the order in which they were begun
	busy  map[string]*file   // those read to their end, by rel
	known []record           // of files not found yet
	gone  []finished         // not synced yet

	queue    []candidate
	listedAt time.Time
	listTook time.Duration
	listings uint64
	inodes   map[uint64]uint64    // the last listing that had it
	troubles map[string]*trouble  // by rel
	tracked  map[string]time.Time // tracker files, and when they were made

	saveAt  time.Time
	unsaved bool
	col     collector

	mu   sync.Mutex // guards rounds and stored of files
	wake chan struct{}

	fresh atomic.Bool // since the last finishAll
	retry time.Time   // of what could not be finished

	finishedFiles, changed, failed, skipped *metric.Extra
	waiting                                 *metric.Extra
}

// flumeStream is the stream of a record of Flume's place.
const flumeStream = "flume"

// finished is a file that was finished: its directory is to be synced, then its stream forgotten.
type finished struct{ dir, stream string }

func newSpooler(s *source, env core.Env, root, trackerDir string) *spooler {
	m := env.Metrics
	t := &spooler{
		c: s, env: env, log: env.Log, root: root, trackerDir: trackerDir,
		tracker: tracker{fs: env.FS, log: env.Log, path: filepath.Join(trackerDir, metaName)},
		files:   make(map[identity]*file), busy: make(map[string]*file),
		inodes: make(map[uint64]uint64), troubles: make(map[string]*trouble), tracked: make(map[string]time.Time),
		wake:          make(chan struct{}, 1),
		finishedFiles: m.Counter("files_finished_total", "Files that were read to their end, and stored."),
		changed:       m.Counter("files_changed_total", "Files that changed while they were read: they grew, and were read on, or were replaced, and set aside."),
		failed:        m.Counter("files_failed_total", "Files that were set aside: damaged, not decodable, or changed."),
		skipped:       m.Counter("files_skipped_total", "Files that were not read since a file of the same name was finished before."),
		waiting:       m.Gauge("files_waiting", "Files that were listed and not yet begun."),
	}
	t.col.limit = s.batch
	if n := env.MaxEvents; n > 0 {
		t.col.limit = min(n, s.batch)
	}
	return t
}

func (t *spooler) path(rel string) string { return filepath.Join(t.root, rel) }

// renames reports whether finished files get another name.
func (t *spooler) renames() bool { return t.c.deletePolicy == never && t.c.tracking == byRename }

// load reads what the run before left.
func (t *spooler) load() error {
	m, err := t.tracker.load()
	if err != nil {
		return err
	}
	t.known = m.records
	if m.flumes {
		path, err := filepath.Abs(m.path)
		if err != nil {
			return fmt.Errorf("find %s, which Flume was reading: %w", m.path, err)
		}
		if fi, err := t.env.FS.Stat(path); err == nil { // else it was finished or taken away
			t.known = append(t.known, record{ino: fileid.Of(fi).Ino, stream: flumeStream, done: lines.Positions{m.offset}})
			t.log.Info("goes on where Flume was", "file", path, "offset", m.offset)
		}
	}
	if t.c.tracking == byTracker {
		found := make(map[string]fs.FileInfo)
		if err := finishedIn(t.env.FS, t.trackerDir, found); err != nil {
			return fmt.Errorf("list trackerDir: %w", err)
		}
		for rel, fi := range found {
			t.tracked[rel] = fi.ModTime()
		}
	}
	return nil
}

func (t *spooler) run(ctx context.Context, out core.Outlet) error {
	t.out = out
	t.saveAt = t.env.Now().Add(saveTime)
	for ctx.Err() == nil {
		t.finishAll()
		t.saveSometimes()
		if len(t.busy) >= lineLimit {
			t.wait(ctx)
			continue
		}
		c := t.next()
		if c == nil {
			if len(t.busy) == 0 {
				t.sync()
			}
			t.wait(ctx)
			continue
		}
		if err := t.read(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for something to do.
func (t *spooler) wait(ctx context.Context) {
	timer := time.NewTimer(t.c.poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-t.wake:
	}
}

// nudge says that a file may have something new to it: stored, or ended.
func (t *spooler) nudge() {
	t.fresh.Store(true)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// finishAll finishes the files of which all is stored.
func (t *spooler) finishAll() {
	now := t.env.Now()
	if !t.fresh.Swap(false) && (t.retry.IsZero() || now.Before(t.retry)) {
		return
	}
	t.retry = time.Time{}
	left := t.line[:0]
	for _, f := range t.line {
		if f.ended && !t.underWay(f) && t.finish(f, now) {
			delete(t.busy, f.rel)
			delete(t.files, f.identity)
			continue
		}
		left = append(left, f)
	}
	clear(t.line[len(left):])
	t.line = left
	if len(t.gone) >= gonePiece {
		t.sync()
	}
}

// forget tells the channels that a stream is over. Only a run can tell them.
func (t *spooler) forget(stream string) {
	// Streams of a container's lines are told even where the keys have changed since.
	if t.out == nil {
		return
	}
	for s := range lines.Stream(lines.Streams) {
		t.out.Forget(s.Of(stream))
	}
}

// sync makes the new names of finished files durable; then their streams may be forgotten.
func (t *spooler) sync() {
	synced := make(map[string]error)
	kept := t.gone[:0]
	for _, g := range t.gone {
		err, ok := synced[g.dir]
		if !ok {
			if err = t.env.FS.SyncDir(g.dir); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			if synced[g.dir] = err; err != nil {
				t.env.Metrics.GenericProcessingFail.Add(1)
				t.log.Error("sync directory", "directory", g.dir, "error", err)
			}
		}
		if err != nil {
			kept = append(kept, g)
			continue
		}
		t.forget(g.stream)
	}
	t.gone = kept
}

// saveSometimes writes the meta file when it is time.
func (t *spooler) saveSometimes() {
	now := t.env.Now()
	if now.Before(t.saveAt) {
		return
	}
	t.saveAt = now.Add(saveTime)
	t.sync()
	err := t.save()
	if err != nil {
		t.env.Metrics.GenericProcessingFail.Add(1)
		if !t.unsaved {
			t.log.Error("the place is not written: with a memory channel events may come twice after a crash", "error", err)
		}
	}
	t.unsaved = err != nil
}

// save writes down what is stored.
func (t *spooler) save() error {
	var m meta
	t.mu.Lock()
	for _, f := range t.line {
		if m.path == "" { // the one that Flume would read first
			m.path, m.offset = t.flumePath(f.rel), f.stored.mark
		}
		m.records = append(m.records, record{ino: f.id.Ino, stream: f.stream[len(t.env.Name)+1:], done: f.stored.done})
	}
	t.mu.Unlock()
	m.records = append(m.records, t.known...)
	if m.path == "" {
		m.path = t.flumePath("")
	}
	return t.tracker.save(&m)
}

// flumePath is what Flume calls a file: spoolDir as it is written, and what is below.
func (t *spooler) flumePath(rel string) string {
	dir := filepath.Clean(t.c.dir)
	if rel == "" {
		return dir
	}
	return dir + string(os.PathSeparator) + rel
}

// close finishes what is stored, and writes down the rest.
func (t *spooler) close() error {
	t.fresh.Store(true)
	t.finishAll()
	t.sync()
	return t.save()
}
