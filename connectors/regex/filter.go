package regex

import (
	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Filter is the catalogue entry.
var Filter = core.Type[core.Interceptor]{
	Name: "regex_filter", Doc: "Keeps, or drops, the events in whose body a regular expression finds something.",
	Aliases: names("RegexFilteringInterceptor"),
	New:     func() core.Interceptor { return new(filter) },
}

type filter struct {
	guard
	re      *javaregex.Regexp
	exclude bool
}

// Keys implements core.Component.
func (f *filter) Keys(k *conf.Keys) {
	javaregex.Key(k, &f.re, "regex", ".*", "What to find in the body, which is UTF-8.")
	k.Bool(&f.exclude, "excludeEvents", false, "Drop the events that have it; false: drop those that have not.")
	f.keys(k, &f.re)
}

// Intercept implements core.Interceptor.
func (f *filter) Intercept(b *core.Batch) error {
	for i := range b.Events {
		if f.keeps(&b.Events[i]) {
			continue
		}
		// The first to go: what follows has to move.
		at := -1
		b.Filter(func(e *core.Event) bool {
			at++
			return at < i || at > i && f.keeps(e)
		})
		break
	}
	return nil
}

func (f *filter) keeps(e *core.Event) bool {
	found, err := f.re.Match(e.Body)
	if err != nil {
		f.late(f.re, err)
		return true
	}
	return found != f.exclude
}
