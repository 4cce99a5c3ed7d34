package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/connectors/internal/javaregex"
	"github.com/millrace/millrace/connectors/internal/sample"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// consumer is a member of a consumer group: what the source and the channel read with.
type consumer struct {
	connection
	topics      []string
	pattern     *javaregex.Regexp
	group       string
	batch       int
	flumeFormat bool
	setTopic    bool
	topicHeader string

	reset      string
	minBytes   int
	maxWait    time.Duration
	maxBytes   int64
	partBytes  int64
	isolation  string
	rack       string
	session    time.Duration
	heartbeat  time.Duration
	maxPoll    time.Duration
	strategies []string
	balancers  []kafkago.GroupBalancer
	mapped     []recordHeader // record header, event header

	env     core.Env
	c       *client
	member  *member     // nil: none
	current *generation // the newest; may be over

	keeper keeper // nil: what is read goes to an outlet
	bare   bool   // events have no headers but their own and the record's key

	mu         sync.Mutex
	parts      map[topicPartition]*reading
	live       *generation   // current, for whoever does not run it
	news       chan struct{} // there may be something to commit
	committing chan struct{} // held while a commit is on its way

	undecodable, skipped, commits, empty, getTimer, commitTimer *metric.Extra
	sayBad, sayFail                                             sample.Log
}

// keeper keeps what is read until it is delivered, in place of an outlet. Its
// methods are called by one generation after the other.
type keeper interface {
	// hold waits for room and takes b, everything of r up to r.next, which it
	// releases. What it keeps of r is delivered in order; see consumer.delivered.
	hold(ctx context.Context, r *reading, b *core.Batch) error
	// pause: the partitions may soon be others'. Nothing more is begun before keep.
	pause()
	// busy tells whether something is under way, and worth waiting for.
	busy() bool
	// keep drops all that is not of parts.
	keep(parts map[topicPartition]*reading)
}

const consumerPrefix = "kafka.consumer."

// Assignors of Java's clients, and the protocols that are spoken for them. All
// members of a group must have one in common.
var assignors = map[string]kafkago.GroupBalancer{
	"org.apache.kafka.clients.consumer.RangeAssignor":      kafkago.RangeGroupBalancer{},
	"org.apache.kafka.clients.consumer.RoundRobinAssignor": kafkago.RoundRobinGroupBalancer{},
}

// keys binds the properties of Kafka's consumer. reset is the default of auto.offset.reset, poll the doc of max.poll.interval.ms.
func (s *consumer) keys(k *conf.Keys, reset, poll string) {
	s.connection.keys(k, consumerPrefix)
	k.String(&s.group, "kafka.consumer.group.id", "flume", "Consumer group. Its members, agents or others, share the partitions.").Alias("groupId")
	p := func(name string) string { return consumerPrefix + name }
	k.String(&s.reset, p("auto.offset.reset"), reset, "Where to begin in a partition for which the group has committed no offset, or one that is no longer there. none: stop and say so.").
		Must(conf.OneOf("latest", "earliest", "none"))
	k.Int(&s.minBytes, p("fetch.min.bytes"), 1, "The broker answers once there are so many bytes.").Must(conf.Min(0)).Unit("bytes")
	k.Millis(&s.maxWait, p("fetch.max.wait.ms"), 500*time.Millisecond, "Or after so long.").Must(conf.Min(0))
	k.Bytes(&s.maxBytes, p("fetch.max.bytes"), 50<<20, "About the most bytes that one broker answers with; they are in memory at once.").Must(conf.Range(1, 1<<30))
	k.Bytes(&s.partBytes, p("max.partition.fetch.bytes"), 1<<20, "And of one partition. A record batch that is larger comes all the same.").Must(conf.Range(1, 1<<30))
	k.String(&s.isolation, p("isolation.level"), "read_uncommitted", "read_committed: leave out the records of transactions that were aborted, and wait for those under way.").
		Must(conf.OneOf("read_uncommitted", "read_committed"))
	k.String(&s.rack, p("client.rack"), "", "Rack of the agent; told to the broker.")
	k.Millis(&s.session, p("session.timeout.ms"), 10*time.Second, "Without a sign of life for so long, the group gives the partitions to others.").Must(conf.Min(1))
	k.Millis(&s.heartbeat, p("heartbeat.interval.ms"), 3*time.Second, "How often that sign is given.").Must(conf.Min(1))
	k.Millis(&s.maxPoll, p("max.poll.interval.ms"), 5*time.Minute, poll).Must(conf.Min(1))
	s.strategies = []string{"org.apache.kafka.clients.consumer.RangeAssignor"}
	k.Commas(&s.strategies, p("partition.assignment.strategy"), "How the group shares the partitions: Java's RangeAssignor or RoundRobinAssignor. All members must have one in common.")
	for _, i := range []struct{ name, why string }{
		{"enable.auto.commit", "has no effect, as in Flume: the agent commits what is stored, or delivered"},
		{"auto.commit.interval.ms", "has no effect: offsets are committed as soon as may be"},
		{"max.poll.records", "has no effect: transactions have a size of their own"},
		{"check.crcs", "has no effect: checksums are always looked at"},
		{"exclude.internal.topics", "has no effect: a pattern never matches an internal topic"},
		{"default.api.timeout.ms", "has no effect: request.timeout.ms bounds every request"},
		{"allow.auto.create.topics", "has no effect: the brokers decide whether a topic that is read and is not there is made"},
		{"group.protocol", "has no effect: groups of the classic protocol are spoken"},
		{"group.remote.assignor", "has no effect: groups of the classic protocol are spoken"},
	} {
		k.Inert(p(i.name), i.why)
	}
	k.Check(s.checkGroup)
}

func (s *consumer) checkGroup(r *conf.Report) {
	if s.heartbeat >= s.session {
		r.Error(consumerPrefix+"heartbeat.interval.ms", "must be less than session.timeout.ms")
	}
	for _, name := range s.strategies {
		b, ok := assignors[name]
		if !ok {
			r.Error(consumerPrefix+"partition.assignment.strategy", "%q is not spoken here: org.apache.kafka.clients.consumer.RangeAssignor and RoundRobinAssignor are", name)
			continue
		}
		s.balancers = append(s.balancers, b)
	}
}

// open makes ready what needs no broker.
func (s *consumer) open(env core.Env) error {
	c, err := s.connection.client(env)
	if err != nil {
		return err
	}
	s.env, s.c, s.parts = env, c, make(map[topicPartition]*reading)
	s.news, s.committing = make(chan struct{}, 1), make(chan struct{}, 1)
	m := env.Metrics
	s.undecodable = m.Counter("records_undecodable_total", "Records that are not events of Flume, with useFlumeEventFormat; they were skipped.")
	s.skipped = m.Counter("records_aborted_total", "Records of aborted transactions, which were left out.")
	s.commits = m.Counter("commits_total", "Commits of offsets.")
	s.empty = m.Counter("fetches_empty_total", "Fetches that brought no records.")
	s.getTimer = m.Counter("fetch_milliseconds_total", "Time spent waiting for records.")
	s.commitTimer = m.Counter("commit_milliseconds_total", "Time spent committing offsets.")
	s.empty.Flume, s.getTimer.Flume, s.commitTimer.Flume = "KafkaEmptyCount", "KafkaEventGetTimer", "KafkaCommitTimer"
	return nil
}

// Run implements core.Source. The membership outlives it until Close: what is on
// its way can so be committed when it is stored.
func (s *consumer) Run(ctx context.Context, out core.Outlet) error {
	s.leave()
	for b := (backoff{first: s.backoff}); ctx.Err() == nil; {
		topics, err := s.find(ctx)
		var sizes map[string]int
		if err == nil && len(topics) > 0 {
			sizes, err = s.sizes(ctx, topics)
		}
		if err != nil || len(topics) == 0 {
			if err != nil && ctx.Err() == nil {
				s.complain("topics can not be looked up", err)
			}
			b.pause(ctx)
			continue
		}
		b.n = 0
		if err := s.attend(ctx, out, topics, sizes); err != nil {
			s.leave()
			return err
		}
		if ctx.Err() == nil {
			s.leave() // there are other topics
		}
	}
	return nil
}

// complain logs what keeps failing, now and then.
func (s *consumer) complain(msg string, err error) {
	s.env.Metrics.EventReadFail.Add(1)
	s.sayFail.Say(s.env.Log, s.env.Now(), slog.LevelWarn, msg, slog.Any("error", err))
}

// find returns the topics to read now.
func (s *consumer) find(ctx context.Context) ([]string, error) {
	if s.pattern == nil {
		return s.topics, nil
	}
	all, err := s.c.metadata(ctx, nil, false)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range all {
		ok, err := s.pattern.Match([]byte(name))
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", name, err)
		}
		if ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// sizes are how many partitions topics have now; 0: there is none.
func (s *consumer) sizes(ctx context.Context, topics []string) (map[string]int, error) {
	found, err := s.c.metadata(ctx, topics, false)
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int, len(topics))
	for _, name := range topics {
		if t := found[name]; t != nil {
			sizes[name] = len(t.leaders)
		}
	}
	return sizes, nil
}

// attend is a member of the group for those topics, until ctx ends or there are
// other topics. The membership goes on. sizes are from before it joins: when a
// topic has more partitions, it joins again, since they may not be shared out.
func (s *consumer) attend(ctx context.Context, out core.Outlet, topics []string, sizes map[string]int) error {
	m := &member{s: s, topics: topics}
	s.member = m
	for b := (backoff{first: s.backoff}); ctx.Err() == nil; {
		t, err := m.join(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.complain("group can not be joined now", err)
				b.pause(ctx)
			}
			continue
		}
		b.n = 0
		g := newGeneration(s, t, out, topics, sizes)
		s.current = g
		s.mu.Lock()
		s.live = g
		s.mu.Unlock()
		gone, end := context.WithCancel(context.Background())
		m.end, m.beats = end, make(chan struct{})
		go m.beat(gone, t)
		go g.run(ctx, gone)
		select {
		case <-g.rested:
			return nil
		case <-g.over:
		}
		end()
		<-m.beats
		if g.err != nil || g.changed {
			return g.err
		}
		sizes = g.sizes
	}
	return nil
}

// leave ends the membership; what is stored by now is committed.
func (s *consumer) leave() {
	if s.member == nil {
		return
	}
	if g := s.current; g != nil {
		g.leaving.Store(true)
		s.member.end()
		<-g.over
		<-s.member.beats
	}
	s.member.leave()
	s.member, s.current = nil, nil
}

// leaving is how long the group may take to let a member go, and a channel that closes to write what was put.
const leaving = 3 * time.Second

// delivered notes that what is before pos is delivered.
func (s *consumer) delivered(r *reading, pos int64) {
	s.mu.Lock()
	r.done = max(r.done, pos)
	s.mu.Unlock()
	s.wake()
}

// forget gives up the readings that are not in parts: whoever reads them again
// begins where the group has committed.
func (s *consumer) forget(parts map[topicPartition]*reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, r := range s.parts {
		if parts[at] != r {
			delete(s.parts, at)
		}
	}
}

// behind is how many records there are that are not delivered.
func (s *consumer) behind() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.parts {
		n += max(0, r.end-r.done)
	}
	return n
}

// wake makes the generation commit.
func (s *consumer) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}
