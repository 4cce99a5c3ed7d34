package memory

import (
	"context"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/internal/queue"
	"github.com/millrace/millrace/core/conf"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "memory", Doc: "Keeps events in memory: fast, and lost with the process unless the source can read them again.",
	Aliases: []string{"org.apache.flume.channel.MemoryChannel"},
	New:     func() core.Channel { return new(channel) },
}

type channel struct {
	queue.Channel
	settings
}

type settings struct {
	capacity, transaction int
	keepAlive             time.Duration
	byteCapacity          int64
	bufferPercent         int
	whenFull              queue.Policy
}

const defaultByteCapacity = 128 << 20

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	s := &c.settings
	k.Int(&s.capacity, "capacity", 100, "Events the channel holds at most.").Must(conf.Min(1)).OrDefault()
	k.Transaction(&s.transaction, "transactionCapacity", 100, "Events put or taken in one transaction at most.").OrDefault()
	k.Seconds(&s.keepAlive, "keep-alive", 3*time.Second, "How long a put waits for room.").OrDefault()
	k.Int64(&s.byteCapacity, "byteCapacity", defaultByteCapacity, "Bytes of memory for events; bodies are counted. 0: no limit.").OrDefault()
	k.Int(&s.bufferPercent, "byteCapacityBufferPercentage", 20, "Part of byteCapacity, in percent, set aside for headers.").OrDefault()
	s.whenFull.Keys(k)
	k.Check(func(r *conf.Report) {
		if s.transaction > s.capacity {
			r.Error("transactionCapacity", "transactionCapacity %d is more than capacity %d: raise capacity or lower transactionCapacity", s.transaction, s.capacity)
		}
	})
}

// Open implements core.Component.
func (c *channel) Open(_ context.Context, env core.Env) error {
	o := c.options()
	o.Log, o.Now, o.Metrics = env.Log, env.Now, env.Metrics
	c.Start(o)
	return nil
}

func (c *channel) options() queue.Options {
	return queue.Options{
		Transaction: c.transaction, KeepAlive: c.keepAlive, WhenFull: c.whenFull,
		Memory: core.Size{Events: c.capacity, Bytes: queue.ByteLimit(c.byteCapacity, c.bufferPercent)},
	}
}

// Fixed implements core.Adjuster: all can be taken.
func (c *channel) Fixed(core.Channel) string { return "" }

// Adjust implements core.Adjuster.
func (c *channel) Adjust(next core.Channel) {
	c.settings = next.(*channel).settings
	c.Channel.Adjust(c.options())
}
