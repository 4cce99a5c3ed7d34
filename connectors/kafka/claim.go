package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
)

// claim is what a transaction of a sink commits for the channel's group: where it
// stands when all that is left of a lease is delivered. Until it is released the
// channel itself commits nothing of these partitions: of two commits of one
// partition that cross, the coordinator keeps the one that came last.
type claim struct {
	s       *consumer
	group   string
	turn    *turn
	offsets []placed
	left    int // events of the lease that are neither acked nor refused

	readings map[*reading]int64
}

// placed is an offset to commit.
type placed struct {
	topicPartition
	offset   int64
	metadata string
}

var (
	errElsewhere = errors.New("a partition of these events is another's by now")
	// errBetween: offsets are committed in order, and what is before is in another's hands.
	errBetween = errors.New("events before these are under way to another sink of the channel")
)

// claim makes one of what is left of l.
func (l *lease) claim(ctx context.Context) (*claim, error) {
	c := &claim{s: l.s.c, group: l.s.c.group, readings: make(map[*reading]int64)}
	select {
	case c.s.committing <- struct{}{}: // what is on its way is there before ours
		defer func() { <-c.s.committing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.batch == nil || l.gone || l.dead {
		return nil, errElsewhere
	}
	c.left = l.left
	for i := range l.spans {
		x := &l.spans[i]
		if _, has := c.readings[x.r]; !has {
			c.readings[x.r] = l.reach(x.r)
		}
		if x.batch != nil && x.batch.Events[x.to-1].Pos > c.readings[x.r] {
			return nil, errBetween
		}
	}
	return c, c.hold()
}

// reach is up to where r is delivered without a gap when all of l is. stash.mu is held.
func (l *lease) reach(r *reading) (pos int64) {
	for p := l.s.parcels[r]; p != nil; p = p.next {
		if p.left == 0 {
			pos = p.end
			continue
		}
		done := slices.Clone(p.acked)
		if done == nil {
			done = make([]bool, len(p.batch.Events))
		}
		for i := range l.spans {
			if x := &l.spans[i]; x.parcel == p {
				for at := x.from; at < x.to; at++ {
					done[at] = true
				}
			}
		}
		if n := slices.Index(done, false); n > 0 {
			return p.batch.Events[n-1].Pos
		} else if n == 0 {
			return pos
		}
		pos = p.end
	}
	return pos
}

// hold takes the partitions, which must be this member's. What is of a topic that
// was deleted and made anew since has no offset any more.
func (c *claim) hold() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	g := c.s.live
	if g == nil || g.lost {
		return errElsewhere
	}
	c.turn = g.turn
	for r, pos := range c.readings {
		switch now := g.parts[r.topicPartition]; {
		case now == r:
			c.offsets = append(c.offsets, placed{r.topicPartition, pos, r.metadata()})
		case !owned(r, g.parts):
			return errElsewhere
		}
	}
	slices.SortFunc(c.offsets, func(a, b placed) int { return comparePartitions(a.topicPartition, b.topicPartition) })
	for r := range c.readings {
		r.held++
	}
	return nil
}

// release lets the channel commit again.
func (c *claim) release(committed bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for r, pos := range c.readings {
		if r.held--; committed {
			r.committed = max(r.committed, pos)
		}
	}
	c.s.wake()
}

// settled returns the events of l, by index, that a transaction has delivered of
// which it was not known whether it was committed. who has seen to it that it is
// decided, and asks once for every partition.
func (l *lease) settled(ctx context.Context, who producer) ([]int32, error) {
	s := l.s.c
	l.s.mu.Lock()
	spans := slices.Clone(l.spans)
	l.s.mu.Unlock()
	parts := make(map[topicPartition]*reading)
	s.mu.Lock()
	for _, x := range spans {
		if x.r.checked != who {
			parts[x.r.topicPartition] = x.r
		}
	}
	s.mu.Unlock()
	if err := s.floors(ctx, parts, who); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int32
	for _, x := range spans {
		for i := range x.to - x.from {
			if at := x.start + i; x.r.checked == who && l.batch.Events[at].Pos <= x.r.floor {
				all = append(all, int32(at))
			}
		}
	}
	return all, nil
}

// floors asks for what the group has committed of parts.
func (s *consumer) floors(ctx context.Context, parts map[topicPartition]*reading, who producer) error {
	if len(parts) == 0 {
		return nil
	}
	req := &offsetfetch.Request{GroupID: s.group}
	all := slices.SortedFunc(maps.Keys(parts), comparePartitions)
	byTopic(all, func(at *topicPartition) string { return at.topic }, func(name string, run []topicPartition) {
		t := offsetfetch.RequestTopic{Name: name}
		for _, at := range run {
			t.PartitionIndexes = append(t.PartitionIndexes, at.partition)
		}
		req.Topics = append(req.Topics, t)
	})
	found, err := s.c.offsets(ctx, req, s.backoff)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range found {
		r := parts[p.topicPartition]
		if r == nil {
			continue
		}
		r.checked, r.floor = who, -1
		if id, _ := readMetadata(p.metadata); id == r.id { // else it is of another stream, such as that of a topic before this one
			r.floor = p.offset
			r.committed = max(r.committed, p.offset)
		}
	}
	return nil
}

// offsets asks for committed offsets, until no transaction under way can change them.
func (c *client) offsets(ctx context.Context, req *offsetfetch.Request, first time.Duration) ([]placed, error) {
	for b := (backoff{first: first}); ; b.pause(ctx) {
		found, err := c.offsetsNow(ctx, req)
		if err == nil || ctx.Err() != nil || !passing(err) {
			return found, err
		}
	}
}

func (c *client) offsetsNow(ctx context.Context, req *offsetfetch.Request) (found []placed, err error) {
	res, err := c.coordinator(ctx, req.GroupID, req)
	if err != nil {
		return nil, err
	}
	r := res.(*offsetfetch.Response)
	if r.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch offsets of group %s: %w", req.GroupID, kafkago.Error(r.ErrorCode))
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			at := topicPartition{t.Name, p.PartitionIndex}
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("fetch offset of %s for group %s: %w", at, req.GroupID, kafkago.Error(p.ErrorCode))
			}
			found = append(found, placed{at, p.CommittedOffset, p.Metadata})
		}
	}
	return found, nil
}
