package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/flumelog"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

// asideName is where Flume's files go when their events are imported in place.
const asideName = "flume-imported"

// importEvents is how many events go into one transaction, and one sync.
const importEvents = 1000

// channelImport brings along what a stopped Flume has not delivered. It may be
// killed and begun again at any point: the log knows how far it came.
func (p *Program) channelImport(args []string) int {
	f := newFlags(p, "channel import")
	var checkpoint, to string
	f.String(&checkpoint, "checkpoint", "c", "DIR", "Flume's checkpointDir; without it all of the data files are replayed")
	f.String(&to, "to", "", "DIR", "directory for the events; default: the first data directory itself, and Flume's files move into "+asideName+"/ there")
	dirs, code, ok := directories(f, args, "Flume's")
	if !ok {
		return code
	}
	place := to
	if place == "" {
		place = dirs[0]
	}
	if err := finishMoves(dirs[0]); err != nil {
		p.complain(f.command + ": " + err.Error())
		return exitFailed
	}
	n, report, err := importFlume(checkpoint, dirs, place)
	for _, x := range report.Problems {
		p.complain(fmt.Sprintf("%s: %s at offset %d: %s", f.command, x.File, x.Offset, x.Text))
	}
	if err == nil && to == "" {
		err = moveAside(checkpoint, dirs)
	}
	if err != nil {
		p.complain(f.command + ": " + err.Error())
		return exitFailed
	}
	fmt.Fprintf(p.Stdout, "%s of %s imported into %s; checkpoint %s\n", count(n, "event"), count(report.Files, "data file"), place, report.Checkpoint)
	if to == "" {
		fmt.Fprintf(p.Stdout, "Flume's files are in %s; remove them when you need them no more\n", filepath.Join(dirs[0], asideName))
	} else {
		fmt.Fprintln(p.Stdout, "Flume's files are as they were")
	}
	if len(report.Problems) > 0 {
		return exitFailed
	}
	return exitOK
}

// importFlume puts the backlog of Flume's channel into the log in dir.
func importFlume(checkpoint string, dirs []string, dir string) (n int, report flumelog.Report, err error) {
	if err := vfs.MakeDir(vfs.OS(), dir, 0o755); err != nil {
		return 0, report, err
	}
	locks, err := lockAll(append([]string{checkpoint, dir}, dirs...))
	defer closeAll(locks)
	if err != nil {
		return 0, report, err
	}
	b, err := flumelog.Open(vfs.OS(), checkpoint, dirs)
	if err != nil {
		return 0, report, err
	}
	defer b.Close()
	l, err := wal.Open(wal.Options{
		FS: vfs.OS(), Dirs: []string{dir}, SegmentBytes: 128 << 20, AckDelay: time.Second, Retry: time.Second,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, BesideFlume: true,
	})
	if err != nil {
		return 0, report, err
	}
	err = putAll(l, b)
	if e := l.Close(); err == nil {
		err = e
	}
	return b.Report.Events, b.Report, err
}

// putAll puts b's events, but for those that an earlier run has put.
func putAll(l *wal.Log, b *flumelog.Backlog) error {
	stream := "import " + b.Identity()
	held, _ := l.Position(stream) // how many are there
	var batch *core.Batch
	next := held
	flush := func(pos int64) error {
		if batch == nil {
			return nil
		}
		done := make(chan error, 1)
		l.Put(&wal.Put{
			Batch: batch, Time: time.Now().UnixNano(), Marked: true, Stream: stream, Pos: pos,
			Done: func(_ *wal.Put, err error) { done <- err },
		})
		select {
		case err := <-done:
			batch.Release()
			batch = nil
			return err
		case <-time.After(importPatience):
			return errors.New("the disk does not take the events: is it full?")
		}
	}
	err := b.Events(int(held), func(i int, e core.Event) error {
		if batch == nil {
			batch = core.NewBatch()
		}
		batch.Copy(e.Headers, e.Body)
		next = int64(i) + 1
		if len(batch.Events) < importEvents {
			return nil
		}
		return flush(next)
	})
	if err == nil {
		err = flush(next)
	}
	return err
}

// importPatience is how long one transaction may take.
const importPatience = 2 * time.Minute

// lockAll keeps Flume and agents out of dirs. Empty names and those named twice are passed over.
func lockAll(dirs []string) (locks []io.Closer, err error) {
	seen := map[string]bool{"": true}
	for _, dir := range dirs {
		if dir != "" {
			dir = filepath.Clean(dir)
		}
		if seen[dir] {
			continue
		}
		seen[dir] = true
		l, err := vfs.OS().Lock(filepath.Join(dir, "in_use.lock"))
		if errors.Is(err, vfs.ErrLocked) {
			return locks, fmt.Errorf("directory %s is in use: stop the Flume or the agent that runs on it first", dir)
		}
		if err != nil {
			return locks, err
		}
		locks = append(locks, l)
	}
	return locks, nil
}

func closeAll(locks []io.Closer) {
	for _, l := range locks {
		_ = l.Close() // the lock goes with the descriptor
	}
}

// move is one rename of moveAside.
type move struct{ From, To string }

// movesName is where the renames are written down while they are under way: of
// half-moved files nothing may be imported again.
const movesName = asideName + ".moves"

// moveAside moves Flume's files out of the way of an agent, each within its directory.
func moveAside(checkpoint string, dirs []string) error {
	var moves []move
	for _, dir := range dirs {
		more, err := movesIn(dir, func(name string) bool { return strings.HasPrefix(name, "log-") })
		if err != nil {
			return err
		}
		moves = append(moves, more...)
	}
	if checkpoint != "" {
		more, err := movesIn(checkpoint, func(name string) bool {
			return strings.HasPrefix(name, "checkpoint") || strings.HasPrefix(name, "inflight") || name == "queueset"
		})
		if err != nil {
			return err
		}
		moves = append(moves, more...)
	}
	text, err := json.Marshal(moves)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(vfs.OS(), filepath.Join(dirs[0], movesName), text, 0o644); err != nil {
		return err
	}
	return finishMoves(dirs[0])
}

// movesIn lists the renames for one directory. A name that is taken, by an
// earlier import, gets a number.
func movesIn(dir string, which func(name string) bool) (moves []move, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !which(e.Name()) {
			continue
		}
		to := filepath.Join(dir, asideName, e.Name())
		for n := 2; ; n++ {
			if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
				break
			}
			to = filepath.Join(dir, asideName, fmt.Sprintf("%s-%d", e.Name(), n))
		}
		moves = append(moves, move{filepath.Join(dir, e.Name()), to})
	}
	return moves, nil
}

// finishMoves makes the renames that are written down in dir, as far as that has not been done.
func finishMoves(dir string) error {
	name := filepath.Join(dir, movesName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var moves []move
	if err := json.Unmarshal(text, &moves); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	changed := map[string]bool{dir: true}
	for _, m := range moves {
		to := filepath.Dir(m.To)
		if err := vfs.MakeDir(vfs.OS(), to, 0o755); err != nil {
			return err
		}
		if err := os.Rename(m.From, m.To); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		changed[to], changed[filepath.Dir(m.From)] = true, true
	}
	for dir := range changed {
		if err := vfs.OS().SyncDir(dir); err != nil {
			return err
		}
	}
	return os.Remove(name)
}
