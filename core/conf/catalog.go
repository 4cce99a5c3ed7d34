package conf

// Kind is a family of components.
type Kind string

// The kinds of components. A sink group is bound to its sink processor.
const (
	KindSource      Kind = "source"
	KindChannel     Kind = "channel"
	KindSink        Kind = "sink"
	KindGroup       Kind = "sinkgroup"
	KindSelector    Kind = "selector"
	KindInterceptor Kind = "interceptor"
	KindFilter      Kind = "configfilter"
)

// Binder is what every component is to this package: it binds its fields to keys, without any other effect.
type Binder interface {
	Keys(k *Keys)
}

// Catalog is the list of component types.
type Catalog interface {
	// Find resolves an alias, in any case, or a historical class name, exactly as written in the file. On success b is a
	// new component value, which the caller owns, and name its canonical alias. Otherwise hint says what to use
	// instead, or is "" when nothing is near.
	Find(kind Kind, typ string) (b Binder, name, hint string, ok bool)
	// Names are the aliases of a kind.
	Names(kind Kind) []string
}
