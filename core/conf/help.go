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
}

// Docs are the keys in the order of their declaration.
func (k *Keys) Docs() []KeyDoc {
	docs := make([]KeyDoc, 0, len(k.list))
	for _, key := range k.list {
		doc := key.doc
		if doc.Secret {
			doc.Default = ""
		}
		docs = append(docs, doc)
	}
	return docs
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
			def = "`" + cell(d.Default) + "`"
		}
		b.WriteString("| `" + cell(d.Name) + "` | " + def + " | " + cell(d.value()) + " | " + cell(d.remarks()) + " |\n")
	}
	return b.String()
}

// cell keeps a text from ending its table cell.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
