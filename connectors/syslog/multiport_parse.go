package syslog

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

// Flume's multiport source has a parser of its own, which differs from that of
// its other syslog sources in nearly every corner: in header names, in the zone
// of RFC 3164, in what it takes for a host, in what is Invalid.
const (
	portPriority = "Priority"
	portVersion  = "Version"
)

// valid reports whether line is text in the port's encoding.
func (p *port) valid(line []byte) bool {
	if p.odd == nil {
		return !p.charset.IsUTF8() || utf8.Valid(line)
	}
	return !slices.ContainsFunc(line, func(c byte) bool { return p.odd[c] })
}

// text returns a header's value, which is UTF-8, of a part of a message.
func (p *port) text(part []byte) []byte {
	if p.charset.IsUTF8() || !slices.ContainsFunc(part, func(c byte) bool { return c >= utf8.RuneSelf }) {
		return part
	}
	return p.charset.Decode(nil, part)
}

// newPortParser returns a parser for messages that come to that port.
func newPortParser(r *rules, at *port, peer []core.Header) *parser {
	if at.header != "" {
		_, number, _ := net.SplitHostPort(at.listener.Addr().String())
		peer = append(slices.Clip(peer), core.Header{Key: at.header, Value: number})
	}
	p := newParser(r, peer)
	p.port = at
	p.invalid = core.NewHeaders(append([]core.Header{{Key: headerStatus, Value: statusInvalid}}, peer...)...)
	return p
}

// portEvent is event for multiport_syslogtcp.
func (p *parser) portEvent(b *core.Batch, line []byte, cut bool) {
	if !p.port.valid(line) {
		p.portInvalid(b, line)
		return
	}
	if k := p.last; k != nil && !cut && bytes.HasPrefix(line, k.head) {
		p.add(b, k, line)
		return
	}
	m, pri, ok := scanPort(line)
	if !ok {
		p.portInvalid(b, line)
		return
	}
	head, once := line[:len(line)-len(m.text)], cut || m.stamp[0] == '-'
	if !once {
		if k := p.find(head); k != nil {
			p.add(b, k, line)
			return
		}
	}
	ms, ok := portTime(&m, p.now)
	switch {
	case !ok:
		p.portInvalid(b, line)
	case once:
		p.once(b, line, &m, p.make(&m, pri, ms, true), cut)
	default:
		p.add(b, p.remember(head, &m, pri, ms, true), line)
	}
}

func (p *parser) portInvalid(b *core.Batch, line []byte) {
	p.port.cells.EventReadFail.Add(1)
	b.Append(p.invalid, line)
}

// scanPort takes a line apart as Flume does: by blanks, whatever is between
// them. The stamp of a message that is taken apart is not empty; it may still be
// none.
func scanPort(line []byte) (m message, pri int, ok bool) {
	const longest = 6 // where the > may be
	if len(line) == 0 || line[0] != '<' {
		return m, 0, false
	}
	end := bytes.IndexByte(line[:min(len(line), longest+1)], '>')
	if end < 0 {
		return m, 0, false
	}
	m.pri = line[1:end]
	pri, err := strconv.Atoi(string(m.pri)) // with a sign, and beyond 191, as in Flume
	rest := line[end+1:]
	if err != nil || len(rest) == 0 {
		return m, 0, false
	}
	if len(rest) > 2 && rest[0] == '1' && rest[1] == ' ' {
		m.version, rest = rest[:1], rest[2:]
	}
	size := 0
	switch c := rest[0]; {
	case c == '-':
		size = 1
	case c >= 'A' && c <= 'Z':
		m.bsd = true
		if size = stamp3164(rest); size == 0 {
			size = 15
		}
	default:
		size = bytes.IndexByte(rest, ' ')
	}
	if size <= 0 || len(rest) <= size+1 {
		return m, 0, false
	}
	m.stamp, rest = rest[:size], rest[size+1:]
	if size = bytes.IndexByte(rest, ' '); size < 0 {
		return m, 0, false
	}
	m.host, m.text = rest[:size], rest[size+1:]
	return m, pri, true
}

// portTime reads the stamp of m, in milliseconds. One of RFC 3164 that makes no
// sense is 0, as in Flume; one of RFC 5424 makes the message Invalid.
func portTime(m *message, now func() time.Time) (ms int64, ok bool) {
	switch {
	case m.stamp[0] == '-':
		return now().UnixMilli(), true
	case m.bsd:
		return strict3164(m.stamp, now()), true
	}
	return strict5424(m.stamp)
}

// strict3164 reads a time stamp whose month may be in capitals. Fields out of range make it 0.
func strict3164(s []byte, now time.Time) (ms int64) {
	s = bytes.Clone(s)
	for i := 1; i < min(3, len(s)); i++ {
		s[i] |= 'a' - 'A'
	}
	if stamp3164(s) != len(s) {
		return 0
	}
	last := 31
	switch string(s[:3]) {
	case "Feb":
		last = 29
	case "Apr", "Jun", "Sep", "Nov":
		last = 30
	}
	clock := s[len(s)-8:]
	day, err := strconv.Atoi(string(bytes.TrimSpace(s[3 : len(s)-8])))
	if err != nil || day < 1 || day > last || two(clock) > 23 || two(clock[3:]) > 59 || two(clock[6:]) > 59 {
		return 0
	}
	ms, _ = time3164(s, now, time.UTC)
	return ms
}

// strict5424 reads a time stamp with a zone. Fields out of range are errors. A
// zone that is neither Z nor a distance counts as Z, as in Flume.
func strict5424(s []byte) (ms int64, ok bool) {
	if len(s) <= len(dateTime) || !like(s, dateTime) {
		return 0, false
	}
	year, month, day := two(s)*100+two(s[2:]), two(s[5:]), two(s[8:])
	hour, minute, second := two(s[11:]), two(s[14:]), two(s[17:])
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if t.Day() != day || t.Month() != time.Month(month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	ms, rest := t.UnixMilli(), s[len(dateTime):]
	if rest[0] == '.' {
		scale := int64(100)
		for rest = rest[1:]; len(rest) > 0 && digit(rest[0]); rest = rest[1:] {
			ms += int64(rest[0]-'0') * scale
			scale /= 10
		}
		if len(rest) == 0 {
			return 0, false
		}
	}
	if rest[0] == '+' || rest[0] == '-' {
		if !like(rest[1:], "00:00") {
			return 0, false
		}
		offset := int64(two(rest[1:])*60+two(rest[4:])) * 60_000
		if rest[0] == '+' {
			offset = -offset
		}
		ms += offset
	}
	return ms, true
}
