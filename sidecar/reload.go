package sidecar

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// What made the agent look at its configuration again.
const (
	byChange = "change" // of a file
	bySignal = "signal" // SIGHUP
)

// What became of a reload.
const (
	reloadOK      = "ok"
	reloadPartial = "partial" // something could not open, and is as it was or tried again
	reloadFailed  = "failed"  // nothing was changed
)

// reloadStatus is what /status says of reloads.
type reloadStatus struct {
	Enabled bool        `json:"enabled"`
	OK      int64       `json:"ok"`
	Failed  int64       `json:"failed"` // wholly or in part
	Last    *lastReload `json:"last,omitempty"`
}

// lastReload is the newest attempt.
type lastReload struct {
	Time    time.Time `json:"time"`
	Trigger string    `json:"trigger"`
	Result  string    `json:"result"`
	Millis  int64     `json:"millis"`
	core.Changes
	Faults conf.Faults `json:"faults"`
}

// reloader gives an agent its configuration anew when that changes.
type reloader struct {
	p    *Program
	o    *agentOptions
	name string // of the agent, from the first configuration on
	a    *core.Agent
	log  *slog.Logger

	tried  snapshot // the files as they were read last
	faulty bool     // the configuration at work has errors that --lenient goes on with

	mu      sync.Mutex
	running *conf.Agent // the configuration at work, and what is wrong with it
	faults  conf.Faults
	status  reloadStatus
	last    float64 // when the newest good one was, in seconds since 1970
}

// run looks until ctx ends: at each change that the system tells of, as often as
// the poll interval says, and when asked.
func (r *reloader) run(ctx context.Context, asked <-chan struct{}) {
	w := newWatch(r.o.files, r.p.deaf, r.log)
	defer w.close()
	poll := time.NewTicker(r.o.poll)
	defer poll.Stop()
	for {
		trigger := byChange
		select {
		case <-ctx.Done():
			return
		case <-w.changed():
		case <-poll.C:
		case <-asked:
			trigger = bySignal
		}
		now, ok := settled(ctx, r.tried)
		if !ok {
			return
		}
		w.follow()
		if trigger == bySignal || !now.equal(r.tried) {
			r.tried = now
			r.reload(trigger)
		}
	}
}

// refuse says why nothing happens, where reloads are switched off.
func (r *reloader) refuse(ctx context.Context, asked <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			r.log.Warn("the configuration is not read again: --no-reload-conf")
		}
	}
}

// faulty tells whether a configuration has errors that --lenient goes on with.
func (o *agentOptions) faulty(p *Program, agent string) bool {
	s := o.source
	s.name, s.lenient, s.never = agent, false, true
	strict, _ := s.load(p)
	return strict == nil
}

// reload reads the configuration as it was read last and gives it to the agent.
func (r *reloader) reload(trigger string) {
	one := lastReload{Time: time.Now(), Trigger: trigger, Result: reloadFailed}
	next, faulty, faults := r.load()
	if next != nil {
		var more conf.Faults
		one.Changes, more = r.a.Reload(next)
		faults = append(faults, more...)
		switch {
		case !more.HasErrors():
			one.Result, r.faulty = reloadOK, faulty
		case !one.None():
			one.Result, r.faulty = reloadPartial, faulty
		}
	}
	one.Faults = or(faults)
	one.Added, one.Removed, one.Changed, one.Kept = or(one.Added), or(one.Removed), or(one.Changed), or(one.Kept)
	one.Millis = time.Since(one.Time).Milliseconds()
	r.say(&one)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Last = &one
	if one.Result != reloadFailed {
		r.running, r.faults = next, faults
	}
	if one.Result == reloadOK {
		r.status.OK++
		r.last = float64(one.Time.UnixMilli()) / 1000
	} else {
		r.status.Failed++
	}
}

// load builds the agent. That a faulty component is left out, which --lenient
// does at the start, would here take one away that works: only a configuration
// that had faults already is read like that.
func (r *reloader) load() (next *conf.Agent, faulty bool, faults conf.Faults) {
	s := r.o.source
	s.name, s.read = r.name, r.tried.read
	lenient := s.isLenient(r.p)
	if lenient {
		s.lenient, s.never = false, true
	}
	next, faults = s.load(r.p)
	if next != nil || !lenient || !r.faulty {
		return next, false, faults
	}
	s.never, s.lenient = false, true
	next, faults = s.load(r.p)
	if next != nil && len(next.Sources)+len(next.Channels)+len(next.Sinks) == 0 {
		return nil, true, append(faults, conf.Fault{
			Pos: conf.Pos{File: s.files[0]}, Severity: conf.Error, Key: r.name, Text: "nothing is left of the agent",
		})
	}
	return next, true, faults
}

// say logs a reload in one line, after the warnings of its configuration.
func (r *reloader) say(one *lastReload) {
	var bad []string
	var rest conf.Faults
	for _, f := range one.Faults {
		if f.Severity == conf.Error {
			bad = append(bad, f.String())
		} else {
			rest = append(rest, f)
		}
	}
	if one.Result != reloadFailed && !one.None() {
		logFaults(r.log, rest)
	}
	attrs := []any{"trigger", one.Trigger, "millis", one.Millis}
	for _, part := range []struct {
		name string
		list []string
	}{{"added", one.Added}, {"removed", one.Removed}, {"changed", one.Changed}, {"waiting", one.Waiting}} {
		if len(part.list) > 0 {
			attrs = append(attrs, part.name, strings.Join(part.list, ", "))
		}
	}
	if len(bad) > 0 {
		attrs = append(attrs, "errors", strings.Join(bad, "; "))
	}
	switch {
	case one.Result == reloadFailed:
		r.log.Error("configuration not reloaded: everything goes on as before", attrs...)
	case one.Result == reloadPartial:
		r.log.Error("configuration reloaded in part", attrs...)
	case one.None():
		r.log.Info("configuration reloaded: nothing differs", attrs...)
	default:
		r.log.Info("configuration reloaded", append(attrs, "kept", len(one.Kept))...)
	}
}

func (r *reloader) now() reloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// samples are the metrics of reloads.
func (r *reloader) samples() []sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	const name, help = "millrace_reloads_total", "Times that the configuration was read again; failed counts those that failed in part as well."
	good := 1.0
	if r.status.Last != nil && r.status.Last.Result != reloadOK {
		good = 0
	}
	return []sample{
		{name: "millrace_reload_last_good", help: "1 unless the newest reload failed.", gauge: true, value: good},
		{name: "millrace_reload_last_good_time_seconds", help: "When a reload last went well, in seconds since 1970; 0: never.", gauge: true, value: r.last},
		{name: name, help: help, labels: []string{"result", "failed"}, value: float64(r.status.Failed)},
		{name: name, help: help, labels: []string{"result", "ok"}, value: float64(r.status.OK)},
	}
}

// settle is how long files have to be the same before they are taken for complete.
const (
	settle      = 200 * time.Millisecond
	settleLimit = 10 // looks
)

// settled reads the files until they do not change any more: an editor may be at
// work on them. Where they never rest the newest state is as good as any. ok is
// false if ctx has ended.
func settled(ctx context.Context, last snapshot) (now snapshot, ok bool) {
	now = last.again()
	for range settleLimit {
		if now.equal(last) {
			return now, true
		}
		select {
		case <-ctx.Done():
			return now, false
		case <-time.After(settle):
		}
		next := now.again()
		if next.equal(now) {
			return now, true
		}
		now = next
	}
	return now, true
}

// equal tells whether two snapshots have the same files with the same content.
func (s snapshot) equal(o snapshot) bool {
	return slices.EqualFunc(s, o, func(a, b fileText) bool {
		return a.name == b.name && string(a.text) == string(b.text) && (a.err == nil) == (b.err == nil)
	})
}
