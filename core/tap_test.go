package core_test

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// passed counts the events that a tap saw, by edge.
type passed struct {
	mu    sync.Mutex
	edges map[string]int
}

func (p *passed) see(from, to string, b *core.Batch, pick []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.edges[from+":"+to] += b.SizeOf(pick).Events
}

func (p *passed) equal(want map[string]int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Equal(p.edges, want)
}

// A tap sees each edge's events while it is on, and those alone.
func TestTap(t *testing.T) {
	s := &feeds{}
	s.refuse = "4"
	a, _ := s.run(t, s.build(t, before+"a1.sinks.k.deadLetter = dead\na1.channels = c dead\na1.channels.dead.type = memory\n"))
	suite.Eventually(t, "ready", func() bool { return a.Ready() == nil })
	p, other := &passed{edges: map[string]int{}}, &passed{edges: map[string]int{}}
	stop, stopOther := a.Tap(p.see), a.Tap(other.see)
	s.send(10)
	want := map[string]int{"r:c": 10, "c:k": 10, "k:dead": 1}
	suite.Eventually(t, "both taps saw every edge", func() bool { return p.equal(want) && other.equal(want) })
	stop()
	s.send(5)
	suite.Eventually(t, "the one that is on saw the rest", func() bool {
		return other.equal(map[string]int{"r:c": 15, "c:k": 15, "k:dead": 1})
	})
	if !p.equal(want) {
		t.Errorf("a tap that is off saw more: %v", p.edges)
	}
	stopOther()
}

// The status tells how old the oldest event is, and how the sinks of a group fare.
func TestStatusTellsAgeAndHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{down: true}
		a, stop := s.start(t, line+`a1.sinks = k l
a1.sinks.l.type = collector
a1.sinks.l.channel = c
a1.sinkgroups = g
a1.sinkgroups.g.sinks = k l
a1.sinkgroups.g.processor.type = failover
a1.sinkgroups.g.processor.priority.k = 2
a1.sinkgroups.g.processor.priority.l = 1
`)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		st := a.Status()
		if c := st.Channels[0]; c.Age != 10 || c.Put != 10 || c.Taken != 0 {
			t.Errorf("channel %+v", c)
		}
		k, l := st.Sinks[0], st.Sinks[1]
		if k.Group != "g" || l.Group != "g" || k.Health != core.FaresFailed || l.Health != core.FaresFailed || k.Failures == 0 {
			t.Errorf("sinks %+v %+v", k, l)
		}
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		st = a.Status()
		if c := st.Channels[0]; c.Age != 0 || c.Taken != 10 {
			t.Errorf("channel %+v", c)
		}
		k, l = st.Sinks[0], st.Sinks[1]
		if k.Delivered+l.Delivered != 10 || k.LagOf+l.LagOf != 10 || k.Lag+l.Lag < 100 || k.Health != core.FaresActive || l.Health != core.FaresStandby {
			t.Errorf("sinks %+v %+v", k, l)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}
