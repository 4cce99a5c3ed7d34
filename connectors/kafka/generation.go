package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"

	"github.com/millrace/millrace/core"
)

// reading is how far one partition is read. It outlives the generations of the group.
type reading struct {
	topicPartition
	number  string   // of the partition
	stream  string   // of the batches
	id      string   // end of stream, kept in the group's commits
	topicID string   // of the topic that it reads; empty: not known yet
	missing bool     // next is not there; of the fetching goroutine
	before  *reading // whose place it took because its offset was not there
	next    int64    // to fetch; what is before was sent. Of the fetching goroutine.

	// Under consumer.mu.
	end       int64 // offset after the last record, as it was last heard
	done      int64 // what is before is stored
	committed int64 // -1: nothing
	sent      int64 // next, for whoever does not fetch
	held      int   // transactions of sinks that commit it, and nobody else meanwhile
	checked   producer
	floor     int64 // what is before was committed when checked asked
}

// generation is the time between two rebalances: who reads what is fixed.
type generation struct {
	s      *consumer
	turn   *turn
	out    core.Outlet // nil: there is a keeper
	topics []string
	sizes  map[string]int // partitions by topic that are surely shared out
	parts  map[topicPartition]*reading

	rested  chan struct{} // closed when nothing more is sent because the run has ended
	over    chan struct{} // closed when the group has gone on
	leaving atomic.Bool   // the source leaves the group: nobody waits
	lost    bool          // commits are refused; under consumer.mu
	err     error         // ends the run; set before over or rested is closed
	changed bool          // there are other topics; likewise
	grown   bool          // a topic has more partitions; likewise
}

// grace is how long a rebalance waits for what was sent to be stored, so that it
// need not come again.
const grace = 2 * time.Second

func newGeneration(s *consumer, t *turn, out core.Outlet, topics []string, sizes map[string]int) *generation {
	return &generation{
		s: s, turn: t, out: out, topics: topics, sizes: sizes, parts: make(map[topicPartition]*reading),
		rested: make(chan struct{}), over: make(chan struct{}),
	}
}

// run reads until ctx ends, or gone: the group has gone on. After ctx it still
// commits, until gone.
func (g *generation) run(ctx, gone context.Context) {
	defer close(g.over)
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(gone, cancel)()
	for b := (backoff{first: g.s.backoff}); work.Err() == nil; b.pause(work) {
		err := g.assign(work)
		if err == nil {
			if g.s.keeper != nil {
				g.s.forget(g.parts)
				g.s.keeper.keep(g.parts)
			}
			break
		}
		if errors.Is(err, errNoOffset) {
			g.err = err
			return
		}
		if work.Err() == nil {
			g.s.complain("offsets can not be looked up", err)
		}
	}
	stop := make(chan struct{})
	var commits sync.WaitGroup
	commits.Go(func() { g.commits(stop) })
	g.fetch(work)
	if g.s.keeper != nil {
		g.s.keeper.pause()
	}
	if ctx.Err() != nil && gone.Err() == nil && g.err == nil {
		g.commit() // what is stored by now; a crash after Run shall not repeat it
		close(g.rested)
		<-gone.Done()
	}
	if g.err == nil && !g.changed && !g.leaving.Load() {
		g.settle()
	}
	close(stop)
	commits.Wait()
	g.commit()
}

// settle waits until what was sent is stored, but not for long.
func (g *generation) settle() {
	end := time.NewTimer(min(grace, g.s.session/2))
	defer end.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for g.outstanding() && !g.leaving.Load() {
		select {
		case <-end.C:
			return
		case <-look.C:
		}
	}
}

func (g *generation) outstanding() bool {
	if g.s.keeper != nil {
		return g.s.keeper.busy()
	}
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	for _, r := range g.parts {
		if r.done < r.sent {
			return true
		}
	}
	return false
}

// sorted are the partitions in the order of requests. consumer.mu is held.
func (g *generation) sorted() []topicPartition {
	all := make([]topicPartition, 0, len(g.parts))
	for at := range g.parts {
		all = append(all, at)
	}
	slices.SortFunc(all, comparePartitions)
	return all
}

func comparePartitions(a, b topicPartition) int {
	if c := strings.Compare(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.partition - b.partition)
}

var errNoOffset = errors.New("there is no offset to begin at, and auto.offset.reset is none")

// assign makes the readings of what is assigned.
func (g *generation) assign(ctx context.Context) error {
	req := &offsetfetch.Request{GroupID: g.s.group}
	for topic, parts := range g.turn.parts {
		if len(parts) > 0 {
			req.Topics = append(req.Topics, offsetfetch.RequestTopic{Name: topic, PartitionIndexes: parts})
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	found, err := g.s.c.offsetsNow(ctx, req)
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := g.resume(ctx, p.topicPartition, p.offset, p.metadata); err != nil {
			return err
		}
	}
	return nil
}

// marker begins the metadata of our commits.
const marker = "millrace "

// metadata is what is committed with the offset: the name of the stream, and the topic. consumer.mu is held.
func (r *reading) metadata() string { return strings.TrimSuffix(marker+r.id+" "+r.topicID, " ") }

func readMetadata(text string) (id, topicID string) {
	if text, ours := strings.CutPrefix(text, marker); ours {
		id, topicID, _ = strings.Cut(text, " ")
	}
	return id, topicID
}

// resume makes the reading of one partition, of which offset is committed (below
// 0: none).
func (g *generation) resume(ctx context.Context, at topicPartition, offset int64, metadata string) error {
	g.s.mu.Lock()
	r := g.s.parts[at]
	// It comes back as it went: what is on its way from here still counts.
	if r != nil && offset >= r.committed && offset <= r.sent {
		r.committed = offset
		r.done, r.next = max(r.done, offset), r.sent // what was fetched and not sent is fetched again
		g.parts[at] = r
		g.s.mu.Unlock()
		return nil
	}
	g.s.mu.Unlock()
	id, topicID := "", ""
	if offset >= 0 {
		id, topicID = readMetadata(metadata)
	}
	if id == "" {
		id = newID()
	}
	start := offset
	if offset < 0 {
		var err error
		if start, err = g.begin(ctx, at, g.s.reset); err != nil {
			return err
		}
	}
	r = g.s.newReading(at, id, start, offset)
	r.topicID = topicID
	if g.out != nil {
		if held, ok := g.out.Position(r.stream); ok && held > start {
			r.next, r.sent, r.done = held, held, held
		}
	}
	g.take(r)
	return nil
}

// take makes r the reading of its partition.
func (g *generation) take(r *reading) {
	g.s.mu.Lock()
	old := g.s.parts[r.topicPartition]
	g.s.parts[r.topicPartition], g.parts[r.topicPartition] = r, r
	g.s.mu.Unlock()
	if old != nil && old.stream != r.stream && g.out != nil {
		g.out.Forget(old.stream)
	}
	g.s.wake()
}

func newID() string { return rand.Text()[:12] }

func (s *consumer) newReading(at topicPartition, id string, start, committed int64) *reading {
	return &reading{
		topicPartition: at, number: fmt.Sprint(at.partition), id: id, stream: fmt.Sprintf("kafka/%s/%s/%s", s.group, at, id),
		next: start, sent: start, done: start, committed: committed, checked: producer{id: -1},
	}
}

// begin asks where to begin in a partition without an offset.
func (g *generation) begin(ctx context.Context, at topicPartition, reset string) (int64, error) {
	when := kafkago.LastOffset
	switch reset {
	case "earliest":
		when = kafkago.FirstOffset
	case "none":
		return 0, fmt.Errorf("partition %s: %w", at, errNoOffset)
	}
	topics, err := g.s.c.metadata(ctx, []string{at.topic}, false)
	if err != nil {
		return 0, err
	}
	t := topics[at.topic]
	if t == nil || int(at.partition) >= len(t.leaders) || t.leaders[at.partition] < 0 {
		return 0, fmt.Errorf("partition %s: %w", at, kafkago.LeaderNotAvailable)
	}
	res, err := g.s.c.node(ctx, t.leaders[at.partition], &listoffsets.Request{
		ReplicaID: -1,
		Topics: []listoffsets.RequestTopic{{Topic: at.topic, Partitions: []listoffsets.RequestPartition{
			{Partition: at.partition, CurrentLeaderEpoch: -1, Timestamp: when},
		}}},
	}, 0)
	if err != nil {
		return 0, err
	}
	all := res.(*listoffsets.Response).Topics
	if len(all) != 1 || len(all[0].Partitions) != 1 {
		return 0, fmt.Errorf("look up offset of %s: the answer does not speak of it", at)
	}
	p := all[0].Partitions[0]
	if p.ErrorCode != 0 {
		return 0, fmt.Errorf("look up offset of %s: %w", at, kafkago.Error(p.ErrorCode))
	}
	return p.Offset, nil
}

// commits commits what gets stored, one commit at a time, ten a second at most.
func (g *generation) commits(stop <-chan struct{}) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-stop:
			return
		case <-g.s.news:
		}
		g.commit()
		rest.Reset(100 * time.Millisecond)
		select {
		case <-stop:
			return
		case <-rest.C:
		}
	}
}

// commit commits once.
func (g *generation) commit() {
	g.s.committing <- struct{}{}
	defer func() { <-g.s.committing }()
	req := &offsetcommit.Request{GroupID: g.s.group, GenerationID: g.turn.id, MemberID: g.turn.member, RetentionTimeMs: -1}
	dirty := make(map[topicPartition]int64)
	g.s.mu.Lock()
	for at, r := range g.parts {
		if r.done > r.committed && r.held == 0 {
			dirty[at] = r.done
		}
	}
	for _, at := range g.sorted() {
		offset, ok := dirty[at]
		if !ok {
			continue
		}
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Name != at.topic {
			req.Topics = append(req.Topics, offsetcommit.RequestTopic{Name: at.topic})
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, offsetcommit.RequestPartition{
			PartitionIndex: at.partition, CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: g.parts[at].metadata(),
		})
	}
	lost := g.lost
	g.s.mu.Unlock()
	if len(dirty) == 0 || lost {
		return
	}
	began := g.s.env.Now()
	ctx, cancel := context.WithTimeout(context.Background(), g.s.request)
	defer cancel()
	res, err := g.s.c.coordinator(ctx, g.s.group, req)
	g.s.commits.Add(1)
	g.s.commitTimer.Add(g.s.env.Now().Sub(began).Milliseconds())
	if err == nil {
		err = g.committed(res.(*offsetcommit.Response), dirty)
	}
	if err != nil {
		if !g.leaving.Load() {
			g.s.complain("offsets can not be committed now", err)
		}
		g.s.wake()
	}
}

func (g *generation) committed(r *offsetcommit.Response, dirty map[topicPartition]int64) (err error) {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			at := topicPartition{t.Name, p.PartitionIndex}
			code := kafkago.Error(p.ErrorCode)
			switch {
			case p.ErrorCode == 0:
				if own := g.parts[at]; own != nil {
					own.committed = max(own.committed, dirty[at])
				}
				continue
			case code == kafkago.IllegalGeneration, code == kafkago.UnknownMemberId:
				g.lost = true // the partitions are others' by now
			}
			err = fmt.Errorf("commit offset of %s: %w", at, code)
		}
	}
	return err
}
