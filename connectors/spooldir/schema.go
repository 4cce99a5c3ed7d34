package spooldir

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
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

// schema is a parsed schema: what is needed to step over values, and to write
// the canonical form.
type schema struct {
	kind    kind
	name    string    // full name of a record, enum or fixed
	fields  []string  // of a record; or the symbols of an enum
	items   []*schema // of a record's fields, a union's branches; one of an array or a map
	size    int       // of a fixed
	nothing bool      // a value has no bytes
}

const (
	maxSchema = 4 << 20 // bytes of JSON
	maxNested = 100     // levels of a schema
	maxDepth  = 2000    // levels of a value: schemas may be recursive
)

// parseSchema reads the JSON form. literal is it without blanks.
func parseSchema(text []byte) (s *schema, literal string, err error) {
	if len(text) > maxSchema {
		return nil, "", fmt.Errorf("schema of %d bytes is too long", len(text))
	}
	v := jsontext.Value(bytes.Clone(text))
	if err := v.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, "", fmt.Errorf("schema is no JSON: %w", err)
	}
	p := parser{named: make(map[string]*schema)}
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

func (s *schema) empty() bool {
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
	named map[string]*schema
	all   []*schema
}

func (p *parser) parse(v jsontext.Value, space string, depth int) (*schema, error) {
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

func (p *parser) make(k kind) *schema {
	s := &schema{kind: k}
	p.all = append(p.all, s)
	return s
}

func (p *parser) reference(name, space string) (*schema, error) {
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

func (p *parser) complex(v jsontext.Value, space string, depth int) (*schema, error) {
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
		s.items = []*schema{item}
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
func (s *schema) canonical(to []byte, seen map[string]bool) []byte {
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

// fingerprint is the CRC-64-AVRO of the canonical form, as Flume writes it:
// in hex, the lowest byte first.
func (s *schema) fingerprint() string {
	sum := uint64(rabinPoly)
	for _, b := range s.canonical(nil, make(map[string]bool)) {
		sum = sum>>8 ^ rabin[byte(sum)^b]
	}
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], sum)
	return hex.EncodeToString(raw[:])
}

var (
	errShort = errors.New("value ends too early")
	errDeep  = fmt.Errorf("value has more than %d levels", maxDepth)
	errValue = errors.New("value does not fit its schema")
)

// skip returns the length of the value that data begins with.
func (s *schema) skip(data []byte) (int, error) {
	rest, err := s.over(data, 0)
	return len(data) - len(rest), err
}

// over returns what follows the value.
func (s *schema) over(data []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	switch s.kind {
	case avroNull:
		return data, nil
	case avroBoolean:
		return after(data, 1)
	case avroFloat:
		return after(data, 4)
	case avroDouble:
		return after(data, 8)
	case avroFixed:
		return after(data, int64(s.size))
	case avroInt, avroLong:
		_, rest, err := varint(data)
		return rest, err
	case avroBytes, avroString:
		n, rest, err := varint(data)
		if err != nil {
			return nil, err
		}
		return after(rest, n)
	case avroEnum:
		n, rest, err := varint(data)
		if err == nil && (n < 0 || n >= int64(len(s.fields))) {
			err = errValue
		}
		return rest, err
	case avroUnion:
		n, rest, err := varint(data)
		if err != nil || n < 0 || n >= int64(len(s.items)) {
			return nil, errors.Join(err, errValue)
		}
		return s.items[n].over(rest, depth+1)
	case avroRecord:
		if s.nothing {
			return data, nil
		}
		var err error
		for _, f := range s.items {
			if data, err = f.over(data, depth+1); err != nil {
				return nil, err
			}
		}
		return data, nil
	}
	return s.blocks(data, depth)
}

// blocks is over for an array or a map: blocks of a count and so many items,
// until a count of 0. After a negative count comes the block's size.
func (s *schema) blocks(data []byte, depth int) ([]byte, error) {
	item := s.items[0]
	for {
		n, rest, err := varint(data)
		if err != nil || n == 0 {
			return rest, err
		}
		data = rest
		if n < 0 {
			size, rest, err := varint(data)
			if err == nil {
				data, err = after(rest, size)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if item.nothing && s.kind == avroArray {
			continue
		}
		for range n {
			if s.kind == avroMap {
				size, rest, err := varint(data)
				if err == nil {
					data, err = after(rest, size)
				}
				if err != nil {
					return nil, err
				}
			}
			if data, err = item.over(data, depth+1); err != nil {
				return nil, err
			}
		}
	}
}

func after(data []byte, n int64) ([]byte, error) {
	if n < 0 || n > int64(len(data)) {
		return nil, errShort
	}
	return data[n:], nil
}

func varint(data []byte) (int64, []byte, error) {
	n, size := binary.Varint(data)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, data[size:], nil
}
