package sidecar

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/core/conf"
)

// configView is the configuration at work for people to see: what is secret is
// not in it, and what references ${...} lead to is not either.
type configView struct {
	Agent  string       `json:"agent"`
	Lines  []configLine `json:"lines"`
	Faults conf.Faults  `json:"faults"` // what is wrong with it; the agent runs all the same
}

// configLine is one key. A default has no place.
type configLine struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Default bool   `json:"default,omitempty"`
}

// config shows the configuration at work.
func (r *reloader) config() configView {
	r.mu.Lock()
	a, faults := r.running, r.faults
	r.mu.Unlock()
	v := configView{Faults: or(faults), Lines: []configLine{}}
	if a == nil {
		return v
	}
	v.Agent = a.Name
	for _, s := range a.Sources {
		v.add("sources."+s.Name+".", &s.Component)
		v.add("sources."+s.Name+".selector.", s.Selector)
		for _, i := range s.Interceptors {
			v.add("sources."+s.Name+".interceptors."+i.Name+".", i)
		}
	}
	for _, c := range a.Channels {
		v.add("channels."+c.Name+".", c)
	}
	for _, g := range a.Groups {
		v.add("sinkgroups."+g.Name+".", &g.Component)
	}
	for _, s := range a.Sinks {
		v.add("sinks."+s.Name+".", &s.Component)
	}
	return v
}

// add shows a component: its keys in the order of the file, then its defaults.
func (v *configView) add(path string, c *conf.Component) {
	if c == nil {
		return
	}
	props := c.Written()
	slices.SortStableFunc(props, func(a, b conf.Property) int { return cmp.Compare(a.Pos.Line, b.Pos.Line) })
	for _, p := range props {
		v.Lines = append(v.Lines, configLine{Key: path + p.Key, Value: p.Value, File: p.Pos.File, Line: p.Pos.Line})
	}
	for _, d := range c.Keys.Docs() {
		if d.Default != "" && !c.Keys.IsSet(d.Name) {
			v.Lines = append(v.Lines, configLine{Key: path + d.Name, Value: d.Default, Default: true})
		}
	}
}
