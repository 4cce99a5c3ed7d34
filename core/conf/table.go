package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The lists of an agent, in the order Flume works them off.
const (
	listFilters  = "configfilters"
	listChannels = "channels"
	listSources  = "sources"
	listSinks    = "sinks"
	listGroups   = "sinkgroups"
)

var listKeys = []string{listFilters, listChannels, listSources, listSinks, listGroups}

// table is what a configuration says of one agent, before anything is bound.
type table struct {
	name  string
	lists map[string]Property           // by list
	parts map[string]map[string]*member // by list, then name
	first Pos
}

// member is a component as it is written.
type member struct {
	props []Property // keys without agent, list and name; sorted
	pos   Pos        // of its type, or of its first property
}

// get is a property of the member by its own name.
func (m *member) get(name string) (Property, bool) {
	for _, p := range m.props {
		if p.Key == name {
			return p, true
		}
	}
	return Property{}, false
}

// below splits off the properties with a prefix, which is cut off.
func (m *member) below(prefix string) (with, without []Property) {
	for _, p := range m.props {
		if rest, ok := strings.CutPrefix(p.Key, prefix); ok && rest != "" {
			p.Key = rest
			with = append(with, p)
			continue
		}
		without = append(without, p)
	}
	return with, without
}

// add takes a property of the agent; rest is its key behind the name of the agent. It tells whether the key has a place
// in the grammar.
func (t *table) add(p Property, rest string) bool {
	if t.first.Line == 0 {
		t.first = p.Pos
	}
	if slices.Contains(listKeys, rest) {
		t.lists[rest] = p
		return true
	}
	list, name, key, ok := splitKey(rest)
	if !ok {
		return false
	}
	if t.parts[list] == nil {
		t.parts[list] = map[string]*member{}
	}
	m := t.parts[list][name]
	if m == nil {
		m = &member{pos: p.Pos}
		t.parts[list][name] = m
	}
	p.Key = key
	m.props = append(m.props, p)
	if key == "type" || key == "processor.type" {
		m.pos = p.Pos
	}
	return true
}

// splitKey cuts LIST.NAME.KEY. As in Flume a name has at least one character, even a dot.
func splitKey(rest string) (list, name, key string, ok bool) {
	list, rest, ok = strings.Cut(rest, ".")
	if !ok || rest == "" || !slices.Contains(listKeys, list) {
		return "", "", "", false
	}
	dot := strings.IndexByte(rest[1:], '.') + 1
	if dot == 0 || dot+1 == len(rest) {
		return "", "", "", false
	}
	return list, javaTrim(rest[:dot]), rest[dot+1:], true
}

// sorted is the names of a list's members.
func (t *table) sorted(list string) []string { return slices.Sorted(maps.Keys(t.parts[list])) }

// invalidHint tells what a key without a place in the grammar was meant to be.
func (t *table) invalidHint(rest string) string {
	list, tail, dotted := strings.Cut(rest, ".")
	if slices.Contains(listKeys, list) && dotted {
		if tail == "" || strings.HasSuffix(tail, ".") {
			return "the name of a key is missing"
		}
		key := "type"
		if list == listGroups {
			key = "sinks"
		}
		return fmt.Sprintf("did you mean %s.%s.%s.%s?", t.name, list, tail, key)
	}
	if near := nearest(list, listKeys); near != "" {
		if dotted {
			near += "." + tail
		}
		return didYouMean(t.name + "." + near)
	}
	return "an agent has " + strings.Join(listKeys, ", ")
}
