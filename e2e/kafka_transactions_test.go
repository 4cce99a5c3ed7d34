//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// committed is what a reader with read_committed, which is not ours, has read of a topic so far.
type committed struct {
	t *testing.T

	mu    sync.Mutex
	lines []string
	last  map[string]int // number of the last line, by partition and key
	wrong string         // the first line that is out of order
}

func readCommitted(t *testing.T, broker, topic string) *committed {
	c := &committed{t: t, last: make(map[string]int)}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	ctx, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(c.add) // errors pass when the broker is back
		}
	}()
	t.Cleanup(func() {
		end()
		<-done
		cl.Close()
	})
	return c
}

func (c *committed) add(r *kgo.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := string(r.Value)
	c.lines = append(c.lines, text)
	_, n, ok := read(text)
	at := fmt.Sprint(r.Partition, " ", string(r.Key))
	if (!ok || n <= c.last[at]) && c.wrong == "" {
		c.wrong = fmt.Sprintf("partition and key %s, offset %d: %q after line %d", at, r.Offset, text, c.last[at])
	}
	c.last[at] = n
}

func (c *committed) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// once checks that each line came once, in order.
func (c *committed) once(want []string) {
	c.t.Helper()
	for from := -1; from < len(want); from = c.count() {
		eventually(c.t, "more lines come through", func() bool { return c.count() > from })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong != "" {
		c.t.Error(c.wrong)
	}
	if len(c.lines) != len(want) || checksum(c.lines) != checksum(want) {
		c.t.Errorf("%d lines with checksum %s, want %d with %s", len(c.lines), checksum(c.lines), len(want), checksum(want))
	}
}

// killed kills agents at random moments while lines come through, and one of so many brokers with every tenth.
func (c *committed) killed(brokers, times, total int, agents ...*agent) {
	for k := range times {
		from := c.count()
		eventually(c.t, "lines come through", func() bool { return c.count() > from || from >= total })
		time.Sleep(rand.N(300 * time.Millisecond)) // the moment is left to chance
		a := agents[k%len(agents)]
		a.kill9()
		if k%10 == 9 {
			broker := fmt.Sprint(1 + k/10%brokers)
			service(c.t, nil, "kafka.sh", "kill9", "e2e", broker)
			service(c.t, nil, "kafka.sh", "up", "e2e", broker)
		}
		a.start()
	}
	c.t.Logf("%d of %d lines had come through at the last of %d kills", c.count(), total, times)
}

// TestKafkaTransactions: two agents move lines from topic to topic and are killed in turn. A reader sees each line
// once, and in order within a key.
func TestKafkaTransactions(t *testing.T) { kafkaTransactions(t, 1) }

func kafkaTransactions(t *testing.T, brokers int) {
	dir := workDir(t)
	base := kafka(t, brokers)
	broker := fmt.Sprint("localhost:", base)
	n, kills := pick(100_000, 400_000), pick(4, 30)
	all := lines("app", n)
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("to-move"))
	must(t, err)
	defer cl.Close()
	feed := func(from, to int) {
		var records []*kgo.Record
		for i := from; i < to; i++ {
			records = append(records, &kgo.Record{Key: fmt.Append(nil, "key ", i%7), Value: []byte(all[i])})
		}
		must(t, cl.ProduceSync(context.Background(), records...).FirstErr())
	}
	feed(0, n/2)
	var agents []*agent
	for _, name := range []string{"first", "second"} {
		home := filepath.Join(dir, name)
		must(t, os.MkdirAll(home, 0o755))
		agents = append(agents, newAgent(t, home, "kafka-transactions.conf", vars{"E2E_KAFKA": fmt.Sprint(base), "E2E_NAME": name}).start())
	}
	out := readCommitted(t, broker, "moved")
	out.killed(brokers, kills/2, n/2, agents...)
	feed(n/2, n)
	out.killed(brokers, kills/2, n, agents...)
	out.once(all)
	for _, a := range agents {
		a.stop()
	}
}

// TestKafkaTransactionsTail: an agent tails a file into a topic, through a file channel, and is killed. A reader sees each line once, in order.
func TestKafkaTransactionsTail(t *testing.T) {
	dir := workDir(t)
	base := kafka(t, 1)
	n, kills := pick(100_000, 400_000), pick(4, 30)
	all, log := lines("app", n), filepath.Join(dir, "log/app.log")
	appendTo(t, log, joined(all[:n/2]))
	a := newAgent(t, dir, "kafka-transactions-tail.conf", vars{"E2E_KAFKA": fmt.Sprint(base)}).start()
	out := readCommitted(t, fmt.Sprint("localhost:", base), "tailed")
	out.killed(1, kills/2, n/2, a)
	appendTo(t, log, joined(all[n/2:]))
	out.killed(1, kills/2, n, a)
	out.once(all)
	a.stop()
}
