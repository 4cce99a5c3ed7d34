package regex

import (
	"sync"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// SearchReplace is the catalogue entry.
var SearchReplace = core.Type[core.Interceptor]{
	Name: "search_replace", Doc: "Replaces what a regular expression finds in the body.",
	Aliases: names("SearchAndReplaceInterceptor"),
	New:     func() core.Interceptor { return new(searchReplace) },
}

type searchReplace struct {
	guard
	re      *javaregex.Regexp
	text    string
	charset *charset.Charset
	with    *javaregex.Replacement
}

// Keys implements core.Component.
func (s *searchReplace) Keys(k *conf.Keys) {
	javaregex.Key(k, &s.re, "searchPattern", "", "What to find; every place is replaced.").Required()
	k.String(&s.text, "replaceString", "", `What takes its place: $1 or ${name} is a group, \ takes the meaning of the next character. Without: nothing does.`)
	charset.Key(k, &s.charset, "charset", "Encoding of the body.")
	s.keys(k, &s.re)
	k.Check(func(r *conf.Report) {
		var err error
		if s.with, err = s.re.Replacement(s.text); err != nil {
			r.Error("replaceString", "%q %v", s.text, err)
		}
	})
}

// scratch is memory for one event after another.
type scratch struct{ decoded, replaced, encoded []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Intercept implements core.Interceptor. Bodies without a match stay as they are, byte for byte.
func (s *searchReplace) Intercept(b *core.Batch) error {
	t := scratches.Get().(*scratch)
	defer scratches.Put(t)
	var free []byte
	for i := range b.Events {
		body, changed := s.replace(t, b.Events[i].Body)
		if !changed {
			continue
		}
		if len(body) > len(free) {
			free = b.Block(max(blockFor(b, free), len(body)))
		}
		n := copy(free, body)
		b.SetBody(i, free[:n:n])
		free = free[n:]
	}
	return nil
}

// replace returns the new body, in memory of t.
func (s *searchReplace) replace(t *scratch, body []byte) (_ []byte, changed bool) {
	if !s.charset.IsUTF8() {
		t.decoded = s.charset.Decode(t.decoded[:0], body)
		body = t.decoded
	}
	var err error
	t.replaced, changed, err = s.re.Replace(t.replaced[:0], body, s.with)
	switch {
	case err != nil:
		s.late(s.re, err)
		return nil, false
	case changed && !s.charset.IsUTF8():
		t.encoded = s.charset.Encode(t.encoded[:0], t.replaced)
		return t.encoded, true
	}
	return t.replaced, changed
}

// blockFor is the size of the next block for new bodies: small for the first of a small batch.
func blockFor(b *core.Batch, used []byte) int {
	const first, further = 4 << 10, 64 << 10
	if used == nil && b.Size().Bytes <= first {
		return first
	}
	return further
}
