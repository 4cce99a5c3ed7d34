package interceptor

import (
	"context"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Static is the catalogue entry.
var Static = core.Type[core.Interceptor]{
	Name: "static", Doc: "Adds one header with a fixed value.",
	Aliases: names("StaticInterceptor"),
	New:     func() core.Interceptor { return new(static) },
}

type static struct {
	key, value string
	keep       bool
}

// Keys implements core.Component.
func (s *static) Keys(k *conf.Keys) {
	k.String(&s.key, "key", "key", "Header to set.")
	k.String(&s.value, "value", "value", "Its value.")
	k.Bool(&s.keep, "preserveExisting", true, "Keep a value that is there.")
}

// Open implements core.Component.
func (s *static) Open(context.Context, core.Env) error { return nil }

// Intercept implements core.Interceptor.
func (s *static) Intercept(b *core.Batch) error {
	set(b, s.key, s.value, s.keep)
	return nil
}
