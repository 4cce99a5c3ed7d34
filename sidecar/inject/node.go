package inject

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxInput bounds what is read of a manifest, in bytes.
	MaxInput = 8 << 20
	// maxNodes bounds a document with its aliases written out: a few lines can stand for billions.
	maxNodes = 1 << 18
	// maxDepth bounds nesting; real manifests stay below 40.
	maxDepth = 200
)

// FieldError is a fault of a manifest.
type FieldError struct {
	File     string
	Line     int    // of the file, from 1; 0 where there is none
	Document string // such as "document 2 (Deployment web)"
	Field    string // such as spec.template.spec.containers[0]
	Text     string
}

// Error implements error: file:line: error: document: field: text.
func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": error: ")
	for _, part := range []string{e.Document, e.Field} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(e.Text)
	return b.String()
}

// place is a node of a tree that may be changed, with the way to it.
type place struct {
	root *yaml.Node
	node *yaml.Node // nil where there is nothing
	path string
}

func (p place) errorf(format string, args ...any) error {
	e := &FieldError{Field: p.path, Text: fmt.Sprintf(format, args...)}
	if p.node != nil {
		e.Line = p.node.Line
	}
	return e
}

func (p place) below(key string) string {
	if p.path == "" {
		return key
	}
	return p.path + "." + key
}

// isNull tells what Kubernetes takes for a field that is not there.
func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func deref(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// slot is the index of the value of a key that stands in m itself, or -1.
func slot(m *yaml.Node, key string) int {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if k := m.Content[i]; k.Kind == yaml.ScalarNode && k.Value == key && !isMerge(k) {
			return i + 1
		}
	}
	return -1
}

func isMerge(k *yaml.Node) bool { return k.Kind == yaml.ScalarNode && k.Tag == "!!merge" }

// lookup finds the value of a key, by aliases and merges; nil if there is none.
func lookup(m *yaml.Node, key string) *yaml.Node {
	m = deref(m)
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	if i := slot(m, key); i >= 0 {
		return deref(m.Content[i])
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if !isMerge(m.Content[i]) {
			continue
		}
		from := deref(m.Content[i+1])
		if from == nil {
			continue
		}
		if from.Kind != yaml.SequenceNode {
			from = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{from}}
		}
		for _, one := range from.Content {
			if v := lookup(one, key); v != nil {
				return v
			}
		}
	}
	return nil
}

// get is the field of a mapping, to be read only; its node is nil where the field is missing or null.
func (p place) get(key string) place {
	n := lookup(p.node, key)
	if isNull(n) {
		n = nil
	}
	return place{p.root, n, p.below(key)}
}

// text is a scalar's value, empty for anything else.
func (p place) text() string {
	if p.node == nil || p.node.Kind != yaml.ScalarNode {
		return ""
	}
	return p.node.Value
}

// items are the elements of a list, to be read only.
func (p place) items() []place {
	if p.node == nil || p.node.Kind != yaml.SequenceNode {
		return nil
	}
	all := make([]place, len(p.node.Content))
	for i, n := range p.node.Content {
		all[i] = place{p.root, deref(n), fmt.Sprintf("%s[%d]", p.path, i)}
	}
	return all
}

// is complains of a node that is there and of another kind.
func (p place) is(kind yaml.Kind) error {
	if p.node == nil || p.node.Kind == kind {
		return nil
	}
	switch kind {
	case yaml.MappingNode:
		return p.errorf("must be a mapping")
	case yaml.SequenceNode:
		return p.errorf("must be a list")
	}
	return p.errorf("must be a single value")
}

// own returns the field of a mapping, itself owned, so that changing it changes nothing else; it makes one where there
// is none. empty is what stood there if that had nothing in it: null as it was written, or a collection.
func (p place) own(key string, kind yaml.Kind) (child place, empty *yaml.Node, err error) {
	child = p.get(key)
	if err := child.is(kind); err != nil {
		return child, nil, err
	}
	i := slot(p.node, key)
	switch {
	case child.node == nil:
		child.node = &yaml.Node{Kind: kind}
		if i >= 0 {
			empty = deref(p.node.Content[i])
			p.node.Content[i] = child.node
		} else {
			p.node.Content = append(p.node.Content, str(key), child.node)
		}
		return child, empty, nil
	case i < 0:
		child.node = copyOf(child.node)
		p.node.Content = append(p.node.Content, str(key), child.node)
	default:
		p.node.Content[i] = ownNode(p.root, p.node.Content[i])
		child.node = p.node.Content[i]
	}
	if len(child.node.Content) == 0 {
		empty = child.node
	}
	return child, empty, nil
}

// ownItem returns an element of an owned list as own does a field.
func (p place) ownItem(i int) place {
	p.node.Content[i] = ownNode(p.root, p.node.Content[i])
	return place{p.root, p.node.Content[i], fmt.Sprintf("%s[%d]", p.path, i)}
}

// ownNode returns what stands for n when it is about to change: a copy if it is
// an alias; n itself otherwise, whose own aliases become copies of what it is now.
func ownNode(root, n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return copyOf(deref(n))
	}
	if n.Anchor != "" {
		replaceAliases(root, n)
		n.Anchor = ""
	}
	return n
}

func replaceAliases(in, of *yaml.Node) {
	for i, c := range in.Content {
		if c.Kind == yaml.AliasNode && c.Alias == of {
			in.Content[i] = copyOf(of)
			continue
		}
		replaceAliases(c, of)
	}
}

// set puts a value in place of a field, or at the end of the mapping.
func (p place) set(key string, v *yaml.Node) {
	if i := slot(p.node, key); i >= 0 {
		p.node.Content[i] = v
		return
	}
	p.node.Content = append(p.node.Content, str(key), v)
}

// unset takes a field out.
func (p place) unset(key string) {
	if i := slot(p.node, key); i >= 0 {
		p.node.Content = append(p.node.Content[:i-1:i-1], p.node.Content[i+1:]...)
	}
}

// copyOf is a deep copy without anchors and without positions, as new nodes are.
func copyOf(n *yaml.Node) *yaml.Node {
	c := *n
	c.Anchor, c.Line, c.Column = "", 0, 0
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, copyOf(child))
	}
	return &c
}

// clone is a deep copy with everything; its aliases lead into the copy.
func clone(n *yaml.Node) *yaml.Node {
	made := make(map[*yaml.Node]*yaml.Node)
	var walk func(*yaml.Node) *yaml.Node
	walk = func(n *yaml.Node) *yaml.Node {
		c := *n
		made[n] = &c
		c.Content = nil
		for _, child := range n.Content {
			c.Content = append(c.Content, walk(child))
		}
		return &c
	}
	root := walk(n)
	for _, c := range made {
		if c.Alias != nil {
			c.Alias = made[c.Alias]
		}
	}
	return root
}

// same tells whether two trees mean the same, in the same order and with the same aliases.
func same(a, b *yaml.Node) bool {
	if isNull(a) && isNull(b) {
		return (a == nil) == (b == nil)
	}
	if a.Kind != b.Kind || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind != yaml.AliasNode && a.ShortTag() != b.ShortTag() {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// check refuses trees that are too large, too deep, name a key twice or hold themselves.
func check(root *yaml.Node) error {
	size := make(map[*yaml.Node]int) // with aliases written out; -1 while it is being counted
	var count func(n *yaml.Node, depth int) (int, error)
	count = func(n *yaml.Node, depth int) (int, error) {
		fault := func(text string) (int, error) { return 0, &FieldError{Line: n.Line, Text: text} }
		if s := size[n]; s > 0 {
			return s, nil
		} else if s < 0 {
			return fault("an anchor holds itself")
		}
		if depth > maxDepth {
			return fault(fmt.Sprintf("is nested more than %d deep", maxDepth))
		}
		size[n] = -1
		total := 1
		children := n.Content
		if n.Kind == yaml.AliasNode {
			children = []*yaml.Node{n.Alias}
		}
		keys := make(map[string]bool)
		for i, c := range children {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.Kind == yaml.ScalarNode && !isMerge(c) {
				if keys[c.Value] {
					return 0, &FieldError{Line: c.Line, Text: fmt.Sprintf("the key %q is there twice", c.Value)}
				}
				keys[c.Value] = true
			}
			s, err := count(c, depth+1)
			if err != nil {
				return 0, err
			}
			if total += s; total > maxNodes {
				return fault(fmt.Sprintf("a document of more than %d values, aliases counted, is refused", maxNodes))
			}
		}
		size[n] = total
		return total, nil
	}
	_, err := count(root, 0)
	return err
}

// str, num, object and list make new nodes.
func str(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func num(n int64) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(n, 10)}
}

func yes(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

// field is one pair of an object; a nil value leaves it out.
type field struct {
	key   string
	value *yaml.Node
}

func object(fields ...field) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		if f.value != nil {
			m.Content = append(m.Content, str(f.key), f.value)
		}
	}
	return m
}

func list(items ...*yaml.Node) *yaml.Node {
	if len(items) == 0 {
		return nil
	}
	return &yaml.Node{Kind: yaml.SequenceNode, Content: items}
}

func words(all ...string) *yaml.Node {
	items := make([]*yaml.Node, len(all))
	for i, w := range all {
		items[i] = str(w)
	}
	return list(items...)
}
