package format

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/core"
)

// jsonLines is JSON: an object a line. Bytes that are not UTF-8 become U+FFFD.
type jsonLines struct {
	flat bool
	last core.Headers // whose members are in head
	head []byte
}

// The shapes of an object.
const (
	jsonEvent = "event" // {"headers":{...},"body":"..."}: what Flume's http source takes
	jsonFlat  = "flat"  // each header is a member, the body is the member message
)

func (j *jsonLines) Begin(dst []byte) []byte { return dst }

func (j *jsonLines) Append(dst []byte, events []core.Event, limit int64) ([]byte, int) {
	begin := len(dst)
	for i := range events {
		dst = j.headers(dst, events[i].Headers)
		dst = quote(dst, events[i].Body)
		dst = append(dst, '}', '\n')
		if limit > 0 && int64(len(dst)-begin) >= limit {
			return dst, i + 1
		}
	}
	return dst, len(events)
}

// headers appends all of the object that comes before the text of the body.
func (j *jsonLines) headers(dst []byte, h core.Headers) []byte {
	if h != j.last || len(j.head) == 0 {
		j.last = h
		j.head = append(j.head[:0], '{')
		if !j.flat {
			j.head = append(j.head, `"headers":{`...)
		}
		first := true
		for k, v := range h.All() {
			if j.flat && k == "message" { // the body goes by that name
				continue
			}
			if !first {
				j.head = append(j.head, ',')
			}
			first = false
			j.head = append(quote(j.head, k), ':')
			j.head = quote(j.head, v)
		}
		switch {
		case !j.flat:
			j.head = append(j.head, `},"body":`...)
		case first:
			j.head = append(j.head, `"message":`...)
		default:
			j.head = append(j.head, `,"message":`...)
		}
	}
	return append(dst, j.head...)
}

func quote[T ~[]byte | ~string](dst []byte, s T) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // its only error is that it has replaced what is not UTF-8
	return dst
}

func (j *jsonLines) Flush(dst []byte) []byte { return dst }

func (j *jsonLines) State() string {
	if j.flat {
		return names[jsonText][0] + " " + jsonFlat
	}
	return names[jsonText][0] + " " + jsonEvent
}

func (j *jsonLines) Resume(state string) bool { return state == j.State() }
