package regex

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/connectors/internal/headers"
	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Extractor is the catalogue entry.
var Extractor = core.Type[core.Interceptor]{
	Name: "regex_extractor", Doc: "Makes headers of the groups of a regular expression on the body.",
	Aliases: names("RegexExtractorInterceptor"),
	New:     func() core.Interceptor { return new(extractor) },
}

type extractor struct {
	guard
	re       *javaregex.Regexp
	names    []string
	settings map[string]string

	serializers []serializer // by group, counted from 0
	setters     sync.Pool    // of *headers.Setter
	bad         *metric.Extra
	badSampled  sample.Log
}

// serializer makes a header's value of a group.
type serializer struct {
	header string
	date   *datePattern // nil: the group as it is
}

// Keys implements core.Component.
func (x *extractor) Keys(k *conf.Keys) {
	javaregex.Key(k, &x.re, "regex", "", "What to find in the body, which is UTF-8; its first place counts.").Required()
	k.Words(&x.names, "serializers", "Names, one for each group, in their order.").Required()
	k.Map(&x.settings, "serializers.",
		"Of a serializer: name, the header to set; type, DEFAULT for the group as it is or millis for a date as milliseconds since 1970; pattern, that date's, as in Joda-Time.").
		As("serializers.<name>.<key>")
	x.keys(k, &x.re)
	k.Check(x.check)
}

func (x *extractor) check(r *conf.Report) {
	x.serializers = nil
	for _, name := range x.names {
		x.serializers = append(x.serializers, x.serializer(r, name))
	}
	if n := x.re.Groups(); n < len(x.names) {
		r.Warn("serializers", "names %d and the pattern has %d groups: %s gets nothing", len(x.names), n, strings.Join(x.names[n:], ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(x.settings)) {
		name, own, _ := strings.Cut(key, ".")
		switch full := "serializers." + key; {
		case !slices.Contains(x.names, name):
			r.Warn(full, "is ignored: serializers does not name %s", name)
		case !slices.Contains([]string{"name", "type", "pattern"}, own):
			r.Warn(full, "unknown key")
		case own == "pattern" && !isMillis(x.settings[name+".type"]):
			r.Warn(full, "has no effect without type = millis")
		}
	}
}

// isMillis tells the type that reads dates: its class, or a word that is ours.
func isMillis(typ string) bool {
	return strings.EqualFold(typ, "millis") || typ == classes+"RegexExtractorInterceptorMillisSerializer"
}

func (x *extractor) serializer(r *conf.Report, name string) (s serializer) {
	key := "serializers." + name
	if s.header = x.settings[name+".name"]; s.header == "" {
		r.Error(key+".name", "is required: the header to set")
	}
	typ := x.settings[name+".type"]
	switch {
	case typ == "", strings.EqualFold(typ, "default"), typ == classes+"RegexExtractorInterceptorPassThroughSerializer":
	case isMillis(typ):
		pattern := x.settings[name+".pattern"]
		if pattern == "" {
			r.Error(key+".pattern", "is required: the pattern of the date")
			return s
		}
		var err error
		if s.date, err = parseDatePattern(pattern); err != nil {
			r.Error(key+".pattern", "%q %v", pattern, err)
		}
	case strings.Contains(typ, "."):
		r.Error(key+".type", "%q is a class, and there are no custom serializers here: DEFAULT or millis", typ)
	default:
		r.Error(key+".type", "%q must be one of DEFAULT, millis", typ)
	}
	return s
}

// Open implements core.Component.
func (x *extractor) Open(ctx context.Context, env core.Env) error {
	x.bad = env.Metrics.Counter("serializer_failures_total", "Texts that regex_extractor found and that are no date of the pattern: their header was not set.")
	x.setters.New = func() any { return new(headers.Setter) }
	return x.guard.Open(ctx, env)
}

// Intercept implements core.Interceptor.
func (x *extractor) Intercept(b *core.Batch) error {
	s := x.setters.Get().(*headers.Setter)
	for i := range b.Events {
		e := &b.Events[i]
		loc, err := x.re.Find(e.Body)
		switch {
		case err != nil:
			x.late(x.re, err)
		case loc != nil:
			for n, one := range x.serializers[:min(len(x.serializers), x.re.Groups())] {
				if from, to := loc[2*n+2], loc[2*n+3]; from >= 0 {
					x.set(s, one, e.Body[from:to])
				} else {
					e.Headers = e.Headers.Without(one.header) // Flume sets it to null
				}
			}
			e.Headers = s.Set(e.Headers)
		}
	}
	s.Forget()
	x.setters.Put(s)
	return nil
}

// set adds the header for what a group has found.
func (x *extractor) set(s *headers.Setter, one serializer, text []byte) {
	if one.date == nil {
		if !utf8.Valid(text) {
			text = charset.UTF8.Decode(nil, text)
		}
		s.Add(one.header, text)
		return
	}
	now := x.env.Now()
	millis, err := one.date.parse(string(text), time.Local, now)
	if err != nil {
		x.bad.Add(1)
		x.badSampled.Say(x.env.Log, now, slog.LevelWarn, "regex_extractor finds no date, and sets no header",
			slog.String("header", one.header), slog.String("text", string(text[:min(len(text), 100)])))
		return
	}
	s.Add(one.header, strconv.AppendInt(nil, millis, 10))
}
