package wal

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// The kinds of Problem.
const (
	Torn    = "torn"    // a tail that was written and never answered
	Damaged = "damaged" // a place whose checksum does not hold, in what was answered
	Lost    = "lost"    // events that were answered and cannot be read
	Missing = "missing" // a segment with undelivered events that is not there
	Aside   = "aside"   // a file that an agent kept: a torn tail, or a segment with damaged places
)

// Problem is something wrong with a log.
type Problem struct {
	Kind    string `json:"kind"`
	Segment string `json:"segment"` // path, name or number
	Offset  int64  `json:"offset"`
	Bytes   int64  `json:"bytes,omitempty"`
	Events  uint64 `json:"events,omitempty"`
	Text    string `json:"text"`
}

// problem says p, or keeps it for the reader of an Inspection.
func (l *Log) problem(p Problem) {
	if l.dry {
		l.problems = append(l.problems, p)
		return
	}
	l.opt.Log.Error(p.Text, "segment", p.Segment, "offset", p.Offset, "events", p.Events)
}

// Inspection is a log as Open would find it, read without changing anything.
type Inspection struct{ l *Log }

// inspectTries is how often an inspection begins anew because an agent removed
// a delivered segment under it.
const inspectTries = 10

// Inspect reads the log in dirs, which an agent may be using meanwhile: then
// what it shows is some state the log had since the call.
func Inspect(fsys vfs.FS, dirs []string) (*Inspection, error) {
	for try := 1; ; try++ {
		l := &Log{
			opt: Options{FS: fsys, Dirs: dirs, Log: slog.New(slog.DiscardHandler)},
			dry: true, state: newSnapshot(), live: map[uint64]*segment{},
		}
		files, err := l.list()
		if err == nil {
			err = l.recover(files)
		}
		if err == nil {
			err = l.keptAside()
		}
		if err == nil {
			return &Inspection{l}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || try == inspectTries {
			return nil, err
		}
	}
}

// keptAside lists what recovery and removal have kept.
func (l *Log) keptAside() error {
	for _, dir := range l.opt.Dirs {
		entries, err := l.opt.FS.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if ext != ".torn" && ext != ".damaged" {
				continue
			}
			info, err := l.opt.FS.Stat(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			l.problem(Problem{Kind: Aside, Segment: filepath.Join(dir, e.Name()), Bytes: info.Size(), Text: "kept by an agent that came upon a " + strings.TrimPrefix(ext, ".") + " place"})
		}
	}
	return nil
}

// SegmentState is one segment of an Inspection.
type SegmentState struct {
	Path    string `json:"path"`
	Number  uint64 `json:"number"`
	From    uint64 `json:"from"` // sequences [From, To)
	To      uint64 `json:"to"`
	Bytes   int64  `json:"bytes"` // of the file that count
	Pending int64  `json:"pending"`
	Damaged bool   `json:"damaged,omitempty"`
}

// Segments returns the segments that hold events, oldest first.
func (i *Inspection) Segments() []SegmentState {
	var list []SegmentState
	for _, g := range i.l.live {
		list = append(list, SegmentState{g.path, g.number, g.seqs.From, g.seqs.To, g.length, g.left, g.damaged})
	}
	slices.SortFunc(list, func(a, b SegmentState) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// Positions returns the stored positions of sources, by stream.
func (i *Inspection) Positions() map[string]int64 { return i.l.Positions() }

// Marks returns the stored marks of sinks, by stream.
func (i *Inspection) Marks() map[string]core.Mark { return i.l.Marks() }

// Problems returns what was found wrong so far: Events adds what it comes upon.
func (i *Inspection) Problems() []Problem { return i.l.problems }

// Event is an event of an Inspection.
type Event struct {
	core.Event
	Sequence  uint64
	Time      time.Time // when it was taken in
	Delivered bool
}

// Events reads the events in order and gives them to yield until that returns
// an error; all adds those that are delivered and still in a segment. An
// event's memory is valid during its call only.
func (i *Inspection) Events(all bool, yield func(Event) error) error {
	for _, g := range i.Segments() {
		s := i.l.live[g.Number]
		acked := i.l.state.acked.Within(s.seqs)
		skip := acked
		if all {
			skip = nil
		} else if s.left == 0 {
			continue
		}
		for rest := (Extent{g.Number, headerSize, s.length, s.seqs}); rest.Seqs.Len() > 0; {
			c, err := i.l.Read(rest, skip)
			if errors.Is(err, fs.ErrNotExist) {
				break // an agent has delivered all of it meanwhile
			}
			if err != nil {
				return err
			}
			rest = c.Rest
			if err := each(c, acked, yield); err != nil {
				return err
			}
		}
	}
	return nil
}

// each gives the events of c to yield and releases them.
func each(c Chunk, acked Ranges, yield func(Event) error) error {
	defer c.Batch.Release()
	for _, p := range c.Pieces {
		gone := acked.Within(p.Seqs)
		for n := range p.Seqs.Len() {
			seq := p.Seqs.From + n
			for len(gone) > 0 && gone[0].To <= seq {
				gone = gone[1:]
			}
			e := Event{c.Batch.Events[p.At+int(n)], seq, c.Batch.Born, len(gone) > 0 && gone[0].From <= seq}
			if err := yield(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes the file that was read last.
func (i *Inspection) Close() {
	if f := i.l.reading.file; f != nil {
		i.l.closeFile(f)
		i.l.reading.file = nil
	}
}
