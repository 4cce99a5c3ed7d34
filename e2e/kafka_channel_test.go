//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKafkaChannelAndFlume: what Flume's channel writes ours reads, and the other
// way round. Each agent has a channel without a sink and one without a source.
func TestKafkaChannelAndFlume(t *testing.T) {
	dir := workDir(t)
	kafkaPort := fmt.Sprint(kafka(t, 1))
	for _, parse := range []string{"true", "false"} {
		t.Run("parseAsFlumeEvent="+parse, func(t *testing.T) {
			ours, theirs := filepath.Join(dir, parse, "ours"), filepath.Join(dir, parse, "theirs")
			must(t, os.MkdirAll(ours, 0o755))
			must(t, os.MkdirAll(theirs, 0o755))
			flumes := vars{"E2E_LINES": port(t), "E2E_KAFKA": kafkaPort, "E2E_CODEC": "lz4", "E2E_PARSE": parse, "E2E_WRITES": "by-flume-" + parse, "E2E_READS": "by-us-" + parse, "E2E_OUT": theirs}
			env := vars{"E2E_LINES": port(t), "E2E_KAFKA": kafkaPort, "E2E_CODEC": "lz4", "E2E_PARSE": parse, "E2E_WRITES": "by-us-" + parse, "E2E_READS": "by-flume-" + parse, "E2E_OUT": ours}
			service(t, flumes, "flume.sh", "start", "a1", "scenarios/kafka-channel.conf", flumes["E2E_LINES"])
			defer stopFlume(t)()
			a := newAgent(t, dir, "kafka-channel.conf", env).start()
			want := lines("app", 300)
			for _, e := range []vars{flumes, env} {
				run(t, joined(want), "ncat", "127.0.0.1", e["E2E_LINES"])
			}
			for out, writer := range map[string]string{ours: flumes["E2E_WRITES"], theirs: env["E2E_WRITES"]} {
				eventually(t, "what "+writer+" has written is delivered", func() bool { return countRolled(out) >= len(want) })
				var bodies []string
				for _, l := range rolled(t, out) {
					headers, body, ok := strings.Cut(l, "} ")
					if !ok || headers != "{key="+writer {
						t.Fatalf("%q has other headers", l)
					}
					bodies = append(bodies, body)
				}
				if !slices.Equal(bodies, want) { // one key is one partition, and so in order
					t.Errorf("%s: %d lines with checksum %s, want %d with %s", writer, len(bodies), checksum(bodies), len(want), checksum(want))
				}
			}
			a.stop()
		})
	}
}

// sharer is one of several agents with one topic as their channel.
type sharer struct {
	dir string
	all []string // its lines
	put int      // of them that are in its file

	counts map[string]counted // of the files that it has written
}

type counted struct {
	size  int64
	lines int
}

func newSharer(t *testing.T, dir, name string, n int) *sharer {
	s := &sharer{dir: filepath.Join(dir, name), all: lines(name, n), counts: make(map[string]counted)}
	must(t, os.MkdirAll(filepath.Join(s.dir, "rolled"), 0o755))
	return s
}

func (s *sharer) feed(t *testing.T, to int) {
	appendTo(t, filepath.Join(s.dir, "log/app.log"), joined(s.all[s.put:to]))
	s.put = to
}

// through counts the lines that all have delivered. What was counted is not read again.
func through(all ...*sharer) (n int) {
	for _, s := range all {
		files, _ := filepath.Glob(filepath.Join(s.dir, "rolled", "*"))
		for _, name := range files {
			n += s.counted(name)
		}
	}
	return n
}

func (s *sharer) counted(name string) int {
	c := s.counts[name]
	if f, err := os.Open(name); err == nil {
		text, _ := io.ReadAll(io.NewSectionReader(f, c.size, 1<<40))
		f.Close()
		c.size += int64(len(text))
		c.lines += bytes.Count(text, []byte{'\n'})
	}
	s.counts[name] = c
	return c.lines
}

// settle compares what all have delivered with what all were given.
func settle(t *testing.T, repeats int, all ...*sharer) {
	t.Helper()
	var got, want, distinct []string
	for _, s := range all {
		want = append(want, s.all...)
	}
	eventually(t, "every line is there", func() bool { // some may be there twice before the last is there once
		if through(all...) == len(got) {
			return false
		}
		got = nil
		for _, s := range all {
			got = append(got, rolled(t, filepath.Join(s.dir, "rolled"))...)
		}
		distinct = slices.Compact(slices.Sorted(slices.Values(got)))
		return len(distinct) >= len(want)
	})
	t.Logf("%d lines, %d delivered, %d of them twice", len(want), len(got), len(got)-len(distinct))
	if checksum(distinct) != checksum(want) {
		t.Errorf("%d different lines with checksum %s, want %d with %s", len(distinct), checksum(distinct), len(want), checksum(want))
	}
	if n := len(got) - len(distinct); n > repeats {
		t.Errorf("%d lines are there twice, at most %d are explained", n, repeats)
	}
}

// TestKafkaChannelShared: two agents share a topic as their channel. One is killed:
// the other delivers all that is in the topic. It comes back, and they share again.
// What it had delivered and not yet committed (a tenth of a second) comes twice, and what its tail
// had read and not yet noted (a fifth): here, at full speed, that may be all of the part that was under way.
func TestKafkaChannelShared(t *testing.T) {
	dir := workDir(t)
	kafkaPort := fmt.Sprint(kafka(t, 1))
	env := vars{"E2E_KAFKA": kafkaPort, "E2E_CODEC": "zstd", "E2E_TOPIC": "shared"}
	n := pick(60_000, 300_000)
	first, second := newSharer(t, dir, "first", n), newSharer(t, dir, "second", n)
	a := newAgent(t, first.dir, "kafka-shared.conf", env).start()
	b := newAgent(t, second.dir, "kafka-shared.conf", env).start()
	eventually(t, "both deliver", func() bool {
		first.feed(t, min(n/3, first.put+10))
		return through(first) > 0 && through(second) > 0
	})
	first.feed(t, n/3)
	second.feed(t, n/3)
	eventually(t, "much is delivered", func() bool { return through(first, second) > n/3 })
	first.feed(t, 2*n/3)
	second.feed(t, 2*n/3)
	a.kill9()
	eventually(t, "the other delivers its own lines", func() bool { return through(first, second) >= n })
	a.start()
	before := through(first)
	eventually(t, "both deliver again", func() bool {
		first.feed(t, min(n, first.put+10))
		return through(first) > before
	})
	first.feed(t, n)
	second.feed(t, n)
	settle(t, 2*n/3, first, second)
	a.stop()
	b.stop()
}

// TestKafkaChannelSharedWithFlume: one of the two agents is Flume's.
func TestKafkaChannelSharedWithFlume(t *testing.T) {
	dir := workDir(t)
	kafkaPort := fmt.Sprint(kafka(t, 1))
	const n = 5000
	ours, theirs := newSharer(t, dir, "ours", n), newSharer(t, dir, "theirs", n)
	// In turn: a line or two a look would else stay in one partition, and whoever does not have it never gets any.
	const inTurn = "org.apache.kafka.clients.producer.RoundRobinPartitioner"
	a := newAgent(t, ours.dir, "kafka-shared.conf", vars{"E2E_KAFKA": kafkaPort, "E2E_TOPIC": "mixed", "E2E_PARTITIONER": inTurn}).start()
	service(t, vars{"E2E_DIR": theirs.dir, "E2E_KAFKA": kafkaPort, "E2E_TOPIC": "mixed", "E2E_PARTITIONER": inTurn}, "flume.sh", "start", "a1", "scenarios/kafka-shared.conf")
	defer stopFlume(t)()
	eventually(t, "both deliver", func() bool {
		ours.feed(t, min(n/5, ours.put+1))
		return through(ours) > 0 && through(theirs) > 0
	})
	for k := 1; k <= 5; k++ {
		ours.feed(t, k*n/5)
		theirs.feed(t, k*n/5)
		eventually(t, "the lines are delivered", func() bool { return through(ours, theirs) >= 2*k*n/5 })
	}
	settle(t, n, ours, theirs)
	a.stop()
}
