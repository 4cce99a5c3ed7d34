package conf

import (
	"fmt"
	"slices"
	"strings"
)

const (
	selectorPrefix    = "selector."
	interceptorPrefix = "interceptors."
	processorPrefix   = "processor."
)

// part is what it takes to bind one component.
type part struct {
	kind    Kind
	name    string
	path    string // key prefix without the agent: sources.r1.
	props   []Property
	pos     Pos
	typ     string        // what it says; "" when absent
	members []string      // see Report.Members
	common  func(k *Keys) // keys of the kind
	below   []string      // prefixes bound apart, for hints
}

// bind finds the type of a part and binds it. It reports all faults; ok is false when one is an error.
func (b *builder) bind(p part) (c *Component, ok bool) {
	bound, name, ok := b.find(p)
	if !ok {
		return nil, false
	}
	k := &Keys{prefix: b.full(p.path), pos: p.pos, members: p.members, broken: b.broken}
	bound.Keys(k)
	k.common, k.below = true, p.below
	p.common(k)
	k.bind(p.props)
	for _, f := range k.faults {
		b.add(f)
	}
	for name := range k.secrets {
		b.secrets[k.prefix+name] = true
	}
	b.agent.Notices = append(b.agent.Notices, k.notices...)
	c = &Component{Kind: p.kind, Name: p.name, Type: name, Pos: p.pos, Bound: bound, Props: p.props, Keys: k}
	return c, !k.lost && !k.faults.HasErrors()
}

// find resolves the type of a part.
func (b *builder) find(p part) (Binder, string, bool) {
	key := p.path + "type"
	if p.typ == "" {
		b.report(Error, p.pos, key, "is required: "+consequence(p.kind), "")
		return nil, "", false
	}
	bound, name, hint, ok := b.cat.Find(p.kind, p.typ)
	if ok {
		return bound, name, true
	}
	text := "unknown %s type %q"
	if hint == "" {
		hint = b.typeHint(p)
	} else {
		text = "there is no %s type %q here" // the catalogue knows it, and says what to use instead
	}
	b.report(Error, p.pos, key, fmt.Sprintf(text, kindWord(p.kind), p.typ), hint)
	return nil, "", false
}

func (b *builder) typeHint(p part) string {
	if value, note := cutNote(p.typ); note != "" {
		return fmt.Sprintf("%q is part of the value: write %s and put the comment on a line of its own", note, value)
	}
	if hint := valueHint(p.typ); hint != "" {
		return hint
	}
	if near := nearest(p.typ, b.cat.Names(p.kind)); near != "" {
		return didYouMean(near)
	}
	for _, kind := range []Kind{KindSource, KindChannel, KindSink} {
		if _, _, _, ok := b.cat.Find(kind, p.typ); ok && kind != p.kind {
			return fmt.Sprintf("%s is the type of a %s", p.typ, kindWord(kind))
		}
	}
	if name := b.byClass(p.kind, p.typ); name != "" {
		return didYouMean(name)
	}
	return "types are " + strings.Join(b.cat.Names(p.kind), ", ")
}

// byClass is the type whose class name of Flume's ends like typ, which has another package, or none, or lacks $Builder.
func (b *builder) byClass(kind Kind, typ string) string {
	class := strings.TrimSuffix(typ[strings.LastIndexByte(typ, '.')+1:], "$Builder")
	for _, suffix := range []string{"", "$Builder"} {
		if _, name, _, ok := b.cat.Find(kind, "org.apache.flume."+string(kind)+"."+class+suffix); ok {
			return name
		}
	}
	return ""
}

func kindWord(k Kind) string {
	switch k {
	case KindGroup:
		return "sink processor"
	case KindFilter:
		return "config filter"
	}
	return string(k)
}

// consequence is what Flume does with a component of the kind that has no type.
func consequence(k Kind) string {
	switch k {
	case KindGroup:
		return "Flume drops a group without it, and never starts its sinks"
	case KindInterceptor:
		return "Flume drops the source of an interceptor without it"
	}
	return "Flume drops a " + string(k) + " without it"
}

// member is a declared component's properties, or nil.
func (b *builder) member(list string, d declaration) *member { return b.table.parts[list][d.name] }

func (m *member) value(name string) string {
	p, _ := m.get(name)
	return p.Value
}

func (b *builder) channel(d declaration) {
	m := b.member(listChannels, d)
	if m == nil {
		return
	}
	c, ok := b.bind(part{
		kind: KindChannel, name: d.name, path: listChannels + "." + d.name + ".", props: m.props, pos: m.pos,
		typ: m.value("type"), common: func(k *Keys) { typeKey(k); inertKeys(k) },
	})
	if ok {
		b.channels[d.name] = c
		b.agent.Channels = append(b.agent.Channels, c)
	}
}

func (b *builder) source(d declaration) {
	m := b.member(listSources, d)
	if m == nil {
		return
	}
	path := listSources + "." + d.name + "."
	selector, rest := m.below(selectorPrefix)
	interceptors, own := (&member{props: rest}).below(interceptorPrefix)
	s := new(Source)
	c, ok := b.bind(part{
		kind: KindSource, name: d.name, path: path, props: own, pos: m.pos, typ: m.value("type"),
		common: s.keys, below: []string{interceptorPrefix, selectorPrefix, selectorPrefix + "type"},
	})
	if c != nil {
		s.Component = *c
	}
	// Every fault is reported, even when the source is lost already.
	channelsOK := b.sourceChannels(s, m, d.name)
	selectorOK := b.selector(s, selector, b.selectable(s, words(m.value("channels"))), path, m.pos)
	interceptorsOK := b.interceptors(s, m, interceptors, path)
	if ok && channelsOK && selectorOK && interceptorsOK {
		b.agent.Sources = append(b.agent.Sources, s)
	}
}

// sourceChannels checks the channels of a source and keeps those there are.
func (b *builder) sourceChannels(s *Source, m *member, name string) bool {
	key := listSources + "." + name + ".channels"
	p, ok := m.get("channels")
	if !ok {
		b.report(Error, m.pos, key, "is required: Flume drops a source without it", "")
		return false
	}
	list, note := cutNote(p.Value)
	if note != "" {
		b.report(Warning, p.Pos, key, fmt.Sprintf("%q is part of the value: properties have no comments behind a value", note),
			"put the comment on a line of its own")
	}
	s.Channels = nil
	good := true
	for _, channel := range words(list) {
		switch {
		case slices.Contains(s.Channels, channel):
			b.report(Warning, p.Pos, key, "names channel "+channel+" twice", "")
		case b.channels[channel] != nil:
			s.Channels = append(s.Channels, channel)
			good = b.batchFits(&s.Component, listSources, b.channels[channel]) && good
		case !b.isDeclared(listChannels, channel):
			b.noChannel(p, key, channel, len(words(list)) > 1)
		}
	}
	return good && len(s.Channels) > 0
}

// selectable are the channels that a selector may name: those of the source, in their order, which is the one events are
// routed by. A channel with a fault of its own has been reported; only when the agent runs without it is it one to report
// wherever it is named.
func (b *builder) selectable(s *Source, listed []string) []string {
	names := slices.Clone(s.Channels)
	for _, name := range listed {
		if !b.lenient && !slices.Contains(names, name) && b.isDeclared(listChannels, name) {
			names = append(names, name)
		}
	}
	return names
}

// noChannel reports a channel that is not declared. Flume goes on with the rest of a list, when there is one.
func (b *builder) noChannel(p Property, key, channel string, inList bool) {
	severity, text := Error, fmt.Sprintf("there is no channel %q", channel)
	hint := didYouMean(nearestName(channel, without(b.declaredNames(listChannels), words(p.Value))))
	if strings.Contains(channel, ",") {
		hint = "separate names by blanks, not by commas"
	} else if inList && b.anyDeclared(listChannels, words(p.Value)) {
		severity, text = Warning, text+": it is left out"
	}
	b.report(severity, p.Pos, key, text, hint)
}

func (b *builder) anyDeclared(list string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return b.isDeclared(list, n) })
}

// without are the names that are not among others.
func without(names, others []string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(others, n) })
}

func (b *builder) isDeclared(list, name string) bool {
	return slices.Contains(b.declaredNames(list), name)
}

func (b *builder) declaredNames(list string) []string {
	var names []string
	for _, d := range b.declared(list) {
		names = append(names, d.name)
	}
	return names
}

func (b *builder) selector(s *Source, props []Property, channels []string, path string, pos Pos) (ok bool) {
	m := member{props: props, pos: pos}
	typ := "replicating"
	if p, has := m.get("type"); has {
		typ, m.pos = p.Value, p.Pos
	}
	s.Selector, ok = b.bind(part{
		kind: KindSelector, path: path + selectorPrefix, props: props, pos: m.pos, typ: typ, members: channels, common: typeKey,
	})
	return ok
}

func (b *builder) interceptors(s *Source, m *member, props []Property, path string) bool {
	list, _ := m.get("interceptors")
	names, note := cutNote(list.Value)
	good, listed := note == "", map[string]bool{}
	if note != "" {
		b.report(Error, list.Pos, path+"interceptors",
			fmt.Sprintf("%q is part of the value: Flume takes the words for interceptors, and drops the source", note),
			"put the comment on a line of its own")
	}
	for _, name := range words(names) {
		listed[name] = true
		c, ok := b.interceptor(name, props, path+interceptorPrefix+name+".", list.Pos)
		s.Interceptors = append(s.Interceptors, c)
		good = good && ok
	}
	b.unusedInterceptors(props, listed, path)
	return good
}

func (b *builder) interceptor(name string, props []Property, path string, listPos Pos) (*Component, bool) {
	own, _ := (&member{props: props}).below(name + ".")
	m := member{props: own, pos: listPos}
	if p, ok := m.get("type"); ok {
		m.pos = p.Pos
	}
	return b.bind(part{
		kind: KindInterceptor, name: name, path: path, props: own, pos: m.pos, typ: m.value("type"), common: typeKey,
	})
}

func (b *builder) unusedInterceptors(props []Property, listed map[string]bool, path string) {
	for _, p := range props {
		name, _, _ := strings.Cut(p.Key, ".")
		if listed[name] {
			continue
		}
		listed[name] = true
		b.report(Warning, p.Pos, path+interceptorPrefix+name, "is configured but not declared: it is ignored",
			"add it to "+b.full(path+"interceptors"))
	}
}
