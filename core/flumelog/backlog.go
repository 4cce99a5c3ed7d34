package flumelog

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// Report is what reading a channel came upon.
type Report struct {
	Files      int       `json:"files"`
	Checkpoint string    `json:"checkpoint"` // "used", or why not
	Events     int       `json:"events"`     // undelivered
	Disabled   int       `json:"disabled"`   // records that Flume's integrity tool has taken out
	Problems   []Problem `json:"problems"`
}

// Problem is a place that cannot be read.
type Problem struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Text   string `json:"text"`
}

func (r *Report) problem(file string, off int64, text string) {
	r.Problems = append(r.Problems, Problem{file, off, text})
}

// Backlog is the undelivered events of a channel.
type Backlog struct {
	Report
	files map[uint32]*logFile
	queue []pointer
}

// Open replays the channel that a stopped Flume has left in its data
// directories; checkpointDir may be empty.
func Open(fsys vfs.FS, checkpointDir string, dataDirs []string) (*Backlog, error) {
	b := &Backlog{files: map[uint32]*logFile{}}
	files, err := list(fsys, dataDirs, &b.Report)
	if err != nil {
		return nil, err
	}
	if b.Files = len(files); b.Files == 0 {
		return nil, fmt.Errorf("no data files of Flume's (log-1, log-2, ...) in %v: %w", dataDirs, fs.ErrNotExist)
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	for _, f := range files {
		if err = f.open(fsys); err != nil {
			return nil, err
		}
		b.files[f.number] = f
	}
	p := newReplay()
	b.Checkpoint = "none was named: everything was replayed"
	if checkpointDir != "" {
		c, why := readCheckpoint(fsys, checkpointDir)
		if b.Checkpoint = "used"; why != nil {
			b.Checkpoint = "not used, everything was replayed: " + why.Error()
		} else {
			p.seed(c)
		}
	}
	if err = p.merge(files); err != nil {
		return nil, err
	}
	b.queue = b.result(p)
	b.Report.Events = len(b.queue)
	return b, nil
}

// Close closes the files.
func (b *Backlog) Close() {
	for _, f := range b.files {
		if f.file != nil {
			_ = f.file.Close() // only read from
		}
	}
}

// Identity tells one backlog from another: the channel's, or that of the same
// channel after Flume went on with it.
func (b *Backlog) Identity() string {
	h := uint64(14695981039346656037) // FNV-1a over the queue
	for _, p := range b.queue {
		for _, w := range [...]uint32{p.file, p.offset} {
			h = (h ^ uint64(w)) * 1099511628211
		}
	}
	return fmt.Sprintf("flume-%d-%016x", len(b.queue), h)
}

// Events gives the events from index skip on to yield, in order, with their
// index, until that returns an error. What cannot be read is a Problem. An
// event's memory is valid during its call only.
func (b *Backlog) Events(skip int, yield func(i int, e core.Event) error) error {
	for i, p := range b.queue[min(skip, len(b.queue)):] {
		f := b.files[p.file]
		if f == nil {
			b.problem(fmt.Sprint("log-", p.file), int64(p.offset), "the file of an undelivered event is not there")
			continue
		}
		r, op, err := f.event(p.offset)
		if err != nil && !errors.Is(err, errRecord) {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if op == opNoop {
			continue // disabled by the integrity tool, which counted it
		}
		e, bad := r.event()
		if err != nil || op != opRecord || bad != nil {
			text := "an undelivered event cannot be read"
			if bad != nil && !errors.Is(bad, errRecord) {
				text += ": " + bad.Error()
			}
			b.problem(f.path, int64(p.offset), text)
			continue
		}
		if err := yield(min(skip, len(b.queue))+i, e); err != nil {
			return err
		}
	}
	return nil
}

// replay is Flume's ReplayHandler.
type replay struct {
	after int64 // records up to this order are in the checkpoint
	queue []pointer
	place map[pointer]int // in queue; a pointer is of one event for ever
	early map[pointer]bool
	open  map[int64][]pointer // transactions, by number
	taken map[int64][]pointer // in flight at the checkpoint: out of the queue already
}

func newReplay() *replay {
	return &replay{
		after: -1 << 63, place: map[pointer]int{}, early: map[pointer]bool{},
		open: map[int64][]pointer{}, taken: map[int64][]pointer{},
	}
}

func (p *replay) seed(c *checkpoint) {
	p.after = c.order
	for _, x := range c.queue {
		p.add(x)
	}
	for _, t := range c.puts {
		// A set, as Flume writes it. One transaction's puts are in the files of one
		// directory, whose numbers ascend: where they are is the order of the puts.
		slices.SortFunc(t.pointers, func(a, b pointer) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset)) })
		p.open[t.transaction] = append(p.open[t.transaction], t.pointers...)
	}
	for _, t := range c.takes {
		p.taken[t.transaction] = append(p.taken[t.transaction], t.pointers...)
	}
}

func (p *replay) add(x pointer) {
	if p.early[x] { // its take was committed already, in another file
		delete(p.early, x)
		return
	}
	if _, ok := p.place[x]; ok {
		return
	}
	p.place[x] = len(p.queue)
	p.queue = append(p.queue, x)
}

func (p *replay) remove(x pointer) {
	i, ok := p.place[x]
	if !ok {
		p.early[x] = true
		return
	}
	p.queue[i] = pointer{}
	delete(p.place, x)
}

// cursors is a heap of files by their next record's order.
type cursors []*logFile

func (c cursors) Len() int      { return len(c) }
func (c cursors) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)   { *c = append(*c, x.(*logFile)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// Less is Flume's: by write order, then transaction, and what is taken or put before what ends it.
func (c cursors) Less(i, j int) bool {
	a, b := &c[i].head, &c[j].head
	switch {
	case a.order != b.order:
		return a.order < b.order
	case a.transaction != b.transaction:
		return a.transaction < b.transaction
	}
	return a.kind < rollback && b.kind >= rollback
}

// merge replays the records of all files in the order they were written.
func (p *replay) merge(files []*logFile) error {
	var c cursors
	for _, f := range files {
		if err := f.next(); err != nil {
			return err
		}
		if !f.done {
			c = append(c, f)
		}
	}
	heap.Init(&c)
	for len(c) > 0 {
		f := c[0]
		if f.head.order > p.after {
			p.apply(&f.head, f.here)
		}
		if err := f.next(); err != nil {
			return err
		}
		if f.done {
			heap.Pop(&c)
		} else {
			heap.Fix(&c, 0)
		}
	}
	return nil
}

func (p *replay) apply(r *record, here pointer) {
	t := r.transaction
	switch r.kind {
	case put:
		p.open[t] = append(p.open[t], here)
	case take:
		p.open[t] = append(p.open[t], r.taken)
	case rollback:
		delete(p.open, t)
	case commit:
		for _, x := range p.open[t] {
			if r.puts {
				p.add(x)
			} else {
				p.remove(x)
			}
		}
		delete(p.open, t)
		if !r.puts {
			delete(p.taken, t)
		}
	}
}

// result is the queue at the end: what was in flight at the checkpoint and never
// committed is in front, in the order in which it was put.
func (b *Backlog) result(p *replay) []pointer {
	type back struct {
		at    pointer
		order int64
	}
	var list []back
	for _, t := range p.taken {
		for _, x := range t {
			r := back{at: x}
			if f := b.files[x.file]; f != nil {
				if rec, _, err := f.event(x.offset); err == nil { // what cannot be read is told when its turn comes
					r.order = rec.order
				}
			}
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b back) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.at.file, b.at.file), cmp.Compare(a.at.offset, b.at.offset))
	})
	queue := make([]pointer, 0, len(list)+len(p.place))
	for _, x := range list {
		queue = append(queue, x.at)
	}
	for _, x := range p.queue {
		if x != (pointer{}) {
			queue = append(queue, x)
		}
	}
	return queue
}
