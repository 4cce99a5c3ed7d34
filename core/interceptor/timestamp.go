package interceptor

import (
	"context"
	"strconv"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Timestamp is the catalogue entry.
var Timestamp = core.Type[core.Interceptor]{
	Name: "timestamp", Doc: "Adds the current time as a header, in milliseconds since 1970.",
	Aliases: names("TimestampInterceptor"),
	New:     func() core.Interceptor { return new(timestamp) },
}

type timestamp struct {
	header string
	keep   bool
	now    func() time.Time
}

// Keys implements core.Component.
func (t *timestamp) Keys(k *conf.Keys) {
	k.String(&t.header, "headerName", "timestamp", "Header to set.")
	k.Bool(&t.keep, "preserveExisting", false, "Keep a value that is there.")
}

// Open implements core.Component.
func (t *timestamp) Open(_ context.Context, env core.Env) error {
	t.now = env.Now
	return nil
}

// Intercept implements core.Interceptor.
func (t *timestamp) Intercept(b *core.Batch) error {
	set(b, t.header, strconv.FormatInt(t.now().UnixMilli(), 10), t.keep)
	return nil
}
