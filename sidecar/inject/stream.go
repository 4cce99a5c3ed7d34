package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one document of a manifest.
type document struct {
	text  []byte     // as it came, with its mark and what follows up to the next
	line  int        // of the file at which it starts
	root  *yaml.Node // the value; nil where there is none
	doc   *yaml.Node // of YAML: root's document
	json  bool
	gone  bool   // it is left out
	ahead []byte // what is written before it
}

// split cuts a manifest into its documents.
func split(name string, text []byte) ([]*document, error) {
	fault := func(line int, text string) error { return &FieldError{File: name, Line: line, Text: text} }
	switch {
	case len(text) > MaxInput:
		return nil, fault(0, "a manifest of more than 8 MiB is refused")
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return nil, fault(0, "is UTF-16: save it as UTF-8")
	case bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) && !bytes.Contains(text, []byte("\n---")):
		docs, err := splitJSON(text)
		if err == nil {
			return docs, nil
		}
		if f := (*FieldError)(nil); errors.As(err, &f) {
			return nil, inFile(err, name, 0, "")
		}
		// It may still be YAML, in flow style.
	}
	docs := splitYAML(text)
	for i, d := range docs {
		doc, err := parse(d.text)
		if err != nil {
			return nil, syntaxError(err, name, d.line-1, documentName(i, nil))
		}
		if doc == nil {
			continue
		}
		if err := check(doc); err != nil {
			return nil, inFile(err, name, d.line-1, documentName(i, nil))
		}
		d.doc, d.root = doc, doc.Content[0]
	}
	return docs, nil
}

// syntaxError is an error of the parser, which counts the lines of one document.
func syntaxError(err error, file string, before int, document string) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, what
		}
	}
	return &FieldError{File: file, Line: before + line, Document: document, Text: text}
}

// splitYAML cuts at the lines that begin or end a document. A column of three
// dashes or dots is nothing else in YAML, not even within a text.
func splitYAML(text []byte) []*document {
	var docs []*document
	from, line, fromLine := 0, 1, 1
	empty := true // so far there are only comments and directives, which belong to what follows
	cut := func(to int) {
		if to > from {
			docs = append(docs, &document{text: text[from:to:to], line: fromLine})
		}
		from, fromLine, empty = to, line, true
	}
	for at := 0; at < len(text); line++ {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		l := text[at:end]
		switch {
		case marks(l, "---"):
			if !empty || !bytes.Contains(text[from:at], []byte("%")) {
				cut(at)
			}
			empty = false
		case marks(l, "..."):
			line++
			cut(end)
			line--
		case len(bytes.TrimSpace(l)) > 0 && l[0] != '%' && !isComment(l):
			empty = false
		}
		at = end
	}
	cut(len(text))
	return docs
}

func marks(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n"))
}

// splitJSON cuts a sequence of JSON values.
func splitJSON(text []byte) ([]*document, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var docs []*document
	from := 0
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		to := int(d.InputOffset())
		line := 1 + bytes.Count(text[:to-len(raw)], []byte("\n"))
		root, err := FromJSON(raw)
		if err != nil {
			return nil, err
		}
		if err := check(root); err != nil {
			return nil, inFile(err, "", line-1, documentName(len(docs), nil))
		}
		docs = append(docs, &document{text: text[from:to:to], line: line, root: root, json: true})
		from = to
	}
	if len(docs) > 0 { // the end of the last line
		last := docs[len(docs)-1]
		last.text = append(slices.Clip(last.text), text[from:]...)
	}
	return docs, nil
}

// replace changes the text of a document to that of now, a changed clone of its root or, of YAML, its document.
func (d *document) replace(now *yaml.Node) error {
	if !d.json {
		text, err := rewrite(d.text, d.doc, now)
		if err != nil {
			return err
		}
		doc, err := parse(text)
		if err != nil {
			return err
		}
		d.text, d.doc, d.root = text, doc, doc.Content[0]
		return nil
	}
	before := len(d.text) - len(bytes.TrimLeft(d.text, " \t\r\n"))
	after := len(bytes.TrimRight(d.text, " \t\r\n"))
	value, err := likeJSON(now, d.text[before:after])
	if err != nil {
		return err
	}
	d.text = slices.Concat(d.text[:before], value, d.text[after:])
	d.root = now
	return nil
}

// tree is a clone of the document to be changed, and its value.
func (d *document) tree() (now, root *yaml.Node) {
	if d.json {
		now = clone(d.root)
		return now, now
	}
	now = clone(d.doc)
	return now, now.Content[0]
}

// join writes the documents. One that is added stands before another: with a mark of its own if that one has one,
// else the mark is given to that one.
func join(docs []*document) []byte {
	var out []byte
	bare := false // a document without a mark was left out: the next one's mark was made for it
	for _, d := range docs {
		if d.gone {
			bare = bare || d.json && len(out) == 0 || !d.json && !bytes.HasPrefix(d.text, []byte("---"))
			continue
		}
		text := d.text
		if bare {
			if d.json {
				text = bytes.TrimLeft(text, " \t\r\n")
			} else {
				text = bytes.TrimPrefix(bytes.TrimPrefix(text, []byte("---\n")), []byte("---\r\n"))
			}
			bare = false
		}
		if len(d.ahead) > 0 {
			switch {
			case d.json:
				lead := len(text) - len(bytes.TrimLeft(text, " \t\r\n"))
				out = append(append(append(out, text[:lead]...), d.ahead...), lineBreak(text)...)
				text = text[lead:]
			case bytes.HasPrefix(text, []byte("---")):
				out = append(append(append(out, "---"...), lineBreak(text)...), d.ahead...)
			default:
				out = append(append(append(out, d.ahead...), "---"...), lineBreak(text)...)
			}
		}
		out = append(out, text...)
	}
	return out
}

func lineBreak(text []byte) string {
	if bytes.Contains(text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}
