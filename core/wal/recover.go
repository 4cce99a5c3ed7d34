package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core/vfs"
)

// ErrFlume says that a directory holds the data files of Apache Flume's file channel.
var ErrFlume = errors.New("holds data files of Apache Flume, which millrace does not read in place: bring what it has not delivered along with `millrace channel import`, or name an empty directory")

var (
	segmentName = regexp.MustCompile(`^(\d{8,19})-(\d{20})\.wal$`)
	flumeName   = regexp.MustCompile(`^log-\d+$`)
)

// found is a segment file as Open finds it.
type found struct {
	number, first uint64
	path          string
	size          int64
	salt          uint32 // 0: its header has rotted
	head          *snapshot
}

// Open recovers the log in its directories, which exist and are locked, and
// starts the committer. It writes nothing but torn tails, copied aside and cut
// off. It refuses, changing nothing, what a newer version or Apache Flume has
// written, and a log whose undelivered segments are missing.
func Open(opt Options) (*Log, error) {
	l := &Log{
		opt: opt, state: newSnapshot(), live: map[uint64]*segment{},
		wake: make(chan struct{}, 1), closed: make(chan struct{}), stopped: make(chan struct{}),
	}
	files, err := l.list()
	if err != nil {
		return nil, err
	}
	if err := l.recover(files); err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// list finds the segments of all directories and reads their headers.
func (l *Log) list() ([]*found, error) {
	var files []*found
	for _, dir := range l.opt.Dirs {
		entries, err := l.opt.FS.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !l.opt.BesideFlume && flumeName.MatchString(e.Name()) {
				return nil, fmt.Errorf("%s %w", dir, ErrFlume)
			}
			m := segmentName.FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			f := &found{path: filepath.Join(dir, e.Name())}
			if f.number, err = strconv.ParseUint(m[1], 10, 63); err != nil {
				continue
			}
			if f.first, err = strconv.ParseUint(m[2], 10, 64); err != nil {
				continue
			}
			if err := l.readHeader(f); err != nil {
				return nil, fmt.Errorf("%s: %w", f.path, err)
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *found) int { return int(int64(a.number) - int64(b.number)) })
	for i := 1; i < len(files); i++ {
		if files[i].number == files[i-1].number {
			return nil, fmt.Errorf("%s and %s have the same number: the directories of two channels have been mixed", files[i-1].path, files[i].path)
		}
	}
	return files, nil
}

func (l *Log) open(f *found, flag int, then func(file vfs.File) error) error {
	file, err := l.opt.FS.OpenFile(f.path, flag, 0)
	if err != nil {
		return err
	}
	err = then(file)
	if e := file.Close(); err == nil {
		err = e
	}
	return err
}

func (l *Log) readHeader(f *found) error {
	return l.open(f, os.O_RDONLY, func(file vfs.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		f.size = info.Size()
		b := make([]byte, headerSize)
		n, err := file.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		h, err := parseHeader(b[:n])
		if errors.Is(err, ErrVersion) {
			return err
		}
		f.salt = h.salt // 0 on errFrame
		return nil
	})
}

// readHead reads the snapshot at the head of f, if it is good.
func (l *Log) readHead(f *found) error {
	return l.open(f, os.O_RDONLY, func(file vfs.File) error {
		s := scanner{f: file, salt: f.salt, off: headerSize, end: f.size}
		fr, off, _, err := s.next()
		switch {
		case err == nil && off == headerSize && fr.kind == kindHead:
			if head, err := parseHead(fr.payload); err == nil {
				f.head = head
			}
			return nil
		case err == nil, errors.Is(err, errFrame), errors.Is(err, errPayload), errors.Is(err, io.EOF):
			return nil
		}
		return err
	})
}

func (l *Log) recover(files []*found) error {
	base := len(files) - 1
	for ; base >= 0; base-- {
		if err := l.readHead(files[base]); err != nil {
			return fmt.Errorf("%s: %w", files[base].path, err)
		}
		if files[base].head != nil {
			break
		}
	}
	byNumber := map[uint64]*found{}
	for _, f := range files {
		byNumber[f.number] = f
		l.number = max(l.number, f.number)
	}
	if base >= 0 {
		l.state = files[base].head
	}
	for _, g := range l.state.segments {
		l.number = max(l.number, g.number)
		s := &segment{listed: g}
		if f := byNumber[g.number]; f != nil {
			s.path, s.salt = f.path, f.salt
		}
		l.live[g.number] = s
	}
	// Those before the base that it does not list were delivered, or never
	// came into use, and their removal was lost.
	for i := range base {
		if f := files[i]; l.live[f.number] == nil && !l.dry {
			if err := l.opt.FS.Remove(f.path); err != nil {
				return err
			}
		}
	}
	for i := max(base, 0); i < len(files); i++ {
		if err := l.scan(files[i]); err != nil {
			return fmt.Errorf("%s: %w", files[i].path, err)
		}
	}
	if n := len(l.state.acked); n > 0 { // acked but damaged: their numbers must not be given out again
		l.state.next = max(l.state.next, l.state.acked[n-1].To)
	}
	l.next = l.state.next
	return l.settle(base == len(files)-1)
}

// settle counts what is left in each segment. complete says that the newest
// head was good, so that nothing can be missing rightly.
func (l *Log) settle(complete bool) error {
	for n, g := range l.live {
		g.left = int64(g.seqs.Len() - l.state.acked.Within(g.seqs).Len())
		switch {
		case g.path != "":
			continue
		case l.dry:
			if g.left > 0 {
				l.problem(Problem{Kind: Missing, Segment: name(g.number, g.first), Events: uint64(g.left), Text: "the segment's file is not there"})
			}
		case g.left > 0 && complete:
			return fmt.Errorf("segment %s with %d events that are not delivered is missing from %s: put it back (to give those events up, make an empty file of that name)",
				name(g.number, g.first), g.left, strings.Join(l.opt.Dirs, ", "))
		default:
			if g.left > 0 {
				l.opt.Log.Warn("a segment is missing; as the newest head is damaged it may have been delivered", "segment", name(g.number, g.first), "events", g.left)
				l.state.acked.Add(g.seqs)
			}
		}
		delete(l.live, n)
	}
	return nil
}

// survey is what the first pass over a segment finds.
type survey struct {
	end     int64 // of the last frame
	content int64 // end of the last frame that is no seal
	tail    int64 // of the last byte that is not zero
	promise int64
	damaged []int64 // where damaged places begin
	open    int64   // where a transaction begins whose end was not found; -1: none
}

func (l *Log) survey(file vfs.File, f *found) (v survey, err error) {
	v.open = -1
	s := scanner{f: file, salt: f.salt, off: headerSize, end: f.size}
	for {
		fr, off, size, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			v.tail = max(s.tail, v.end)
			f.salt = s.salt
			return v, nil
		case errors.Is(err, errFrame):
			v.damaged = append(v.damaged, off)
			continue
		case errors.Is(err, errPayload):
			v.damaged = append(v.damaged, off)
		case err != nil:
			return v, err
		}
		v.end = off + size
		if fr.kind != kindSeal {
			v.content = v.end
		}
		v.promise = max(v.promise, fr.promise)
		switch {
		case fr.kind != kindPut || fr.last():
			v.open = -1
		case v.open < 0:
			v.open = off
		}
	}
}

// cut returns up to where the segment counts.
func (v *survey) cut() int64 {
	cut := v.end
	for _, off := range v.damaged {
		if off >= v.promise {
			cut = min(cut, off)
		}
	}
	if v.open >= v.promise {
		cut = min(cut, v.open)
	}
	return cut
}

// scan applies the frames of f to the state, after cutting off a torn tail.
func (l *Log) scan(f *found) error {
	l.state.next = max(l.state.next, f.first) // larger only if damage hides what was before
	used := false
	flag := os.O_RDWR
	if l.dry {
		flag = os.O_RDONLY
	}
	err := l.open(f, flag, func(file vfs.File) error {
		v, err := l.survey(file, f)
		if err != nil {
			return err
		}
		cut := v.cut()
		if open := l.reopened(file, f, v, cut); open >= 0 {
			cut = open
		}
		switch {
		case cut >= v.tail:
		case l.dry:
			l.problem(Problem{Kind: Torn, Segment: f.path, Offset: cut, Bytes: v.tail - cut, Text: "written but not answered: an agent that runs is about to, one that starts cuts it off and keeps a copy"})
		default:
			if err := l.setAside(file, f, cut, v.tail); err != nil {
				return err
			}
		}
		if cut < f.size && !l.dry {
			if err := file.Truncate(cut); err != nil {
				return err
			}
			if err := file.Sync(); err != nil {
				return err
			}
		}
		if used = cut > headerSize; !used {
			return nil
		}
		if !l.dry {
			if err := rewrite(file, v.promise, min(v.content, cut)); err != nil {
				return err
			}
		}
		g := &segment{path: f.path, salt: f.salt, listed: listed{number: f.number, first: f.first, length: cut}}
		for _, off := range v.damaged {
			if off < cut {
				g.damaged = true
				l.stats.Damaged++
				l.problem(Problem{Kind: Damaged, Segment: f.path, Offset: off, Text: "damaged place in the log; what can be read is delivered and the file is kept"})
			}
		}
		l.live[f.number] = g
		return l.apply(file, g)
	})
	if err != nil || used || l.dry {
		return err
	}
	return l.opt.FS.Remove(f.path) // nothing in it was ever answered
}

// rewrite makes a part of a segment durable that nothing says was ever synced.
// It can be read, but a sync of it may have failed before: then the system holds
// the pages for clean, and only writing them again brings them to the disk.
func rewrite(file vfs.File, from, to int64) error {
	if from >= to {
		return nil
	}
	buf := make([]byte, min(to-from, readTarget))
	for off := from; off < to; {
		b := buf[:min(to-off, int64(len(buf)))]
		if _, err := file.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := file.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return file.Sync()
}

// reopened looks for a transaction that is left open because its end was cut
// off; -1 if there is none.
func (l *Log) reopened(file vfs.File, f *found, v survey, cut int64) int64 {
	if cut == v.end {
		return -1
	}
	s := scanner{f: file, salt: f.salt, off: headerSize, end: cut}
	open := int64(-1)
	for {
		fr, off, _, err := s.next()
		switch {
		case errors.Is(err, errFrame):
			continue
		case err != nil && !errors.Is(err, errPayload):
			if open < v.promise {
				return -1
			}
			return open
		case fr.kind != kindPut || fr.last():
			open = -1
		case open < 0:
			open = off
		}
	}
}

// setAside copies the torn tail of f, durably, before it is cut off.
func (l *Log) setAside(file vfs.File, f *found, from, to int64) error {
	path := strings.TrimSuffix(f.path, ".wal") + ".torn"
	out, err := l.opt.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(file, from, to-from))
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = l.opt.FS.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("copy a torn tail to %s: %w", path, err)
	}
	l.stats.Torn++
	l.opt.Log.Warn("the log had a torn tail: written, but not yet answered when the power or the process went; it is cut off and kept",
		"segment", f.path, "offset", from, "bytes", to-from, "copy", path)
	return nil
}

// apply replays the good frames of g.
func (l *Log) apply(file vfs.File, g *segment) error {
	s := scanner{f: file, salt: g.salt, off: headerSize, end: g.length}
	for {
		fr, _, _, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errFrame):
			continue
		case errors.Is(err, errPayload):
			if fr.kind == kindPut { // its events are lost, but not their numbers
				l.replayed(g, &fr, 0)
			}
			continue
		case err != nil:
			return err
		}
		if fr.kind != kindPut && fr.kind != kindHead { // they say how far the sequences went: a put before them may be damaged beyond telling
			l.replayed(g, &frame{first: fr.first}, 0)
		}
		switch fr.kind {
		case kindPut:
			p, err := parsePut(&fr)
			if err != nil {
				return err
			}
			l.replayed(g, &fr, int64(len(p.bodies)))
			l.state.source(p.places)
		case kindAck:
			d := decoder{b: fr.payload}
			seqs, marks := d.ranges(), d.sinkMarks()
			if d.err != nil {
				return d.err
			}
			for _, r := range seqs {
				l.state.acked.Add(r)
			}
			l.state.sink(marks)
		}
	}
}

// replayed adds a put frame's events to g, but for those that an earlier
// segment has (written again after a failed sync): one copy is enough.
func (l *Log) replayed(g *segment, fr *frame, bytes int64) {
	r := Range{l.state.next, fr.first + uint64(fr.count)}
	if r.From < r.To {
		g.holds(r, bytes)
		l.state.next = r.To
	}
}
