package conf

import (
	"strings"
)

// KeyDoc documents one key.
type KeyDoc struct {
	Name       string   // as shown: hdfs.path, headers.<group>.<name>
	Type       string   // boolean, int, long, float, string, duration, size, words, comma list, regexp, keys, no effect
	Unit       string   // ms, s, bytes, events, ...
	Default    string   // in that unit; "" for none
	Doc        string   // a sentence or more
	Required   bool     //
	Secret     bool     // never shown
	Rules      []string // at least 1, one of a, b
	Aliases    []string // old names
	Since      string   // version that brought it
	Deprecated string   // what to use instead

	Key    string // as it is written in a file; for all keys with a prefix, that one: headers.
	Prefix bool   // Key is such a prefix
	Inert  bool   // accepted, without effect; Doc says why
	Limits Limits // what a program can check of the rules
}

// Limits are the rules of a key in a form for programs.
type Limits struct {
	Low, High *float64 // inclusive, in the unit of the key; nil: none
	Names     []string // the words that are allowed, in any case; nil: all
}

// Docs are the keys in the order of their declaration.
func (k *Keys) Docs() []KeyDoc {
	docs := make([]KeyDoc, 0, len(k.list))
	for _, key := range k.list {
		doc := key.doc
		doc.Key, doc.Prefix, doc.Inert = key.name, key.isMap, key.inert
		for _, r := range key.rules {
			doc.Limits = doc.Limits.and(r.limits)
		}
		if doc.Secret {
			doc.Default = ""
		}
		docs = append(docs, doc)
	}
	return docs
}

// and is what both allow.
func (l Limits) and(other Limits) Limits {
	if other.Low != nil && (l.Low == nil || *other.Low > *l.Low) {
		l.Low = other.Low
	}
	if other.High != nil && (l.High == nil || *other.High < *l.High) {
		l.High = other.High
	}
	if other.Names != nil {
		l.Names = other.Names
	}
	return l
}

// Describe documents a component. It sets the component's fields to their defaults.
func Describe(b Binder) []KeyDoc {
	var k Keys
	b.Keys(&k)
	return k.Docs()
}

// value is the type and what limits it, in one line.
func (d KeyDoc) value() string {
	parts := []string{d.Type}
	if d.Unit != "" {
		parts[0] += " in " + d.Unit
	}
	parts = append(parts, d.Rules...)
	if d.Secret {
		parts = append(parts, "secret")
	}
	return strings.Join(parts, ", ")
}

// standing is required, or the default, or "".
func (d KeyDoc) standing() string {
	switch {
	case d.Required:
		return "required"
	case d.Default != "":
		return "default " + d.Default
	}
	return ""
}

// remarks are the doc and what is known of the key's history.
func (d KeyDoc) remarks() string {
	text := d.Doc
	if d.Deprecated != "" {
		text += " Deprecated: use " + d.Deprecated + "."
	}
	if len(d.Aliases) > 0 {
		text += " Old name: " + strings.Join(d.Aliases, ", ") + "."
	}
	if d.Since != "" {
		text += " Since " + d.Since + "."
	}
	return strings.TrimSpace(text)
}

// HelpText documents a component for a terminal, 100 columns wide. name is a headline: source taildir.
func HelpText(name, doc string, docs []KeyDoc) string {
	var b strings.Builder
	b.WriteString(name + "\n")
	wrap(&b, "  ", doc)
	for _, d := range docs {
		b.WriteString("\n  " + d.Name + "  (" + d.value())
		if s := d.standing(); s != "" {
			b.WriteString("; " + s)
		}
		b.WriteString(")\n")
		wrap(&b, "      ", d.remarks())
	}
	return b.String()
}

func wrap(b *strings.Builder, indent, text string) {
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > 100:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	if column > 0 {
		b.WriteByte('\n')
	}
}

// MarkdownTable documents keys as a table for a README.
func MarkdownTable(docs []KeyDoc) string {
	var b strings.Builder
	b.WriteString("| Key | Default | Value | |\n|---|---|---|---|\n")
	for _, d := range docs {
		def := ""
		switch {
		case d.Required:
			def = "**required**"
		case d.Default != "":
			def = "`" + TableCell(d.Default) + "`"
		}
		b.WriteString("| `" + TableCell(d.Name) + "` | " + def + " | " + TableCell(d.value()) + " | " + TableCell(noTags.Replace(d.remarks())) + " |\n")
	}
	return b.String()
}

// noTags keeps <state directory> from being taken for HTML.
var noTags = strings.NewReplacer("<", "&lt;", ">", "&gt;")

// TableCell keeps a text from ending its cell of a Markdown table.
func TableCell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
