package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// Backlog is what a segment holds that was not acked when the log was opened.
type Backlog struct {
	Extent
	Acked  Ranges // sequences within that are acked
	Events int
	Bytes  int64 // of bodies; an estimate where part is acked
}

// Backlog returns what is to be delivered, in order. It is for use before the first Put or Ack.
func (l *Log) Backlog() []Backlog {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Backlog
	for _, g := range l.live {
		if g.left == 0 {
			continue
		}
		list = append(list, Backlog{
			Extent: Extent{g.number, headerSize, g.length, g.seqs},
			Acked:  l.state.acked.Within(g.seqs),
			Events: int(g.left),
			Bytes:  int64(float64(g.bytes) * float64(g.left) / float64(g.seqs.Len())),
		})
	}
	slices.SortFunc(list, func(a, b Backlog) int { return int(int64(a.Segment) - int64(b.Segment)) })
	return list
}

// Piece is a run of events of a Chunk and where to read them again.
type Piece struct {
	Extent
	At int // index of its first event in the batch
}

// Chunk is what one Read returns.
type Chunk struct {
	Batch  *core.Batch // one reference, the caller's; may be without events
	Pieces []Piece     // in order; together all events of Batch
	Lost   Ranges      // sequences passed over for good: their frames are damaged
	Rest   Extent      // what was not read yet; Rest.Seqs is empty at the end
}

// Read reads the events of e but for those in skip, with one large read of
// about a megabyte (more where a single frame is larger). The batch has at
// least one event unless nothing is left. Lost events are the caller's to ack.
// The error is one of reading: it may be tried again.
func (l *Log) Read(e Extent, skip Ranges) (Chunk, error) {
	l.readMu.Lock()
	defer l.readMu.Unlock()
	c := Chunk{Batch: core.NewBatch(), Rest: e}
	file, salt, err := l.reader(e.Segment)
	if err == nil {
		for err == nil && len(c.Batch.Events) == 0 && c.Rest.Seqs.Len() > 0 {
			err = l.readOnce(file, salt, skip, &c)
		}
	}
	if err != nil {
		c.Batch.Release()
		return Chunk{}, fmt.Errorf("read segment %d: %w", e.Segment, err)
	}
	return c, nil
}

// reader returns the open file of a segment; the last one used stays open.
func (l *Log) reader(number uint64) (vfs.File, uint32, error) {
	l.mu.Lock()
	g := l.live[number]
	l.mu.Unlock()
	if g == nil {
		return nil, 0, errors.New("segment is gone")
	}
	if r := &l.reading; r.file == nil || r.number != number {
		if r.file != nil {
			l.closeFile(r.file)
			r.file = nil
		}
		f, err := l.opt.FS.OpenFile(g.path, os.O_RDONLY, 0)
		if err != nil {
			return nil, 0, err
		}
		r.file, r.number = f, number
	}
	return l.reading.file, g.salt, nil
}

// forgetReader closes the file of a segment that is about to be removed.
func (l *Log) forgetReader(number uint64) {
	l.readMu.Lock()
	defer l.readMu.Unlock()
	if l.reading.file != nil && l.reading.number == number {
		l.closeFile(l.reading.file)
		l.reading.file = nil
	}
}

// readOnce reads one stretch of frames into a block of c.Batch.
func (l *Log) readOnce(file vfs.File, salt uint32, skip Ranges, c *Chunk) error {
	r := &c.Rest
	n := min(r.End-r.Off, readTarget)
	for {
		if n <= 0 { // the rest of the sequences is not where it should be
			l.lose(c, r.Seqs, skip)
			return nil
		}
		blk := core.NewBlock(int(n))
		got, err := file.ReadAt(blk.Buf[:n], r.Off)
		if err != nil && !errors.Is(err, io.EOF) {
			blk.Release()
			return err
		}
		short := int64(got) < n
		need, err := l.frames(file, blk.Buf[:got], salt, skip, c)
		if len(c.Batch.Events) > 0 {
			c.Batch.Use(blk)
		}
		blk.Release()
		switch {
		case err != nil:
			return err
		case need == 0:
			return nil
		case short || need > r.End-r.Off: // the frame ends beyond the segment
			l.damage(r)
			l.lose(c, r.Seqs, skip)
			return nil
		}
		n = need
	}
}

// frames takes the events out of b, which begins at c.Rest.Off. If not even
// the first frame is there as a whole it returns how many bytes are needed.
func (l *Log) frames(file vfs.File, b []byte, salt uint32, skip Ranges, c *Chunk) (need int64, err error) {
	r := &c.Rest
	for first := true; r.Seqs.Len() > 0; first = false {
		f, size, err := parseFrame(b, salt)
		var p putPayload
		if err == nil && f.kind == kindPut && f.first < r.Seqs.To && f.first+uint64(f.count) > r.Seqs.From {
			p, err = parsePut(&f)
		}
		switch {
		case errors.Is(err, errShort):
			if len(b) < frameHead && r.End-r.Off < frameHead {
				size = r.End - r.Off + 1 // no frame can follow
			}
			if first || size > r.End-r.Off {
				return max(size, 1), nil
			}
			return 0, nil
		case errors.Is(err, errFrame):
			l.damage(r)
			s := scanner{f: file, salt: salt, off: r.Off, end: r.End}
			off, err := s.search(r.Off + align)
			if errors.Is(err, io.EOF) {
				l.lose(c, r.Seqs, skip)
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			r.Off = off
			return 0, nil
		case err != nil: // its payload; the gap in the sequences tells what is lost
			l.damage(r)
		case p.bodies != nil:
			if f.first > r.Seqs.From {
				l.lose(c, Range{r.Seqs.From, f.first}, skip)
			}
			l.collect(&f, &p, size, skip, c)
		}
		r.Off += size
		b = b[size:]
	}
	return 0, nil
}

// collect appends the events of one frame that are wanted to the batch.
func (l *Log) collect(f *frame, p *putPayload, size int64, skip Ranges, c *Chunk) {
	r := &c.Rest
	want := Ranges{{max(f.first, r.Seqs.From), min(f.first+uint64(f.count), r.Seqs.To)}}
	r.Seqs.From = want[0].To
	if len(skip) > 0 {
		want = skip.Without(want[0])
	}
	if len(want) == 0 {
		return
	}
	if born := time.Unix(0, f.time); c.Batch.Born.IsZero() || born.Before(c.Batch.Born) {
		c.Batch.Born = born
	}
	seq, w := f.first, 0
	p.events(func(h core.Headers, body []byte) {
		for w < len(want) && seq >= want[w].To {
			w++
		}
		if w < len(want) && seq >= want[w].From {
			if seq == want[w].From {
				c.Pieces = append(c.Pieces, Piece{Extent{r.Segment, r.Off, r.Off + size, want[w]}, len(c.Batch.Events)})
			}
			c.Batch.Append(h, body)
		}
		seq++
	})
}

// lose passes over sequences that are not to be found. Of those in skip nothing is lost.
func (l *Log) lose(c *Chunk, s Range, skip Ranges) {
	c.Lost.Add(s)
	c.Rest.Seqs.From = s.To
	if n := skip.Without(s).Len(); n > 0 {
		l.problem(Problem{
			Kind: Lost, Segment: strconv.FormatUint(c.Rest.Segment, 10), Offset: c.Rest.Off, Events: n,
			Text: "events of the log cannot be read: their place is damaged; the file is kept",
		})
	}
	l.damage(&c.Rest)
}

// damage marks a segment so that it is kept when all that can be read is delivered.
func (l *Log) damage(e *Extent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.live[e.Segment]; g != nil && !g.damaged {
		g.damaged = true
		l.stats.Damaged++
	}
}
