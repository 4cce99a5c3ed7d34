package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// member is one of a consumer group, by the classic protocol. kafka-go's own
// ConsumerGroup can not lead a group that Java's clients are in: it takes what
// they say of themselves beyond version 0 for an error.
type member struct {
	s      *consumer
	topics []string
	id     string // the coordinator's name for it; empty: none yet
	end    context.CancelFunc
	beats  chan struct{} // closed when no more heartbeats are sent
}

// turn is what a member is given when the group has come together.
type turn struct {
	id     int32  // of the generation
	member string // its name then
	addr   string // of the coordinator
	parts  map[string][]int32
}

// Codes of groups that kafka-go has no name for.
const memberIDRequired = kafkago.Error(79)

// join waits until the group has come together.
func (m *member) join(ctx context.Context) (*turn, error) {
	t, err := m.try(ctx)
	switch {
	case errors.Is(err, memberIDRequired): // it has one now
		return m.try(ctx)
	case errors.Is(err, kafkago.UnknownMemberId):
		m.id = ""
	}
	return t, err
}

func (m *member) try(ctx context.Context) (*turn, error) {
	s := m.s
	addr, err := s.c.coordinates(ctx, ofGroup, s.group)
	if err != nil {
		return nil, err
	}
	req := &joingroup.Request{
		GroupID: s.group, SessionTimeoutMS: int32(s.session.Milliseconds()), RebalanceTimeoutMS: int32(s.maxPoll.Milliseconds()),
		MemberID: m.id, ProtocolType: "consumer",
	}
	for _, b := range s.balancers {
		req.Protocols = append(req.Protocols, joingroup.RequestProtocol{Name: b.ProtocolName(), Metadata: appendSubscription(nil, m.topics)})
	}
	// The answer comes when all members have joined, or are given up. Commits
	// and heartbeats of others must not wait for it.
	res, err := s.c.link(purpose{addr: addr, joins: true}).do(ctx, req, s.maxPoll)
	if err != nil {
		return nil, err
	}
	r := res.(*joingroup.Response)
	if r.MemberID != "" {
		m.id = r.MemberID
	}
	if r.ErrorCode != 0 {
		return nil, fmt.Errorf("join group %s: %w", s.group, kafkago.Error(r.ErrorCode))
	}
	say := &syncgroup.Request{GroupID: s.group, GenerationID: r.GenerationID, MemberID: m.id}
	if r.LeaderID == m.id {
		if say.Assignments, err = m.lead(ctx, r); err != nil {
			return nil, err
		}
	}
	res, err = s.c.link(purpose{addr: addr, joins: true}).do(ctx, say, s.maxPoll)
	if err != nil {
		return nil, err
	}
	a := res.(*syncgroup.Response)
	if a.ErrorCode != 0 {
		return nil, fmt.Errorf("sync group %s: %w", s.group, kafkago.Error(a.ErrorCode))
	}
	parts, err := readAssignment(a.Assignments)
	if err != nil {
		return nil, fmt.Errorf("assignment of group %s: %w", s.group, err)
	}
	return &turn{r.GenerationID, m.id, addr, parts}, nil
}

// lead shares the partitions out.
func (m *member) lead(ctx context.Context, r *joingroup.Response) ([]syncgroup.RequestAssignment, error) {
	var members []kafkago.GroupMember
	wanted := make(map[string]bool)
	for _, one := range r.Members {
		topics, data, err := readSubscription(one.Metadata)
		if err != nil {
			return nil, fmt.Errorf("member %s of group %s: %w", one.MemberID, m.s.group, err)
		}
		members = append(members, kafkago.GroupMember{ID: one.MemberID, Topics: topics, UserData: data})
		for _, t := range topics {
			wanted[t] = true
		}
	}
	names := slices.Sorted(maps.Keys(wanted))
	found, err := m.s.c.metadata(ctx, names, false)
	if err != nil {
		return nil, err
	}
	var parts []kafkago.Partition
	for _, name := range names {
		if t := found[name]; t != nil {
			for i := range t.leaders {
				parts = append(parts, kafkago.Partition{Topic: name, ID: i})
			}
		}
	}
	at := slices.IndexFunc(m.s.balancers, func(b kafkago.GroupBalancer) bool { return b.ProtocolName() == r.ProtocolName })
	if at < 0 {
		return nil, fmt.Errorf("group %s has chosen the assignor %s, which is not spoken here", m.s.group, r.ProtocolName)
	}
	shared := m.s.balancers[at].AssignGroups(members, parts)
	var all []syncgroup.RequestAssignment
	for _, one := range members {
		all = append(all, syncgroup.RequestAssignment{MemberID: one.ID, Assignment: appendAssignment(nil, shared[one.ID])})
	}
	return all, nil
}

// beat tells the coordinator that the member is there, until gone ends, which
// it does when the coordinator says that the group comes together again.
func (m *member) beat(gone context.Context, t *turn) {
	defer close(m.beats)
	defer m.end()
	every := time.NewTicker(m.s.heartbeat)
	defer every.Stop()
	for {
		select {
		case <-gone.Done():
			return
		case <-every.C:
		}
		res, err := m.s.c.link(purpose{addr: t.addr}).do(gone, &heartbeat.Request{GroupID: m.s.group, GenerationID: t.id, MemberID: t.member}, 0)
		if err != nil || res.(*heartbeat.Response).ErrorCode != 0 {
			return
		}
	}
}

// leave tells the coordinator that the member is gone, so that the others need not wait for its session.
func (m *member) leave() {
	if m.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaving)
	defer cancel()
	addr, err := m.s.c.coordinates(ctx, ofGroup, m.s.group)
	if err == nil {
		req := &leavegroup.Request{GroupID: m.s.group, MemberID: m.id}
		_, err = m.s.c.link(purpose{addr: addr}).do(ctx, req, 0)
	}
	if err != nil {
		m.s.env.Log.Debug("group is left without a word", "error", err) // its session ends
	}
}

// What a coordinator is of.
const (
	ofGroup       int8 = 0
	ofTransaction int8 = 1
)

// coordinates looks up the coordinator of a group, or of a transactional id.
func (c *client) coordinates(ctx context.Context, kind int8, name string) (addr string, err error) {
	res, err := c.any(ctx, &findcoordinator.Request{Key: name, KeyType: kind})
	if err != nil {
		return "", err
	}
	r := res.(*findcoordinator.Response)
	if r.ErrorCode != 0 {
		what := "group"
		if kind == ofTransaction {
			what = "transactional.id"
		}
		return "", fmt.Errorf("find coordinator of %s %s: %w", what, name, kafkago.Error(r.ErrorCode))
	}
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), nil
}

// coordinator sends req to the coordinator of a group.
func (c *client) coordinator(ctx context.Context, group string, req protocol.Message) (protocol.Message, error) {
	addr, err := c.coordinates(ctx, ofGroup, group)
	if err != nil {
		return nil, err
	}
	return c.link(purpose{addr: addr}).do(ctx, req, 0)
}

// What members say to one another, through the coordinator that does not look at
// it: ConsumerProtocolSubscription and ConsumerProtocolAssignment, version 0. Later
// versions have more behind it, which is not read.

func appendSubscription(b []byte, topics []string) []byte {
	b = appendInt32(append(b, 0, 0), int32(len(topics)))
	for _, name := range topics {
		b = appendString(b, name)
	}
	return appendInt32(b, -1) // no data of its own
}

func readSubscription(data []byte) (topics []string, own []byte, err error) {
	c := cursor{data: data}
	c.int16()
	for range c.array(2) {
		topics = append(topics, c.text())
	}
	if n := c.int32(); n > 0 {
		own = c.take(int64(n))
	}
	return topics, own, c.err
}

func appendAssignment(b []byte, parts map[string][]int) []byte {
	b = appendInt32(append(b, 0, 0), int32(len(parts)))
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		b = appendInt32(appendString(b, name), int32(len(parts[name])))
		for _, p := range parts[name] {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return appendInt32(b, -1)
}

func readAssignment(data []byte) (map[string][]int32, error) {
	parts := make(map[string][]int32)
	if len(data) == 0 {
		return parts, nil // nothing for this member
	}
	c := cursor{data: data}
	c.int16()
	for range c.array(6) {
		name := c.text()
		for range c.array(4) {
			if p := c.int32(); c.err == nil && p >= 0 {
				parts[name] = append(parts[name], p)
			}
		}
	}
	return parts, c.err
}
