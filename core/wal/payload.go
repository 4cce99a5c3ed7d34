package wal

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

var errDecode = errors.New("payload does not decode")

// decoder reads a payload. After an error it yields zeros; err says so. Its
// lengths are checked against what is left, so nothing it allocates is larger
// than the payload by more than a constant factor.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.b, d.err = nil, errDecode
}

func (d *decoder) num() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many items follow, each at least min bytes long.
func (d *decoder) count(least int) int {
	n := d.num()
	if n > uint64(len(d.b)/least) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendRanges(b []byte, s Ranges) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	end := uint64(0)
	for _, r := range s {
		b = binary.AppendUvarint(b, r.From-end)
		b = binary.AppendUvarint(b, r.Len())
		end = r.To
	}
	return b
}

func (d *decoder) ranges() Ranges {
	n := d.count(2)
	s := make(Ranges, 0, n)
	end := uint64(0)
	for range n {
		gap, length := d.num(), d.num()
		r := Range{From: end + gap, To: end + gap + length}
		if r.From < end || r.To < r.From {
			d.fail()
		}
		if d.err != nil {
			return nil
		}
		s.Add(r)
		end = r.To
	}
	return s
}

func appendSinkMarks(b []byte, marks []core.Mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = appendString(b, m.Stream)
		b = binary.AppendVarint(b, m.Pos)
		b = appendString(b, m.State)
	}
	return b
}

func (d *decoder) sinkMarks() []core.Mark {
	n := d.count(3)
	marks := make([]core.Mark, 0, n)
	for range n {
		marks = append(marks, core.Mark{Stream: string(d.bytes()), Pos: d.signed(), State: slices.Clone(d.bytes())})
	}
	return marks
}

// place is a source's position.
type place struct {
	stream string
	pos    int64
}

func appendPlaces(b []byte, places []place) []byte {
	b = binary.AppendUvarint(b, uint64(len(places)))
	for _, p := range places {
		b = appendString(b, p.stream)
		b = binary.AppendVarint(b, p.pos)
	}
	return b
}

func (d *decoder) places() []place {
	n := d.count(2)
	list := make([]place, 0, n)
	for range n {
		list = append(list, place{string(d.bytes()), d.signed()})
	}
	return list
}

// putPayload is a put frame taken apart; its memory is that of the payload.
type putPayload struct {
	places  []place
	sets    []core.Headers
	ends    []uint64 // for each set, the index after its last event
	lengths decoder
	bodies  []byte
}

// parsePut checks everything there is to check: what it returns can be walked
// without further tests.
func parsePut(f *frame) (p putPayload, err error) {
	d := decoder{b: f.payload}
	p.places = d.places()
	total := uint64(0)
	for range d.count(2) {
		total += d.num()
		kv := make([]core.Header, d.count(2))
		for i := range kv {
			kv[i] = core.Header{Key: string(d.bytes()), Value: string(d.bytes())}
		}
		p.sets = append(p.sets, core.NewHeaders(kv...))
		p.ends = append(p.ends, total)
	}
	if total != uint64(f.count) || uint64(f.count) > uint64(len(d.b)) { // every event has at least a length
		return p, errDecode
	}
	p.lengths = decoder{b: d.b}
	sum := uint64(0)
	for range f.count {
		n := d.num()
		if sum += n; n > maxPayload || sum > maxPayload {
			return p, errDecode
		}
	}
	if p.bodies = d.b; d.err != nil || sum != uint64(len(p.bodies)) {
		return p, errDecode
	}
	return p, nil
}

// events calls yield for each event.
func (p *putPayload) events(yield func(h core.Headers, body []byte)) {
	bodies, lengths := p.bodies, p.lengths
	i := uint64(0)
	for run, end := range p.ends {
		for ; i < end; i++ {
			n := lengths.num()
			yield(p.sets[run], bodies[:n:n])
			bodies = bodies[n:]
		}
	}
}

// appendPut appends the frames of p.
func appendPut(b []byte, p *Put, salt uint32, promise int64) []byte {
	n := p.Len()
	for from := 0; ; {
		to, size := from, 0
		for to < n && (to == from || size+len(p.event(to).Body) <= frameTarget) {
			size += len(p.event(to).Body)
			to++
		}
		f := frame{kind: kindPut, count: uint32(to - from), first: p.First + uint64(from), promise: promise, time: p.Time, salt: salt}
		if to == n {
			f.flags = flagLast
		}
		at := len(b)
		b = startFrame(b)
		if to == n && p.Marked {
			b = appendPlaces(b, []place{{p.Stream, p.Pos}})
		} else {
			b = append(b, 0)
		}
		b = appendEvents(b, p, from, to)
		b = endFrame(b, at, f)
		if from = to; from >= n {
			return b
		}
	}
}

func appendEvents(b []byte, p *Put, from, to int) []byte {
	runs := 0
	for i := from; i < to; i++ {
		if i == from || p.event(i).Headers != p.event(i-1).Headers {
			runs++
		}
	}
	b = binary.AppendUvarint(b, uint64(runs))
	for i := from; i < to; {
		h, start := p.event(i).Headers, i
		for i < to && p.event(i).Headers == h {
			i++
		}
		b = binary.AppendUvarint(b, uint64(i-start))
		b = binary.AppendUvarint(b, uint64(h.Len()))
		for k, v := range h.All() {
			b = appendString(b, k)
			b = appendString(b, v)
		}
	}
	for i := from; i < to; i++ {
		b = binary.AppendUvarint(b, uint64(len(p.event(i).Body)))
	}
	for i := from; i < to; i++ {
		b = append(b, p.event(i).Body...)
	}
	return b
}

// snapshot is what a head frame holds.
type snapshot struct {
	next     uint64
	acked    Ranges
	sinks    map[string]core.Mark
	sources  map[string]int64
	segments []listed
}

// listed is a segment in a head's catalogue.
type listed struct {
	number, first uint64 // its name
	seqs          Range
	bytes         int64
	length        int64 // what of the file is trusted
	damaged       bool
}

func appendHead(b []byte, s *snapshot) []byte {
	b = binary.AppendUvarint(b, s.next)
	b = appendRanges(b, s.acked)
	sinks := make([]core.Mark, 0, len(s.sinks))
	for _, name := range slices.Sorted(maps.Keys(s.sinks)) {
		sinks = append(sinks, s.sinks[name])
	}
	b = appendSinkMarks(b, sinks)
	places := make([]place, 0, len(s.sources))
	for _, name := range slices.Sorted(maps.Keys(s.sources)) {
		places = append(places, place{name, s.sources[name]})
	}
	b = appendPlaces(b, places)
	b = binary.AppendUvarint(b, uint64(len(s.segments)))
	for _, g := range s.segments {
		damaged := uint64(0)
		if g.damaged {
			damaged = 1
		}
		for _, v := range [...]uint64{g.number, g.first, g.seqs.From, g.seqs.To, uint64(g.bytes), uint64(g.length), damaged} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b
}

func parseHead(payload []byte) (*snapshot, error) {
	d := decoder{b: payload}
	s := newSnapshot()
	s.next = d.num()
	s.acked = d.ranges()
	s.sink(d.sinkMarks())
	s.source(d.places())
	for range d.count(7) {
		g := listed{number: d.num(), first: d.num(), seqs: Range{d.num(), d.num()}, bytes: int64(d.num()), length: int64(d.num()), damaged: d.num() != 0}
		s.segments = append(s.segments, g)
	}
	return s, d.err
}

func newSnapshot() *snapshot {
	return &snapshot{next: 1, sinks: map[string]core.Mark{}, sources: map[string]int64{}}
}

func (s *snapshot) sink(marks []core.Mark) {
	for _, m := range marks {
		if m.Pos < 0 {
			delete(s.sinks, m.Stream)
		} else {
			s.sinks[m.Stream] = m
		}
	}
}

func (s *snapshot) source(places []place) {
	for _, p := range places {
		if p.pos < 0 {
			delete(s.sources, p.stream)
		} else {
			s.sources[p.stream] = p.pos
		}
	}
}
