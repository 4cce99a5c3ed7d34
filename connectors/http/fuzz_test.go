package http

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/charset"
)

// FuzzJSON compares with encoding/json, and says that a text refused leniently
// is refused strictly.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`[{"headers":{"a":"b"},"body":"x"}]`, `[{"headers":{"n":1,"t":true,"z":null},"body":5,"extra":[1,{"a":[]}]}]`,
		`[{body:'x'}]`, `[{"a": "b",["d":"e"],`, `[null,{}]`, `[{"body":"\"\u00e9\ud83d\ude00"}]`, "\xef\xbb\xbf[]", `[{'a'=>b;},]`, `[{"body":"\ud800"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 50
		d := newDecoder()
		b, fault := d.batch(text, charset.UTF8, limit)
		var oracle []struct {
			Headers map[string]any `json:"headers"`
			Body    any            `json:"body"`
		}
		standard := json.Unmarshal(bytes.TrimPrefix(text, byteOrderMark), &oracle)
		switch {
		case fault == nil:
			defer b.Release()
			if standard != nil && utf8.Valid(text) {
				t.Fatalf("%q is accepted, encoding/json says %v", text, standard)
			}
			for _, e := range b.Events {
				if !utf8.Valid(e.Body) {
					t.Fatalf("%q: body %q", text, e.Body)
				}
				for k, v := range e.Headers.All() {
					if !utf8.ValidString(k) || !utf8.ValidString(v) {
						t.Fatalf("%q: header %q=%q", text, k, v)
					}
				}
			}
			if standard != nil || len(oracle) != len(b.Events) || bytes.Contains(text, []byte(`\`)) {
				return // an escape may spell "body" or "headers", which encoding/json folds in its own way
			}
			for i, e := range b.Events {
				// encoding/json takes "Body" for "body".
				if s, ok := oracle[i].Body.(string); ok && string(e.Body) != s && !bytes.Contains(bytes.ToLower(text), []byte(`"body"`)) {
					t.Fatalf("%q: body %q, want %q", text, e.Body, s)
				}
			}
		case standard == nil && fault.lax && len(text) < 10000:
			if !bytes.Contains(text, []byte("headers")) {
				t.Fatalf("%q is refused as no JSON: %s", text, fault.text)
			}
		}
		plain, ok := strictJSON(text, 1<<20)
		if !ok {
			if fault == nil {
				t.Fatalf("%q is JSON, but not of the lenient dialect", text)
			}
			return
		}
		again, fault2 := d.batch(plain, charset.UTF8, limit)
		if fault2 == nil {
			defer again.Release()
		}
		if fault == nil && (fault2 != nil || shown(again.Events) != shown(b.Events)) {
			t.Fatalf("%q has other events as %q", text, plain)
		}
	})
}
