package inject

import (
	"bytes"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// difference is the JSON Patch (RFC 6902) that makes the tree now of the tree was.
// Both come from JSON. Lists that only grew at their end are added to; of others
// whose lengths differ the whole is replaced.
func difference(was, now *yaml.Node) ([]byte, error) {
	p := patcher{}
	p.b.WriteByte('[')
	p.node("", was, now)
	p.b.WriteByte(']')
	return p.b.Bytes(), p.err
}

type patcher struct {
	b   bytes.Buffer
	err error
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// operation writes one; value nil has none.
func (p *patcher) operation(op, path string, value *yaml.Node) {
	if p.b.Len() > 1 {
		p.b.WriteByte(',')
	}
	p.b.WriteString(`{"op":"` + op + `","path":`)
	writeJSONString(&p.b, path, false)
	if value != nil {
		p.b.WriteString(`,"value":`)
		if err := writeJSON(&p.b, value, false); err != nil && p.err == nil {
			p.err = err
		}
	}
	p.b.WriteByte('}')
}

func (p *patcher) node(path string, was, now *yaml.Node) {
	switch {
	case same(was, now):
	case was.Kind == yaml.MappingNode && now.Kind == yaml.MappingNode:
		p.mapping(path, was, now)
	case was.Kind == yaml.SequenceNode && now.Kind == yaml.SequenceNode && len(was.Content) <= len(now.Content):
		for i, child := range was.Content {
			p.node(path+"/"+strconv.Itoa(i), child, now.Content[i])
		}
		for _, child := range now.Content[len(was.Content):] {
			p.operation("add", path+"/-", child)
		}
	default:
		p.operation("replace", path, now)
	}
}

func (p *patcher) mapping(path string, was, now *yaml.Node) {
	for i := 0; i+1 < len(was.Content); i += 2 {
		if key := was.Content[i].Value; slot(now, key) < 0 {
			p.operation("remove", path+"/"+pointerEscapes.Replace(key), nil)
		}
	}
	for i := 0; i+1 < len(now.Content); i += 2 {
		key := now.Content[i].Value
		below := path + "/" + pointerEscapes.Replace(key)
		if j := slot(was, key); j >= 0 {
			p.node(below, was.Content[j], now.Content[i+1])
		} else {
			p.operation("add", below, now.Content[i+1])
		}
	}
}
