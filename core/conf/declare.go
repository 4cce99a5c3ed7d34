package conf

import (
	"fmt"
	"slices"
	"strings"
)

// declaration is one name of a list.
type declaration struct {
	name string
	pos  Pos // of the list
}

// declared are the names of a list, each once, in the order written. It has no effect; see checkList.
func (b *builder) declared(list string) []declaration {
	var all []declaration
	p, ok := b.table.lists[list]
	if !ok {
		return nil
	}
	for _, name := range words(p.Value) {
		d := declaration{name, p.Pos}
		if !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return all
}

// checkLists reports names that are declared and not configured, and the reverse.
func (b *builder) checkLists() {
	for _, list := range listKeys {
		b.checkList(list)
	}
}

func (b *builder) checkList(list string) {
	p := b.table.lists[list]
	_, note := cutNote(p.Value)
	inNote := words(note)
	lost := map[string]bool{} // names that a fault was reported for
	for _, d := range b.declared(list) {
		if b.table.parts[list][d.name] != nil {
			continue
		}
		if note != "" && slices.Contains(inNote, d.name) {
			lost[d.name] = true
			continue
		}
		lost[strings.Trim(d.name, ",;")] = true
		for _, piece := range strings.Split(d.name, ",") {
			lost[piece] = true
		}
		b.undefined(list, d)
	}
	if note != "" {
		b.report(Warning, p.Pos, list, fmt.Sprintf("%q is part of the value: properties have no comments behind a value", note),
			"put the comment on a line of its own")
	}
	if list == listGroups && strings.ContainsAny(p.Value, "\t") {
		b.report(Warning, p.Pos, list, "Flume splits this list at blanks only, not at tabs", "write a blank")
	}
	b.undeclared(list, lost)
}

// undefined reports a name of a list that has no properties.
func (b *builder) undefined(list string, d declaration) {
	hint := ""
	switch {
	case strings.Contains(d.name, ","):
		hint = "separate names by blanks, not by commas"
	case strings.HasSuffix(d.name, ";"):
		hint = "leave out the " + d.name[len(d.name)-1:]
	default:
		hint = didYouMean(nearestName(d.name, b.undeclaredNames(list)))
	}
	b.report(Error, d.pos, list, fmt.Sprintf("%s %q is declared and has no properties: Flume drops it", singular(list), d.name), hint)
}

// undeclaredNames are the configured members that are not in the list.
func (b *builder) undeclaredNames(list string) []string {
	declared := map[string]bool{}
	for _, d := range b.declared(list) {
		declared[d.name] = true
	}
	return slices.DeleteFunc(b.table.sorted(list), func(name string) bool { return declared[name] })
}

func (b *builder) undeclared(list string, lost map[string]bool) {
	for _, name := range b.undeclaredNames(list) {
		if lost[name] {
			continue
		}
		m := b.table.parts[list][name]
		hint := "add it to " + b.full(list)
		if _, ok := b.table.lists[list]; !ok {
			hint = "write " + b.full(list) + " = " + name
		}
		b.report(Warning, m.pos, list+"."+name, "is configured but not declared: it is ignored", hint)
	}
}

// nearestName is nearest for the short names of components, where one character may be half of the name.
func nearestName(name string, candidates []string) string {
	if near := nearest(name, candidates); near != "" {
		return near
	}
	for _, c := range candidates {
		if sameButOne(name, c) {
			return c
		}
	}
	return ""
}

// singular is a list's word for one of its members.
func singular(list string) string {
	switch list {
	case listFilters:
		return "config filter"
	case listGroups:
		return "sink group"
	}
	return strings.TrimSuffix(list, "s")
}
