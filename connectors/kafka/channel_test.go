package kafka

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channeltest"
	"github.com/millrace/millrace/core/suite"
)

// whole is the channel as the suite wants one: all that is in the topic is its
// own, and a take that does not wait still waits for what was put.
type whole struct {
	*channel
	cluster *cluster
}

// unread is how many records are in the topic that were not fetched.
func (c *whole) unread() (n int) {
	for _, p := range c.cluster.PartitionInfos("t") {
		n += int(p.HighWatermark)
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for _, r := range c.in.parts {
		n -= int(r.sent)
	}
	return n
}

func (c *whole) Len() core.Size {
	s := c.channel.Len()
	s.Events += c.unread()
	return s
}

func (c *whole) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	// A take of several waits until the broker has said all it has.
	suite.Within(time.Second, func() bool { return c.unread() <= 0 || !c.reads() })
	l, err := c.channel.Take(ctx, want)
	if !errors.Is(err, core.ErrEmpty) || c.unread() <= 0 {
		return l, err
	}
	want.NoWait = false
	return c.channel.Take(ctx, want)
}

func (c *whole) reads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader != nil
}

// openChannel opens a channel on c. It is closed with the test.
func (c *cluster) openChannel(more ...string) *channel {
	c.t.Helper()
	keys := c.channelKeys()
	return channeltest.Open(c.t, channeltest.Subject{New: Channel.New, Keys: func(testing.TB) map[string]string { return keys }}, more...).(*channel)
}

func (c *cluster) channelKeys() map[string]string {
	return map[string]string{
		"kafka.bootstrap.servers": c.servers(), "kafka.topic": "t",
		"kafka.consumer.fetch.max.wait.ms": "20", "kafka.consumer.retry.backoff.ms": "5", "kafka.consumer.heartbeat.interval.ms": "50",
		"kafka.producer.retry.backoff.ms": "5",
	}
}

// What does not hold of a topic: that it can be full, that it knows how much is
// in it, that a put and a take of it cost no requests.
var notOfTopics = []string{
	"put is atomic and claims count", "capacity in events", "too large", "room waits", "stall",
	"the newest are dropped", "the oldest are dropped", "settings change in place", "allocations",
}

// flume: TestRollback testSuccess testSuccessInterleave testRollbacks testRollbacksInterleave
func TestChannelSuite(t *testing.T) {
	var clusters sync.Map
	s := channeltest.Subject{
		New: func() core.Channel { return &whole{channel: new(channel)} },
		Keys: func(t testing.TB) map[string]string {
			c := newCluster(t, kfake.SeedTopics(1, "t"))
			clusters.Store(c.servers(), c)
			return c.channelKeys()
		},
	}
	s.New = func() core.Channel { return &whole{channel: new(channel)} }
	channeltest.Run(t, channeltest.Subject{New: func() core.Channel { return &opened{whole{channel: new(channel)}, &clusters} }, Keys: s.Keys}, notOfTopics...)
}

// opened finds its cluster when it is opened.
type opened struct {
	whole
	clusters *sync.Map
}

func (o *opened) Open(ctx context.Context, env core.Env) error {
	c, _ := o.clusters.Load(joinServers(o.servers))
	o.cluster = c.(*cluster)
	return o.channel.Open(ctx, env)
}

func joinServers(list []string) (s string) {
	for i, one := range list {
		if i > 0 {
			s += ", "
		}
		s += one
	}
	return s
}

var _ = maps.Clone[map[string]string]
