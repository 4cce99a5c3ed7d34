package interceptor

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// UUID is the catalogue entry. In Flume it is part of the Morphline sink, and
// has no alias.
var UUID = core.Type[core.Interceptor]{
	Name: "uuid", Doc: "Adds a random identifier to each event.",
	Aliases: []string{"org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder", "org.apache.flume.sink.solr.morphline.UUIDInterceptor"},
	New:     func() core.Interceptor { return new(uuid) },
}

type uuid struct {
	header, prefix string
	keep           bool
}

// Keys implements core.Component.
func (u *uuid) Keys(k *conf.Keys) {
	k.String(&u.header, "headerName", "id", "Header to set.")
	k.Bool(&u.keep, "preserveExisting", true, "Keep a value that is there.")
	k.String(&u.prefix, "prefix", "", "What the identifier begins with.")
}

// Open implements core.Component.
func (u *uuid) Open(context.Context, core.Env) error { return nil }

const uuidText = 36 // characters

// Intercept implements core.Interceptor. The identifiers of a batch are cut out of one text.
func (u *uuid) Intercept(b *core.Batch) error {
	n := 0
	for i := range b.Events {
		if u.wants(b.Events[i].Headers) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	size := len(u.prefix) + uuidText
	text := string(u.make(n))
	for i := range b.Events {
		if e := &b.Events[i]; u.wants(e.Headers) {
			e.Headers = e.Headers.With(u.header, text[:size])
			text = text[size:]
			if text == "" {
				break
			}
		}
	}
	return nil
}

func (u *uuid) wants(h core.Headers) bool {
	if !u.keep {
		return true
	}
	_, ok := h.Get(u.header)
	return !ok
}

// make writes n identifiers, each behind the prefix: RFC 9562, version 4.
func (u *uuid) make(n int) []byte {
	random := make([]byte, 16*n)
	rand.Read(random)
	text := make([]byte, 0, n*(len(u.prefix)+uuidText))
	for ; n > 0; n-- {
		r := random[:16]
		random = random[16:]
		r[6] = r[6]&0x0F | 0x40
		r[8] = r[8]&0x3F | 0x80
		text = append(text, u.prefix...)
		for i, group := range [...]int{4, 2, 2, 2, 6} {
			if i > 0 {
				text = append(text, '-')
			}
			text = hex.AppendEncode(text, r[:group])
			r = r[group:]
		}
	}
	return text
}
