// Package regex holds the interceptors that go by Java regular expressions:
// regex_filter, regex_extractor, search_replace, remove_header.
//
// They stand outside of core because of the engine for what Go's has not (see
// package javaregex). Where it takes longer than matchTimeout for an event, the
// event passes as it is, and is counted: an interceptor that failed would hold
// up its source for ever. remove_header looks at names, once per run of headers;
// the others look at each body, and allocate only where they change something.
package regex

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

const classes = "org.apache.flume.interceptor."

// names are an interceptor's historical ones: the builder's, and the class's own.
func names(class string) []string {
	return []string{classes + class + "$Builder", classes + class}
}

// guard bounds the time of matches and tells of those that took too long.
type guard struct {
	timeout time.Duration

	env     core.Env
	slow    *metric.Extra
	sampled sample.Log
}

// keys binds the limit, which re gets once it is known.
func (g *guard) keys(k *conf.Keys, re **javaregex.Regexp) {
	k.Millis(&g.timeout, "matchTimeout", javaregex.DefaultLimit,
		"The longest time for one event, where the pattern needs a search that can take long (look-around, back-references, possessive quantifiers).").
		Must(conf.Min(1))
	k.Check(func(*conf.Report) {
		if *re != nil {
			(*re).Limit(g.timeout)
		}
	})
}

// Open implements core.Component for those that have nothing else to open.
func (g *guard) Open(_ context.Context, env core.Env) error {
	g.env = env
	g.slow = env.Metrics.Counter("regex_timeouts_total", "Events that passed as they were because a regular expression took too long.")
	return nil
}

// late notes an event that passes as it is.
func (g *guard) late(re *javaregex.Regexp, err error) {
	g.slow.Add(1)
	g.sampled.Say(g.env.Log, g.env.Now(), slog.LevelWarn, "a regular expression takes too long; the event passes as it is",
		slog.String("regex", re.String()), slog.Any("error", err))
}
