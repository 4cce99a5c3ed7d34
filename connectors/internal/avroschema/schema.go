package avroschema

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// kind is a type of Avro.
type kind uint8

const (
	avroNull kind = iota
	avroBoolean
	avroInt
	avroLong
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroRecord
	avroEnum
	avroArray
	avroMap
	avroUnion
	avroFixed
)

var kinds = []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum", "array", "map", "union", "fixed"}

// Schema is a parsed schema: what is needed to step over values, and to write
// the canonical form.
type Schema struct {
	kind    kind
	name    string    // full name of a record, enum or fixed
	fields  []string  // of a record; or the symbols of an enum
	items   []*Schema // of a record's fields, a union's branches; one of an array or a map
	size    int       // of a fixed
	nothing bool      // a value has no bytes
}

const (
	// MaxText is the most bytes of JSON that Parse takes.
	MaxText   = 4 << 20
	maxNested = 100  // levels of a schema
	maxDepth  = 2000 // levels of a value: schemas may be recursive
)

// Nothing reports whether a value has no bytes.
func (s *Schema) Nothing() bool { return s.nothing }

// Parse reads the JSON form. literal is it without blanks.
func Parse(text []byte) (s *Schema, literal string, err error) {
	if len(text) > MaxText {
		return nil, "", fmt.Errorf("schema of %d bytes is too long", len(text))
	}
	v := jsontext.Value(bytes.Clone(text))
	if err := v.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, "", fmt.Errorf("schema is no JSON: %w", err)
	}
	p := parser{named: make(map[string]*Schema)}
	if s, err = p.parse(v, "", 0); err != nil {
		return nil, "", fmt.Errorf("schema: %w", err)
	}
	for { // until nothing changes: what has no bytes may be nested
		changed := false
		for _, t := range p.all {
			if !t.nothing && t.empty() {
				t.nothing, changed = true, true
			}
		}
		if !changed {
			return s, string(v), nil
		}
	}
}

func (s *Schema) empty() bool {
	switch s.kind {
	case avroNull:
		return true
	case avroFixed:
		return s.size == 0
	case avroRecord:
		for _, f := range s.items {
			if !f.nothing {
				return false
			}
		}
		return true
	}
	return false
}

type parser struct {
	named map[string]*Schema
	all   []*Schema
}

func (p *parser) parse(v jsontext.Value, space string, depth int) (*Schema, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("more than %d levels", maxNested)
	}
	switch v.Kind() {
	case '"':
		return p.reference(unquoted(v), space)
	case '[':
		s := p.make(avroUnion)
		err := elements(v, func(_ string, branch jsontext.Value) error {
			b, err := p.parse(branch, space, depth+1)
			s.items = append(s.items, b)
			return err
		})
		return s, err
	case '{':
		return p.complex(v, space, depth)
	}
	return nil, fmt.Errorf("%s is no schema", clip(v))
}

func (p *parser) make(k kind) *Schema {
	s := &Schema{kind: k}
	p.all = append(p.all, s)
	return s
}

func (p *parser) reference(name, space string) (*Schema, error) {
	for k, primitive := range kinds[:avroRecord] {
		if name == primitive {
			return p.make(kind(k)), nil
		}
	}
	if s := p.named[fullName(name, space)]; s != nil {
		return s, nil
	}
	if s := p.named[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("type %s is not known", clip([]byte(name)))
}

func fullName(name, space string) string {
	if space == "" || strings.Contains(name, ".") {
		return name
	}
	return space + "." + name
}

func (p *parser) complex(v jsontext.Value, space string, depth int) (*Schema, error) {
	m := make(map[string]jsontext.Value)
	if err := elements(v, func(name string, v jsontext.Value) error {
		m[name] = v.Clone()
		return nil
	}); err != nil {
		return nil, err
	}
	typ := m["type"]
	if typ.Kind() != '"' {
		if typ == nil {
			return nil, fmt.Errorf("%s has no type", clip(v))
		}
		return p.parse(typ, space, depth+1)
	}
	word := unquoted(typ)
	switch word {
	case "array", "map":
		k, of := avroArray, "items"
		if word == "map" {
			k, of = avroMap, "values"
		}
		s := p.make(k)
		if m[of] == nil {
			return nil, fmt.Errorf("%s has no %s", word, of)
		}
		item, err := p.parse(m[of], space, depth+1)
		s.items = []*Schema{item}
		return s, err
	case "record", "error", "enum", "fixed":
	default:
		return p.reference(word, space)
	}
	if m["name"].Kind() != '"' {
		return nil, fmt.Errorf("%s has no name", word)
	}
	name := unquoted(m["name"])
	if ns := m["namespace"]; ns.Kind() == '"' {
		space = unquoted(ns)
	}
	if name = fullName(name, space); strings.Contains(name, ".") {
		space = name[:strings.LastIndexByte(name, '.')]
	}
	s := p.make(avroRecord)
	s.name = name
	if p.named[name] != nil {
		return nil, fmt.Errorf("type %s is defined twice", clip([]byte(name)))
	}
	p.named[name] = s
	switch word {
	case "fixed":
		n, err := strconv.ParseUint(string(m["size"]), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("fixed %s has no size", name)
		}
		s.kind, s.size = avroFixed, int(n)
		return s, nil
	case "enum":
		s.kind = avroEnum
		return s, elements(m["symbols"], func(_ string, v jsontext.Value) error {
			s.fields = append(s.fields, unquoted(v))
			return nil
		})
	}
	return s, elements(m["fields"], func(_ string, v jsontext.Value) error {
		var field string
		var typ jsontext.Value
		if err := elements(v, func(name string, v jsontext.Value) error {
			switch name {
			case "name":
				field = unquoted(v)
			case "type":
				typ = v.Clone()
			}
			return nil
		}); err != nil {
			return err
		}
		if field == "" || typ == nil {
			return fmt.Errorf("a field of %s has no name or no type", s.name)
		}
		of, err := p.parse(typ, space, depth+1)
		s.fields, s.items = append(s.fields, field), append(s.items, of)
		return err
	})
}

// elements calls f for the members of an object or the elements of an array.
func elements(v jsontext.Value, f func(name string, v jsontext.Value) error) error {
	if k := v.Kind(); k != '{' && k != '[' {
		return errors.New("an object or an array is missing")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	open, err := dec.ReadToken()
	if err != nil {
		return err
	}
	object := open.Kind() == '{'
	for k := dec.PeekKind(); k != '}' && k != ']'; k = dec.PeekKind() {
		name := ""
		if object {
			tok, err := dec.ReadToken()
			if err != nil {
				return err
			}
			name = tok.String()
		}
		v, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := f(name, v); err != nil {
			return err
		}
	}
	return nil
}

// unquoted is the text of a string; of anything else it is empty.
func unquoted(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, v) // invalid UTF-8 is replaced
	return string(text)
}

// canonical appends the parsing canonical form.
func (s *Schema) canonical(to []byte, seen map[string]bool) []byte {
	quoted := func(to []byte, text string) []byte { return append(append(append(to, '"'), text...), '"') }
	switch s.kind {
	case avroUnion:
		to = append(to, '[')
		for i, b := range s.items {
			if i > 0 {
				to = append(to, ',')
			}
			to = b.canonical(to, seen)
		}
		return append(to, ']')
	case avroArray:
		return append(s.items[0].canonical(append(to, `{"type":"array","items":`...), seen), '}')
	case avroMap:
		return append(s.items[0].canonical(append(to, `{"type":"map","values":`...), seen), '}')
	case avroRecord, avroEnum, avroFixed:
	default:
		return quoted(to, kinds[s.kind])
	}
	if seen[s.name] {
		return quoted(to, s.name)
	}
	seen[s.name] = true
	to = quoted(append(to, `{"name":`...), s.name)
	to = quoted(append(to, `,"type":`...), kinds[s.kind])
	switch s.kind {
	case avroFixed:
		return append(strconv.AppendInt(append(to, `,"size":`...), int64(s.size), 10), '}')
	case avroEnum:
		to = append(to, `,"symbols":[`...)
	default:
		to = append(to, `,"fields":[`...)
	}
	for i, name := range s.fields {
		if i > 0 {
			to = append(to, ',')
		}
		if s.kind == avroEnum {
			to = quoted(to, name)
			continue
		}
		to = quoted(append(to, `{"name":`...), name)
		to = append(s.items[i].canonical(append(to, `,"type":`...), seen), '}')
	}
	return append(to, `]}`...)
}

var rabin = crc64.MakeTable(rabinPoly)

// rabinPoly is the polynomial of CRC-64-AVRO, which is also what an empty text has.
const rabinPoly = 0xc15d213aa4d7a795

// Fingerprint is the CRC-64-AVRO of the canonical form, as Flume writes it:
// in hex, the lowest byte first.
func (s *Schema) Fingerprint() string {
	sum := uint64(rabinPoly)
	for _, b := range s.canonical(nil, make(map[string]bool)) {
		sum = sum>>8 ^ rabin[byte(sum)^b]
	}
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], sum)
	return hex.EncodeToString(raw[:])
}

// clip is the beginning of what an error shows.
func clip(data []byte) []byte { return slices.Clone(data[:min(len(data), 40)]) }
