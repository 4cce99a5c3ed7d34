package http

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// loki is how events become a push to Loki: streams by their labels, in each
// the lines with their times in epoch ns.
//
//	{"streams":[{"stream":{"app":"shop"},"values":[["1700000000000000000","line"], ...]}, ...]}
//
// With structured metadata a line has a third element, an object of the headers
// that no label has.
type loki struct {
	labels   map[string]string
	metadata bool

	names  []string // of labels, sorted
	values []template
}

func (k *loki) keys(keys *conf.Keys) {
	keys.Map(&k.labels, "loki.labels.", "A label of Loki's streams. %{header} stands for the value of a header; a label that is empty is left out.").As("loki.labels.<name>").Since("1.0")
	keys.Bool(&k.metadata, "loki.structuredMetadata", false, "Send the headers that no label uses as structured metadata.").Since("1.0")
}

func (k *loki) check(r *conf.Report, format string) {
	if format != formatLoki {
		for _, key := range []string{"loki.labels.", "loki.structuredMetadata"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect with format %s", format)
			}
		}
		return
	}
	if len(k.labels) == 0 {
		r.Error("loki.labels.", "must have at least one label: loki.labels.job = millrace")
	}
	k.names, k.values = slices.Sorted(maps.Keys(k.labels)), nil
	for _, name := range k.names {
		if strings.Trim(name, "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || name[0] <= '9' {
			r.Error("loki.labels."+name, "%q is not the name of a label: letters, digits and _, no digit first", name)
		}
		t, err := parseTemplate(k.labels[name])
		if err != nil {
			r.Error("loki.labels."+name, "%q %v", k.labels[name], err)
		}
		k.values = append(k.values, t)
	}
}

var errNoLabel = errors.New("event has none of the labels: Loki takes no stream without")

// stream appends the labels of an event, as an object; empty if it has none.
func (k *loki) stream(dst []byte, h core.Headers) []byte {
	start := len(dst)
	for i, name := range k.names {
		value := k.values[i].of(h)
		if value == "" {
			continue
		}
		dst = append(dst, "{,"[min(len(dst)-start, 1)])
		dst = append(quote(dst, name), ':')
		dst = quote(dst, value)
	}
	if len(dst) > start {
		dst = append(dst, '}')
	}
	return dst
}

// tail appends what follows the text of a line: the other headers.
func (k *loki) tail(dst []byte, h core.Headers) []byte {
	if !k.metadata {
		return append(dst, ']')
	}
	start := len(dst)
	dst = members(append(dst, ",{"...), h, func(name string) bool {
		return name == timestampHeader || slices.ContainsFunc(k.values, func(t template) bool { return t.names(name) })
	})
	if len(dst) == start+2 {
		return append(dst[:start], ']')
	}
	return append(dst, "}]"...)
}

// push is the memory of one request.
type push struct {
	numbers map[string]int32 // of streams, by their labels
	labels  []string
	first   []int32 // by stream: place in sent
	last    []int32
	next    []int32 // by place in sent; -1: no more
	scratch []byte
}

func (p *push) reset() {
	if p.numbers == nil {
		p.numbers = make(map[string]int32)
	}
	clear(p.numbers)
	clear(p.labels)
	p.labels, p.first, p.last, p.next = p.labels[:0], p.first[:0], p.last[:0], p.next[:0]
}

// add puts the event at that place of sent behind others of its stream.
func (p *push) add(place, stream int32) {
	p.next = append(p.next, -1)
	if p.first[stream] < 0 {
		p.first[stream] = place
	} else {
		p.next[p.last[stream]] = place
	}
	p.last[stream] = place
}

// number returns the number of a stream.
func (p *push) number(labels []byte) (n int32, fresh bool) {
	if n, ok := p.numbers[string(labels)]; ok {
		return n, false
	}
	n, name := int32(len(p.labels)), string(labels)
	p.numbers[name] = n
	p.labels, p.first, p.last = append(p.labels, name), append(p.first, -1), append(p.last, -1)
	return n, true
}

const (
	streamBytes = int64(len(`{"stream":,"values":[]},`))
	valueBytes  = int64(len(`["1700000000000000000",""],`))
)

// encodeLoki is encode for this format. maxRequestBytes is held against the
// texts as they are: what must be escaped in them comes on top.
func (l *lane) encodeLoki(from, to int) int {
	k, p := &l.s.loki, &l.push
	p.reset()
	l.sent = l.sent[:0]
	size, next := int64(len(`{"streams":[]}`)), to
	var run core.Headers
	stream := int32(-1)
	for i := from; i < to; i++ {
		if l.settled[i] {
			continue
		}
		e := &l.events[i]
		if stream < 0 || e.Headers != run {
			p.scratch = k.stream(p.scratch[:0], e.Headers)
			if len(p.scratch) == 0 {
				l.refuse(i, errNoLabel)
				continue
			}
		}
		more := valueBytes + int64(len(e.Body))
		if _, known := p.numbers[string(p.scratch)]; !known {
			more += streamBytes + int64(len(p.scratch))
		}
		if len(l.sent) > 0 && size+more > l.s.maxRequest {
			next = i
			break
		}
		run = e.Headers
		stream, _ = p.number(p.scratch)
		p.add(int32(len(l.sent)), stream)
		l.sent = append(l.sent, int32(i))
		size += more
	}
	l.writeStreams()
	return next
}

func (l *lane) writeStreams() {
	p := &l.push
	l.buf = append(l.buf[:0], `{"streams":[`...)
	for stream, at := range p.first {
		if stream > 0 {
			l.buf = append(l.buf, ',')
		}
		l.buf = append(append(append(l.buf, `{"stream":`...), p.labels[stream]...), `,"values":[`...)
		for ; at >= 0; at = p.next[at] {
			if at != p.first[stream] {
				l.buf = append(l.buf, ',')
			}
			l.value(&l.events[l.sent[at]])
		}
		l.buf = append(l.buf, "]}"...)
	}
	l.buf = append(l.buf, "]}"...)
}

// value appends one line.
func (l *lane) value(e *core.Event) {
	if !l.cached || e.Headers != l.run {
		l.run, l.cached = e.Headers, true
		l.prefix = strconv.AppendInt(append(l.prefix[:0], `["`...), when(e.Headers, l.tx.Batch(), l.s.env.Now).UnixNano(), 10)
		l.prefix = append(l.prefix, `",`...)
		l.suffix = l.s.loki.tail(l.suffix[:0], e.Headers)
	}
	l.buf = append(l.buf, l.prefix...)
	l.text(e.Body)
	l.buf = append(l.buf, l.suffix...)
}

// text appends a body as a JSON string.
func (l *lane) text(body []byte) {
	var err error
	if l.buf, err = jsontext.AppendQuote(l.buf, body); err != nil {
		l.s.mangled.Add(1)
	}
}
