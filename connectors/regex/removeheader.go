package regex

import (
	"log/slog"

	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// RemoveHeader is the catalogue entry.
var RemoveHeader = core.Type[core.Interceptor]{
	Name: "remove_header", Doc: "Takes headers away, by name, list of names or regular expression.",
	Aliases: names("RemoveHeaderInterceptor"),
	New:     func() core.Interceptor { return new(removeHeader) },
}

type removeHeader struct {
	guard
	name, list string
	separator  *javaregex.Regexp
	matching   *javaregex.Regexp

	names map[string]bool
}

// Keys implements core.Component.
func (h *removeHeader) Keys(k *conf.Keys) {
	k.String(&h.name, "withName", "", "Name of one header.")
	k.String(&h.list, "fromList", "", "Names of headers.")
	javaregex.Key(k, &h.separator, "fromListSeparator", `\s*,\s*`, "What stands between two names of the list.")
	javaregex.WholeKey(k, &h.matching, "matching", "", "Headers whose whole name matches.")
	h.keys(k, &h.matching)
	k.Check(func(r *conf.Report) {
		h.names = make(map[string]bool)
		if h.name != "" {
			h.names[h.name] = true
		}
		if err := h.split(); err != nil {
			r.Error("fromListSeparator", "%v", err)
		}
		if len(h.names) == 0 && h.matching == nil {
			r.Warn("", "removes nothing: set withName, fromList or matching")
		}
	})
}

// split takes the list apart as String.split does.
func (h *removeHeader) split() error {
	last := 0
	err := h.separator.Each([]byte(h.list), func(loc []int) {
		if loc[1] > 0 && h.list[last:loc[0]] != "" {
			h.names[h.list[last:loc[0]]] = true
		}
		last = loc[1]
	})
	if h.list[last:] != "" {
		h.names[h.list[last:]] = true
	}
	return err
}

// Intercept implements core.Interceptor.
func (h *removeHeader) Intercept(b *core.Batch) error {
	b.MapHeaders(func(headers core.Headers) core.Headers {
		gone := 0
		for name := range headers.All() {
			if h.removes(name) {
				gone++
			}
		}
		if gone == 0 {
			return headers
		}
		left := make([]core.Header, 0, headers.Len()-gone)
		for name, value := range headers.All() {
			if !h.removes(name) {
				left = append(left, core.Header{Key: name, Value: value})
			}
		}
		return core.NewHeaders(left...)
	})
	return nil
}

func (h *removeHeader) removes(name string) bool {
	if h.names[name] || h.matching == nil {
		return h.names[name]
	}
	found, err := h.matching.Match([]byte(name))
	if err != nil {
		h.slow.Add(1)
		h.sampled.Say(h.env.Log, h.env.Now(), slog.LevelWarn, "a regular expression takes too long; the header stays",
			slog.String("regex", h.matching.String()), slog.String("header", name))
	}
	return found
}
