package core

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// Changes is what a reload did, component by component: "source r1", "channel
// c1", "sink k1", "sink group g1".
type Changes struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
	Kept    []string `json:"kept"`
	// Waiting are the sources, among those added and changed, that will open
	// once all that their predecessors sent is stored.
	Waiting []string `json:"waiting,omitempty"`
}

// None tells whether nothing was changed.
func (c *Changes) None() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// Times of a reload. Nothing is lost when one is over, and nothing repeated that a
// source can read again.
const (
	replaceGrace   = 5 * time.Second  // for the clients of a source that is replaced
	haltGrace      = 5 * time.Second  // for what a sink that is replaced is delivering
	reloadPatience = 10 * time.Second // until a source that waits is left to come when it can
)

// Reload makes next, whose components are bound and not open, the configuration
// of a running agent. Only what differs is touched:
//
//   - A channel keeps its events and takes new settings while it works; if it cannot
//     take one, or a new channel cannot open, nothing is changed at all. A channel
//     that is not in next is emptied by the sinks it had, as far as it is not on
//     disk, and then closed.
//   - A source with other interceptors, another selector or other channels goes on
//     with these from its next batch. A source with other keys returns, and when all
//     that it sent is stored the new one goes on from there.
//   - A sink, or a group, ends what it is delivering, closes, and the new one opens.
//   - What cannot open is replaced by what was there before; what is new is tried
//     again, as at any later time.
//
// The faults say what could not be done, with its place in the configuration.
// Then next is still what the following reload is compared with, component by
// component.
func (a *Agent) Reload(next *conf.Agent) (Changes, conf.Faults) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.over || a.intake == nil || a.intake.Err() != nil {
		return Changes{}, conf.Faults{{Severity: conf.Error, Key: a.name, Text: "the agent is stopping"}}
	}
	r := &reload{a: a, next: next, end: func() {}}
	if a.w.Handover != nil {
		r.end = a.w.Handover()
	}
	if !r.channels() {
		r.end()
		return Changes{}, r.faults
	}
	a.want(next)
	r.units()
	r.sources()
	r.settle()
	return r.changes, r.faults
}

// reload is one call of Agent.Reload.
type reload struct {
	a       *Agent
	next    *conf.Agent
	end     func() // ends the hand-over of listeners
	changes Changes
	faults  conf.Faults
	opening []opening
}

// opening is a source whose first attempt to open is to come.
type opening struct {
	*sourceNode
	pos conf.Pos
}

func (r *reload) fault(pos conf.Pos, key string, err error) {
	r.faults = append(r.faults, conf.Fault{Pos: pos, Severity: conf.Error, Key: r.a.name + "." + key, Text: err.Error()})
}

// placeOf is where a component's key is written; where it is not, the component is.
func placeOf(c *conf.Component, key string) conf.Pos {
	for _, p := range c.Props {
		if p.Key == key {
			return p.Pos
		}
	}
	return c.Pos
}

// channels brings the channels to what next says, or, if that cannot be, changes nothing.
func (r *reload) channels() bool {
	a := r.a
	var kept, revived, added []*ChannelNode
	var adjust []func()
	p := a.now()
	all := make([]*ChannelNode, 0, len(r.next.Channels))
	for _, c := range r.next.Channels {
		n := channelOf(c.Name, p.channels)
		if n == nil {
			if n = channelOf(c.Name, p.allChannels()); n != nil {
				revived = append(revived, n)
			}
		}
		if n == nil {
			n = newChannelNode(c)
			added = append(added, n)
			r.changes.Added = append(r.changes.Added, "channel "+c.Name)
			all = append(all, n)
			continue
		}
		all = append(all, n)
		if n.configured().Same(c) {
			if !slices.Contains(revived, n) {
				kept = append(kept, n)
			}
			continue
		}
		key, err := n.fixed(c)
		if err != nil {
			r.fault(placeOf(c, key), strings.TrimSuffix("channels."+c.Name+"."+key, "."), err)
			continue
		}
		r.changes.Changed = append(r.changes.Changed, "channel "+c.Name)
		adjust = append(adjust, func() { n.adjust(c) })
	}
	if r.faults != nil {
		return false
	}
	for i, n := range added {
		if err := a.openChannel(a.work, n); err != nil {
			c := n.configured()
			r.fault(c.Pos, "channels."+n.Name, err)
			for _, n := range added[:i] {
				a.closeChannel(n)
			}
			return false
		}
	}
	for _, n := range revived {
		a.revive(n)
	}
	for _, f := range adjust {
		f()
	}
	for _, n := range kept {
		r.changes.Kept = append(r.changes.Kept, "channel "+n.Name)
	}
	for _, n := range revived {
		if w := "channel " + n.Name; !slices.Contains(r.changes.Changed, w) {
			r.changes.Added = append(r.changes.Added, w)
		}
	}
	for _, n := range p.channels {
		if !slices.Contains(all, n) {
			all = append(all, n)
			if a.wanted[n.Name] {
				r.changes.Removed = append(r.changes.Removed, "channel "+n.Name)
			}
		}
	}
	a.change(func(p *parts) { p.channels = all })
	return true
}

// units brings the sinks and their groups to what next says.
func (r *reload) units() {
	a := r.a
	p := a.now()
	unused := slices.Clone(p.units)
	list := make([]*unit, len(r.next.Sinks))[:0]
	var fresh []*unit
	for _, c := range unitsOf(r.next) {
		ch := channelOf(c.channel(), p.channels)
		i := slices.IndexFunc(unused, func(u *unit) bool {
			return u.conf.same(c) && u.runner.Channel == ch && u.runner.Dead == channelOf(c.deadLetter(), p.channels) &&
				u.max == int(ch.transaction.Load())
		})
		if i >= 0 {
			u := unused[i]
			u.gone = false
			list = append(list, u)
			unused = slices.Delete(unused, i, i+1)
			r.changes.Kept = append(r.changes.Kept, c.word())
			continue
		}
		u := newUnit(a, c, p.channels)
		list, fresh = append(list, u), append(fresh, u)
	}
	// Whoever goes ends before anyone new opens: they may want the same files. Where
	// the channel goes as well it is to be emptied first.
	ctx, cancel := context.WithTimeout(a.work, haltGrace)
	defer cancel()
	var halting sync.WaitGroup
	var rest, halted []*unit
	for _, u := range unused {
		old := u.conf.word()
		if !u.gone && !slices.ContainsFunc(fresh, func(n *unit) bool { return n.conf.word() == old }) {
			r.changes.Removed = append(r.changes.Removed, old)
		}
		if !a.wanted[u.runner.Channel.Name] {
			u.gone = true
			rest = append(rest, u)
			continue
		}
		halted = append(halted, u)
		halting.Go(func() { u.halt(ctx) })
	}
	halting.Wait()
	retiring := p.allUnits()[len(p.units):]
	for i, u := range list {
		if slices.Contains(fresh, u) {
			list[i] = r.open(u, unused, halted, slices.Concat(rest, retiring))
		}
	}
	a.change(func(p *parts) { p.units = slices.Concat(list, rest) })
}

// open opens a new unit and starts it, or what it replaces if it cannot open.
// busy are units that still run and will end.
func (r *reload) open(u *unit, unused, halted, busy []*unit) *unit {
	a, word := r.a, u.conf.word()
	if slices.ContainsFunc(unused, func(o *unit) bool { return o.conf.word() == word }) {
		r.changes.Changed = append(r.changes.Changed, word)
	} else {
		r.changes.Added = append(r.changes.Added, word)
	}
	for _, b := range busy {
		if u.conf.sharesType(b.conf) {
			u.before = append(u.before, b)
		}
	}
	if len(u.before) > 0 {
		u.late(nil)
		u.start()
		return u
	}
	ctx, cancel := context.WithTimeout(a.work, haltGrace)
	defer cancel()
	failed, err := u.open(ctx)
	if err == nil {
		u.start()
		return u
	}
	pos, path := u.conf.place(failed.name)
	if i := slices.IndexFunc(halted, func(o *unit) bool { return o.conf.word() == word && o.conf.sameSinks(u.conf) }); i >= 0 {
		old := newUnit(a, halted[i].conf.again(a.w.Catalog), a.now().channels)
		_, again := old.open(ctx)
		if again == nil {
			r.fault(pos, path, fmt.Errorf("%w; the one before goes on", err))
			old.start()
			return old
		}
		err = fmt.Errorf("%w; and the one before: %w", err, again)
	}
	r.fault(pos, path, fmt.Errorf("%w; it is tried again", err))
	u.late(err)
	u.start()
	return u
}

// sources brings the sources to what next says.
func (r *reload) sources() {
	a := r.a
	p := a.now()
	var gone []*sourceNode
	for _, s := range p.sources {
		if !slices.ContainsFunc(r.next.Sources, func(c *conf.Source) bool { return c.Name == s.name }) {
			gone = append(gone, s)
			r.changes.Removed = append(r.changes.Removed, "source "+s.name)
			s.replace(min(replaceGrace, a.w.DrainTimeout))
		}
	}
	removed := slices.Concat(gone, p.leaving)
	list := make([]*sourceNode, 0, len(r.next.Sources))
	var fresh []*sourceNode
	for _, c := range r.next.Sources {
		word := "source " + c.Name
		n := newSourceNode(a, c, p.channels)
		i := slices.IndexFunc(p.sources, func(s *sourceNode) bool { return s.name == c.Name })
		if i < 0 {
			r.changes.Added = append(r.changes.Added, word)
			list, fresh = append(list, n), append(fresh, n)
			continue
		}
		old := p.sources[i]
		switch old.differs(n.sourceSetup) {
		case sameSource:
			r.changes.Kept = append(r.changes.Kept, word)
			list = append(list, old)
			continue
		case samePlace:
			r.changes.Changed = append(r.changes.Changed, word)
			replaced, ok, err := old.reroute(a.work, n.sourceSetup)
			if err != nil {
				r.fault(c.Pos, "sources."+c.Name, fmt.Errorf("%w; it goes on as before", err))
			}
			if ok {
				if replaced != nil {
					<-replaced
				}
				list = append(list, old)
				continue
			}
		default:
			r.changes.Changed = append(r.changes.Changed, word)
		}
		n.before, n.fallback = []*sourceNode{old}, old.opened()
		gone = append(gone, old)
		old.replace(min(replaceGrace, a.w.DrainTimeout))
		list, fresh = append(list, n), append(fresh, n)
	}
	for _, n := range fresh {
		added := len(n.before) == 0
		for _, s := range slices.Concat(gone, p.leaving) {
			if !slices.Contains(n.before, s) && n.mayNeed(s, added && slices.Contains(removed, s)) {
				n.before = append(n.before, s)
			}
		}
		r.launch(n)
	}
	a.change(func(p *parts) {
		p.sources = list
		p.leaving = slices.DeleteFunc(slices.Concat(p.leaving, gone), func(s *sourceNode) bool {
			select {
			case <-s.ended:
				return true
			default:
				return false
			}
		})
	})
}

func (r *reload) launch(n *sourceNode) {
	n.first = make(chan error, 1)
	r.opening = append(r.opening, opening{n, n.conf.Pos})
	n.start()
}

// settle waits until the new sources are open, and then lets go of what nobody
// uses any more. What takes long is waited for in a goroutine.
func (r *reload) settle() {
	a := r.a
	patience, cancel := context.WithTimeout(a.intake, reloadPatience)
	defer cancel()
	for len(r.opening) > 0 {
		n := r.opening[0]
		select {
		case err := <-n.first:
			if err != nil {
				r.fault(n.pos, "sources."+n.name, err)
			}
			r.opening = r.opening[1:]
			continue
		case <-patience.Done():
		}
		break
	}
	if len(r.opening) == 0 {
		r.end()
		a.sweep()
		return
	}
	for _, n := range r.opening {
		r.changes.Waiting = append(r.changes.Waiting, "source "+n.name)
	}
	late := r.opening
	a.tasks.Go(func() {
		for _, n := range late {
			select {
			case <-n.first:
			case <-a.intake.Done():
			}
		}
		r.end()
		a.reloading.Lock()
		defer a.reloading.Unlock()
		if !a.over {
			a.sweep()
		}
	})
}

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
