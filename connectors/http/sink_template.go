package http

import (
	"errors"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// template is a text with headers of an event in it: app-%{app}. It is what
// Flume's escapes are in paths, less those of time.
type template []piece

// piece is a literal text, and after it the value of a header.
type piece struct{ literal, header string }

var errTemplate = errors.New("has a % that begins neither %{header} nor %%")

func parseTemplate(text string) (template, error) {
	var t template
	literal := ""
	for {
		before, rest, more := strings.Cut(text, "%")
		literal += before
		switch {
		case !more:
			if literal != "" {
				t = append(t, piece{literal: literal})
			}
			return t, nil
		case strings.HasPrefix(rest, "%"):
			literal += "%"
			text = rest[1:]
		case strings.HasPrefix(rest, "{"):
			name, after, closed := strings.Cut(rest[1:], "}")
			if !closed || name == "" {
				return nil, errTemplate
			}
			t = append(t, piece{literal, name})
			literal, text = "", after
		default:
			return nil, errTemplate
		}
	}
}

// key binds t to a key.
func (t *template) key(k *conf.Keys, name, doc string) *conf.Key {
	*t = nil
	return k.Func(name, "string", "", doc+" %{header} stands for the value of a header.", func(text string) (err error) {
		*t, err = parseTemplate(text)
		return err
	})
}

// of returns the text for an event with these headers; one that is not there is empty.
func (t template) of(h core.Headers) string {
	if len(t) == 1 && t[0].header == "" {
		return t[0].literal
	}
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.literal)
		if p.header != "" {
			b.WriteString(h.Value(p.header))
		}
	}
	return b.String()
}

// names reports whether t has that header.
func (t template) names(header string) bool {
	for _, p := range t {
		if p.header == header {
			return true
		}
	}
	return false
}
