package http

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
)

// receive makes a batch of a request. held is what its body has taken of the
// budget, in any case.
func (v *service) receive(r *http.Request) (b *core.Batch, held int64, f *fault) {
	switch v.handler {
	case handlerBlob, handlerMorphline:
		return v.receiveBlob(r)
	}
	body, size, end, f := v.unzipped(r)
	if f != nil {
		return nil, 0, f
	}
	blk, n, held, more, f := v.read(body, size, v.maxRequest)
	end()
	switch {
	case f != nil:
		return nil, held, f
	case more:
		f = v.tooLong()
	case v.takesLines(r, blk.Buf[:n]):
		b, f = v.lines(r, blk, n)
	default:
		b, f = v.json(r, blk.Buf[:n])
	}
	blk.Release()
	return b, held, f
}

// takesLines reports whether text is lines by the handler, or by its type. A
// JSON array is one even as text/plain, which is what Flume's clients may say.
func (v *service) takesLines(r *http.Request, text []byte) bool {
	if v.handler == handlerLines {
		return true
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		return true
	case "text/plain":
		text = bytes.TrimLeft(text, " \t\r\n")
		return len(text) > 0 && text[0] != '['
	}
	return false
}

// lines makes an event of each line that is not empty.
func (v *service) lines(r *http.Request, blk *core.Block, n int) (*core.Batch, *fault) {
	headers, f := parameters(r, nil)
	if f != nil {
		return nil, f
	}
	b := core.NewBatch()
	b.Use(blk)
	text := blk.Buf[:n:n]
	if name := charsetOf(r.Header.Get("Content-Type")); name != "" {
		cs, err := charset.Lookup(name)
		if err != nil {
			b.Release()
			return nil, refuse(http.StatusUnsupportedMediaType, "charset ", name, " ", err.Error())
		}
		if !cs.IsUTF8() {
			text = cs.Decode(nil, text)
		}
	}
	set := core.NewHeaders(headers...)
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i:i], text[i+1:]
		} else {
			text = nil
		}
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			continue
		}
		if len(b.Events) == v.maxEvents {
			b.Release()
			return nil, v.tooMany()
		}
		b.Append(set, line)
	}
	return b, nil
}

// receiveBlob makes one event of the whole body, as it is: a Content-Encoding
// is left alone, as in Flume.
func (v *service) receiveBlob(r *http.Request) (b *core.Batch, held int64, f *fault) {
	var headers []core.Header
	limit := v.maxRequest
	if v.handler == handlerMorphline {
		limit = min(limit, v.maxBlob)
		if t := r.Header.Get("Content-Type"); t != "" {
			headers = append(headers, core.Header{Key: "Content-Type", Value: t})
		}
	}
	if headers, f = parameters(r, headers); f != nil {
		return nil, 0, f
	}
	set := core.NewHeaders(headers...)
	for _, name := range v.mandatory {
		if _, ok := set.Get(name); !ok && v.handler == handlerBlob {
			return nil, 0, refuse(http.StatusBadRequest, "parameter ", name, " is missing")
		}
	}
	blk, n, held, more, f := v.read(r.Body, r.ContentLength, limit)
	if f != nil {
		return nil, held, f
	}
	defer blk.Release()
	if more {
		if limit < v.maxBlob || v.handler != handlerMorphline {
			return nil, held, v.tooLong()
		}
		v.cut.Add(1)
		v.cuts.Say(v.env.Log, v.env.Now(), slog.LevelWarn, "blob cut", slog.Int64("maxBlobLength", v.maxBlob))
	}
	b = core.NewBatch()
	b.Use(blk)
	b.Append(set, blk.Buf[:n:n])
	return b, held, nil
}

// maxHeaders bounds the headers of one event: sets of headers are short lists,
// and looking for a name in one takes as long as it is.
const maxHeaders = 256

// parameters adds the query's parameters, in order, to headers. Of one that is
// there twice the first counts.
func parameters(r *http.Request, headers []core.Header) ([]core.Header, *fault) {
	for part := range strings.FieldsFuncSeq(r.URL.RawQuery, func(c rune) bool { return c == '&' }) {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "query: ", err.Error())
		}
		if !has(headers, name) {
			if len(headers) == maxHeaders {
				return nil, refuse(http.StatusBadRequest, "query has too many parameters")
			}
			headers = append(headers, core.Header{Key: name, Value: value})
		}
	}
	return headers, nil
}

func has(headers []core.Header, name string) bool {
	for i := range headers {
		if headers[i].Key == name {
			return true
		}
	}
	return false
}

// charsetOf returns the charset that a Content-Type names, empty if none.
func charsetOf(contentType string) string {
	_, params, ok := strings.Cut(contentType, ";")
	if !ok {
		return ""
	}
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "charset") {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}

// json makes events of a JSON text: strictly, and where that fails leniently.
func (v *service) json(r *http.Request, text []byte) (*core.Batch, *fault) {
	cs := charset.UTF8
	if name := charsetOf(r.Header.Get("Content-Type")); name != "" {
		var err error
		if cs, err = charset.Lookup(name); err != nil || !isJSONCharset(cs) {
			// 500 is what Flume answers.
			return nil, refuse(http.StatusInternalServerError, "charset ", name, " is not supported: JSON is UTF-8, UTF-16 or UTF-32")
		}
		if !cs.IsUTF8() {
			text = cs.Decode(nil, text)
		}
	}
	d, _ := v.decoders.Get().(*decoder)
	if d == nil {
		d = newDecoder()
	}
	b, f := d.batch(text, cs, v.maxEvents)
	if f != nil && f.lax {
		if plain, ok := strictJSON(text, int(v.maxRequest)); ok {
			b, f = d.batch(plain, cs, v.maxEvents)
		}
	}
	d.forget()
	v.decoders.Put(d)
	if f == nil {
		return b, nil
	}
	if f.many {
		return nil, v.tooMany()
	}
	return nil, refuse(f.status, f.text)
}

func isJSONCharset(cs *charset.Charset) bool {
	switch cs.String() {
	case "UTF-8", "UTF-16", "UTF-32":
		return true
	}
	return false
}
