package tail

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/millrace/millrace/connectors/internal/fileid"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

const openFlags = os.O_RDONLY | syscall.O_NONBLOCK // a FIFO that took a file's place must not hold us

// tailer is an open source. All its fields belong to the goroutine in run;
// what the others share are channels and the streams' done.
type tailer struct {
	c   *source
	env core.Env
	log *slog.Logger

	book    *book
	pending []*record // of files not found yet
	byIno   map[uint64][]*record
	changed bool // since the last save
	unsaved bool // the last save failed
	saveAt  time.Time

	dirs     []*dir
	byID     map[fileid.ID]*file
	files    []*file // in order of discovery
	lost     []*file // without a name and not open
	retired  []*stream
	left     []*stream // as retired, with events that may be unfinished
	due      bool      // an event may have waited long enough for its next line
	round    []*file   // being read
	skipping bool      // files found now begin at their end

	small *core.Block // memory for short reads, shared by files
	fill  int

	out      core.Outlet
	ctx      context.Context // of Run
	ended    <-chan struct{} // the next end: of ctx, then of the drain
	stop     context.CancelFunc
	cancel   context.CancelFunc // of the drain
	draining bool
	over     bool
	quiet    int // polls since something was read

	queue  chan parcel
	failed chan error
	ticker *time.Ticker
	tickAt time.Time // the next one is not before

	watcher *fsnotify.Watcher
	events  chan fsnotify.Event
	errors  chan error
	woke    time.Time
	spacing *time.Timer

	truncations, lostBytes      *metric.Extra
	splits, drops, holes        *metric.Extra
	behind, openFiles, stuckFor *metric.Extra

	counters *lines.Counters // nil where lines are not joined
	longest  int64           // line in a file that is not split
}

// parcel is a batch on its way to the goroutine that sends.
type parcel struct {
	b    *core.Batch
	done func(error)
}

func newTailer(s *source, env core.Env, dirs []*dir) *tailer {
	m := env.Metrics
	t := &tailer{
		c: s, env: env, log: env.Log, dirs: dirs, byID: make(map[fileid.ID]*file), longest: s.lines.Longest(s.maxEvent),
		truncations: m.Counter("truncations_total", "Files whose content was replaced: truncated, or written anew under the same inode."),
		lostBytes:   m.Counter("bytes_lost_total", "Bytes that were truncated before they could be read: at least so many."),
		splits:      m.Counter("lines_split_total", "Lines longer than maxEventBytes that became several events."),
		drops:       m.Counter("lines_dropped_total", "Lines longer than maxEventBytes that were dropped."),
		holes:       m.Counter("hole_bytes_total", "NULs skipped at the beginning of a truncated file whose writer went on at its old position."),
		behind:      m.Gauge("bytes_behind", "Bytes in the files that are not stored yet."),
		openFiles:   m.Gauge("files_open", "Files that are open."),
		stuckFor:    m.Gauge("stuck_seconds", "How long the worst file has had unread bytes while its position did not move."),
	}
	if !s.lines.Plain() {
		t.counters = lines.NewCounters(m)
	}
	return t
}

// run follows the files until ctx ends, and then until they are at rest or the
// drain ends.
func (t *tailer) run(ctx context.Context, out core.Outlet) error {
	t.out, t.ctx, t.ended, t.cancel = out, ctx, ctx.Done(), func() {}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	defer stop()
	defer func() { t.cancel() }()
	t.queue, t.failed = make(chan parcel), make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		t.sender(work)
	}()
	t.watch()
	t.ticker, t.spacing = time.NewTicker(t.c.poll), time.NewTimer(0)
	defer t.ticker.Stop()
	defer t.spacing.Stop()

	t.begin()
	err := t.loop()
	if err != nil {
		stop()
	}
	close(t.queue)
	for waiting := true; waiting; {
		select {
		case <-finished:
			waiting = false
		case <-t.ended:
			t.leave()
		}
	}
	if t.watcher != nil {
		_ = t.watcher.Close() // it was a hint
	}
	if ctx.Err() != nil {
		return nil
	}
	select {
	case e := <-t.failed:
		err = cmp.Or(err, e)
	default:
	}
	return err
}

// sender puts batches on their way, one after the other. It exists so that the
// files are watched while the channels have no room.
func (t *tailer) sender(ctx context.Context) {
	for p := range t.queue {
		if err := t.out.Send(ctx, p.b, p.done); err != nil {
			t.failed <- err
			return
		}
	}
}

// watch asks the system to tell of changes. It tells of its own files only.
func (t *tailer) watch() {
	if t.env.FS != vfs.OS() {
		return
	}
	const buffered = 256 // more of them wait in the kernel, which joins equal ones
	w, err := fsnotify.NewBufferedWatcher(buffered)
	if err != nil {
		t.log.Warn("no notification of file changes, polling only", "error", err)
		return
	}
	t.watcher, t.events, t.errors = w, w.Events, w.Errors
}

// begin makes the first look.
func (t *tailer) begin() {
	now := t.env.Now()
	t.byIno = make(map[uint64][]*record, len(t.pending))
	t.pending = slices.DeleteFunc(t.pending, func(r *record) bool {
		if slices.ContainsFunc(t.dirs, func(d *dir) bool { return d.path == filepath.Dir(r.path) }) {
			return false
		}
		// Of a directory that is in no group any more: kept while the file is there.
		fi, err := t.env.FS.Stat(r.path)
		if err == nil && fileid.Of(fi).Ino == r.id.Ino {
			return false
		}
		t.forget(r)
		return true
	})
	for _, r := range t.pending {
		t.byIno[r.id.Ino] = append(t.byIno[r.id.Ino], r)
	}
	t.saveAt = now.Add(t.c.writeInterval)
	t.look(now)
	t.skipping = false
}

// loop reads in rounds: every file with something new has one turn in a round.
func (t *tailer) loop() error {
	for !t.over {
		if err := t.settleLeft(); err != nil {
			return ended(err)
		}
		if t.due {
			if err := t.settleDue(); err != nil {
				return ended(err)
			}
		}
		round := t.ready()
		if len(round) == 0 {
			if t.draining && t.quiet >= quietPolls {
				return nil
			}
			if err := t.wait(); err != nil {
				return err
			}
			continue
		}
		for some := range slices.Chunk(round, primed) {
			if err := t.turns(some); err != nil || t.over {
				return err
			}
		}
	}
	return nil
}

// primed is how many new streams are written down at a time.
const primed = 1024

// turns gives each of some files its turn.
func (t *tailer) turns(some []*file) error {
	fresh := false
	for _, f := range some {
		if !f.st.kept && t.ensure(f) {
			t.prime(f)
			fresh = true
		}
	}
	if fresh {
		t.trySave()
	}
	for _, f := range some {
		if err := t.turn(f); err != nil {
			return err
		}
		if t.pulse(); t.over {
			return nil
		}
	}
	return nil
}

// quietPolls is how many polls must find nothing before a drain ends: writers
// that are stopped together with the agent still have their last words.
const quietPolls = 2

// ready returns the files that have something to read, in the order of their
// groups and, within a group, of their last change.
func (t *tailer) ready() []*file {
	round := t.round[:0]
	now := t.env.Now()
	if slices.ContainsFunc(t.files, func(f *file) bool { return f.dirty && f.st.pos == 0 && !f.released }) {
		// Of a new file nothing is read before what its writer put into the
		// old one: that may have grown since it was looked at, and only so much
		// of it is read.
		for i := range t.files {
			if f := t.files[i]; !f.released && f.active(now) {
				t.stat(f, now)
			}
		}
	}
	for _, f := range t.files {
		if f.dirty && !f.released && !now.Before(f.retry) {
			round = append(round, f)
		}
	}
	slices.SortStableFunc(round, func(a, b *file) int {
		return cmp.Or(a.group.place-b.group.place, a.mtime.Compare(b.mtime), cmp.Compare(a.path, b.path))
	})
	t.round = round
	return round
}

// wait waits for something to do.
func (t *tailer) wait() error {
	events := t.events
	var spaced <-chan time.Time
	if since := time.Since(t.woke); since < eventSpacing {
		events = nil
		t.spacing.Reset(eventSpacing - since)
		spaced = t.spacing.C
	}
	select {
	case <-spaced:
	case <-t.ended:
		t.leave()
	case err := <-t.failed:
		return err
	case <-t.ticker.C:
		t.tick()
	case err := <-t.errors:
		t.overflow(err)
	case e := <-events:
		t.note(e, t.env.Now())
		t.drainEvents()
	}
	return nil
}

// eventSpacing is the least time between two wake-ups by the watcher: one per
// line of a busy writer would cost more than the reading.
const eventSpacing = 10 * time.Millisecond

func (t *tailer) drainEvents() {
	now := t.env.Now()
	last := ""
	for {
		select {
		case e := <-t.events:
			if e.Name != last || !e.Has(fsnotify.Write) {
				t.note(e, now)
			}
			last = e.Name
		default:
			t.woke = time.Now()
			return
		}
	}
}

// overflow looks at everything: the watcher has lost events.
func (t *tailer) overflow(err error) {
	t.log.Debug("watch files", "error", err)
	for _, d := range t.dirs {
		d.due = time.Time{}
	}
}

// pulse does what has become due, without waiting.
func (t *tailer) pulse() {
	select {
	case <-t.ended:
		t.leave()
	case <-t.ticker.C:
		t.tick()
	default:
	}
}

// leave takes note of the end of ctx, and then of that of the drain.
func (t *tailer) leave() {
	if t.draining {
		t.over, t.ended = true, nil
		t.stop()
		return
	}
	drain, cancel := core.DrainContext(t.ctx)
	t.draining, t.cancel, t.ended, t.quiet = true, cancel, drain.Done(), 0
	for _, d := range t.dirs {
		d.due = time.Time{}
	}
	if drain.Err() != nil {
		t.leave()
	}
}

var errOver = errors.New("the drain is over")

// ended is err, unless that only says that the drain is over.
func ended(err error) error {
	if errors.Is(err, errOver) {
		return nil // what is left is read after the next start
	}
	return err
}

// send hands a batch of a text of st that ends at pos over to be sent. While it
// waits it goes on looking, so that files are open before they are rotated away.
func (t *tailer) send(b *core.Batch, st *stream, text lines.Stream, pos int64) error {
	if !st.kept {
		t.saveFirst(st)
	}
	part := &st.part[text]
	b.Mark(text.Of(st.name), pos)
	b.Resize()
	cells := t.env.Metrics
	cells.AppendBatchReceived.Add(1)
	p := parcel{b, func(err error) {
		if err == nil {
			part.done.Store(pos)
			cells.AppendBatchAccepted.Add(1)
		}
	}}
	for {
		select {
		case t.queue <- p:
			part.sent, part.held = pos, 0
			if !st.joined {
				st.pos = pos
			}
			t.quiet = 0
			return nil
		case err := <-t.failed:
			b.Release()
			return err
		case <-t.ended:
			if t.leave(); t.over {
				b.Release()
				return errOver
			}
		case <-t.ticker.C:
			t.tick()
			t.reserve()
		case e := <-t.events:
			if f := t.note(e, t.env.Now()); f != nil && f.dirty {
				t.ensure(f)
			}
		}
	}
}

// reserve opens the files that have something to read: while the channels are
// full they may be rotated away.
func (t *tailer) reserve() {
	for _, f := range t.files {
		if f.dirty && f.open == nil && !f.released {
			t.ensure(f)
		}
	}
}

// tick is the poll. With very many active files it is left out at times: one
// that took d is not repeated within tickShare·d, so that reading goes on.
func (t *tailer) tick() {
	begun := time.Now()
	if begun.Before(t.tickAt) {
		return
	}
	now := t.env.Now()
	t.quiet++
	t.look(now)
	var behind, stuck int64
	open := 0
	for _, f := range t.files {
		if f.open != nil {
			open++
			if !f.dirty && now.Sub(f.changed) >= t.c.idle {
				f.expire, f.dirty = true, true
			}
		}
		behind += f.unread()
		switch stored := f.st.stored(); {
		case stored != f.moves:
			f.moves, f.stuck, t.changed = stored, time.Time{}, true
		case !f.dirty && stored == f.st.pos:
			f.stuck = time.Time{}
		case f.stuck.IsZero():
			f.stuck = now
		default:
			stuck = max(stuck, int64(now.Sub(f.stuck).Seconds()))
		}
	}
	t.behind.Set(behind)
	t.openFiles.Set(int64(open))
	t.stuckFor.Set(stuck)
	t.files = slices.DeleteFunc(t.files, func(f *file) bool { return f.released })
	t.due = t.counters != nil && slices.ContainsFunc(t.files, func(f *file) bool { return f.overdue(now) })
	for _, d := range t.dirs {
		maps.DeleteFunc(d.before, func(_ string, f *file) bool { return f.released })
	}
	t.retired = slices.DeleteFunc(t.retired, func(st *stream) bool {
		if !st.answered() {
			return false
		}
		for text := range lines.Stream(st.texts()) {
			t.out.Forget(text.Of(st.name))
		}
		return true
	})
	t.tickAt = begun.Add(tickShare * time.Since(begun))
	if t.changed && !now.Before(t.saveAt) {
		t.trySave()
	}
}

const tickShare = 10

// close writes the positions and closes the files.
func (t *tailer) close() error {
	err := t.save()
	for _, f := range t.files {
		f.close()
	}
	if t.small != nil {
		t.small.Release()
	}
	t.openFiles.Set(0)
	return err
}
