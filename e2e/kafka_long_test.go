//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// record is a line that came out of Kafka, with where it was there.
type record struct {
	partition, offset int
	line              string
}

var recordLine = regexp.MustCompile(`^\{(.*?)\} (.*)$`)

// records reads the files of one life of an agent, which a sink with the
// serializer HEADER_AND_TEXT has written, in its order.
func records(t *testing.T, dir string) (all []record) {
	t.Helper()
	for _, l := range rolled(t, dir) {
		m := recordLine.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("%q has no headers", l)
		}
		r := record{-1, -1, m[2]}
		for header := range strings.SplitSeq(m[1], ", ") {
			name, value, _ := strings.Cut(header, "=")
			switch n, err := strconv.Atoi(value); {
			case err != nil:
			case name == "partition":
				r.partition = n
			case name == "offset":
				r.offset = n
			}
		}
		if r.partition < 0 || r.offset < 0 {
			t.Fatalf("%q does not say where it was", l)
		}
		all = append(all, r)
	}
	return all
}

// passed is what came through Kafka, of all members of the group.
type passed struct {
	lines   []string // each once
	repeats int
}

// inOrder checks that every member has delivered a partition in its order, and
// that the lines are in the order of the file within a partition. A member may
// go back, by so many records as repeats allows, where a partition came to it again.
func inOrder(t *testing.T, members ...[]record) (p passed) {
	t.Helper()
	place := make(map[[2]int]string)
	again := 0
	for _, all := range members {
		last := make(map[int]int)
		for _, r := range all {
			if before, known := last[r.partition]; known && r.offset <= before {
				again++
				if place[[2]int{r.partition, r.offset}] != r.line {
					t.Fatalf("partition %d offset %d came back as %q", r.partition, r.offset, r.line)
				}
			}
			last[r.partition] = r.offset
			at := [2]int{r.partition, r.offset}
			if was, twice := place[at]; twice {
				if was != r.line {
					t.Fatalf("partition %d offset %d is %q and %q", r.partition, r.offset, was, r.line)
				}
				p.repeats++
				continue
			}
			place[at] = r.line
		}
	}
	if again > p.repeats {
		t.Errorf("%d records out of order, %d of them known", again, p.repeats)
	}
	places := slices.Collect(maps.Keys(place))
	slices.SortFunc(places, func(a, b [2]int) int {
		if a[0] != b[0] {
			return a[0] - b[0]
		}
		return a[1] - b[1]
	})
	partition, number := -1, 0
	for _, at := range places {
		line := place[at]
		p.lines = append(p.lines, line)
		if at[0] != partition {
			partition, number = at[0], 0
		}
		n, err := strconv.Atoi(strings.Fields(line)[2])
		must(t, err)
		if n <= number {
			t.Fatalf("partition %d: line %d is behind line %d", partition, n, number)
		}
		number = n
	}
	return p
}

func (p passed) equal(t *testing.T, want []string) {
	t.Helper()
	t.Logf("%d lines, %d of them delivered twice, in order", len(p.lines), p.repeats)
	if len(p.lines) != len(want) || checksum(p.lines) != checksum(want) {
		t.Errorf("%d lines with checksum %s, want %d with %s", len(p.lines), checksum(p.lines), len(want), checksum(want))
	}
}

// longFlow is a file that goes through Kafka into files.
type longFlow struct {
	*sharer
	servers string
	env     vars
	a       *agent
}

func newLongFlow(t *testing.T, brokers, n int) (f *longFlow, base int) {
	t.Helper()
	if !long() {
		t.Skip("this is for the long form")
	}
	dir := workDir(t)
	base = kafka(t, brokers)
	var servers []string
	for i := range brokers {
		servers = append(servers, fmt.Sprint("localhost:", base+10*i))
	}
	f = &longFlow{sharer: newSharer(t, dir, "app", n), servers: strings.Join(servers, ",")}
	f.env = vars{"E2E_KAFKA": f.servers, "E2E_SERIALIZER": "HEADER_AND_TEXT", "E2E_TOPIC": "long"}
	return f, base
}

func (f *longFlow) out() string { return filepath.Join(f.dir, "rolled") }

// eventuallyLong waits longer: brokers come back one after the other.
func eventuallyLong(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * patience); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", 5*patience, what)
		}
	}
}

// TestKafkaMillion: a million lines go through one broker that is killed twenty
// times. Each is there once: what the sink sends again is numbered, and what the
// source reads again its channel knows.
func TestKafkaMillion(t *testing.T) {
	f, _ := newLongFlow(t, 1, 1_000_000)
	f.a = newAgent(t, f.dir, "kafka.conf", f.env).start()
	const kills = 20
	part := len(f.all) / (kills + 1)
	for k := 1; k <= kills; k++ {
		f.feed(t, k*part)
		eventually(t, "some of it comes through", func() bool { return through(f.sharer) > (k-1)*part+part/4 })
		service(t, nil, "kafka.sh", "kill9", "e2e", "1")
		service(t, nil, "kafka.sh", "up", "e2e", "1")
	}
	f.feed(t, len(f.all))
	eventuallyLong(t, "all have come through", func() bool { return through(f.sharer) >= len(f.all) })
	f.a.stop()
	p := inOrder(t, records(t, f.out()))
	p.equal(t, f.all)
	if p.repeats > 0 {
		t.Errorf("%d lines are there twice", p.repeats)
	}
}

// TestKafkaRebalances: a second member joins the group and leaves it every five
// seconds, in an orderly way and killed in turn, while a million lines pass. A killed one has
// delivered what it has not committed: that comes again.
func TestKafkaRebalances(t *testing.T) {
	f, _ := newLongFlow(t, 1, 1_000_000)
	f.a = newAgent(t, f.dir, "kafka.conf", f.env).start()
	other := newSharer(t, filepath.Dir(f.dir), "other", 0)
	b := newAgent(t, other.dir, "kafka-reader.conf", f.env)
	const turns = 12
	for k := 1; k <= turns; k++ {
		b.start()
		for step := range 5 { // the file grows all the time
			f.feed(t, ((k-1)*5+step+1)*len(f.all)/(5*turns))
			time.Sleep(time.Second)
		}
		if k%4 == 0 {
			b.kill9()
		} else {
			b.stop()
		}
	}
	b.start() // what the last one had stored is delivered
	eventuallyLong(t, "all have come through", func() bool { return through(f.sharer, other) >= len(f.all) })
	var p passed
	eventuallyLong(t, "every line is there", func() bool {
		p = inOrder(t, records(t, f.out()), records(t, filepath.Join(other.dir, "rolled")))
		return len(p.lines) >= len(f.all)
	})
	f.a.stop()
	b.stop()
	p = inOrder(t, records(t, f.out()), records(t, filepath.Join(other.dir, "rolled")))
	p.equal(t, f.all)
	if through(other) == 0 {
		t.Error("the other member has delivered nothing")
	}
	if p.repeats > len(f.all)/10 {
		t.Errorf("%d lines are there twice", p.repeats)
	}
}

// TestKafkaTopicAnew: the topic is deleted when all that was in it is delivered,
// and made again while the file grows.
func TestKafkaTopicAnew(t *testing.T) {
	f, base := newLongFlow(t, 1, 100_000)
	f.a = newAgent(t, f.dir, "kafka.conf", f.env).start()
	n := len(f.all)
	topics := func(args ...string) {
		service(t, nil, "kafka.sh", append([]string{"tool", "topics", "--bootstrap-server", fmt.Sprint("localhost:", base)}, args...)...)
	}
	for k, partitions := range []string{"", "5", "2"} {
		if k > 0 {
			topics("--delete", "--topic", "long")
			f.feed(t, f.put+n/6)
			topics("--create", "--if-not-exists", "--topic", "long", "--partitions", partitions)
		}
		f.feed(t, f.put+n/6)
		eventuallyLong(t, "all so far have come through", func() bool { return through(f.sharer) >= f.put })
	}
	f.feed(t, n)
	eventuallyLong(t, "all have come through", func() bool { return through(f.sharer) >= n })
	f.a.stop()
	got := make([]string, 0, n)
	for _, r := range records(t, f.out()) {
		got = append(got, r.line)
	}
	if len(got) != n || checksum(got) != checksum(f.all) {
		t.Errorf("%d lines with checksum %s, want %d with %s", len(got), checksum(got), n, checksum(f.all))
	}
}

// TestKafkaNewest: the same short flow, logins, channel and transactions through the newest broker.
func TestKafkaNewest(t *testing.T) {
	if !long() {
		t.Skip("one version of Kafka is enough for the short form")
	}
	if os.Getenv("KAFKA_VERSION") != "" {
		t.Skip("a version was chosen")
	}
	t.Setenv("KAFKA_VERSION", "4.3.1")
	t.Run("flow", func(t *testing.T) { throughKafka(t, 1, []int{1, 1}) })
	t.Run("leaders", func(t *testing.T) { throughKafka(t, 3, []int{1, 2, 3, 1}) })
	t.Run("logins", TestKafkaLogins)
	t.Run("flume", TestKafkaAndFlume)
	t.Run("channel", TestKafkaChannelAndFlume)
	t.Run("shared", TestKafkaChannelShared)
	t.Run("mixed", TestKafkaChannelSharedWithFlume)
	t.Run("transactions", func(t *testing.T) { kafkaTransactions(t, 3) })
}
