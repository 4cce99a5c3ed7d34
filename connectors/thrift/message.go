package thrift

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
)

// status is an answer, by its number in flume.thrift.
type status int32

const (
	statusOK      status = 0
	statusFailed  status = 1
	statusError   status = 2
	statusUnknown status = 3
)

// Error implements error, for answers that are not OK.
func (s status) Error() string {
	switch s {
	case statusFailed:
		return "the far end answers FAILED"
	case statusError:
		return "the far end answers ERROR"
	case statusUnknown:
		return "the far end answers UNKNOWN"
	}
	return fmt.Sprintf("the far end answers with status %d", int32(s))
}

// exception is Thrift's answer to a request that it could not carry out.
type exception struct {
	kind int32
	text string
}

// Kinds of exceptions, of TApplicationException.
const (
	unknownMethod = 1
	internalError = 6
	protocolError = 7
)

// Error implements error.
func (e *exception) Error() string {
	return fmt.Sprintf("the far end answers with an error: %s (%d)", e.text, e.kind)
}

// refused reports whether err is an answer, and not what became of a connection.
func refused(err error) bool {
	var s status
	var x *exception
	return errors.As(err, &s) || errors.As(err, &x)
}

const (
	methodAppend = "append"
	methodBatch  = "appendBatch"

	// orderedField asks for order, and grants it; see the package's doc.
	orderedField = 1000

	maxName = 256
	// leastEvent is the fewest bytes that an event has: two heads of fields, two lengths, an end.
	leastEvent = 5
	maxHeaders = 4096 // of an event
	// headerBytes is what a header takes besides its text: two strings. In a frame it may be two bytes.
	headerBytes = 32
)

// call is a request of which the head was read.
type call struct {
	name string
	seq  int32
	args cursor
}

// readCall reads the head of a request.
func readCall(frame []byte, compact bool) (x call, err error) {
	c := cursor{compact: compact, in: frame}
	kind, name, seq := c.message()
	switch {
	case c.err != nil:
		return x, c.err
	case kind != kindCall:
		return x, malformed(fmt.Sprintf("a message of kind %d, not a call that is answered", kind))
	case len(name) > maxName:
		return x, malformed("a method's name of more than 256 bytes")
	}
	switch string(name) { // no allocation for the usual ones
	case methodAppend:
		x.name = methodAppend
	case methodBatch:
		x.name = methodBatch
	default:
		x.name = string(name)
	}
	x.seq, x.args = seq, c
	return x, nil
}

// decoder makes batches of what requests carry. It remembers the headers of the
// event before: a run of events with equal headers shares one set, also across
// requests. It is used by one goroutine.
type decoder struct {
	maxEvents int // in one batch
	// grant is asked before headers take so many bytes of memory of their own, if
	// it is not nil. If it denies them, so does args, with its error.
	grant func(bytes int) error

	text string       // the encoding of the headers before; empty: none yet
	last core.Headers // what it means
	at   []int        // where keys and values lie in text: begin and end of each
	kv   []core.Header
}

// args reads the arguments of append or appendBatch into b. An error that is an
// *exception is for the client, after any other the connection is of no use.
func (d *decoder) args(x *call, b *core.Batch) (ordered bool, err error) {
	c, has := &x.args, false
	for last := int16(0); c.err == nil; {
		typ, id := c.field(last)
		switch {
		case typ == typeStop && c.err == nil:
			switch {
			case len(c.in) > 0:
				c.fail("bytes after a request")
			case !has:
				c.err = &exception{protocolError, x.name + " without its argument"}
			}
			return ordered, c.err
		case id == 1 && x.name == methodAppend && typ == typeStruct:
			b.Events, has = b.Events[:0], true // of a field that comes twice the last one counts
			d.event(c, b)
		case id == 1 && x.name == methodBatch && typ == typeList:
			b.Events, has = b.Events[:0], true
			d.events(c, b)
		case id == orderedField && typ == typeBool:
			ordered = c.flag()
		default:
			c.skip(typ)
		}
		last = id
	}
	return false, c.err
}

func (d *decoder) events(c *cursor, b *core.Batch) {
	elem, n := c.list()
	switch {
	case c.err != nil:
		return
	case n > 0 && elem != typeStruct:
		c.fail("a list of something else than events")
		return
	case n > d.maxEvents:
		c.err = &exception{internalError, fmt.Sprintf("batch has more than %d events (maxRequestEvents): send fewer at a time", d.maxEvents)}
		return
	}
	b.Events = slices.Grow(b.Events, min(n, len(c.in)/leastEvent))
	for ; n > 0 && c.err == nil; n-- {
		d.event(c, b)
	}
}

func (d *decoder) event(c *cursor, b *core.Batch) {
	var h core.Headers
	var body []byte
	headers, bodies := false, false
	for last := int16(0); c.err == nil; {
		typ, id := c.field(last)
		switch {
		case typ == typeStop && c.err == nil:
			switch {
			case !headers:
				c.err = &exception{protocolError, "Required field 'headers' was not present!"}
			case !bodies:
				c.err = &exception{protocolError, "Required field 'body' was not present!"}
			default:
				b.Append(h, body)
			}
			return
		case id == 1 && typ == typeMap:
			h, headers = d.headers(c), true
		case id == 2 && typ == typeString:
			body, bodies = c.blob(), true
		default:
			c.skip(typ)
		}
		last = id
	}
}

// headers reads a map of strings. No encoding of a map begins another one, so
// that what begins as the last one is the last one.
func (d *decoder) headers(c *cursor) core.Headers {
	in := c.in
	if n := len(d.text); n > 0 && len(in) >= n && string(in[:n]) == d.text {
		c.in = in[n:]
		return d.last
	}
	key, value, n := c.mapping()
	switch {
	case c.err != nil || n == 0:
		return core.Headers{}
	case n > maxHeaders:
		c.fail("an event has more headers than 4096")
		return core.Headers{}
	case key != typeString || value != typeString:
		c.fail("headers that are no strings")
		return core.Headers{}
	}
	d.at = d.at[:0]
	for range 2 * n {
		text := c.blob()
		end := len(in) - len(c.in)
		d.at = append(d.at, end-len(text), end)
	}
	if c.err == nil && d.grant != nil {
		c.err = d.grant(len(in) - len(c.in) + n*headerBytes)
	}
	if c.err != nil {
		return core.Headers{}
	}
	// All keys and values lie in one string.
	text := string(in[:len(in)-len(c.in)])
	d.kv = d.kv[:0]
	for i := 0; i < len(d.at); i += 4 {
		d.kv = append(d.kv, core.Header{Key: valid(text[d.at[i]:d.at[i+1]]), Value: valid(text[d.at[i+2]:d.at[i+3]])})
	}
	d.text, d.last = text, core.NewHeaders(d.kv...)
	clear(d.kv)
	return d.last
}

// valid replaces what is no UTF-8, as Java does.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// answer is what came back.
type answer struct {
	seq     int32
	ordered bool
	err     error // nil: OK
}

// readAnswer reads an answer. err is what is wrong with its bytes.
func readAnswer(frame []byte, compact bool) (a answer, err error) {
	c := cursor{compact: compact, in: frame}
	kind, _, seq := c.message()
	a.seq = seq
	x, said := &exception{}, false
	for last := int16(0); c.err == nil; {
		typ, id := c.field(last)
		switch {
		case c.err != nil:
		case typ == typeStop && kind == kindException:
			a.err = x
			return a, nil
		case typ == typeStop && kind == kindReply && said:
			return a, nil
		case typ == typeStop:
			return a, malformed("an answer without a status")
		case kind == kindException && id == 1 && typ == typeString:
			x.text = valid(string(c.blob()))
		case kind == kindException && id == 2 && typ == typeI32:
			x.kind = c.i32()
		case kind == kindReply && id == 0 && typ == typeI32:
			if s := status(c.i32()); s != statusOK {
				a.err = s
			}
			said = true
		case kind == kindReply && id == orderedField && typ == typeBool:
			a.ordered = c.flag()
		default:
			c.skip(typ)
		}
		last = id
	}
	return a, c.err
}
