package kafka

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

// cluster is a broker of three nodes in this process, and a client that is not ours.
type cluster struct {
	*kfake.Cluster
	t     testing.TB
	addrs []string
}

func newCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	opts = append([]kfake.Opt{
		kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Millisecond), kfake.DefaultNumPartitions(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &cluster{c, t, c.ListenAddrs()}
}

func (c *cluster) servers() string { return strings.Join(c.addrs, ", ") }

// records returns all records of a topic, by partition and offset.
func (c *cluster) records(topic string, opts ...kgo.Opt) []*kgo.Record {
	c.t.Helper()
	info := c.TopicInfo(topic)
	if info == nil {
		return nil
	}
	var all []*kgo.Record
	ends, starts := make(map[int32]int64), make(map[int32]kgo.Offset)
	for _, p := range c.PartitionInfos(topic) {
		if p.HighWatermark > 0 {
			ends[p.Partition], starts[p.Partition] = p.HighWatermark, kgo.NewOffset().At(0)
		}
	}
	if len(ends) == 0 {
		return nil
	}
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.addrs...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts})}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	for len(ends) > 0 {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			c.t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			all = append(all, r)
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	slices.SortFunc(all, func(a, b *kgo.Record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return all
}

func bodies(records []*kgo.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r.Value)
	}
	return out
}

// event makes one with headers.
func event(body string, headers ...string) core.Event {
	var h []core.Header
	for i := 0; i < len(headers); i += 2 {
		h = append(h, core.Header{Key: headers[i], Value: headers[i+1]})
	}
	return core.Event{Headers: core.NewHeaders(h...), Body: []byte(body)}
}

// tx is a transaction that records its fate.
type tx struct {
	t       testing.TB
	b       *core.Batch
	acked   map[int]bool
	refused map[int]error
	rolled  error
}

func (x *tx) Batch() *core.Batch { return x.b }

func (x *tx) Ack(pick []int32, _ ...core.Mark) <-chan struct{} {
	for i := range x.b.Events {
		if pick == nil && x.refused[i] == nil || slices.Contains(pick, int32(i)) {
			if x.acked[i] {
				x.t.Errorf("event %d acked twice", i)
			}
			x.acked[i] = true
		}
	}
	return nil
}

func (x *tx) Refuse(i int, why error) {
	if x.acked[i] || x.refused[i] != nil {
		x.t.Errorf("event %d settled twice", i)
	}
	x.refused[i] = why
}

func (x *tx) Rollback(cause error) {
	if x.rolled != nil || len(x.acked)+len(x.refused) == len(x.b.Events) {
		x.t.Errorf("transaction ended twice: %v, then %v", x.rolled, cause)
	}
	x.rolled = cause
}

func (x *tx) Unpin() bool           { return false }
func (x *tx) Lost() <-chan struct{} { return nil }

// deliver hands events to a sink, which must end the transaction.
func deliver(t testing.TB, in *sinktest.Instance, events ...core.Event) *tx {
	t.Helper()
	b := core.NewBatch()
	b.Born = time.Now()
	for _, e := range events {
		b.Copy(e.Headers, e.Body)
	}
	x := &tx{t: t, b: b, acked: map[int]bool{}, refused: map[int]error{}}
	in.Sink.Deliver(context.Background(), x)
	if x.rolled == nil && len(x.acked)+len(x.refused) != len(events) {
		t.Fatalf("transaction is not ended: %d acked, %d refused of %d", len(x.acked), len(x.refused), len(events))
	}
	b.Release()
	return x
}

// openSink opens a sink into c.
func (c *cluster) openSink(keys map[string]string) *sinktest.Instance {
	c.t.Helper()
	return sinktest.Open(c.t, sinktest.Subject{New: Sink.New, Backend: func(testing.TB) sinktest.Backend {
		all := map[string]string{"kafka.bootstrap.servers": c.servers()}
		for k, v := range keys {
			all[k] = v
		}
		return sinktest.Backend{Keys: all}
	}})
}
