package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// bulk is what is said of a document to Elasticsearch or OpenSearch. A request
// to _bulk is lines, two a document:
//
//	{"create":{"_index":"logs","_id":"17"}}
//	{"host":"web-1","@timestamp":"...","message":"..."}
//
// and the answer says how each fared, in their order:
//
//	{"took":7,"errors":true,"items":[{"create":{"status":429,"error":{"type":"...","reason":"..."}}}, ...]}
type bulk struct {
	action    string
	index, id template
}

const (
	actionCreate = "create"
	actionIndex  = "index"
)

func (u *bulk) keys(k *conf.Keys) {
	u.index.key(k, "elasticsearch.index", "Index or data stream of a document; absent, it is in the path of endpoint.").Since("1.0")
	k.String(&u.action, "elasticsearch.action", actionCreate, "create adds documents, and is all that data streams take; index replaces those with the same id.").
		Must(conf.OneOf(actionCreate, actionIndex)).Since("1.0")
	u.id.key(k, "elasticsearch.id", "Id of a document, so that what is sent again is not there twice; absent or empty, it gets one.").Since("1.0")
}

func (u *bulk) check(r *conf.Report, format string, endpoint *url.URL) {
	if format != formatBulk {
		for _, key := range []string{"elasticsearch.index", "elasticsearch.action", "elasticsearch.id"} {
			if r.IsSet(key) {
				r.Warn(key, "has no effect with format %s", format)
			}
		}
		return
	}
	path, ok := strings.CutSuffix(strings.TrimSuffix(endpoint.Path, "/"), "/_bulk")
	switch {
	case !ok:
		r.Warn("endpoint", "does not end in /_bulk, which is what takes this format")
	case path == "" && u.index == nil:
		r.Error("elasticsearch.index", "is required, unless endpoint has it: /INDEX/_bulk")
	}
}

// line appends the first line of a document.
func (u *bulk) line(dst []byte, h core.Headers) []byte {
	dst = append(quote(append(dst, '{'), u.action), ":{"...)
	index, id := u.index.of(h), u.id.of(h)
	if index != "" {
		dst = quote(append(dst, `"_index":`...), index)
	}
	if id != "" {
		if index != "" {
			dst = append(dst, ',')
		}
		dst = quote(append(dst, `"_id":`...), id)
	}
	return append(dst, "}}\n"...)
}

// itemFault is a document that was not taken.
type itemFault struct {
	item, status int
	kind, reason string
}

func (f itemFault) Error() string {
	text := fmt.Sprintf("document refused with %d", f.status)
	if f.kind != "" {
		text += " " + f.kind
	}
	if f.reason != "" {
		text += ": " + excerpt([]byte(f.reason))
	}
	return text
}

// passing reports whether the same document may be taken later.
func (f itemFault) passing() bool {
	return f.status == 429 || f.status >= 500 || f.kind == "cluster_block_exception"
}

var errNoBulk = errors.New("the answer is not one of _bulk: it does not say whether there were errors")

// readBulk reads an answer of _bulk to a request of that many documents, and
// returns those that were not taken. Any error means that nothing is known.
func readBulk(text []byte, items int) ([]itemFault, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var faults []itemFault
	errs, said, seen := false, false, -1
	err := eachMember(d, func(name string) error {
		switch {
		case name == "errors":
			t, err := d.ReadToken()
			if err != nil {
				return err
			}
			errs, said = t.Kind() == 't', t.Kind() == 't' || t.Kind() == 'f'
			return nil
		case name == "items" && !(said && !errs): // as nearly always there were none: then they need not be read
			var err error
			faults, seen, err = readItems(d)
			return err
		}
		return d.SkipValue()
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer of _bulk: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	case !said:
		return nil, errNoBulk
	case !errs:
		return nil, nil
	case seen != items:
		return nil, fmt.Errorf("the answer of _bulk has %d items, the request had %d", max(seen, 0), items)
	}
	return faults, nil
}

// eachMember reads an object and calls f where the value of a member begins.
func eachMember(d *jsontext.Decoder, f func(name string) error) error {
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return err
		}
		return errors.New("not an object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := f(t.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func readItems(d *jsontext.Decoder) (faults []itemFault, n int, err error) {
	if d.PeekKind() != '[' {
		return nil, 0, errors.New("items is not an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, 0, err
	}
	for ; d.PeekKind() != ']'; n++ {
		f := itemFault{item: n}
		err := eachMember(d, func(string) error { return eachMember(d, f.member(d)) })
		if err != nil {
			return nil, n, err
		}
		if f.status/100 != 2 {
			faults = append(faults, f)
		}
	}
	_, err = d.ReadToken()
	return faults, n, err
}

// member reads what an answer says of one document.
func (f *itemFault) member(d *jsontext.Decoder) func(string) error {
	return func(name string) error {
		switch name {
		case "status":
			v, err := d.ReadValue()
			if err != nil {
				return err
			}
			return json.Unmarshal(v, &f.status)
		case "error":
			v, err := d.ReadValue()
			if err != nil {
				return err
			}
			f.explain(v)
			return nil
		}
		return d.SkipValue()
	}
}

// explain takes type and reason out of an error; older servers send a text.
func (f *itemFault) explain(v []byte) {
	var e struct {
		Type   string
		Reason string
	}
	if json.Unmarshal(v, &e) == nil {
		f.kind, f.reason = e.Type, e.Reason
	} else if json.Unmarshal(v, &f.reason) != nil {
		f.reason = string(v)
	}
}
