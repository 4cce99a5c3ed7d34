package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FromJSON reads one JSON value as a tree. Numbers keep their digits; positions are lines.
func FromJSON(text []byte) (*yaml.Node, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	n, err := readJSON(d, text)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the JSON value")
	}
	return n, nil
}

// readJSON reads the next value of d, which reads text.
func readJSON(d *json.Decoder, text []byte) (*yaml.Node, error) {
	d.UseNumber()
	r := jsonReader{d: d, text: text, line: 1}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	return r.value(token, 0)
}

type jsonReader struct {
	d    *json.Decoder
	text []byte
	seen int // bytes whose lines are counted
	line int
}

func (r *jsonReader) value(token json.Token, depth int) (*yaml.Node, error) {
	at := int(r.d.InputOffset())
	r.line += bytes.Count(r.text[r.seen:at], []byte("\n"))
	r.seen = at
	n := &yaml.Node{Line: r.line}
	if depth > maxDepth {
		return nil, &FieldError{Line: r.line, Text: fmt.Sprintf("is nested more than %d deep", maxDepth)}
	}
	switch t := token.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for {
			next, err := r.d.Token()
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
			if end, ok := next.(json.Delim); ok && (end == '}' || end == ']') {
				return n, nil
			}
			child, err := r.value(next, depth+1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
	case nil:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", fmt.Sprint(t)
	case string:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!str", t
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	}
	return n, nil
}

// ToJSON writes a tree as JSON, in the order of its keys and without blanks. It
// is for trees that came from JSON, changed by [Pod] or not.
func ToJSON(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	if err := writeJSON(&b, n, false); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeJSON(b *bytes.Buffer, n *yaml.Node, html bool) error {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSONString(b, n.Content[i].Value, html)
			b.WriteByte(':')
			if err := writeJSON(b, n.Content[i+1], html); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, c, html); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case yaml.ScalarNode:
		if n.ShortTag() == "!!str" {
			writeJSONString(b, n.Value, html)
		} else if json.Valid([]byte(n.Value)) {
			b.WriteString(n.Value)
		} else {
			return fmt.Errorf("write JSON: %q is no JSON value", n.Value)
		}
	default:
		return errors.New("write JSON: this is no tree of JSON")
	}
	return nil
}

// writeJSONString quotes s; html also escapes what Go's encoder escapes by default, and kubectl with it.
func writeJSONString(b *bytes.Buffer, s string, html bool) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(html)
	_ = e.Encode(s) // a string into memory
	b.Truncate(b.Len() - 1)
}

// likeJSON writes a tree in the form that text has.
func likeJSON(n *yaml.Node, text []byte) ([]byte, error) {
	var flat bytes.Buffer
	html := bytes.Contains(text, []byte(`\u003c`)) || bytes.Contains(text, []byte(`\u003e`)) || bytes.Contains(text, []byte(`\u0026`))
	if err := writeJSON(&flat, n, html); err != nil {
		return nil, err
	}
	indent, ok := jsonIndent(text)
	if !ok {
		return flat.Bytes(), nil
	}
	var b bytes.Buffer
	if err := json.Indent(&b, flat.Bytes(), "", indent); err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte("\r\n")) {
		return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n")), nil
	}
	return b.Bytes(), nil
}

// jsonIndent is what stands before the first key; not ok where everything is on one line.
func jsonIndent(text []byte) (string, bool) {
	rest := bytes.TrimLeft(bytes.TrimPrefix(text, []byte("{")), " \t\r")
	if len(rest) == 0 || rest[0] != '\n' {
		return "", false
	}
	line := rest[1:]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))]), true
}
