package conf

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// Object is a JSON object whose members keep their order, so that a person can read it.
type Object []Member

// Member is one member of an [Object].
type Member struct {
	Name  string
	Value any
}

// Add appends a member.
func (o *Object) Add(name string, v any) { *o = append(*o, Member{name, v}) }

// MarshalJSON implements json.Marshaler.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, v := range []any{m.Name, m.Value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := plainJSON(v)
			if err != nil {
				return nil, err
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// plainJSON is json.Marshal without the escapes that only HTML needs.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// ObjectSchema is the schema of a JSON object, in parts that may be added to.
type ObjectSchema struct {
	Properties Object
	Patterns   Object // members by a pattern of their names
	Required   []string
}

// Schema is the JSON schema (draft 2020-12) of an object with these keys as its members, under the names they have in a
// file. Numbers and switches may also be strings, as all values are in a file; any value may hold a reference, ${...}.
// Rules that a schema cannot say stand in the description.
func Schema(docs []KeyDoc) *ObjectSchema {
	s := new(ObjectSchema)
	for _, d := range docs {
		if d.Prefix {
			s.Patterns.Add("^"+regexp.QuoteMeta(d.Key)+".", d.schema())
			continue
		}
		s.Properties.Add(d.Key, d.schema())
		for _, old := range d.Aliases {
			s.Properties.Add(old, append(d.schema(), Member{"deprecated", true}, Member{"$comment", "old name of " + d.Key}))
		}
		if d.Required && len(d.Aliases) == 0 {
			s.Required = append(s.Required, d.Key)
		}
	}
	return s
}

// Object is the schema as JSON, behind a head; the object may have no other members.
func (s *ObjectSchema) Object(head ...Member) Object {
	o := append(Object(head), Member{"type", "object"})
	if s.Properties != nil {
		o.Add("properties", s.Properties)
	}
	if s.Patterns != nil {
		o.Add("patternProperties", s.Patterns)
	}
	if s.Required != nil {
		o.Add("required", s.Required)
	}
	o.Add("additionalProperties", false)
	return o
}

// schema is the schema of one value.
func (d KeyDoc) schema() Object {
	var o Object
	number := func(types any, pattern string) {
		o.Add("type", types)
		o.Add("pattern", pattern)
		if d.Limits.Low != nil {
			o.Add("minimum", *d.Limits.Low)
		}
		if d.Limits.High != nil {
			o.Add("maximum", *d.Limits.High)
		}
	}
	var standard any = d.Default
	switch d.Type {
	case "boolean":
		o.Add("type", []string{"boolean", "string"})
		o.Add("pattern", AnyCase([]string{"true", "false"})+`|\$\{`)
		standard = d.Default == "true"
	case "int", "long":
		number([]string{"integer", "string"}, `^[+-]?[0-9]+$|\$\{`)
		standard = json.Number(d.Default)
	case "float":
		number([]string{"number", "string"}, `^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$|\$\{`)
		standard = json.Number(d.Default)
	case "duration":
		number([]string{"integer", "string"}, `^[+-]?[0-9]+$|^[+-]?([0-9.]+(ns|us|µs|ms|s|m|h))+$|\$\{`)
		standard = json.Number(d.Default)
	case "size":
		number([]string{"integer", "string"}, `^[+-]?[0-9]+ *([kKmMgG]([iI]?[bB])?)?$|\$\{`)
		standard = json.Number(d.Default)
	case "keys", "no effect":
		o.Add("type", []string{"string", "number", "boolean"})
	default:
		o.Add("type", []string{"string", "number", "boolean"})
		if d.Limits.Names != nil && d.Type == "string" {
			o = Object{{"anyOf", []Object{{{"enum", d.Limits.Names}}, {{"pattern", AnyCase(d.Limits.Names) + `|\$\{`}}}}}
		}
	}
	if d.Default != "" && !d.Prefix {
		o.Add("default", standard)
	}
	if text := d.description(); text != "" {
		o.Add("description", text)
	}
	if d.Deprecated != "" || d.Inert {
		o.Add("deprecated", true)
	}
	if d.Secret {
		o.Add("writeOnly", true)
	}
	return o
}

// description is the documentation of a key with what the rest of its schema does not say.
func (d KeyDoc) description() string {
	if d.Inert {
		return "Has no effect: " + d.Doc
	}
	text := d.Doc
	if d.Deprecated != "" {
		text += " Deprecated: use " + d.Deprecated + "."
	}
	switch value := d.value(); value {
	case "string", "boolean", "int", "long", "keys":
	default:
		text += " (" + value + ")"
	}
	return text
}

// AnyCase is a pattern for one of some words in any case; a schema has no flag for that.
func AnyCase(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, r := range n {
			lower, upper := strings.ToLower(string(r)), strings.ToUpper(string(r))
			if lower != upper {
				b.WriteString("[" + lower + upper + "]")
				continue
			}
			b.WriteString(regexp.QuoteMeta(lower))
		}
	}
	return "^(" + b.String() + ")$"
}
