package core

import (
	"strings"

	"github.com/millrace/millrace/core/conf"
)

// again makes a component anew, bound to the same properties.
func again(cat conf.Catalog, c conf.Component, members []string) conf.Component {
	fresh, _, _, ok := cat.Find(c.Kind, c.Type)
	if !ok {
		return c
	}
	props := make(map[string]string, len(c.Props))
	for _, p := range c.Props {
		props[strings.TrimPrefix(p.Key, "processor.")] = p.Value
	}
	keys, faults := conf.BindMembers(fresh, members, props)
	if faults.HasErrors() {
		return c
	}
	c.Bound, c.Keys = fresh, keys
	return c
}
