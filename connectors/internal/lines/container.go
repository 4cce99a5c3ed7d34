package lines

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Stream is one of the texts that lines of a file belong to.
type Stream uint8

// The streams. Raw is what is no line of a container, or all of a file that is no container's.
const (
	Raw Stream = iota
	Stdout
	Stderr
	Streams = 3 // how many there are
)

const (
	stdout = "stdout"
	stderr = "stderr"
)

// String returns the name that the header stream has; empty for Raw.
func (s Stream) String() string { return [Streams]string{"", stdout, stderr}[s] }

// Of returns the name in the channels (core.Batch.Mark) of the stream s of what
// is called name there; that of Raw is name itself.
func (s Stream) Of(name string) string {
	if s == Raw {
		return name
	}
	return name + "/" + s.String()
}

// text is a container's line without its envelope.
type text struct {
	stream  Stream
	body    []byte // of the line, or of scratch
	partial bool   // the line goes on in the stream's next one
	time    int64  // ms
}

var errMalformed = errors.New("not a container's line")

func streamOf(name []byte) (Stream, error) {
	switch string(name) {
	case stdout:
		return Stdout, nil
	case stderr:
		return Stderr, nil
	}
	return Raw, errMalformed
}

func millis(text []byte) (int64, error) {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil {
		return 0, errMalformed
	}
	return t.UnixMilli(), nil
}

// parse takes the envelope off line. Its error means that it has none.
func (o *Options) parse(line []byte) (text, error) {
	switch {
	case o.container == docker || o.container == auto && len(line) > 0 && line[0] == '{':
		t, err := o.scratch.json.parse(line, o.scratch.text)
		if cap(t.body) <= keptBytes && cap(t.body) > cap(o.scratch.text) {
			o.scratch.text = t.body[:0]
		}
		return t, err
	default:
		return parseCRI(line)
	}
}

// parseCRI reads `2016-10-06T00:17:09.669794202Z stdout F text`. The third word
// is tags with colons between them, the first of which is F (full) or P (partial).
func parseCRI(line []byte) (t text, err error) {
	at, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return t, errMalformed
	}
	name, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return t, errMalformed
	}
	tags, body, _ := bytes.Cut(rest, []byte{' '})
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(tag) {
	case "F":
	case "P":
		t.partial = true
	default:
		return t, errMalformed
	}
	if t.stream, err = streamOf(name); err != nil {
		return t, err
	}
	if t.time, err = millis(at); err != nil {
		return t, err
	}
	if t.body = body; !t.partial {
		t.body = bytes.TrimSuffix(body, []byte{'\r'})
	}
	return t, nil
}

// jsonReader reads Docker's lines.
type jsonReader struct {
	dec jsontext.Decoder
	in  bytes.Reader
}

// parse reads `{"log":"text\n","stream":"stdout","time":"..."}`, with members in
// any order; others (attrs) are left out. A text without a newline goes on in
// the next line. The body is appended to to.
func (j *jsonReader) parse(line, to []byte) (t text, err error) {
	j.in.Reset(line)
	j.dec.Reset(&j.in, jsontext.AllowDuplicateNames(true))
	if tok, err := j.dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return t, errMalformed
	}
	var hasLog, hasStream, hasTime bool
	for j.dec.PeekKind() != '}' {
		tok, err := j.dec.ReadValue()
		if err != nil {
			return t, errMalformed
		}
		var into *bool
		switch string(tok) {
		case `"log"`:
			into = &hasLog
		case `"stream"`:
			into = &hasStream
		case `"time"`:
			into = &hasTime
		}
		v, err := j.dec.ReadValue()
		if err != nil {
			return t, errMalformed
		}
		if into == nil {
			continue
		}
		if v.Kind() != '"' || *into {
			return t, errMalformed
		}
		*into = true
		switch into {
		case &hasLog:
			t.body, err = jsontext.AppendUnquote(to[:0], v)
		case &hasStream:
			t.stream, err = streamOf(v[1 : len(v)-1])
		case &hasTime:
			t.time, err = millis(v[1 : len(v)-1])
		}
		if err != nil {
			return t, errMalformed
		}
	}
	if !hasLog || !hasStream || !hasTime {
		return t, errMalformed
	}
	if _, err := j.dec.ReadToken(); err != nil {
		return t, errMalformed
	}
	if _, err := j.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return t, errMalformed
	}
	if n := len(t.body); n > 0 && t.body[n-1] == '\n' {
		t.body = bytes.TrimSuffix(t.body[:n-1], []byte{'\r'})
	} else {
		t.partial = true
	}
	return t, nil
}
