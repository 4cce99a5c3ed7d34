package rpc

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Kind is how several hosts are used.
type Kind int

// The kinds of Flume's clients.
const (
	Single Kind = iota
	Failover
	LoadBalance
)

// Order says which host to try, and which next. It may be used from several goroutines.
type Order struct {
	Kind       Kind
	Hosts      int
	Attempts   int           // of failover, for one request
	Random     bool          // of load balancing; else round robin
	Backoff    bool          // of load balancing: leave out hosts that failed, for a while
	MaxBackoff time.Duration // 0: 30 s

	mu      sync.Mutex
	head    int
	penalty []penalty
}

type penalty struct {
	failed, until time.Time
	n             int
}

// Constants of Flume's back-off.
const (
	defaultBackoff = 30 * time.Second
	forgetAfter    = time.Hour
	maxStreak      = 16
)

func (o *Order) limit() time.Duration {
	if o.MaxBackoff > 0 {
		return o.MaxBackoff
	}
	return defaultBackoff
}

// Next returns the hosts to try for one request, in order. It is empty when all
// of them are left out.
func (o *Order) Next(now time.Time) []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.Kind {
	case Single:
		return []int{0}
	case Failover:
		list := make([]int, max(o.Attempts, 1))
		for i := range list {
			list[i] = (o.head + i) % o.Hosts
		}
		return list
	}
	var active []int
	for i := range o.Hosts {
		if o.penalty == nil || o.penalty[i].until.Before(now) {
			active = append(active, i)
		}
	}
	switch {
	case len(active) == 0:
	case o.Random:
		rand.Shuffle(len(active), func(i, j int) { active[i], active[j] = active[j], active[i] })
	default:
		if o.head >= len(active) {
			o.head = 0
		}
		head := o.head
		o.head = (o.head + 1) % len(active)
		active = slices.Concat(active[head:], active[:head])
	}
	return active
}

// Failed says that host i failed.
func (o *Order) Failed(i int, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Kind == Failover && i == o.head {
		o.head = (i + 1) % o.Hosts
	}
	if o.Kind != LoadBalance || !o.Backoff {
		return
	}
	if o.penalty == nil {
		o.penalty = make([]penalty, o.Hosts)
	}
	p := &o.penalty[i]
	if now.Before(p.until) {
		return // one failure of several requests that were under way
	}
	if last := min(o.limit(), time.Second<<p.n); now.Sub(p.failed) < last+forgetAfter {
		p.n = min(p.n+1, maxStreak)
	} else {
		p.n = 1
	}
	p.failed, p.until = now, now.Add(min(o.limit(), time.Second<<p.n))
}
