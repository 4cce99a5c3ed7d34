package sidecar

import (
	"bytes"
	"encoding/json"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

func (p *Program) schema(args []string) int {
	f := newFlags(p, "schema")
	if code, ok := f.parse(args); !ok {
		return code
	}
	if code, ok := f.rest(); !ok {
		return code
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(configurationSchema(Catalog())); err != nil {
		p.complain("schema: " + err.Error())
		return exitFailed
	}
	if _, err := p.Stdout.Write(b.Bytes()); err != nil {
		p.complain("schema: " + err.Error())
		return exitFailed
	}
	return exitOK
}

// configurationSchema describes a configuration as a JSON document:
//
//	{"a1": {
//	  "sources":  {"r1": {"type": "seq", "channels": "c1", "selector": {…}, "interceptors": [{"name": "i1", "type": …}]}},
//	  "channels": {"c1": {"type": "memory", "capacity": 1000}},
//	  "sinks":    {"k1": {"type": "null", "channel": "c1"}},
//	  "sinkgroups": {"g1": {"sinks": "k1 k2", "processor": {"type": "failover", "priority.k1": 10}}}}}
//
// A component's own keys are as in a file, with their dots. Each type has a definition of its own under $defs, named
// after its page of the reference: source-seq. That is what an editor of properties wants, which has a key and looks
// for what it means.
func configurationSchema(cat *core.Catalog) conf.Object {
	var defs conf.Object
	for _, k := range kinds {
		defs.Add(kindWord(k.kind), kindSchema(cat, k.kind))
	}
	for _, k := range kinds {
		for _, e := range cat.Entries(k.kind) {
			defs.Add(kindWord(k.kind)+"-"+e.Name, typeSchema(e))
		}
	}
	group := conf.Schema(withoutKey(commonKeys(conf.KindGroup, nil), "processor.type"))
	group.Properties.Add("processor", ref("processor"))
	group.Required = append(group.Required, "processor")
	agent := conf.ObjectSchema{Required: []string{"channels"}}
	for _, list := range []struct {
		name string
		of   conf.Object
	}{{"configfilters", ref("configfilter")}, {"sources", ref("source")}, {"channels", ref("channel")}, {"sinks", ref("sink")}, {"sinkgroups", group.Object()}} {
		agent.Properties.Add(list.name, conf.Object{{Name: "type", Value: "object"}, {Name: "additionalProperties", Value: list.of}})
	}
	return conf.Object{
		{Name: "$schema", Value: schemaDialect},
		{Name: "title", Value: "Millrace configuration"},
		{Name: "description", Value: "The agents of a configuration, by name."},
		{Name: "type", Value: "object"},
		{Name: "additionalProperties", Value: agent.Object()},
		{Name: "$defs", Value: defs},
	}
}

func ref(name string) conf.Object { return conf.Object{{Name: "$ref", Value: "#/$defs/" + name}} }

// kindSchema chooses the definition of a component by its type, which may be an alias in any case or a class name.
func kindSchema(cat *core.Catalog, kind conf.Kind) conf.Object {
	var names []string
	var branches []conf.Object
	for _, e := range cat.Entries(kind) {
		names = append(names, e.Name)
		all := append([]string{e.Name}, e.Aliases...)
		branches = append(branches, conf.Object{
			{Name: "if", Value: conf.Object{
				{Name: "properties", Value: conf.Object{{Name: "type", Value: conf.Object{{Name: "pattern", Value: conf.AnyCase(all)}}}}},
				{Name: "required", Value: []string{"type"}},
			}},
			{Name: "then", Value: ref(kindWord(kind) + "-" + e.Name)},
		})
	}
	typ := conf.Object{{Name: "type", Value: "string"}, {Name: "examples", Value: names}}
	o := conf.Object{
		{Name: "type", Value: "object"},
		{Name: "properties", Value: conf.Object{{Name: "type", Value: typ}}},
	}
	if kind != conf.KindSelector { // it is replicating where nothing is said
		o.Add("required", []string{"type"})
	}
	o.Add("allOf", branches)
	return o
}

// typeSchema describes a type with the keys that all of its kind have.
func typeSchema(e core.Entry) conf.Object {
	own := conf.Describe(e.New())
	common := commonKeys(e.Kind, own)
	if e.Kind == conf.KindGroup {
		common = nil // those of the group stand beside its processor
	}
	s := conf.Schema(append(withoutKey(withoutKey(common, "type"), "interceptors"), own...))
	typ := conf.Object{{Name: "type", Value: "string"}, {Name: "examples", Value: append([]string{e.Name}, e.Aliases...)}}
	s.Properties = append(conf.Object{{Name: "type", Value: typ}}, s.Properties...)
	switch e.Kind {
	case conf.KindSource:
		s.Properties.Add("selector", ref("selector"))
		s.Properties.Add("interceptors", conf.Object{
			{Name: "description", Value: "In the order that events pass through them; name is what the file calls each."},
			{Name: "type", Value: "array"},
			{Name: "items", Value: ref("interceptor")},
		})
	case conf.KindInterceptor:
		s.Properties.Add("name", conf.Object{{Name: "type", Value: "string"}})
	}
	return s.Object(conf.Member{Name: "title", Value: kindWord(e.Kind) + " " + e.Name}, conf.Member{Name: "description", Value: e.Doc})
}

func withoutKey(docs []conf.KeyDoc, name string) []conf.KeyDoc {
	var kept []conf.KeyDoc
	for _, d := range docs {
		if d.Key != name {
			kept = append(kept, d)
		}
	}
	return kept
}
