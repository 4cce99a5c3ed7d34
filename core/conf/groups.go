package conf

import (
	"fmt"
	"slices"
	"strings"
)

func (b *builder) sink(d declaration) {
	m := b.member(listSinks, d)
	if m == nil {
		return
	}
	path := listSinks + "." + d.name + "."
	s := new(Sink)
	c, ok := b.bind(part{
		kind: KindSink, name: d.name, path: path, props: m.props, pos: m.pos, typ: m.value("type"), common: s.keys,
	})
	if c != nil {
		s.Component = *c
	}
	channelOK := b.sinkChannel(s, m, path)
	deadLetterOK := b.deadLetter(s, m, path)
	if ok && channelOK && deadLetterOK {
		b.sinks[d.name] = s
		b.agent.Sinks = append(b.agent.Sinks, s)
	}
}

// sinkChannel checks the channel of a sink.
func (b *builder) sinkChannel(s *Sink, m *member, path string) bool {
	p, ok := m.get("channel")
	if !ok {
		hint := ""
		if _, has := m.get("channels"); has {
			hint = "a sink has channel, without s"
		}
		b.report(Error, m.pos, path+"channel", "is required: Flume drops a sink without it", hint)
		return false
	}
	if c := b.channels[p.Value]; c != nil {
		return b.batchFits(&s.Component, listSinks, c)
	}
	if !b.isDeclared(listChannels, p.Value) {
		b.report(Error, p.Pos, path+"channel", fmt.Sprintf("there is no channel %q: Flume drops the sink", p.Value),
			b.channelHint(p.Value))
	}
	return false
}

func (b *builder) channelHint(name string) string {
	if hint := valueHint(name); hint != "" {
		return hint
	}
	if len(words(name)) > 1 || strings.Contains(name, ",") {
		return "a sink takes from one channel"
	}
	return didYouMean(nearestName(name, b.declaredNames(listChannels)))
}

// deadLetter checks the channel for refused events.
func (b *builder) deadLetter(s *Sink, m *member, path string) bool {
	p, ok := m.get("deadLetter")
	switch {
	case !ok:
		return true
	case p.Value == m.value("channel"):
		b.report(Error, p.Pos, path+"deadLetter", "is the sink's own channel: refused events would come back", "")
		return false
	case !b.isDeclared(listChannels, p.Value):
		b.report(Error, p.Pos, path+"deadLetter", fmt.Sprintf("there is no channel %q", p.Value), b.channelHint(p.Value))
		return false
	}
	return b.channels[p.Value] != nil
}

// batchFits checks that one batch is one transaction of the channel. It is true for a component that was not bound.
func (b *builder) batchFits(c *Component, list string, channel *Component) bool {
	if c.Keys == nil {
		return true
	}
	size, sized := c.Keys.BatchSize()
	limit, limited := channel.Keys.TransactionCapacity()
	if !sized || !limited || size <= limit || c.Keys.faulty(c.Keys.batch.name) {
		return true
	}
	path := list + "." + c.Name + "."
	sizeKey := c.Keys.batch.name
	limitKey := b.full(listChannels + "." + channel.Name + "." + channel.Keys.transaction.name)
	limitPos, isSet := channel.Keys.set[channel.Keys.transaction.name]
	where := "its default"
	if isSet {
		where = limitPos.Pos.String()
	}
	pos, origin := c.Pos, " (the default)"
	if p, ok := c.Keys.set[sizeKey]; ok {
		pos, origin = p.Pos, ""
		if c.Keys.isUnread(sizeKey, p.Key) {
			b.report(Warning, pos, path+p.Key, fmt.Sprintf("a batch of %d is above %s = %d (%s): %d are taken at a time", size, limitKey, limit, where, limit),
				fmt.Sprintf("raise %s to %d", limitKey, size))
			return true
		}
	}
	b.report(Error, pos, path+sizeKey,
		fmt.Sprintf("a batch of %d%s is above %s = %d (%s): Flume drops the %s", size, origin, limitKey, limit, where, c.Kind),
		fmt.Sprintf("lower %s to %d or raise %s to %d", sizeKey, limit, limitKey, size))
	return false
}

// isUnread tells whether the value of a key was written under a name that Flume does not read.
func (k *Keys) isUnread(name, written string) bool {
	return slices.ContainsFunc(k.list, func(key *Key) bool { return key.name == name && slices.Contains(key.unread, written) })
}

// faulty tells whether a key has an error.
func (k *Keys) faulty(name string) bool {
	return slices.ContainsFunc(k.faults, func(f Fault) bool { return f.Severity == Error && f.Key == k.prefix+name })
}

// groups builds the sink groups. A sink is in one of them at most.
func (b *builder) groups() {
	owner := map[string]string{}
	for _, d := range b.declared(listGroups) {
		if m := b.member(listGroups, d); m != nil {
			b.group(d, m, owner)
		}
	}
}

func (b *builder) group(d declaration, m *member, owner map[string]string) {
	path := listGroups + "." + d.name + "."
	processor, own := m.below(processorPrefix)
	g := new(Group)
	k := &Keys{prefix: b.full(path), pos: m.pos, below: []string{processorPrefix, processorPrefix + "type"}}
	g.keys(k)
	k.bind(own)
	for _, f := range k.faults {
		b.add(f)
	}
	members, ok := b.groupSinks(g, m, d.name, owner)
	present := members
	if b.lenient {
		present = g.Sinks // the processor has to do without the others
	}
	c, bound := b.bind(part{
		kind: KindGroup, name: d.name, path: path + processorPrefix, props: processor, pos: m.pos,
		typ: m.value("processor.type"), members: present, common: typeKey,
	})
	switch {
	case ok && bound && len(g.Sinks) > 0:
		g.Component = *c
		g.Props = m.props
		b.agent.Groups = append(b.agent.Groups, g)
	case len(members) > 0:
		// As in Flume the sinks of a group without a processor do not run.
		b.agent.Sinks = slices.DeleteFunc(b.agent.Sinks, func(s *Sink) bool { return slices.Contains(members, s.Name) })
	}
}

// groupSinks checks the sinks of a group. members are those the group is meant to have, g.Sinks those that are built.
func (b *builder) groupSinks(g *Group, m *member, group string, owner map[string]string) (members []string, good bool) {
	key := listGroups + "." + group + ".sinks"
	p, ok := m.get("sinks")
	if !ok {
		b.report(Error, m.pos, key, "is required: Flume does not start with a group without it", "")
		return nil, false
	}
	list, note := cutNote(p.Value)
	if note != "" {
		b.report(Warning, p.Pos, key, fmt.Sprintf("%q is part of the value: properties have no comments behind a value", note),
			"put the comment on a line of its own")
	}
	g.Sinks, good = nil, true
	for _, sink := range words(list) {
		switch {
		case owner[sink] == group:
			b.report(Warning, p.Pos, key, "names sink "+sink+" twice", "")
			continue
		case owner[sink] != "":
			b.report(Error, p.Pos, key, "sink "+sink+" is in group "+owner[sink]+" as well: Flume leaves it in one of them, by chance",
				"name it in one group")
			continue
		case !b.isDeclared(listSinks, sink):
			good = b.noSink(p, key, sink) && good
			continue
		}
		owner[sink] = group
		members = append(members, sink)
		if b.sinks[sink] != nil {
			g.Sinks = append(g.Sinks, sink)
		}
	}
	return members, b.oneChannel(g.Sinks, p, key) && good
}

// noSink reports a sink that is not declared. Flume goes on with the rest of the group, when there is one.
func (b *builder) noSink(p Property, key, sink string) (good bool) {
	text := fmt.Sprintf("there is no sink %q", sink)
	hint := didYouMean(nearestName(sink, without(b.declaredNames(listSinks), words(p.Value))))
	others := b.anyDeclared(listSinks, words(p.Value))
	if strings.Contains(sink, ",") {
		b.report(Error, p.Pos, key, text, "separate names by blanks, not by commas")
		return others
	}
	if others {
		b.report(Warning, p.Pos, key, text+": it is left out", hint)
		return true
	}
	b.report(Error, p.Pos, key, text, hint)
	return false
}

// oneChannel checks that the sinks of a group take from one channel. Flume allows several; a group here takes a batch
// first and then finds the sink for it.
func (b *builder) oneChannel(sinks []string, p Property, key string) bool {
	for _, name := range sinks {
		first, s := b.sinks[sinks[0]], b.sinks[name]
		if s.Channel != first.Channel {
			b.report(Error, p.Pos, key, fmt.Sprintf("the sinks of a group take from one channel: %s has %s, %s has %s",
				first.Name, first.Channel, s.Name, s.Channel), "make a group for each channel")
			return false
		}
	}
	return true
}
