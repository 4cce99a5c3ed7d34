package core

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/core/conf"
)

// Catalog is the list of component types that a program has. It is the whole
// truth: what is not in it does not exist.
type Catalog struct {
	Sources      []Type[Source]
	Channels     []Type[Channel]
	Sinks        []Type[Sink]
	Selectors    []Type[Selector]
	Processors   []Type[SinkProcessor]
	Interceptors []Type[Interceptor]
	Filters      []Type[conf.Filter]
	Absent       []Absent
}

// Absent is a type of Flume's, or of a well-known plug-in, that is not here, with
// what to use instead.
type Absent struct {
	Kind    conf.Kind
	Names   []string // alias and class names
	Instead string   // a sentence
}

// Entry is what the reference says of a type, whatever its kind.
type Entry struct {
	Kind    conf.Kind
	Name    string
	Doc     string
	Aliases []string
	New     func() conf.Binder
}

// Entries returns all types of a kind.
func (c *Catalog) Entries(kind conf.Kind) []Entry {
	switch kind {
	case conf.KindSource:
		return entries(kind, c.Sources)
	case conf.KindChannel:
		return entries(kind, c.Channels)
	case conf.KindSink:
		return entries(kind, c.Sinks)
	case conf.KindSelector:
		return entries(kind, c.Selectors)
	case conf.KindGroup:
		return entries(kind, c.Processors)
	case conf.KindInterceptor:
		return entries(kind, c.Interceptors)
	case conf.KindFilter:
		return entries(kind, c.Filters)
	}
	return nil
}

func entries[T conf.Binder](kind conf.Kind, types []Type[T]) []Entry {
	list := make([]Entry, len(types))
	for i, t := range types {
		list[i] = Entry{kind, t.Name, t.Doc, t.Aliases, func() conf.Binder { return t.New() }}
	}
	return list
}

// Find implements conf.Catalog: an alias in any case, or a class name.
func (c *Catalog) Find(kind conf.Kind, typ string) (b conf.Binder, name, hint string, ok bool) {
	for _, e := range c.Entries(kind) {
		if strings.EqualFold(e.Name, typ) || slices.Contains(e.Aliases, typ) {
			return e.New(), e.Name, "", true
		}
	}
	for _, a := range c.Absent {
		if a.Kind == kind && slices.ContainsFunc(a.Names, func(n string) bool { return strings.EqualFold(n, typ) }) {
			return nil, "", a.Instead, false
		}
	}
	for _, e := range c.Entries(kind) {
		if slices.ContainsFunc(e.Aliases, func(n string) bool { return strings.EqualFold(n, typ) }) {
			return nil, "", "class names are case-sensitive; write " + e.Name, false
		}
	}
	return nil, "", "", false
}

// Names implements conf.Catalog.
func (c *Catalog) Names(kind conf.Kind) []string {
	var names []string
	for _, e := range c.Entries(kind) {
		names = append(names, e.Name)
	}
	return names
}
