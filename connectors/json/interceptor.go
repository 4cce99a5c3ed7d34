package json

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Interceptor is the catalogue entry.
var Interceptor = core.Type[core.Interceptor]{
	Name: "json", Doc: "Makes headers of the fields of a JSON body.",
	New: func() core.Interceptor { return new(interceptor) },
}

// What happens with an event whose body is no JSON object.
const (
	pass = "pass"
	mark = "mark"
	drop = "drop"
)

// errorHeader says, with onError = mark, why a body is no JSON object.
const errorHeader = "json.error"

type interceptor struct {
	fields  []string
	prefix  string
	keep    bool
	onError string

	wanted   map[string]string   // header by path; nil: all
	parents  map[string]struct{} // paths of objects that have wanted fields
	readers  sync.Pool           // of *reader
	env      core.Env
	failures *metric.Extra
	sampled  sample.Log
}

// Keys implements core.Component.
func (x *interceptor) Keys(k *conf.Keys) {
	k.Words(&x.fields, "fields", "Fields to take, such as level or user.id, or with a header of another name: user.id=uid. Without: all that are text, number or boolean, in objects within objects too.")
	k.String(&x.prefix, "prefix", "", "What the names of headers begin with, but for those that fields renames.")
	k.Bool(&x.keep, "preserveExisting", false, "Keep a value that is there.")
	k.String(&x.onError, "onError", pass, "What happens with an event whose body is no JSON object: it passes as it is, passes with the reason in the header "+errorHeader+", or is dropped.").
		Must(conf.OneOf(pass, mark, drop))
	k.Check(x.check)
}

func (x *interceptor) check(r *conf.Report) {
	x.wanted, x.parents = nil, nil
	if len(x.fields) == 0 {
		return
	}
	x.wanted, x.parents = make(map[string]string), make(map[string]struct{})
	for _, field := range x.fields {
		path, header, renamed := strings.Cut(field, "=")
		switch {
		case path == "" || renamed && header == "":
			r.Error("fields", "%q has no name: write field or field=header", field)
			continue
		case x.wanted[path] != "":
			r.Warn("fields", "names %s twice: the later one counts", path)
		case !renamed:
			header = x.prefix + path
		}
		x.wanted[path] = header
		for i := range len(path) {
			if path[i] == '.' {
				x.parents[path[:i]] = struct{}{}
			}
		}
	}
	for path := range x.wanted {
		if _, both := x.parents[path]; both {
			r.Error("fields", "names %s and a field in it: take one of them", path)
		}
	}
}

// Open implements core.Component.
func (x *interceptor) Open(_ context.Context, env core.Env) error {
	x.env = env
	x.failures = env.Metrics.Counter("json_failures_total", "Events whose body is no JSON object.")
	x.readers.New = func() any { return &reader{x: x, names: make(map[string]string)} }
	return nil
}

// Intercept implements core.Interceptor.
func (x *interceptor) Intercept(b *core.Batch) error {
	r := x.readers.Get().(*reader)
	dropped := false
	for i := range b.Events {
		e := &b.Events[i]
		h, err := r.headers(e.Headers, e.Body)
		if err == nil {
			e.Headers = h
			continue
		}
		x.failures.Add(1)
		x.sampled.Say(x.env.Log, x.env.Now(), slog.LevelWarn, "a body is no JSON object", slog.String("then", x.onError), slog.Any("error", err))
		switch x.onError {
		case mark:
			e.Headers = e.Headers.With(errorHeader, err.Error())
		case drop:
			r.bad = append(r.bad, i)
			dropped = true
		}
	}
	if dropped {
		at, bad := -1, r.bad
		b.Filter(func(*core.Event) bool {
			at++
			if len(bad) > 0 && bad[0] == at {
				bad = bad[1:]
				return false
			}
			return true
		})
	}
	r.forget()
	x.readers.Put(r)
	return nil
}
