// Package interceptor holds the interceptors that need nothing but the standard
// library: timestamp, host, static, uuid. Those with regular expressions, and
// json, are connectors/regex and connectors/json.
package interceptor

import "github.com/millrace/millrace/core"

// set gives every event of b the header, unless it has one and keep is true.
func set(b *core.Batch, key, value string, keep bool) {
	b.MapHeaders(func(h core.Headers) core.Headers {
		if keep {
			if _, ok := h.Get(key); ok {
				return h
			}
		}
		return h.With(key, value)
	})
}

const classes = "org.apache.flume.interceptor."

// names are an interceptor's historical ones: the builder's, and the class's own.
func names(class string) []string {
	return []string{classes + class + "$Builder", classes + class}
}
