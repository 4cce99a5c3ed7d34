package conf

import (
	"slices"
	"strings"
	"time"
)

// Agent is one agent of a configuration, with the fields of all its components set. Components are in the order of the
// lists that declare them.
type Agent struct {
	Name     string
	Sources  []*Source
	Channels []*Component // those that a source or a sink uses
	Sinks    []*Sink
	Groups   []*Group
	Notices  []Notice // keys that are accepted and do nothing, in the order of the file
}

// Component is a bound component.
type Component struct {
	Kind  Kind
	Name  string // "" for a selector
	Type  string // canonical alias
	Pos   Pos    // of its type, or of its first key
	Bound Binder
	Props []Property // its own properties, keys without what comes before, values in clear, sorted by key
	Keys  *Keys      // its keys after binding
}

// Source is a bound source. The properties of selector and interceptors are theirs, not the source's.
type Source struct {
	Component
	Channels     []string
	Selector     *Component // replicating when nothing else is said
	Interceptors []*Component
	// How long the runner of a polled source rests when there is nothing to do: so much more after each time, and at most.
	BackoffSleepIncrement time.Duration
	MaxBackoffSleep       time.Duration
}

// Sink is a bound sink.
type Sink struct {
	Component
	Channel    string
	DeadLetter string // the channel that takes refused events; "" for none
}

// Group is a sink group; Bound is its sink processor, and Type that one's alias.
type Group struct {
	Component
	Sinks []string
}

// Redacted are the properties of a component with secret values replaced, for people to see.
func (c *Component) Redacted() []Property {
	list := slices.Clone(c.Props)
	for i, p := range list {
		if c.Keys.secrets[strings.TrimPrefix(p.Key, processorPrefix)] {
			list[i].Value = veiled
		}
	}
	return list
}

// Written is Redacted for people who may not see everything: a value with
// references ${...} is as it is written, since what they lead to may be anything.
func (c *Component) Written() []Property {
	list := c.Redacted()
	for i, p := range list {
		if p.written != "" && p.Value != veiled {
			list[i].Value = p.written
		}
	}
	return list
}

// Value is what a property of the component says, "" if it is not there.
func (c *Component) Value(key string) string {
	for _, p := range c.Props {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

// Same tells whether two components are configured alike, wherever they are written.
func (c *Component) Same(other *Component) bool {
	return c.Kind == other.Kind && c.Name == other.Name && c.Type == other.Type &&
		slices.EqualFunc(c.Props, other.Props, func(a, b Property) bool { return a.Key == b.Key && a.Value == b.Value })
}

// CommonKeys documents the keys that every component of a kind has, besides those of its type.
func CommonKeys(kind Kind) []KeyDoc {
	var k Keys
	switch kind {
	case KindSource:
		new(Source).keys(&k)
	case KindSink:
		new(Sink).keys(&k)
	case KindGroup:
		new(Group).keys(&k)
		var typ string
		k.String(&typ, "processor.type", "", "default, failover or load_balance.").Required()
	case KindSelector:
		typeKey(&k)
		k.list[0].doc.Default, k.list[0].doc.Required = "replicating", false
	default:
		typeKey(&k)
	}
	return k.Docs()
}

func typeKey(k *Keys) {
	var typ string
	k.String(&typ, "type", "", "The type of the component: an alias, or the class name Flume has for it.").
		doc.Required = true // find says so
}

func (s *Source) keys(k *Keys) {
	typeKey(k)
	k.Words(&s.Channels, "channels", "The channels that events are put in.").
		doc.Required = true // sourceChannels says so
	var interceptors []string
	k.Words(&interceptors, "interceptors", "The interceptors events pass through, in this order.")
	k.Millis(&s.BackoffSleepIncrement, "backoffSleepIncrement", time.Second,
		"A polled source that finds nothing rests for so much longer each time.")
	k.Millis(&s.MaxBackoffSleep, "maxBackoffSleep", 5*time.Second, "The longest rest of a polled source.")
	inertKeys(k)
}

func (s *Sink) keys(k *Keys) {
	typeKey(k)
	k.String(&s.Channel, "channel", "", "The channel that events are taken from.").
		doc.Required = true // sinkChannel says so
	k.String(&s.DeadLetter, "deadLetter", "", "The channel for events that the far end refuses for good.")
	inertKeys(k)
}

func (g *Group) keys(k *Keys) {
	k.Words(&g.Sinks, "sinks", "The sinks of the group.").
		doc.Required = true // groupSinks says so
}

// inertKeys are what old examples hold.
func inertKeys(k *Keys) {
	k.Inert("runner.", "Flume reads no runner keys either.")
	k.Inert("config", "It names a Java class for validation.")
}
