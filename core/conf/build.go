package conf

import (
	"slices"
	"strings"
)

// Build binds one agent: it resolves the types, sets the fields of every component and checks how they hang together.
// The faults are all those of the agent, and of keys that belong to no agent, in the order of the files; faults of other
// agents are not among them. The agent is nil exactly when there is an error among the faults.
//
// With o.Lenient faulty components, and those that hang on them, are not in the agent, and errors are warnings. The one
// error left is an agent that is not in the text.
func (t *Text) Build(agent string, cat Catalog, o Options) (*Agent, Faults) {
	b := builder{
		text: t, cat: cat, lenient: o.Lenient, offline: o.Offline, env: o.withDefaults().Env,
		table:   table{name: agent, lists: map[string]Property{}, parts: map[string]map[string]*member{}},
		agent:   &Agent{Name: agent},
		secrets: map[string]bool{}, broken: map[string]bool{},
		channels: map[string]*Component{}, sinks: map[string]*Sink{},
	}
	if b.collect() {
		b.build()
	} else {
		b.noAgent()
	}
	b.faults.Sort(t.files)
	if o.Strict {
		b.faults.promote()
	}
	if b.faults.HasErrors() {
		return nil, b.faults
	}
	return b.agent, b.faults
}

// builder is the state of one Build.
type builder struct {
	text    *Text
	cat     Catalog
	lenient bool
	offline bool
	env     func(string) (string, bool)
	table   table
	agent   *Agent
	faults  Faults
	secrets map[string]bool // full keys with a secret value
	broken  map[string]bool // full keys whose value could not be read

	channels map[string]*Component // those without an error
	sinks    map[string]*Sink      // those without an error
}

// report adds a fault; key is without the name of the agent.
func (b *builder) report(s Severity, pos Pos, key, text, hint string) {
	b.add(Fault{pos, s, b.full(key), text, hint})
}

func (b *builder) add(f Fault) {
	if b.lenient {
		f.Severity = Warning
	}
	b.faults = append(b.faults, f)
}

func (b *builder) full(key string) string {
	if key == "" {
		return b.agent.Name
	}
	return b.agent.Name + "." + key
}

// collect gathers what the text says of the agent, and tells whether it says anything.
func (b *builder) collect() bool {
	found := false
	for _, f := range b.text.found {
		if f.Severity == Error {
			b.broken[f.Key] = true
		}
	}
	for _, p := range b.text.props {
		agent, rest, _ := strings.Cut(p.Key, ".")
		if agent != b.agent.Name || rest == "" {
			continue
		}
		found = true
		if p.Value == "" {
			b.report(Warning, p.Pos, rest, "has no value and is ignored", "")
			continue
		}
		p.Key = rest
		if !b.table.add(p, rest) {
			b.report(Warning, p.Pos, rest, "unknown key: it is ignored", b.table.invalidHint(rest))
		}
	}
	for _, members := range b.table.parts {
		for _, m := range members {
			slices.SortFunc(m.props, func(p, q Property) int { return strings.Compare(p.Key, q.Key) })
		}
	}
	return found
}

func (b *builder) noAgent() {
	names := b.text.AgentNames()
	hint := didYouMean(nearest(b.agent.Name, names))
	text := "the configuration has no agent of this name"
	if len(names) > 0 {
		text += ", but has " + strings.Join(names, ", ")
	}
	pos := Pos{}
	if len(b.text.files) > 0 {
		pos.File = b.text.files[0]
	}
	b.faults = append(b.faults, Fault{pos, Error, b.agent.Name, text, hint})
}

func (b *builder) build() {
	b.filters()
	b.checkLists()
	for _, d := range b.declared(listChannels) {
		b.channel(d)
	}
	for _, d := range b.declared(listSources) {
		b.source(d)
	}
	for _, d := range b.declared(listSinks) {
		b.sink(d)
	}
	b.groups()
	b.unusedChannels()
	b.presence()
	b.otherSpellings()
	b.early()
	slices.SortStableFunc(b.agent.Notices, func(x, y Notice) int { return x.Pos.Line - y.Pos.Line })
}

// presence checks that the agent has what makes an agent.
func (b *builder) presence() {
	has := func(list string) bool { _, ok := b.table.lists[list]; return ok }
	if !has(listChannels) {
		b.report(Error, b.table.first, listChannels, "is required: Flume drops an agent without channels", b.declareHint(listChannels))
	}
	switch {
	case !has(listSources) && !has(listSinks):
		b.report(Error, b.table.first, "", "has neither sources nor sinks: Flume drops it", b.declareHint(listSources))
	case slices.ContainsFunc(b.agent.Channels, func(c *Component) bool { return c.Keys != nil && c.Keys.shared }):
	case !has(listSources):
		b.report(Warning, b.table.first, "", "has no sources", b.declareHint(listSources))
	case !has(listSinks):
		b.report(Warning, b.table.first, "", "has no sinks", b.declareHint(listSinks))
	}
}

func (b *builder) declareHint(list string) string {
	names := b.table.sorted(list)
	if len(names) == 0 {
		return ""
	}
	return "write " + b.full(list) + " = " + strings.Join(names, " ")
}

// otherSpellings warns of an agent that declares nothing and is named almost as this one.
func (b *builder) otherSpellings() {
	agents := b.text.AgentNames()
	told := map[string]bool{}
	for _, p := range b.text.props {
		name, rest, dotted := strings.Cut(p.Key, ".")
		if !dotted || rest == "" || name == b.agent.Name || told[name] || slices.Contains(agents, name) {
			continue
		}
		if nearest(name, []string{b.agent.Name}) == "" && !sameButOne(name, b.agent.Name) {
			continue
		}
		told[name] = true
		b.add(Fault{
			p.Pos, Warning, p.Key, "belongs to agent " + name + ", which declares no component",
			"did you mean " + b.agent.Name + "." + rest + "?",
		})
	}
}

// sameButOne tells whether two names of equal length differ in one character: too little to go by for keys.
func sameButOne(a, b string) bool {
	if len(a) != len(b) || len(a) < 2 {
		return false
	}
	differ := 0
	for i := range len(a) {
		if a[i] != b[i] {
			differ++
		}
	}
	return differ == 1
}

// unusedChannels leaves out channels that nobody puts in or takes from.
func (b *builder) unusedChannels() {
	used := b.usedChannels()
	b.agent.Channels = slices.DeleteFunc(b.agent.Channels, func(c *Component) bool {
		if used[c.Name] {
			return false
		}
		b.report(Warning, c.Pos, listChannels+"."+c.Name, "has no source and no sink, and is left out", "")
		return true
	})
}

// usedChannels are the channels that sources and sinks name. As in Flume those do not count that are left out.
func (b *builder) usedChannels() map[string]bool {
	used := map[string]bool{}
	use := func(names ...string) {
		for _, name := range names {
			used[name] = true
		}
	}
	if b.lenient {
		for _, s := range b.agent.Sources {
			use(s.Channels...)
		}
		for _, s := range b.sinks {
			use(s.Channel, s.DeadLetter)
		}
		return used
	}
	for _, d := range b.declared(listSources) {
		if m := b.member(listSources, d); m != nil {
			use(words(m.value("channels"))...)
		}
	}
	for _, d := range b.declared(listSinks) {
		if m := b.member(listSinks, d); m != nil {
			use(m.value("channel"), m.value("deadLetter"))
		}
	}
	return used
}

// early tells what was found in the lines of the agent, and in lines of no agent. It goes before the other faults of a
// line: it is often the cause.
func (b *builder) early() {
	later := b.faults
	b.faults = nil
	defer func() { b.faults = append(b.faults, later...) }()
	for _, f := range b.text.found {
		agent, rest, dotted := strings.Cut(f.Key, ".")
		if dotted && agent != "" && rest != "" && agent != b.agent.Name {
			continue
		}
		if f.veiled != "" && (b.secrets[f.Key] || soundsSecret(f.Key)) {
			f.Text, f.Hint = f.veiled, ""
		}
		b.add(f.Fault)
	}
}
