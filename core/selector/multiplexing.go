package selector

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Multiplexing is the catalogue entry of the selector by a header's value.
var Multiplexing = core.Type[core.Selector]{
	Name: "multiplexing", Doc: "The value of one header decides which channels an event goes to.",
	Aliases: []string{"org.apache.flume.channel.MultiplexingChannelSelector"},
	New:     func() core.Selector { return new(multiplexing) },
}

type multiplexing struct {
	channels          []string
	header            string
	mapping, optional map[string]string
	fallback          []string

	routes   map[string]route // by header value
	other    route            // no mapping
	required []bool
}

// route is where one header value leads, as places in channels.
type route struct{ required, optional []int }

// Keys implements core.Component.
func (s *multiplexing) Keys(k *conf.Keys) {
	k.String(&s.header, "header", "flume.selector.header", "Header to look at.")
	k.Map(&s.mapping, "mapping.", "Channels for events with that value, separated by blanks.").As("mapping.<value>")
	k.Words(&s.fallback, "default", "Channels for events with no such header, a blank one, or a value without mapping; without it they are dropped.")
	k.Map(&s.optional, "optional.", "Channels that also get events with that value if they have room.").As("optional.<value>")
	k.Check(func(r *conf.Report) {
		s.channels = r.Members()
		s.known(r, "default", s.fallback)
		for _, v := range slices.Sorted(maps.Keys(s.mapping)) {
			s.known(r, "mapping."+v, strings.Fields(s.mapping[v]))
		}
		for _, v := range slices.Sorted(maps.Keys(s.optional)) {
			s.known(r, "optional."+v, strings.Fields(s.optional[v]))
		}
	})
}

func (s *multiplexing) known(r *conf.Report, key string, names []string) {
	for _, name := range names {
		if !slices.Contains(s.channels, name) {
			r.Error(key, "%q is not a channel of this source", name)
		}
	}
}

// Open implements core.Component.
func (s *multiplexing) Open(context.Context, core.Env) error {
	s.other.required = s.places(s.fallback, nil)
	s.routes = make(map[string]route)
	s.required = make([]bool, len(s.channels))
	for v, names := range s.mapping {
		s.routes[v] = route{required: s.places(strings.Fields(names), nil)}
	}
	for v, names := range s.optional {
		r, ok := s.routes[v]
		if !ok {
			r = s.other
		}
		r.optional = s.places(strings.Fields(names), r.required)
		s.routes[v] = r
	}
	for _, r := range append(slices.Collect(maps.Values(s.routes)), s.other) {
		for _, c := range r.required {
			s.required[c] = true
		}
	}
	return nil
}

// places gives the places of names among the channels, each once, without those in except.
func (s *multiplexing) places(names []string, except []int) []int {
	var at []int
	for _, name := range names {
		if i := slices.Index(s.channels, name); i >= 0 && !slices.Contains(at, i) && !slices.Contains(except, i) {
			at = append(at, i)
		}
	}
	return at
}

// Select implements core.Selector.
func (s *multiplexing) Select(b *core.Batch, r *core.Routes) {
	for i := 0; i < len(b.Events); {
		h, from := b.Events[i].Headers, i
		for i++; i < len(b.Events) && b.Events[i].Headers == h; i++ {
		}
		to := s.route(h)
		whole := from == 0 && i == len(b.Events)
		send(r, to.required, from, i, whole, false)
		send(r, to.optional, from, i, whole, true)
	}
}

func send(r *core.Routes, channels []int, from, to int, whole, optional bool) {
	for _, c := range channels {
		if whole {
			r.All(c, optional)
		} else {
			r.Run(c, from, to, optional)
		}
	}
}

func (s *multiplexing) route(h core.Headers) route {
	v, _ := h.Get(s.header)
	if strings.TrimSpace(v) == "" {
		return s.other
	}
	if r, ok := s.routes[v]; ok {
		return r
	}
	return s.other
}

// Required implements core.Selector.
func (s *multiplexing) Required(c int) bool { return s.required[c] }
