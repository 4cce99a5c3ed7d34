package conf

import (
	"fmt"
	"regexp"
	"strings"
)

// Filter is a bound config filter, Flume's ConfigFilter: it knows the values of ${NAME['KEY']}, where NAME is its own.
// The values never appear in faults and status pages.
type Filter interface {
	Binder
	// Value is the value of a key; env is the environment. ok is false where there is none: the reference then stays
	// as it is, as it does after an error.
	Value(key string, env func(string) (string, bool)) (value string, ok bool, err error)
}

// filterReference is ${NAME['KEY']} of Flume's config filters, without the braces; the quotes must match.
var filterReference = regexp.MustCompile(`^([^\[\]]+)\[(?:'([-_a-zA-Z0-9]+)'|"([-_a-zA-Z0-9]+)"|([-_a-zA-Z0-9]+))\]$`)

func isFilterReference(name string) bool { return filterReference.MatchString(name) }

// references finds ${...} without others inside.
var references = regexp.MustCompile(`\$\{([^${}]+)\}`)

// filterAnswer is what a filter said of a key.
type filterAnswer struct {
	value string
	ok    bool
	err   error
}

// filters lets the config filters of the agent replace their references, each in the values that those before it left. As
// in Flume they do so in the values of components, not in keys and not in lists.
func (b *builder) filters() {
	declared := map[string]bool{}
	for _, d := range b.declared(listFilters) {
		declared[d.name] = true
		m := b.member(listFilters, d)
		if m == nil {
			continue // checkLists says so
		}
		c, ok := b.bind(part{
			kind: KindFilter, name: d.name, path: listFilters + "." + d.name + ".", props: m.props, pos: m.pos,
			typ: m.value("type"), common: typeKey,
		})
		if ok && !b.offline {
			b.apply(d.name, c.Bound.(Filter))
			continue
		}
		b.eachValue(func(key string, p *Property) { b.lost(d.name, key, p) })
	}
	b.eachValue(func(key string, p *Property) { b.noFilter(declared, key, p) })
}

// eachValue visits the values in which references to filters count; key is without the name of the agent.
func (b *builder) eachValue(visit func(key string, p *Property)) {
	for _, list := range listKeys {
		if list == listFilters {
			continue
		}
		for _, name := range b.table.sorted(list) {
			m := b.table.parts[list][name]
			for i := range m.props {
				if strings.Contains(m.props[i].Value, "${") {
					visit(list+"."+name+"."+m.props[i].Key, &m.props[i])
				}
			}
		}
	}
}

// apply replaces the references to one filter.
func (b *builder) apply(name string, f Filter) {
	asked := map[string]filterAnswer{}
	b.eachValue(func(key string, p *Property) {
		p.Value = references.ReplaceAllStringFunc(p.Value, func(reference string) string {
			item, ok := keyOf(name, reference)
			if !ok {
				return reference
			}
			a, known := asked[item]
			if !known {
				a.value, a.ok, a.err = f.Value(item, b.env)
				asked[item] = a
			}
			switch {
			case a.err != nil:
				b.report(Warning, p.Pos, key, fmt.Sprintf("%s stays as it is: config filter %s: %v", reference, name, a.err), "")
			case !a.ok:
				b.report(Warning, p.Pos, key, fmt.Sprintf("%s stays as it is: config filter %s has no value of that key", reference, name), "")
			default:
				p.filtered = true
				return a.value
			}
			return reference
		})
	})
}

// keyOf is the key of a reference to the filter name.
func keyOf(name, reference string) (key string, ok bool) {
	parts := filterReference.FindStringSubmatch(reference[2 : len(reference)-1])
	if parts == nil || parts[1] != name {
		return "", false
	}
	return parts[2] + parts[3] + parts[4], true
}

// lost marks a value that waits for a filter that is not asked.
func (b *builder) lost(name, key string, p *Property) {
	for _, reference := range references.FindAllString(p.Value, -1) {
		if _, ok := keyOf(name, reference); ok {
			b.broken[b.full(key)] = true
		}
	}
}

// noFilter reports references to filters that are not declared.
func (b *builder) noFilter(declared map[string]bool, key string, p *Property) {
	told := map[string]bool{}
	for _, match := range references.FindAllStringSubmatch(p.Value, -1) {
		parts := filterReference.FindStringSubmatch(match[1])
		if parts == nil || declared[parts[1]] || told[parts[1]] {
			continue
		}
		told[parts[1]] = true
		hint := "declare it in " + b.full(listFilters)
		if b.table.parts[listFilters][parts[1]] == nil {
			hint = "write " + b.full(listFilters) + " = " + parts[1] + ", or use ${env:NAME}"
		}
		b.report(Warning, p.Pos, key, fmt.Sprintf("%s stays as it is: there is no config filter %s", match[0], parts[1]), hint)
	}
}
