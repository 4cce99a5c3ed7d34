package syslog

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
)

// Flume's header names and values.
const (
	headerFacility  = "Facility"
	headerSeverity  = "Severity"
	headerPriority  = "priority"
	headerVersion   = "version"
	headerTimestamp = "timestamp"
	headerHost      = "host"
	headerStatus    = "flume.syslog.status"
	statusInvalid   = "Invalid"
	statusCut       = "Incomplete"
)

// rules are what the configuration says of parsing. They do not change while a
// source runs, and are shared by its parsers.
type rules struct {
	keep   fields
	format *format // tried first; nil: none
	local  bool    // a unix socket: messages may lack the host
	now    func() time.Time
	loc    *time.Location
}

// parser makes events of the messages of one peer (or of many, where no header
// tells them apart). Messages in a row mostly differ in their text only, so the
// headers are looked up by all that stands before it.
type parser struct {
	*rules
	port    *port         // of multiport_syslogtcp, which parses in its own way; else nil
	peer    []core.Header // the peer's address and name
	invalid core.Headers
	last    *known
	slots   []*known // sets of ways, by hash of head; grows with the number of heads
	misses  int
	built   values // of the headers made last
	scratch []byte
	kv      [9]core.Header
	until   time.Time // when peer should be looked up again; zero: never
}

// known is a head that was seen: what stands before a message's text.
type known struct {
	head    []byte
	headers core.Headers
	kept    []byte // the kept fields, as they stand before the text in the body
	suffix  bool   // head ends with kept: the body need not be put together
}

// values are what headers are made of.
type values struct {
	pri                     int
	priority, version, host string
	stamped                 bool
	ms                      int64
	headers                 core.Headers
}

const (
	ways     = 4
	maxSlots = 256
)

var seed = maphash.MakeSeed()

// newParser returns a parser that adds peer to the headers of each event.
func newParser(r *rules, peer []core.Header) *parser {
	p := &parser{rules: r, peer: peer}
	p.invalid = p.headers(0, core.Header{Key: headerStatus, Value: statusInvalid})
	return p
}

func (p *parser) stale(now time.Time) bool { return now.After(p.until) }

// headers makes those of a message that matches no pattern.
func (p *parser) headers(pri int, more ...core.Header) core.Headers {
	kv := append(p.kv[:0], core.Header{Key: headerFacility, Value: strconv.Itoa(pri / 8)}, core.Header{Key: headerSeverity, Value: strconv.Itoa(pri % 8)})
	return core.NewHeaders(append(append(kv, more...), p.peer...)...)
}

// forget gives up what was remembered: the peer is idle.
func (p *parser) forget() { p.last, p.slots, p.misses = nil, nil, 0 }

// event adds the event of a message to b, which holds the memory of line. cut:
// the line is not the whole message.
func (p *parser) event(b *core.Batch, line []byte, cut bool) {
	if p.port != nil {
		p.portEvent(b, line, cut)
		return
	}
	if k := p.last; k != nil && !cut && bytes.HasPrefix(line, k.head) {
		p.add(b, k, line)
		return
	}
	pri, bad := priority(line)
	if bad {
		b.Append(p.invalid, line)
		return
	}
	if p.format != nil {
		if m, ms, stamped, ok := p.format.match(line, p.loc, p.now()); ok {
			p.once(b, line, &m, p.make(&m, pri, ms, stamped), cut)
			return
		}
	}
	m, ok := scan(line, p.local)
	switch {
	case !ok && cut:
		b.Append(p.headers(pri, core.Header{Key: headerStatus, Value: statusCut}), line)
	case !ok:
		b.Append(p.unmatched(pri), line)
	case cut:
		ms, stamped := p.time(&m)
		p.once(b, line, &m, p.make(&m, pri, ms, stamped), true)
	default:
		head := line[:len(line)-len(m.text)]
		k := p.find(head)
		if k == nil {
			ms, stamped := p.time(&m)
			k = p.remember(head, &m, pri, ms, stamped)
		}
		p.add(b, k, line)
	}
}

// unmatched are the headers of a message with a priority and nothing else.
func (p *parser) unmatched(pri int) core.Headers {
	v := values{pri: pri}
	if p.built.headers.Len() > 0 && p.built.same(&v) {
		return p.built.headers
	}
	v.headers = p.headers(pri)
	p.built = v
	return v.headers
}

// add adds the event of a message with a known head.
func (p *parser) add(b *core.Batch, k *known, line []byte) {
	text := line[len(k.head):]
	switch {
	case p.keep.all, len(text) == 0 && (len(k.kept) == 0 || p.port != nil):
		b.Append(k.headers, line)
	case k.suffix:
		b.Append(k.headers, line[len(k.head)-len(k.kept):])
	default:
		p.scratch = append(append(p.scratch[:0], k.kept...), text...)
		b.Copy(k.headers, p.scratch)
	}
}

// once adds the event of a message that need not be remembered.
func (p *parser) once(b *core.Batch, line []byte, m *message, h core.Headers, cut bool) {
	if cut {
		h = h.With(headerStatus, statusCut)
	}
	p.scratch = p.keep.appendTo(p.scratch[:0], m)
	switch {
	case p.keep.all, len(m.text) == 0 && (len(p.scratch) == 0 || p.port != nil):
		b.Append(h, line)
		return
	case len(p.scratch) == 0:
		b.Append(h, m.text)
		return
	}
	p.scratch = append(p.scratch, m.text...)
	b.Copy(h, p.scratch)
}

// set returns the places where a head may be known.
func (p *parser) set(head []byte) []*known {
	if p.slots == nil {
		p.slots = make([]*known, ways)
	}
	at := int(maphash.Bytes(seed, head)) & (len(p.slots)/ways - 1) * ways
	return p.slots[at : at+ways]
}

// find returns what is known of a head; nil: nothing.
func (p *parser) find(head []byte) *known {
	for _, k := range p.set(head) {
		if k != nil && bytes.Equal(k.head, head) {
			p.last = k
			return k
		}
	}
	return nil
}

// remember keeps what is in a head that is not known.
func (p *parser) remember(head []byte, m *message, pri int, ms int64, stamped bool) *known {
	p.misses++
	victim := &p.set(head)[p.misses%ways]
	if *victim == nil {
		*victim = new(known)
	}
	k := *victim
	k.head = append(k.head[:0], head...)
	k.headers = p.make(m, pri, ms, stamped)
	k.kept = p.keep.appendTo(k.kept[:0], m)
	k.suffix = bytes.HasSuffix(k.head, k.kept)
	p.last = k
	if p.misses > 2*len(p.slots) && len(p.slots) < maxSlots {
		p.slots, p.misses = make([]*known, 2*len(p.slots)), 0
	}
	return k
}

func (p *parser) time(m *message) (ms int64, ok bool) {
	switch {
	case m.stamp == nil:
		return 0, false
	case m.bsd:
		return time3164(m.stamp, p.now(), p.loc)
	}
	return time5424(m.stamp, p.loc), true
}

// make returns the headers of a message that matches a pattern: those made
// last, if they are the same.
func (p *parser) make(m *message, pri int, ms int64, stamped bool) core.Headers {
	last := &p.built
	priority, version, host := headerPriority, headerVersion, m.host
	if p.port != nil {
		priority, version, host = portPriority, portVersion, p.port.text(host)
	}
	v := values{
		pri: pri, priority: intern(last.priority, m.pri), version: intern(last.version, m.version), host: intern(last.host, host),
		stamped: stamped, ms: ms,
	}
	if last.headers.Len() > 0 && last.same(&v) {
		return last.headers
	}
	kv := append(p.kv[:0], core.Header{Key: headerFacility, Value: strconv.Itoa(pri / 8)}, core.Header{Key: headerSeverity, Value: strconv.Itoa(pri % 8)})
	if v.priority != "" {
		kv = append(kv, core.Header{Key: priority, Value: v.priority})
	}
	if v.version != "" {
		kv = append(kv, core.Header{Key: version, Value: v.version})
	}
	if stamped {
		kv = append(kv, core.Header{Key: headerTimestamp, Value: strconv.FormatInt(ms, 10)})
	}
	if v.host != "" || p.port != nil {
		kv = append(kv, core.Header{Key: headerHost, Value: v.host})
	}
	v.headers = core.NewHeaders(append(kv, p.peer...)...)
	p.built = v
	return v.headers
}

// same reports whether both make the same headers.
func (v *values) same(w *values) bool {
	return v.ms == w.ms && v.stamped == w.stamped && v.pri == w.pri && v.priority == w.priority && v.version == w.version && v.host == w.host
}

// intern returns b as a string: last, if that is it.
func intern(last string, b []byte) string {
	if string(b) == last {
		return last
	}
	return string(b)
}
