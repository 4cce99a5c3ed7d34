package regex

import (
	"sync"
	"time"
)

// zones are the time zones that were asked for, by name: as many as there are, for only those that exist are kept.
var zones sync.Map

// zone finds a time zone by its name in the database of the system.
func zone(name string) (*time.Location, bool) {
	if name == "" {
		return nil, false
	}
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), true
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, false
	}
	zones.Store(name, loc)
	return loc, true
}
