package http

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// document is how an event becomes a JSON object.
type document struct {
	kind                              string
	bodyField, headersField, timeName string
}

const (
	documentEvent = "event"
	documentBody  = "body"
)

func (d *document) keys(k *conf.Keys) {
	k.String(&d.kind, "document", documentEvent, "What a document is. event: an object of the headers and the body; body: the body, which is a JSON object. For json_lines, json_array, elasticsearch_bulk.").
		Must(conf.OneOf(documentEvent, documentBody)).Since("1.0")
	k.String(&d.bodyField, "document.bodyField", "message", "Member that has the body.").Since("1.0")
	k.String(&d.headersField, "document.headersField", "", "Member with the headers, as an object; absent: each header is a member of the document.").Since("1.0")
	k.String(&d.timeName, "document.timeField", "", "Member with the event's time, as 2006-01-02T15:04:05.000Z: of its timestamp header, or else when it came in. With elasticsearch_bulk it is @timestamp where absent.").Since("1.0")
}

// hasDocuments reports whether a format is made of documents.
func hasDocuments(format string) bool {
	return slices.Contains([]string{formatJSONLines, formatJSONArray, formatBulk}, format)
}

func (d *document) check(r *conf.Report, format string) {
	if format == formatBulk && !r.IsSet("document.timeField") {
		d.timeName = "@timestamp"
	}
	why := ""
	switch {
	case !hasDocuments(format):
		why = "format " + format
		if r.IsSet("document") {
			r.Warn("document", "has no effect with %s", why)
		}
	case d.kind == documentBody:
		why = "document = body"
	}
	for _, key := range []string{"document.bodyField", "document.headersField", "document.timeField"} {
		if why != "" && r.IsSet(key) {
			r.Warn(key, "has no effect with %s", why)
		}
	}
	if d.bodyField == d.headersField || d.bodyField == d.timeName || d.headersField == d.timeName && d.timeName != "" {
		r.Error("document.bodyField", "and the other fields of a document must have different names")
	}
}

// timestampHeader is Flume's header for the time of an event, in epoch ms.
const timestampHeader = "timestamp"

// when returns the time of an event: its timestamp header, or when its batch came in.
func when(h core.Headers, b *core.Batch, now func() time.Time) time.Time {
	if text, ok := h.Get(timestampHeader); ok {
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 && ms <= math.MaxInt64/int64(time.Millisecond) {
			return time.UnixMilli(ms)
		}
	}
	if b.Born.IsZero() {
		return now()
	}
	return b.Born
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// prefix appends a document up to its body: all of it that the headers decide.
func (d *document) prefix(dst []byte, h core.Headers, t time.Time) []byte {
	if d.headersField != "" {
		dst = append(quote(append(dst, '{'), d.headersField), ":{"...)
		dst = append(members(dst, h, nil), "},"...)
	} else {
		start := len(dst)
		dst = members(append(dst, '{'), h, func(name string) bool {
			return name == d.bodyField || name == d.timeName || name == timestampHeader && d.timeName != ""
		})
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
	}
	if d.timeName != "" {
		dst = append(quote(dst, d.timeName), ":\""...)
		dst = append(t.UTC().AppendFormat(dst, timeLayout), "\","...)
	}
	return append(quote(dst, d.bodyField), ':')
}

// members appends headers as members of an object, without those that omit tells.
func members(dst []byte, h core.Headers, omit func(string) bool) []byte {
	first := true
	for name, value := range h.All() {
		if omit != nil && omit(name) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(quote(dst, name), ':')
		dst = quote(dst, value)
	}
	return dst
}

func quote(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
	return dst
}

// object appends a body that is a JSON object, on one line.
func object(dst, body []byte) ([]byte, error) {
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return dst, errors.New("body is not a JSON object")
	}
	out, err := jsontext.AppendFormat(dst, body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(true))
	if err != nil {
		return dst, fmt.Errorf("body is not a JSON object: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	return out, nil
}
