package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// Sizes that are not worth a key.
const (
	frameTarget = 4 << 20  // bodies of one frame; a larger event has a frame of its own
	groupTarget = 16 << 20 // bodies written and synced at once, unless one transaction is larger
	allocStep   = 8 << 20  // how far ahead space is reserved
	readTarget  = 1 << 20  // one sequential read
)

// Options are a Log's settings. FS, Dirs, SegmentBytes, Log and Now are required.
type Options struct {
	FS           vfs.FS
	Dirs         []string // locked by the caller; segments take turns among them
	SegmentBytes int64
	SyncEvery    time.Duration // 0: a sync before every answer; else answers come after the write and syncs at this interval
	AckDelay     time.Duration // how long an ack may wait for a put to ride with
	Retry        time.Duration // pause after a failed write; doubles up to 32 times that
	Log          *slog.Logger
	Now          func() time.Time
	BesideFlume  bool // data files of Apache Flume may lie in the directories: they are being imported
}

// Put is one put transaction. The log keeps it, and reads its batch, until Done.
type Put struct {
	Batch  *core.Batch
	Pick   []int32 // nil: all of Batch; empty: only the mark
	Time   int64   // Unix nanoseconds, given back as Batch.Born
	Marked bool    // whether Stream and Pos are to be stored; Pos -1 removes the stream
	Stream string
	Pos    int64
	// Done is called once, in order, by the log's goroutine: nil when p is stored.
	Done func(p *Put, err error)

	First uint64 // sequence of the first event; set by Put
	At    Extent // where it is; valid in Done(nil)
	bytes int64
}

// Len returns the number of events.
func (p *Put) Len() int {
	if p.Pick != nil {
		return len(p.Pick)
	}
	if p.Batch == nil {
		return 0
	}
	return len(p.Batch.Events)
}

// writes reports whether p has anything to store.
func (p *Put) writes() bool { return p.Marked || p.Len() > 0 }

func (p *Put) event(i int) *core.Event {
	if p.Pick != nil {
		i = int(p.Pick[i])
	}
	return &p.Batch.Events[i]
}

// Extent is a part of a segment and the sequences to be found there.
type Extent struct {
	Segment  uint64
	Off, End int64
	Seqs     Range
}

// Log is an open log. Its methods may be called from any goroutine, and only Close blocks.
type Log struct {
	opt      Options
	dry      bool      // an Inspection's: nothing is changed
	problems []Problem // of an Inspection

	mu      sync.Mutex
	next    uint64 // sequence of the next event put
	queue   []*Put
	acks    ackQueue
	closing bool
	state   *snapshot           // what is stored; changed only by the committer
	live    map[uint64]*segment // by number, the current one included
	stats   Stats
	adjust  *adjustment // asked for, and not taken up yet

	wake    chan struct{} // 1: there is something to do
	closed  chan struct{}
	stopped chan struct{}

	// The rest belongs to the committer.
	cur    *current
	number uint64 // of the newest segment ever
	turn   int    // which directory is next
	buf    []byte
	dirty  bool // written but not synced; only with SyncEvery
	failed bool // a put was given up at Close: none that came after it may be stored

	readMu  sync.Mutex
	reading struct {
		number uint64
		file   vfs.File
	}
}

// ackQueue gathers acks until the next group.
type ackQueue struct {
	seqs  Ranges
	marks []core.Mark
	done  []chan struct{}
	timer *time.Timer
}

func (a *ackQueue) empty() bool { return len(a.seqs) == 0 && len(a.marks) == 0 && len(a.done) == 0 }

// Stats counts what an operator should hear of.
type Stats struct {
	Syncs, Groups, Failures int64
	Torn                    int64 // torn tails cut off and copied aside
	Damaged                 int64 // damaged places passed over
	Segments                int
	DiskBytes               int64 // trusted length of all segments
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Segments = len(l.live)
	for _, g := range l.live {
		s.DiskBytes += g.length
	}
	return s
}

// Put queues p. It never blocks; p.Done tells the rest. It reports false, and
// Done is not called, if the log is closing.
func (l *Log) Put(p *Put) bool {
	for i := range p.Len() {
		p.bytes += int64(len(p.event(i).Body))
	}
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return false
	}
	p.First = l.next
	l.next += uint64(p.Len())
	l.queue = append(l.queue, p)
	l.mu.Unlock()
	l.poke()
	return true
}

// Ack queues an ack of sequences, and marks to be stored with it. The channel
// returned is closed when that is stored; never, if the log closes without
// having been able to.
func (l *Log) Ack(seqs []Range, marks []core.Mark) <-chan struct{} {
	done := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return done
	}
	a := &l.acks
	if a.empty() {
		// The first one starts the clock; whichever group comes first takes all.
		a.timer = time.AfterFunc(l.opt.AckDelay, l.poke)
	}
	for _, r := range seqs {
		a.seqs.Add(r)
	}
	a.marks = append(a.marks, marks...)
	a.done = append(a.done, done)
	return done
}

// Position returns the stored position of a source's stream.
func (l *Log) Position(stream string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pos, ok := l.state.sources[stream]
	return pos, ok
}

// Positions returns all of them.
func (l *Log) Positions() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.state.sources)
}

// Marks returns the stored marks of sinks.
func (l *Log) Marks() map[string]core.Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.state.sinks)
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close stores what is queued (one try, if the disk refuses), seals the
// current segment, and answers the rest with ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closing
	l.closing = true
	l.mu.Unlock()
	if first {
		close(l.closed)
	}
	<-l.stopped
	l.readMu.Lock()
	defer l.readMu.Unlock()
	if l.reading.file != nil {
		l.reading.file.Close() // only read from: nothing can be lost
		l.reading.file = nil
	}
	return nil
}

type adjustment struct {
	segmentBytes int64
	syncEvery    time.Duration
}

// Adjust changes two of the Options while the log works: they count from the
// next group on.
func (l *Log) Adjust(segmentBytes int64, syncEvery time.Duration) {
	l.mu.Lock()
	l.adjust = &adjustment{segmentBytes, syncEvery}
	l.mu.Unlock()
	l.poke()
}

// takeUp is the committer's side of Adjust.
func (l *Log) takeUp() {
	l.mu.Lock()
	a := l.adjust
	l.adjust = nil
	l.mu.Unlock()
	if a == nil {
		return
	}
	if a.syncEvery == 0 {
		l.syncNow() // from now on what is answered is synced, and all before it
	}
	l.opt.SegmentBytes, l.opt.SyncEvery = a.segmentBytes, a.syncEvery
}

// group is what one write and one sync store.
type group struct {
	puts  []*Put
	seqs  Ranges
	marks []core.Mark
	done  []chan struct{}
}

func (g *group) writes() bool {
	return len(g.seqs) > 0 || len(g.marks) > 0 || slices.ContainsFunc(g.puts, (*Put).writes)
}

func (g *group) empty() bool { return len(g.puts) == 0 && len(g.done) == 0 }

// take cuts the next group off the queue.
func (l *Log) take() (g group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(l.queue) && (n == 0 || bytes+l.queue[n].bytes <= groupTarget) {
		bytes += l.queue[n].bytes
		n++
	}
	if n == len(l.queue) {
		g.puts, l.queue = l.queue, nil
	} else {
		g.puts, l.queue = l.queue[:n:n], l.queue[n:]
	}
	l.takeAcks(&g)
	return g
}

// takeAcks moves the acks that wait into g.
func (l *Log) takeAcks(g *group) {
	a := &l.acks
	if a.empty() {
		return
	}
	a.timer.Stop()
	for _, r := range a.seqs {
		g.seqs.Add(r)
	}
	g.marks = append(g.marks, a.marks...)
	g.done = append(g.done, a.done...)
	l.acks = ackQueue{}
}

// run is the committer.
func (l *Log) run() {
	defer close(l.stopped)
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	ticker.Stop() // until there is an interval
	every := time.Duration(0)
	for closing := false; !closing; {
		if every != l.opt.SyncEvery {
			if every = l.opt.SyncEvery; every > 0 {
				ticker.Reset(every)
			} else {
				ticker.Stop()
			}
		}
		select {
		case <-l.wake:
			l.takeUp()
		case <-ticker.C:
			l.syncNow()
		case <-l.closed:
			closing = true
		}
		for g := l.take(); !g.empty(); g = l.take() {
			l.commit(g)
		}
	}
	l.finish()
}

// commit stores g, however often it takes, or answers it with an error if the
// log closes. From the first one so answered on it stores nothing: the position
// of a later put would speak for the one that is missing.
func (l *Log) commit(g group) {
	pause := l.opt.Retry
	for !l.failed {
		err := l.write(&g)
		if err == nil {
			l.stored(&g)
			return
		}
		l.mu.Lock()
		l.stats.Failures++
		l.mu.Unlock()
		if errors.Is(err, syscall.ENOSPC) && l.commitAcks(&g) {
			continue // that may have made room
		}
		select {
		case <-l.closed:
			l.opt.Log.Error("cannot write the log; it closes with events that were not stored", "error", err, "puts", len(g.puts))
			l.failed = len(g.puts) > 0
			giveUp(&g, fmt.Errorf("%w: %w", core.ErrClosed, err))
			return
		default:
		}
		l.opt.Log.Error("cannot write the log; trying again", "error", err, "puts", len(g.puts), "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.closed:
		}
		t.Stop()
		pause = min(2*pause, 32*l.opt.Retry)
	}
	giveUp(&g, core.ErrClosed)
}

func giveUp(g *group, err error) {
	for _, p := range g.puts {
		p.Done(p, err)
	}
}

// commitAcks tries to store the acks that wait, without the puts of g: on a
// full disk they are what frees segments. It reports whether it stored any.
func (l *Log) commitAcks(g *group) bool {
	l.mu.Lock()
	l.takeAcks(g)
	l.mu.Unlock()
	acks := group{seqs: g.seqs, marks: g.marks, done: g.done}
	if acks.empty() || len(g.puts) == 0 || l.write(&acks) != nil {
		return false
	}
	l.stored(&acks)
	g.seqs, g.marks, g.done = nil, nil, nil
	return true
}

// stored applies g, which is on disk, to the state, and answers it.
func (l *Log) stored(g *group) {
	l.mu.Lock()
	l.stats.Groups++
	for _, p := range g.puts {
		if p.Marked {
			l.state.source([]place{{p.Stream, p.Pos}})
		}
		if n := uint64(p.Len()); n > 0 {
			l.state.next = p.First + n
			l.cur.holds(Range{p.First, p.First + n}, p.bytes)
		}
	}
	l.acked(g.seqs)
	l.state.sink(g.marks)
	l.mu.Unlock()
	for _, p := range g.puts {
		p.Done(p, nil)
	}
	for _, c := range g.done {
		close(c)
	}
	if !l.dirty {
		l.reclaim()
	}
}

// acked applies an ack to the state and to the segments.
func (l *Log) acked(seqs Ranges) {
	for _, r := range seqs {
		for _, fresh := range l.state.acked.Without(r) {
			for _, g := range l.live {
				g.left -= int64(overlap(fresh, g.seqs))
			}
		}
		l.state.acked.Add(r)
	}
}

func overlap(a, b Range) uint64 {
	from, to := max(a.From, b.From), min(a.To, b.To)
	if from >= to {
		return 0
	}
	return to - from
}
