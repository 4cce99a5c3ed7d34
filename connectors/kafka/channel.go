package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// Channel is the catalogue entry.
var Channel = core.Type[core.Channel]{
	Name: "kafka", Doc: "Keeps events in a topic of Apache Kafka, which agents can share: each delivers the partitions that its consumer group gives it.",
	Aliases: []string{"org.apache.flume.channel.kafka.KafkaChannel"},
	New:     func() core.Channel { return new(channel) },
}

// channel is a writer into a topic and a reader of it. Either works without the
// other: a channel that nobody takes from is in no group.
type channel struct {
	out      output
	in       consumer
	servers  []string
	smallest bool
	buffer   int64
	capacity int64

	w     *writer
	stash *stash

	mu     sync.Mutex
	closed bool
	takers int         // in Take
	reader *reader     // nil: none
	idle   *time.Timer // until the reader ends because nobody takes
}

// reader is a membership in the group, from the first take on.
type reader struct {
	stop context.CancelFunc
	over bool // it was told to stop
	done chan struct{}
}

// leaseEvents is the largest lease of a sink that names no batch size, and the largest batch that is read.
const leaseEvents = 1000

// Keys implements core.Component.
func (c *channel) Keys(k *conf.Keys) {
	k.Shared()
	serversKey(k, &c.servers, "brokerList")
	k.Check(func(*conf.Report) { c.out.servers, c.in.servers = c.servers, c.servers })
	k.String(&c.out.topic, "kafka.topic", "flume-channel", "Topic that holds the events. Several agents, also Flume's, may have the same.").Alias("topic")
	k.Bool(&c.out.flumeFormat, "parseAsFlumeEvent", true,
		"A value is an Avro datum of headers and body, as Flume writes it. false: it is the body alone, for topics that others write or read; of the headers only key is kept, as the record's key.")
	c.out.partitionKeys(k)
	k.Bytes(&c.capacity, "byteCapacity", 64<<20, "Events that were read and are not delivered yet, at most; they are in memory.").Must(conf.Min(1))
	k.Bool(&c.smallest, "readSmallestOffset", false, "Old way to say kafka.consumer.auto.offset.reset: true for earliest, false for latest.").
		Deprecated("kafka.consumer.auto.offset.reset")
	k.Inert("kafka.pollTimeout", "has no effect: a take waits until there are events, and is told of them at once")
	k.Inert("migrateZookeeperOffsets", "has no effect: offsets are not looked for in ZooKeeper, where Kafka has not put them since 0.9")
	k.Inert("zookeeperConnect", "has no effect: brokers and offsets are not looked for in ZooKeeper")
	for _, dead := range []string{"timeout", "metadata.broker.list", "request.required.acks", "zookeeper.connect", "auto.commit.enable", "consumer.timeout.ms"} {
		k.Inert(dead, "has no effect, as in Flume, which has not read it since 1.7")
	}
	k.Bytes(&c.buffer, producerPrefix+"buffer.memory", 32<<20, "Events that are put and not acknowledged by the brokers yet, at most; beyond it puts wait for max.block.ms.").Must(conf.Min(1))
	k.Inert(producerPrefix+"transaction.timeout.ms", "has no effect: a channel writes without transactions")
	c.out.keys(k, "")
	c.in.keys(k, "earliest", "How long the group waits for its members to come together again; and after so long without a take the partitions are left to others.")
	k.Check(c.check)
}

func (c *channel) check(r *conf.Report) {
	if err := topicName(c.out.topic); err != nil {
		r.Error("kafka.topic", "%v", err)
	}
	c.out.template, c.out.keepAll = &template{text: c.out.topic}, true
	c.in.topics, c.in.flumeFormat, c.in.bare, c.in.batch = []string{c.out.topic}, c.out.flumeFormat, true, leaseEvents
	if r.IsSet("readSmallestOffset") && !r.IsSet(consumerPrefix+"auto.offset.reset") && !c.smallest {
		c.in.reset = "latest"
	}
}

// Open implements core.Component. The brokers need not be there yet.
func (c *channel) Open(_ context.Context, env core.Env) error {
	if err := c.in.open(env); err != nil {
		return err
	}
	p, err := c.out.open(env)
	if err != nil {
		return err
	}
	c.stash = newStash(&c.in, c.capacity, flumes(env.Metrics, "events_rolled_back_total", "RollbackCount", "Events that a sink gave back."))
	c.in.keeper = c.stash
	c.w = newWriter(p, c.buffer)
	env.Metrics.GaugeFunc("records_behind", "Records of this agent's partitions that are not delivered yet.", c.in.behind)
	env.Metrics.GaugeFunc("memory_bytes", "Bytes of events in memory: put and not acknowledged, read and not delivered.", func() int64 {
		return c.w.used().Bytes + c.stash.size().Bytes
	})
	return nil
}

func flumes(m *metric.Group, name, flume, help string) *metric.Extra {
	x := m.Counter(name, help)
	x.Flume = flume
	return x
}

// TryClaim implements core.Channel.
func (c *channel) TryClaim(room core.Size) (core.PutTx, error) { return c.w.claim(room) }

// Room implements core.Channel.
func (c *channel) Room(ctx context.Context, room core.Size) error { return c.w.room(ctx, room) }

// Health implements core.Health.
func (c *channel) Health() error { return c.w.health() }

// Take implements core.Channel.
func (c *channel) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	if err := c.attend(ctx); err != nil {
		return nil, err
	}
	defer c.rest()
	return c.stash.take(ctx, want, leaseEvents)
}

// attend makes sure that there is a reader while somebody takes.
func (c *channel) attend(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return core.ErrClosed
		}
		r := c.reader
		if r == nil {
			r = c.read()
		}
		if !r.over {
			c.takers++
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rest leaves the reader to itself for a while.
func (c *channel) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.takers--; c.takers > 0 || c.closed {
		return
	}
	if c.idle == nil {
		c.idle = time.AfterFunc(c.in.maxPoll, c.unread)
		return
	}
	c.idle.Reset(c.in.maxPoll)
}

// unread ends the reader if nobody takes.
func (c *channel) unread() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.takers == 0 && c.reader != nil && !c.reader.over {
		c.in.env.Log.Warn("nobody has taken events for long: the partitions are left to others", "max.poll.interval.ms", c.in.maxPoll.Milliseconds())
		c.reader.end()
	}
}

func (r *reader) end() {
	r.over = true
	r.stop()
}

// read starts a reader. c.mu is held.
func (c *channel) read() *reader {
	ctx, stop := context.WithCancel(context.Background())
	r := &reader{stop: stop, done: make(chan struct{})}
	c.reader = r
	go func() {
		defer close(r.done)
		defer stop()
		err := c.in.Run(ctx, nil)
		c.in.leave()
		c.in.forget(nil)
		c.stash.keep(nil)
		c.mu.Lock()
		c.reader = nil
		c.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			c.stash.fail(err)
		}
	}()
	return r
}

// Len implements core.Channel: what is in this agent's hands. What is in the
// topic besides is for whoever reads its partitions next.
func (c *channel) Len() core.Size { return c.w.committed().Add(c.stash.size()) }

// Capacity implements core.Channel: that of the topic is not known.
func (c *channel) Capacity() int { return 0 }

// Position implements core.Channel: a topic holds no positions of sources.
func (c *channel) Position(string) (int64, bool) { return 0, false }

// Forget implements core.Channel.
func (c *channel) Forget(string) {}

// Marks implements core.Channel: nor resume states of sinks.
func (c *channel) Marks() map[string]core.Mark { return nil }

// Durable implements core.Channel.
func (c *channel) Durable() bool { return true }

// Close implements core.Channel. What is put is still written, unless the
// brokers take it no more.
func (c *channel) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	r := c.reader
	if r != nil {
		r.end()
	}
	if c.idle != nil {
		c.idle.Stop()
	}
	c.mu.Unlock()
	c.stash.close()
	c.w.close()
	if r != nil {
		<-r.done
	}
	c.in.c.close()
	return nil
}
