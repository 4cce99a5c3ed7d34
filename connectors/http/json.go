package http

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
)

// decoder makes batches of JSON texts. It is used by one request at a time.
type decoder struct {
	dec jsontext.Decoder
	in  bytes.Buffer

	sets    map[string]core.Headers // of this request, by their JSON text
	last    []byte                  // the JSON text of the headers seen last
	lastSet core.Headers
	names   map[string]string // header names seen in any request
	kv      []core.Header
	scratch []byte
	chunk   strings.Builder // strings of header values are cut out of it

	b       *core.Batch
	charset *charset.Charset
	limit   int
	size    int    // of the pieces of memory that are asked of the batch
	free    []byte // rest of the newest of them
}

const (
	maxDepth = 100  // of objects and arrays in each other, in members that are skipped
	maxSets  = 64   // sets of headers that are remembered within a request
	maxNames = 256  // names of headers that are remembered
	maxName  = 64   // bytes in one of them
	strChunk = 1024 // bytes of strings that are allocated together
)

func newDecoder() *decoder {
	return &decoder{sets: make(map[string]core.Headers), names: make(map[string]string)}
}

// jsonFault is why a text makes no batch.
type jsonFault struct {
	status int
	text   string
	lax    bool // the text is not JSON, but may be what Flume's reader takes for it
	many   bool // it has more events than the limit
}

func wrong(event int, text ...string) *jsonFault {
	return &jsonFault{status: http.StatusBadRequest, text: "event " + strconv.Itoa(event) + ": " + strings.Join(text, "")}
}

// broken is the fault of a text that is no JSON.
func (d *decoder) broken(err error) *jsonFault {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &jsonFault{status: http.StatusBadRequest, text: "bad JSON: " + strings.TrimPrefix(err.Error(), "jsontext: "), lax: true}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// batch decodes text, an array of events. The bodies are in cs; text is UTF-8.
func (d *decoder) batch(text []byte, cs *charset.Charset, limit int) (*core.Batch, *jsonFault) {
	d.b, d.charset, d.limit, d.free = core.NewBatch(), cs, limit, nil
	switch {
	case len(text) <= 32<<10:
		d.size = 4 << 10
	case len(text) <= 1<<20:
		d.size = 64 << 10
	default:
		d.size = 256 << 10
	}
	clear(d.sets)
	d.last, d.lastSet = nil, core.Headers{}
	d.in = *bytes.NewBuffer(bytes.TrimPrefix(text, byteOrderMark))
	d.dec.Reset(&d.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if f := d.array(); f != nil {
		d.b.Release()
		d.b = nil
		return nil, f
	}
	b := d.b
	d.b = nil
	return b, nil
}

// forget lets go of the last text.
func (d *decoder) forget() {
	clear(d.sets)
	clear(d.kv[:cap(d.kv)])
	d.in, d.last, d.lastSet, d.free, d.b = bytes.Buffer{}, nil, core.Headers{}, nil, nil
	d.dec.Reset(&d.in)
	if cap(d.scratch) > secondBlock {
		d.scratch = nil
	}
}

// array reads the whole text. A null in place of the array or of an event, and
// no text at all, are answered 500, as Flume does; but what is not JSON comes first.
func (d *decoder) array() *jsonFault {
	null := false
	switch d.dec.PeekKind() {
	case '[':
		if _, err := d.dec.ReadToken(); err != nil {
			return d.broken(err)
		}
		for more := true; more; {
			switch k := d.dec.PeekKind(); k {
			case '{':
				if len(d.b.Events) >= d.limit {
					return &jsonFault{many: true}
				}
				if f := d.event(); f != nil {
					return f
				}
			case 0, ']', 'n':
				if _, err := d.dec.ReadToken(); err != nil {
					return d.broken(err)
				}
				null = null || k == 'n'
				more = k != ']'
			default:
				return wrong(len(d.b.Events), "is not an object")
			}
		}
	case 'n':
		null = true
		fallthrough
	case 0:
		if _, err := d.dec.ReadToken(); errors.Is(err, io.EOF) {
			return &jsonFault{status: http.StatusInternalServerError, text: "request is empty: a JSON array of events is expected"}
		} else if err != nil {
			return d.broken(err)
		}
	default:
		return &jsonFault{status: http.StatusBadRequest, text: "not a JSON array of events"}
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &jsonFault{status: http.StatusBadRequest, text: "something follows the JSON array"}
	}
	if null {
		return &jsonFault{status: http.StatusInternalServerError, text: "null is not an event"}
	}
	return nil
}

// event reads one object. Of two members with one name the later counts.
func (d *decoder) event() *jsonFault {
	if _, err := d.dec.ReadToken(); err != nil {
		return d.broken(err)
	}
	var h core.Headers
	var body []byte
	for d.dec.PeekKind() != '}' {
		name, err := d.dec.ReadValue()
		if err != nil {
			return d.broken(err)
		}
		var f *jsonFault
		switch d.member(name) {
		case "body":
			body, f = d.body()
		case "headers":
			h, f = d.headers()
		default:
			f = d.skip()
		}
		if f != nil {
			return f
		}
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return d.broken(err)
	}
	d.b.Append(h, body)
	return nil
}

// skip passes over a value. The tokenizer's own way is to recurse, ten thousand
// levels deep if need be: too much stack for one of many requests.
func (d *decoder) skip() *jsonFault {
	if k := d.dec.PeekKind(); k != '{' && k != '[' {
		if err := d.dec.SkipValue(); err != nil {
			return d.broken(err)
		}
		return nil
	}
	for depth := d.dec.StackDepth(); ; {
		if _, err := d.dec.ReadToken(); err != nil {
			return d.broken(err)
		}
		switch now := d.dec.StackDepth(); {
		case now == depth:
			return nil
		case now > maxDepth:
			return wrong(len(d.b.Events), "has more than ", strconv.Itoa(maxDepth), " levels")
		}
	}
}

// nested reports whether the object that text begins with, behind what
// separates it from its name, has one or an array in it.
func nested(text []byte) bool {
	i := bytes.IndexByte(text, '{')
	for i++; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			return true
		case '}':
			return false
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return false
}

// member tells the names that count.
func (d *decoder) member(quoted []byte) string {
	switch string(quoted) {
	case `"body"`:
		return "body"
	case `"headers"`:
		return "headers"
	}
	if bytes.IndexByte(quoted, '\\') >= 0 {
		d.scratch, _ = jsontext.AppendUnquote(d.scratch[:0], quoted) // it is valid, but for UTF-8
		switch string(d.scratch) {
		case "body":
			return "body"
		case "headers":
			return "headers"
		}
	}
	return ""
}

// body reads a body into memory of the batch. Numbers and truth values are the text they are.
func (d *decoder) body() ([]byte, *jsonFault) {
	k := d.dec.PeekKind()
	if k == '{' || k == '[' {
		return nil, wrong(len(d.b.Events), "body is not a string")
	}
	raw, err := d.dec.ReadValue()
	switch {
	case err != nil:
		return nil, d.broken(err)
	case k == 'n':
		return nil, nil
	case k != '"':
		return d.encode(raw), nil
	}
	inner := raw[1 : len(raw)-1]
	escaped := bytes.IndexByte(inner, '\\') >= 0 || !utf8.Valid(inner)
	switch {
	case !escaped:
		return d.encode(inner), nil
	case !d.charset.IsUTF8():
		d.scratch, _ = jsontext.AppendUnquote(d.scratch[:0], raw)
		return d.encode(d.scratch), nil
	}
	room := d.room(len(raw))
	out, _ := jsontext.AppendUnquote(room, raw) // invalid UTF-8 becomes U+FFFD
	return d.took(room, out), nil
}

// encode copies text into memory of the batch, in the request's charset.
func (d *decoder) encode(text []byte) []byte {
	if d.charset.IsUTF8() {
		room := d.room(len(text))
		return d.took(room, append(room, text...))
	}
	room := d.room(4*len(text) + 2)
	return d.took(room, d.charset.Encode(room, text))
}

// room returns an empty slice of memory of the batch with a capacity of n. What
// is larger than the usual piece gets memory of its own, just as large.
func (d *decoder) room(n int) []byte {
	if n > len(d.free) {
		if n > d.size {
			return make([]byte, 0, n)
		}
		d.free = d.b.Block(d.size)
	}
	return d.free[:0:n]
}

// took returns what was appended to room, and takes it off the free memory if it lies there.
func (d *decoder) took(room, text []byte) []byte {
	n := len(text)
	if n == 0 {
		return nil
	}
	if len(d.free) > 0 && cap(room) > 0 && &text[0] == &d.free[0] {
		d.free = d.free[n:]
	}
	return text[:n:n]
}

// headers reads the headers of an event, or finds that they are known.
func (d *decoder) headers() (core.Headers, *jsonFault) {
	k := d.dec.PeekKind()
	if k == '[' || k == '{' && nested(d.dec.UnreadBuffer()) { // before ReadValue recurses into it
		f := wrong(len(d.b.Events), "headers is not an object of strings")
		f.lax = true // the braces may be in single quotes
		return core.Headers{}, f
	}
	raw, err := d.dec.ReadValue()
	switch {
	case err != nil:
		return core.Headers{}, d.broken(err)
	case k == 'n':
		return core.Headers{}, nil
	case k != '{':
		return core.Headers{}, wrong(len(d.b.Events), "headers is not an object of strings")
	case d.last != nil && bytes.Equal(raw, d.last):
		return d.lastSet, nil
	}
	set, known := d.sets[string(raw)]
	if !known {
		f := d.parse(raw)
		if f != nil {
			return core.Headers{}, f
		}
		set = core.NewHeaders(d.kv...)
		if len(d.sets) < maxSets {
			d.sets[string(raw)] = set
		}
	}
	d.last, d.lastSet = raw, set
	return set, nil
}

// parse reads the headers of raw, a valid object with no other in it, into d.kv.
func (d *decoder) parse(raw []byte) *jsonFault {
	d.kv = d.kv[:0]
	for i := 1; ; {
		i += blanks(raw[i:])
		switch raw[i] {
		case '}':
			return nil
		case ',':
			i += 1 + blanks(raw[i+1:])
		}
		n := quotedLen(raw[i:])
		name := d.name(raw[i : i+n])
		i += n
		i += blanks(raw[i:])
		i++ // the colon
		i += blanks(raw[i:])
		var value string
		switch raw[i] {
		case '"':
			n = quotedLen(raw[i:])
			value = d.str(d.unquote(raw[i : i+n]))
		default:
			if n = bytes.IndexAny(raw[i:], ",} \t\r\n"); raw[i] != 'n' {
				value = d.str(raw[i : i+n])
			}
		}
		i += n
		switch {
		case has(d.kv, name):
			return wrong(len(d.b.Events), "header ", strconv.Quote(name), " is there twice")
		case len(d.kv) == maxHeaders:
			return wrong(len(d.b.Events), "has more than ", strconv.Itoa(maxHeaders), " headers")
		}
		d.kv = append(d.kv, core.Header{Key: name, Value: value})
	}
}

func blanks(text []byte) int {
	n := 0
	for text[n] == ' ' || text[n] == '\t' || text[n] == '\n' || text[n] == '\r' {
		n++
	}
	return n
}

// quotedLen is the length of the string that text begins with, and that ends.
func quotedLen(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote returns the text of a string, valid until the next call.
func (d *decoder) unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner
	}
	d.scratch, _ = jsontext.AppendUnquote(d.scratch[:0], quoted)
	return d.scratch
}

// name returns the string of a header's name. Names repeat, so they are kept.
func (d *decoder) name(quoted []byte) string {
	text := d.unquote(quoted)
	name, ok := d.names[string(text)]
	if !ok {
		name = d.str(text)
		if len(d.names) < maxNames && len(name) <= maxName {
			name = strings.Clone(name) // its chunk may go
			d.names[name] = name
		}
	}
	return name
}

// str makes a string of text. Many share an allocation.
func (d *decoder) str(text []byte) string {
	if d.chunk.Cap()-d.chunk.Len() < len(text) {
		d.chunk = strings.Builder{}
		d.chunk.Grow(max(strChunk, len(text)))
	}
	n := d.chunk.Len()
	d.chunk.Write(text)
	return d.chunk.String()[n:]
}
