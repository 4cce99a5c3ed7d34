package json

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/connectors/internal/headers"
	"github.com/millrace/millrace/core"
)

const (
	maxDepth   = 100      // of objects in one another
	maxHeaders = 64       // made of one body where the fields are not named
	maxNames   = 256      // of headers that are remembered
	maxName    = 64       // bytes in the path of one of them
	maxScratch = 64 << 10 // bytes that are kept from batch to batch
)

// reader reads the bodies of a batch.
type reader struct {
	x   *interceptor
	dec jsontext.Decoder
	in  bytes.Buffer

	set    headers.Setter
	from   core.Headers      // of the event
	path   []byte            // of the field that is read
	values []byte            // of the event's headers
	bad    []int             // events to drop
	names  map[string]string // of headers seen in any batch, by path
}

var byteOrderMark = []byte("\xef\xbb\xbf")

var (
	errEmpty  = errors.New("the body is empty")
	errObject = errors.New("the body is JSON but no object")
	errMore   = errors.New("something follows the JSON object")
	errDeep   = fmt.Errorf("objects are nested deeper than %d", maxDepth)
)

// headers returns h with what body has. On an error nothing is taken.
func (r *reader) headers(h core.Headers, body []byte) (core.Headers, error) {
	r.in = *bytes.NewBuffer(bytes.TrimPrefix(body, byteOrderMark))
	r.dec.Reset(&r.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	r.from, r.path, r.values = h, r.path[:0], r.values[:0]
	if err := r.body(); err != nil {
		r.set.Found = r.set.Found[:0]
		return h, err
	}
	return r.set.Set(h), nil
}

func (r *reader) body() error {
	if k := r.dec.PeekKind(); k != '{' {
		// What is no JSON at all is to be called so.
		if err := r.dec.SkipValue(); errors.Is(err, io.EOF) {
			return errEmpty
		} else if err != nil {
			return broken(err)
		}
		return errObject
	}
	if err := r.object(1); err != nil {
		return err
	}
	if _, err := r.dec.ReadToken(); err == nil {
		return errMore
	} else if !errors.Is(err, io.EOF) {
		return broken(err)
	}
	return nil
}

// broken is the error of a text that is no JSON.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return errors.New("the body is no JSON: " + strings.TrimPrefix(err.Error(), "jsontext: "))
}

// object reads an object, whose path is r.path.
func (r *reader) object(depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return broken(err)
	}
	parent := len(r.path)
	for r.dec.PeekKind() != '}' {
		name, err := r.dec.ReadValue()
		if err != nil {
			return broken(err)
		}
		if parent > 0 {
			r.path = append(r.path, '.')
		}
		// The decoder has checked the text: what is left to complain of is invalid UTF-8, which becomes U+FFFD.
		r.path, _ = jsontext.AppendUnquote(r.path, name)
		if err := r.value(depth); err != nil {
			return err
		}
		r.path = r.path[:parent]
	}
	_, err := r.dec.ReadToken()
	if err != nil {
		return broken(err)
	}
	return nil
}

// value reads the value at r.path.
func (r *reader) value(depth int) error {
	x := r.x
	kind := r.dec.PeekKind()
	header, take := "", false
	if x.wanted != nil {
		header, take = x.wanted[string(r.path)]
		if _, parent := x.parents[string(r.path)]; parent && kind == '{' {
			return r.object(depth + 1)
		}
	} else {
		if kind == '{' {
			return r.object(depth + 1)
		}
		take = kind != '[' && len(r.set.Found) < maxHeaders
	}
	if !take || kind == 'n' {
		if err := r.dec.SkipValue(); err != nil {
			return broken(err)
		}
		return nil
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return broken(err)
	}
	if header == "" {
		header = r.header(r.path)
	}
	if _, there := r.from.Get(header); there && x.keep {
		return nil
	}
	begin := len(r.values)
	if kind == '"' {
		r.values, _ = jsontext.AppendUnquote(r.values, raw) // its complaints are those of names
	} else {
		r.values = append(r.values, raw...)
	}
	r.set.Add(header, r.values[begin:len(r.values):len(r.values)])
	return nil
}

// header is the name of the header for a field that is not named in the configuration.
func (r *reader) header(path []byte) string {
	name, ok := r.names[string(path)]
	if !ok {
		name = r.x.prefix + string(path)
		if len(r.names) < maxNames && len(path) <= maxName {
			r.names[string(path)] = name
		}
	}
	return name
}

// forget lets go of the batch.
func (r *reader) forget() {
	r.set.Forget()
	r.in, r.from, r.bad = bytes.Buffer{}, core.Headers{}, r.bad[:0]
	r.dec.Reset(&r.in)
	if cap(r.values) > maxScratch {
		r.values = nil
	}
	if cap(r.path) > maxScratch {
		r.path = nil
	}
}
