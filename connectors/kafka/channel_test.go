package kafka

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channeltest"
	"github.com/millrace/millrace/core/suite"
)

// channelKeys are those of a channel on the topic t.
func (c *cluster) channelKeys() map[string]string {
	return map[string]string{
		"kafka.bootstrap.servers": c.servers(), "kafka.topic": "t",
		"kafka.consumer.fetch.max.wait.ms": "20", "kafka.consumer.retry.backoff.ms": "5", "kafka.consumer.heartbeat.interval.ms": "50",
		"kafka.producer.retry.backoff.ms": "5",
	}
}

// openChannel opens one on c. It is closed with the test.
func (c *cluster) openChannel(more ...string) *channel {
	c.t.Helper()
	keys := func(testing.TB) map[string]string { return c.channelKeys() }
	return channeltest.Open(c.t, channeltest.Subject{New: Channel.New, Keys: keys}, more...).(*channel)
}

// whole is the channel as the suite wants one: what is in the topic counts as
// held, and a take that does not wait still waits for what was put.
type whole struct {
	*channel
	clusters *sync.Map // by their servers
}

// unread is how many records are in the topic that were not fetched.
func (c *whole) unread() (n int) {
	at, _ := c.clusters.Load(strings.Join(c.servers, ", "))
	for _, p := range at.(*cluster).PartitionInfos("t") {
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
	if c.reads() { // a take of many gets all that is there
		suite.Within(suite.Deadline, func() bool { return c.unread() <= 0 || ctx.Err() != nil })
	}
	l, err := c.channel.Take(ctx, want)
	if errors.Is(err, core.ErrEmpty) && c.unread() > 0 {
		want.NoWait = false
		return c.channel.Take(ctx, want)
	}
	return l, err
}

func (c *whole) reads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader != nil && !c.closed
}

// What does not hold of a topic: that it can be full, that a put and a take of
// it cost no requests.
var notOfTopics = []string{
	"put is atomic and claims count", "capacity in events", "too large", "room waits", "stall",
	"the newest are dropped", "the oldest are dropped", "settings change in place", "allocations",
}

// flume: TestRollback testSuccess testSuccessInterleave testRollbacks testRollbacksInterleave
func TestChannelSuite(t *testing.T) {
	for name, more := range map[string][2]string{
		"as Flume's events": {"parseAsFlumeEvent", "true"}, "compressed": {"kafka.producer.compression.type", "lz4"},
	} {
		t.Run(name, func(t *testing.T) {
			clusters := new(sync.Map)
			channeltest.Run(t, channeltest.Subject{
				New: func() core.Channel { return &whole{new(channel), clusters} },
				Keys: func(t testing.TB) map[string]string {
					c := newCluster(t, kfake.SeedTopics(1, "t"))
					clusters.Store(c.servers(), c)
					keys := c.channelKeys()
					keys[more[0]] = more[1]
					return keys
				},
			}, notOfTopics...)
		})
	}
}

// putAll puts events and waits until they are stored.
func putAll(t testing.TB, ch core.Channel, events ...core.Event) {
	t.Helper()
	select {
	case err := <-putting(t, ch, events...):
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(suite.Deadline):
		t.Fatal("the put is not answered")
	}
}

// putting puts events; the channel returned has the answer.
func putting(t testing.TB, ch core.Channel, events ...core.Event) <-chan error {
	t.Helper()
	b := core.NewBatch()
	defer b.Release()
	b.Born = time.Now()
	for _, e := range events {
		b.Copy(e.Headers, e.Body)
	}
	stored := make(chan error, 1)
	tx, err := ch.TryClaim(b.Size())
	if err != nil {
		t.Fatal(err)
	}
	tx.Commit(b, nil, func(err error) { stored <- err })
	return stored
}

func putBodies(t testing.TB, ch core.Channel, bodies ...string) {
	t.Helper()
	var events []core.Event
	for _, b := range bodies {
		events = append(events, event(b))
	}
	putAll(t, ch, events...)
}

// takeN takes n events in as many leases as it needs, in order.
func takeN(t testing.TB, ch core.Channel, n int) (leases []core.Lease, events []core.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	for n > 0 {
		l, err := ch.Take(ctx, core.Take{Events: n})
		if err != nil {
			t.Fatalf("take: %v; %d more are due", err, n)
		}
		for _, e := range l.Batch().Events {
			events = append(events, core.Event{Headers: e.Headers, Body: append([]byte(nil), e.Body...)})
		}
		n -= len(l.Batch().Events)
		leases = append(leases, l)
	}
	return leases, events
}

// deliverN takes and acks n events, each lease at once.
func deliverN(t testing.TB, ch core.Channel, n int) (events []core.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	for len(events) < n {
		l, err := ch.Take(ctx, core.Take{Events: n - len(events)})
		if err != nil {
			t.Errorf("take: %v; %d more are due", err, n-len(events))
			return events
		}
		for _, e := range l.Batch().Events {
			events = append(events, core.Event{Headers: e.Headers, Body: append([]byte(nil), e.Body...)})
		}
		l.Ack(nil)
	}
	return events
}

func eventBodies(events []core.Event) (all []string) {
	for _, e := range events {
		all = append(all, string(e.Body))
	}
	return all
}
