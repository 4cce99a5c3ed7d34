package spillable

import (
	"context"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/internal/logdir"
	"github.com/millrace/millrace/core/channel/internal/queue"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "spillablememory", Doc: "Keeps events in memory, and on disk when memory is full.",
	Aliases: []string{"org.apache.flume.channel.SpillableMemoryChannel"},
	New:     func() core.Channel { return new(channel) },
}

type channel struct {
	queue.Channel
	settings
	dir *logdir.Dir // nil: there is no overflow
}

type settings struct {
	memoryCapacity, overflowCapacity int
	transaction                      int
	overflowTimeout                  time.Duration
	byteCapacity                     int64
	bufferPercent, deactivation      int
	whenFull                         queue.Policy
	log                              logdir.Settings
}

const (
	defaultOverflow     = 100000000
	defaultByteCapacity = 128 << 20
)

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	s := &c.settings
	k.Int(&s.memoryCapacity, "memoryCapacity", 10000, "Events the channel holds in memory at most. 0: all go to disk, as in the file channel.").Must(conf.Min(0)).OrDefault()
	k.Int(&s.overflowCapacity, "overflowCapacity", defaultOverflow, "Events the channel holds on disk at most. 0: none; what memory has no room for waits, as in the memory channel.").Must(conf.Min(0)).OrDefault()
	k.Seconds(&s.overflowTimeout, "overflowTimeout", 3*time.Second, "How long a put waits for room in memory before events go to disk, and then for room on disk.").OrDefault()
	k.Int(&s.deactivation, "overflowDeactivationThreshold", 5, "Part of memoryCapacity, in percent, that must be free before events go to memory again.").Must(conf.Range(0, 100)).OrDefault()
	k.Int64(&s.byteCapacity, "byteCapacity", defaultByteCapacity, "Bytes of memory for events; bodies are counted. 0: no limit.").OrDefault()
	k.Int(&s.bufferPercent, "byteCapacityBufferPercentage", 20, "Part of byteCapacity, in percent, set aside for headers.").OrDefault()
	k.Transaction(&s.transaction, "transactionCapacity", 10000, "Events put or taken in one transaction at most.").OrDefault()
	s.whenFull.Keys(k)
	s.log.Keys(k)
	k.Inert("avgEventSize", "byteCapacity counts the bytes of each event; no average is needed")
	k.Inert("capacity", "memoryCapacity and overflowCapacity are the limits, as in Flume")
	k.Inert("keep-alive", "overflowTimeout is how long a put waits, as in Flume")
	k.Check(s.check)
}

func (s *settings) check(r *conf.Report) {
	if s.memoryCapacity == 0 && s.overflowCapacity == 0 {
		r.Warn("overflowCapacity", "memoryCapacity and overflowCapacity are both 0: overflowCapacity is %d, as in Flume", defaultOverflow)
		s.overflowCapacity = defaultOverflow
	}
	if s.overflowCapacity == 0 {
		s.transaction = min(s.transaction, s.memoryCapacity) // what is more can never be put
		return
	}
	if s.transaction > s.overflowCapacity {
		r.Error("transactionCapacity", "transactionCapacity %d is more than overflowCapacity %d: raise overflowCapacity or lower transactionCapacity", s.transaction, s.overflowCapacity)
	}
	s.log.Check(r)
}

// Open implements core.Component. It recovers the log, if there is an overflow.
func (c *channel) Open(_ context.Context, env core.Env) (err error) {
	if c.overflowCapacity > 0 {
		if c.dir, err = logdir.Open(&c.settings.log, env); err != nil {
			return err
		}
	}
	o := c.options()
	o.Log, o.Now, o.Metrics = env.Log, env.Now, env.Metrics
	c.Start(o)
	c.measure(env.Metrics)
	return nil
}

func (c *channel) options() queue.Options {
	o := queue.Options{
		Transaction: c.transaction, KeepAlive: c.overflowTimeout, WhenFull: c.whenFull, Resume: c.deactivation,
		Memory: core.Size{Events: c.memoryCapacity, Bytes: queue.ByteLimit(c.byteCapacity, c.bufferPercent)},
	}
	if c.dir != nil {
		o.Disk = c.dir.Disk(c.overflowCapacity)
	}
	return o
}

// Fixed implements core.Adjuster: memory and overflow cannot be switched on or off.
func (c *channel) Fixed(next core.Channel) string {
	n := &next.(*channel).settings
	switch {
	case (n.memoryCapacity == 0) != (c.memoryCapacity == 0):
		return "memoryCapacity"
	case (n.overflowCapacity == 0) != (c.overflowCapacity == 0):
		return "overflowCapacity"
	case c.dir != nil:
		return c.dir.Fixed(&n.log)
	}
	return ""
}

// Adjust implements core.Adjuster.
func (c *channel) Adjust(next core.Channel) {
	c.settings = next.(*channel).settings
	if c.dir != nil {
		c.dir.Adjust(&c.settings.log)
	}
	c.Channel.Adjust(c.options())
}

func (c *channel) measure(m *metric.Group) {
	if m == nil || c.dir == nil {
		return
	}
	m.GaugeFunc("memory_events", "Events that are in memory alone.", func() int64 {
		held, _ := c.InMemory()
		return int64(held.Events)
	})
	m.GaugeFunc("overflows", "1 while events go to disk because memory was full.", func() int64 {
		if _, overflows := c.InMemory(); overflows {
			return 1
		}
		return 0
	})
	c.dir.Measure(m)
}
