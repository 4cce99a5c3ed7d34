package sidecar

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

type kindName struct {
	kind   conf.Kind
	words  []string // the first is what is shown
	plural string
}

// kinds are the families of types, in the order of an event's way, with what one calls them.
var kinds = []kindName{
	{conf.KindSource, []string{"source"}, "Sources"},
	{conf.KindInterceptor, []string{"interceptor"}, "Interceptors"},
	{conf.KindSelector, []string{"selector", "channelselector"}, "Channel selectors"},
	{conf.KindChannel, []string{"channel"}, "Channels"},
	{conf.KindGroup, []string{"processor", "sinkprocessor", "sinkgroup"}, "Sink processors"},
	{conf.KindSink, []string{"sink"}, "Sinks"},
	{conf.KindFilter, []string{"configfilter", "filter"}, "Config filters"},
}

func kindWord(kind conf.Kind) string {
	for _, k := range kinds {
		if k.kind == kind {
			return k.words[0]
		}
	}
	return string(kind)
}

func (p *Program) help(args []string) int {
	f := newFlags(p, "help")
	if code, ok := f.parse(args); !ok {
		return code
	}
	words := f.set.Args()
	if len(words) == 0 {
		p.usage(p.Stdout)
		listTypes(p.Stdout, Catalog())
		return exitOK
	}
	for _, c := range commands() {
		if len(words) == 1 && c.name == words[0] {
			return c.run(p, []string{"--help"})
		}
	}
	kind, typ := conf.Kind(""), words[0]
	if len(words) > 1 {
		typ = words[1]
		for _, k := range kinds {
			if slices.Contains(k.words, strings.TrimSuffix(strings.ToLower(words[0]), "s")) {
				kind = k.kind
			}
		}
		if kind == "" || len(words) > 2 {
			return f.wrong("say help source taildir, or any other kind and type")
		}
	}
	return p.reference(f, kind, typ)
}

// reference prints what is known of a type; of every kind that has it, if none is given.
func (p *Program) reference(f *flags, kind conf.Kind, typ string) int {
	cat := Catalog()
	found := 0
	var hints []string
	for _, k := range kinds {
		if kind != "" && kind != k.kind {
			continue
		}
		b, name, hint, ok := cat.Find(k.kind, typ)
		switch {
		case ok:
			if found > 0 {
				fmt.Fprintln(p.Stdout)
			}
			found++
			fmt.Fprint(p.Stdout, helpText(cat, k.kind, name, b))
		case hint != "":
			hints = append(hints, fmt.Sprintf("%s %s is not here: %s", k.words[0], typ, hint))
		}
	}
	if found > 0 {
		return exitOK
	}
	if len(hints) > 0 {
		for _, h := range hints {
			fmt.Fprintln(p.Stdout, h)
		}
		return exitFailed
	}
	return f.wrong(fmt.Sprintf("there is no type %q; help alone lists them", typ))
}

func helpText(cat *core.Catalog, kind conf.Kind, name string, b conf.Binder) string {
	e := entry(cat, kind, name)
	doc := e.Doc
	if len(e.Aliases) > 0 {
		doc += " Also known as " + strings.Join(e.Aliases, ", ") + "."
	}
	own := conf.Describe(b)
	return conf.HelpText(kindWord(kind)+" "+name, doc, append(commonKeys(kind, own), own...))
}

// commonKeys are the keys of every component of a kind, but for those that this one declares itself.
func commonKeys(kind conf.Kind, own []conf.KeyDoc) []conf.KeyDoc {
	return slices.DeleteFunc(conf.CommonKeys(kind), func(c conf.KeyDoc) bool {
		return slices.ContainsFunc(own, func(d conf.KeyDoc) bool { return d.Name == c.Name })
	})
}

func entry(cat *core.Catalog, kind conf.Kind, name string) core.Entry {
	all := cat.Entries(kind)
	return all[slices.IndexFunc(all, func(e core.Entry) bool { return e.Name == name })]
}

func listTypes(w io.Writer, cat *core.Catalog) {
	for _, k := range kinds {
		fmt.Fprintf(w, "\n%s:\n", k.plural)
		for _, e := range cat.Entries(k.kind) {
			fmt.Fprintf(w, "  %-14s %s\n", e.Name, e.Doc)
		}
	}
	fmt.Fprint(w, "\nThe reference of one: help source taildir\n")
}
