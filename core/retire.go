package core

import (
	"context"
	"slices"
	"time"
)

// retiree is a channel that is not in the configuration any more, with the units
// that empty it.
type retiree struct {
	ch      *ChannelNode
	units   []*unit
	sources []*sourceNode // that still put into it
	dead    []*unit       // whose dead letters it takes
	over    bool          // closed, or in the configuration again; under Agent.reloading
}

// sweep retires the channels that are not in the configuration and that no source uses.
func (a *Agent) sweep() {
	p := a.now()
	used := make(map[*ChannelNode]bool)
	for _, ch := range p.channels {
		used[ch] = a.wanted[ch.Name]
	}
	for _, s := range p.sources {
		for _, ch := range s.mayUse() {
			used[ch] = true
		}
	}
	for _, u := range p.units {
		if u.runner.Dead != nil && used[u.runner.Channel] {
			used[u.runner.Dead] = true
		}
	}
	for _, ch := range p.channels {
		if used[ch] {
			continue
		}
		t := &retiree{ch: ch}
		for _, u := range p.units {
			if u.runner.Channel == ch {
				u.leaving.Store(true)
				t.units = append(t.units, u)
			} else if u.runner.Dead == ch {
				t.dead = append(t.dead, u)
			}
		}
		for _, s := range p.leaving {
			if slices.Contains(s.mayUse(), ch) {
				t.sources = append(t.sources, s)
			}
		}
		a.change(func(p *parts) {
			p.channels = without(p.channels, ch)
			p.units = without(p.units, t.units...)
			p.retiring = append(slices.Clone(p.retiring), t)
		})
		a.tasks.Go(func() { a.retire(t) })
	}
}

func without[T comparable](list []T, others ...T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return slices.Contains(others, x) })
}

// retire has a channel emptied, and closes it. What is on disk may stay there
// when that takes longer than a drain; what is not stays until the agent ends.
func (a *Agent) retire(t *retiree) {
	for _, s := range t.sources {
		<-s.returned
	}
	limit, cancel := context.WithTimeout(a.intake, a.w.DrainTimeout)
	defer cancel()
	for _, u := range t.dead {
		select {
		case <-u.ended:
		case <-limit.Done():
		}
	}
	for _, u := range t.units {
		if t.ch.Durable() {
			timer := time.AfterFunc(a.w.DrainTimeout, u.endDrain)
			defer timer.Stop()
		}
		u.stop()
	}
	for _, u := range t.units {
		<-u.ended
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.over || t.over {
		return
	}
	left := leftIn([]*ChannelNode{t.ch})
	if len(left) > 0 {
		a.w.Log.Warn("a channel that was removed holds events that no sink takes", "channel", t.ch.Name, "events", left[0].Events, "kept", left[0].Kept)
		if !left[0].Kept {
			return
		}
	}
	t.over = true
	a.closeChannel(t.ch)
	a.change(func(p *parts) { p.retiring = without(p.retiring, t) })
	a.mu.Lock()
	a.dropped = append(a.dropped, left...)
	a.mu.Unlock()
}

// revive takes a channel back that is in the configuration again, with what it holds.
func (a *Agent) revive(ch *ChannelNode) {
	p := a.now()
	i := slices.IndexFunc(p.retiring, func(t *retiree) bool { return t.ch == ch })
	t := p.retiring[i]
	t.over = true
	for _, u := range t.units {
		u.endDrain()
		u.stop()
	}
	for _, u := range t.units {
		<-u.ended
	}
	a.change(func(p *parts) { p.retiring = without(p.retiring, t) })
}
