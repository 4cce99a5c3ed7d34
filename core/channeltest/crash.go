package channeltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/vfs/points"
)

// CrashSubject is a channel that works on Env.FS below Env.Dir.
type CrashSubject struct {
	New  func() core.Channel
	Keys map[string]string // small segments and little memory make the scenarios reach more
	// Spills: some events are in memory alone. A crash may take those that were
	// answered at once, while they were put; a marked batch is not answered then.
	// The channel keeps no positions and marks, and what Close writes to the disk
	// comes in any order.
	Spills bool
	// Disk, if set, is put between the channel and the disk: for what a suite must find.
	Disk func(vfs.FS) vfs.FS
}

// RunCrash runs seeded scenarios (puts, takes, acks, rollbacks, reopening,
// sometimes a disk that fails) and lets the machine crash at file operations
// spread over them. After each crash the channel is opened on what the disk
// could hold, and a model judges what it delivers:
//
//   - what was answered and not acked is there, once, in order
//   - nothing is there that was never put; a put is there as a whole or not at all
//   - what an ack was stored for is not there
//   - a source's position and its events, a sink's mark and its ack: both or neither
//
// and of a channel that spills: what was answered by the disk, and every marked
// batch that was answered, is there; what a Close found in memory as well.
//
// MILLRACE_CRASH=n makes it n times longer (operations are sampled from at most
// about 25 a seed otherwise) and prints how often it crashed where;
// MILLRACE_SEED=s runs that one seed only.
//
// flume: TestFileChannel testFailAfterTakeBeforeCommit testFailAfterPutCheckpointCommit
// flume: TestFileChannel testTakeTransactionCrossingCheckpoint testPutForceCheckpointCommitReplay
// flume: TestFileChannel testPutCheckpointCommitCheckpointReplay testReferenceCounts
// flume: TestFileChannelRestart testRestartLogReplayV1 testRestartLogReplayV2
// flume: TestFileChannelRollback testRollbackSimulatedCrash testRollbackSimulatedCrashWithSink
// flume: TestLog testPutCommit testPutRollback testPutTakeCommit testPutTakeRollbackLogReplayV1
// flume: TestLog testPutTakeRollbackLogReplayV2
func RunCrash(t *testing.T, s CrashSubject) {
	scale, seeds := 1, uint64(8)
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_CRASH")); err == nil && n > 0 {
		scale = n
	}
	first := uint64(0)
	if n, err := strconv.ParseUint(os.Getenv("MILLRACE_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	} else {
		seeds *= uint64(scale)
	}
	crashed := crashes{}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			for _, fault := range crashed.seed(t, s, seed, scale) {
				t.Error(fault)
			}
		})
	}
	if scale > 1 {
		t.Log(crashed)
	}
}

// crashes counts crashes by fault point: of the process, and of the machine.
type crashes map[string]*[2]int

// seed runs one seed with crashes at operations spread over it, until one shows
// faults. It returns them.
func (c crashes) seed(t *testing.T, s CrashSubject, seed uint64, scale int) []string {
	ops, faults := c.scenario(t, s, seed, 0)
	step := max(1, ops/(25*scale))
	for k := 1 + int(seed)%step; k <= ops && len(faults) == 0; k += step {
		if _, faults = c.scenario(t, s, seed, k); len(faults) > 0 {
			faults = append(faults, fmt.Sprintf("seed %d, crash at operation %d of about %d", seed, k, ops))
		}
	}
	return faults
}

func (c crashes) note(points []string, mode vfs.CrashMode) {
	point := "at rest"
	if n := len(points); n > 0 {
		point = points[n-1]
	}
	if c[point] == nil {
		c[point] = new([2]int)
	}
	if mode == vfs.KeepAll {
		c[point][0]++
	} else {
		c[point][1]++
	}
}

func (c crashes) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "a channel, judged by a model\n%-22s%12s%12s\n", "fault point", "kill", "power")
	var all [2]int
	for _, point := range slices.Sorted(maps.Keys(c)) {
		n := c[point]
		fmt.Fprintf(&b, "%-22s%12d%12d\n", point, n[0], n[1])
		all[0] += n[0]
		all[1] += n[1]
	}
	fmt.Fprintf(&b, "%-22s%12d%12d", "all", all[0], all[1])
	return b.String()
}

// modelEvent is what the model knows of one event.
type modelEvent struct {
	put    int
	stream string
	pos    int64
	acked  bool   // an ack was asked for
	unsure bool   // the channel closed without having stored the ack: it may count or not
	mark   int64  // the mark that went with the ack; 0: none
	body   string // its whole content
	stored <-chan struct{}
}

type modelPut struct {
	from, to int
	stored   atomic.Bool
	failed   atomic.Bool
	marked   bool
	atOnce   bool // it was answered while it was put: perhaps from memory
}

func (p *modelPut) answered() bool { return p.stored.Load() || p.failed.Load() }

// world is one run of a scenario.
type world struct {
	s      CrashSubject
	crash  crashes
	faults []string
	clean  bool // the disk never fails
	rng    *rand.Rand
	mem    *vfs.Mem
	fault  *vfs.Fault
	ch     core.Channel
	events []modelEvent
	puts   []*modelPut
	pos    map[string]int64
	mark   int64
	marked <-chan struct{} // of the last ack with a mark
	fresh  int             // events from here on were put since the last Close; 0 where order is kept over it
}

func (w *world) errorf(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// follows says whether event b must not come before a.
func (w *world) follows(a, b int) bool { return a < b || a < w.fresh && b < w.fresh && a != b }

// scenario runs one seed with a crash at operation k (0: none) and returns how
// many operations there were, and what was wrong.
func (c crashes) scenario(t *testing.T, s CrashSubject, seed uint64, k int) (ops int, faults []string) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{s: s, crash: c, clean: seed%2 == 0, rng: rand.New(rand.NewPCG(seed, 7)), mem: vfs.NewMem(), pos: map[string]int64{}}
		w.fault = vfs.NewNamedFault(w.mem, points.Name)
		if k > 0 {
			w.fault.Add(vfs.Rule{At: k, Crash: true, Short: w.rng.IntN(2) == 0})
		}
		if !w.clean { // a disk that fails now and then as well
			kinds := []vfs.Kind{vfs.OpSync, vfs.OpWrite, vfs.OpWrite, vfs.OpCreate, vfs.OpSyncDir, vfs.OpAllocate, vfs.OpTruncate, vfs.OpRemove}
			for range 4 {
				r := vfs.Rule{Kind: kinds[w.rng.IntN(len(kinds))], Path: "*.wal", At: 1 + w.rng.IntN(12), Times: 1 + w.rng.IntN(3)}
				if r.Kind == vfs.OpSyncDir {
					r.Path = ""
					r.At += 4 // not while the directories are made
				}
				if r.Kind == vfs.OpWrite {
					r.Short = true
					r.Err = []error{nil, syscall.ENOSPC}[w.rng.IntN(2)]
				}
				w.fault.Add(r)
			}
		}
		w.run()
		ops = w.fault.Ops()
		if w.ch != nil {
			_ = w.shut() // after a crash it can only fail
		}
		w.after(rand.New(rand.NewPCG(seed, uint64(k))))
		faults = w.faults
	})
	return ops, faults
}

func openOn(fsys vfs.FS, s CrashSubject) (core.Channel, error) {
	if s.Disk != nil {
		fsys = s.Disk(fsys)
	}
	ch := s.New()
	if _, faults := conf.Bind(ch, s.Keys); faults.HasErrors() {
		return nil, fmt.Errorf("keys: %v", faults)
	}
	env := core.Env{Agent: "a", Name: "ch", Log: slog.New(slog.DiscardHandler), FS: fsys, Dir: "/state", Now: time.Now}
	if err := ch.Open(context.Background(), env); err != nil {
		return nil, err
	}
	return ch, nil
}

func (w *world) crashed() bool { return w.fault.Crashed() }

func (w *world) run() {
	if !w.reopen() {
		return
	}
	for range 40 {
		switch n := w.rng.IntN(20); {
		case n < 9:
			w.put(1 + w.rng.IntN(3))
		case n < 17:
			w.take()
		case n < 18:
			time.Sleep(time.Second)
		default:
			w.reopen()
		}
		if w.crashed() || len(w.faults) > 0 {
			return
		}
	}
}

// reopen closes the channel, if it is open, and opens it.
func (w *world) reopen() bool {
	if w.ch != nil {
		err := w.shut()
		w.ch = nil
		if err != nil && !w.crashed() {
			w.errorf("close: %v", err)
		}
		w.doubt()
	}
	ch, err := openOn(w.fault, w.s)
	for range 20 { // transient faults of the disk
		if err == nil || w.crashed() {
			break
		}
		ch, err = openOn(w.fault, w.s)
	}
	if err != nil {
		if !w.crashed() {
			w.errorf("open: %v", err)
		}
		return false
	}
	w.ch = ch
	return true
}

// shut closes the channel. What it finds in memory goes to disk, behind what is
// there, if the disk does not fail.
func (w *world) shut() error {
	if w.s.Spills && !w.crashed() {
		w.fresh = len(w.events)
	}
	err := w.ch.Close()
	if w.clean && !w.crashed() {
		for _, p := range w.puts {
			p.atOnce = false
		}
	}
	return err
}

// doubt notes which acks the disk, which fails at times, may not hold though it
// was asked to.
func (w *world) doubt() {
	for i := range w.events {
		if e := &w.events[i]; e.acked && !closed(e.stored) {
			e.unsure, e.mark = true, 0
		}
	}
	if w.marked != nil && !closed(w.marked) {
		w.marked = nil
	}
}

// put commits n batches, some of them marked, and waits for all of them.
func (w *world) put(n int) {
	open := make([]*modelPut, 0, n)
	for range n {
		b := core.NewBatch()
		stream := []string{"", "s", "t"}[w.rng.IntN(3)]
		p := &modelPut{from: len(w.events), marked: stream != ""}
		pos := w.pos[stream]
		h := core.NewHeaders(core.Header{Key: "k", Value: strconv.Itoa(len(w.puts))})
		for range w.rng.IntN(9) {
			body := fmt.Sprintf("%06d:", len(w.events))
			for size := w.rng.IntN(3) * w.rng.IntN(1500); len(body) < size; {
				body += strconv.Itoa(w.rng.IntN(1000))
			}
			e := modelEvent{put: len(w.puts), body: body}
			b.Copy(h, []byte(body))
			if stream != "" {
				pos += 10
				e.stream, e.pos = stream, pos
				b.Events[len(b.Events)-1].Pos = pos
			}
			w.events = append(w.events, e)
		}
		p.to = len(w.events)
		if stream != "" {
			w.pos[stream] = pos
			b.Mark(stream, pos)
		}
		tx, err := w.ch.TryClaim(b.Size())
		if err != nil {
			if !errors.Is(err, core.ErrChannelFull) {
				w.errorf("claim: %v", err)
			}
			w.events = w.events[:p.from]
			if stream != "" {
				w.pos[stream] -= 10 * int64(len(b.Events))
			}
			b.Release()
			continue
		}
		w.puts = append(w.puts, p)
		open = append(open, p)
		tx.Commit(b, nil, func(err error) {
			if err != nil {
				p.failed.Store(true)
			} else {
				p.stored.Store(true)
			}
		})
		p.atOnce = p.stored.Load()
		b.Release()
	}
	for range 1000 {
		synctest.Wait()
		busy := false
		for _, p := range open {
			busy = busy || !p.answered() && !(p.marked && w.s.Spills) // that may be until it is delivered
		}
		if !busy || w.crashed() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.errorf("a put is not answered")
}

// take leases some events, checks them, and ends the lease one way or another.
func (w *world) take() {
	l, err := w.ch.Take(context.Background(), core.Take{Events: 1 + w.rng.IntN(30), Bytes: int64(w.rng.IntN(2) * 4000), NoWait: true})
	if err != nil {
		if !errors.Is(err, core.ErrEmpty) && !w.crashed() {
			w.errorf("take: %v", err)
		}
		return
	}
	ids := w.ids(l.Batch())
	last := -1
	for _, id := range ids {
		e := &w.events[id]
		if e.acked && e.unsure {
			e.acked, e.unsure = false, false
		}
		if e.acked {
			w.errorf("event %d is taken again after its ack", id)
		}
		if last >= 0 && !w.follows(last, id) {
			w.errorf("event %d comes after %d", id, last)
		}
		last = id
	}
	for id := w.fresh; id < last; id++ {
		if e := &w.events[id]; !e.acked && !contains(ids, id) && w.puts[e.put].stored.Load() && id > ids[0] {
			w.errorf("event %d was passed over", id)
		}
	}
	if w.rng.IntN(4) == 0 && !l.Unpin() && !w.s.Spills {
		w.errorf("a durable channel must unpin")
	}
	switch w.rng.IntN(4) {
	case 0:
		l.Rollback(errors.New("no"))
		return
	case 1:
		var pick, rest []int32
		for i := range ids {
			if w.rng.IntN(2) == 0 {
				pick = append(pick, int32(i))
			} else {
				rest = append(rest, int32(i))
			}
		}
		if len(pick) > 0 {
			w.ack(l, ids, pick)
		}
		if len(rest) > 0 {
			l.Rollback(errors.New("no"))
		}
	default:
		w.ack(l, ids, nil)
	}
}

func contains(ids []int, id int) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

func (w *world) ack(l core.Lease, ids []int, pick []int32) {
	var marks []core.Mark
	mark := int64(0)
	if w.rng.IntN(2) == 0 && !w.s.Spills {
		w.mark++
		mark = w.mark
		marks = append(marks, core.Mark{Stream: "sink", Pos: mark, State: []byte(strconv.FormatInt(mark, 10))})
	}
	stored := l.Ack(pick, marks...)
	if mark > 0 {
		w.marked = stored
	}
	note := func(id int) {
		e := &w.events[id]
		e.acked, e.unsure, e.mark, e.stored = true, false, mark, stored
	}
	if pick == nil {
		for _, id := range ids {
			note(id)
		}
	}
	for _, i := range pick {
		note(ids[i])
	}
	if w.rng.IntN(4) == 0 {
		for range 1000 {
			if closed(stored) || w.crashed() {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		w.errorf("an ack is not answered")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ids checks that the events are ones of the model, untouched, and returns their numbers.
func (w *world) ids(b *core.Batch) []int {
	ids := make([]int, 0, len(b.Events))
	for i := range b.Events {
		body := string(b.Events[i].Body)
		id := -1
		if len(body) >= 7 {
			if n, err := strconv.Atoi(body[:6]); err == nil {
				id = n
			}
		}
		if id < 0 || id >= len(w.events) || w.events[id].body != body {
			w.errorf("event of %d bytes was never put: %.20q", len(body), body)
			continue
		}
		if v := b.Events[i].Headers.Value("k"); v != strconv.Itoa(w.events[id].put) {
			w.errorf("event %d has the headers of put %s", id, v)
		}
		ids = append(ids, id)
	}
	return ids
}
