package core

// Routes is where the events of one batch go: for each of a source's channels
// the events that require it, and those for which it is optional.
type Routes struct {
	required, optional []Pick
}

// Pick is a set of indices of a batch's events, ascending.
type Pick struct {
	Index []int32 // nil with All
	All   bool
}

func (p *Pick) empty() bool { return !p.All && len(p.Index) == 0 }

// indices gives what PutTx.Commit wants: nil for all.
func (p *Pick) indices() []int32 {
	if p.All {
		return nil
	}
	if p.Index == nil {
		return noEvents
	}
	return p.Index
}

var noEvents = make([]int32, 0)

func (r *Routes) reset(channels int) {
	if cap(r.required) < channels {
		r.required, r.optional = make([]Pick, channels), make([]Pick, channels)
	}
	r.required, r.optional = r.required[:channels], r.optional[:channels]
	for i := range channels {
		r.required[i] = Pick{Index: r.required[i].Index[:0]}
		r.optional[i] = Pick{Index: r.optional[i].Index[:0]}
	}
}

// NewRoutes returns empty routes to that many channels.
func NewRoutes(channels int) *Routes {
	r := new(Routes)
	r.reset(channels)
	return r
}

// All sends every event to channel c.
func (r *Routes) All(c int, optional bool) { r.side(optional)[c].All = true }

// Run sends the events [from, to) to channel c. Runs come in ascending order.
func (r *Routes) Run(c, from, to int, optional bool) {
	p := &r.side(optional)[c]
	for i := from; i < to; i++ {
		p.Index = append(p.Index, int32(i))
	}
}

// Picked returns what goes to channel c, as indices; nil means all.
func (r *Routes) Picked(c int, optional bool) []int32 { return r.side(optional)[c].indices() }

func (r *Routes) side(optional bool) []Pick {
	if optional {
		return r.optional
	}
	return r.required
}
