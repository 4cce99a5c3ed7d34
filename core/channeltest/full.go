package channeltest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/suite"
)

// dropped is how many events the channel says it dropped because it was full.
func dropped(g *metric.Group) int64 { return g.Counter("events_dropped_total", "").Load() }

// putMarked puts bodies as a batch that can be read again, and returns what
// tells that it is stored.
func putMarked(t testing.TB, ch core.Channel, pos int64, bodies ...string) <-chan error {
	t.Helper()
	b := core.NewBatch()
	defer b.Release()
	for i, s := range bodies {
		b.Copy(core.Headers{}, []byte(s))
		b.Events[i].Pos = pos + int64(i-len(bodies)) + 1
	}
	b.Mark("s", pos)
	tx, err := ch.TryClaim(b.Size())
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	stored := make(chan error, 1)
	tx.Commit(b, nil, func(err error) { stored <- err })
	return stored
}

func dropNewest(t testing.TB, s Subject) {
	ch, cells := open(t, s, s.keys(t, "capacity", "5", "transactionCapacity", "3", "whenFull", "drop_newest"))
	all := suite.Bodies(0, 5)
	mustPut(t, ch, all[:3]...)
	mustPut(t, ch, all[3:]...)
	mustPut(t, ch, "too", "much")
	if err := within(t, putMarked(t, ch, 3, "a", "b", "c")); err != nil {
		t.Errorf("a marked batch that is dropped is answered with %v", err)
	}
	if pos, ok := ch.Position("s"); ch.Durable() && (!ok || pos != 3) {
		t.Errorf("position %d, %v after a batch that is dropped: it would be sent again", pos, ok)
	}
	if n := dropped(cells); n != 5 {
		t.Errorf("%d events counted as dropped, want 5", n)
	}
	if err := ch.Room(context.Background(), core.Size{Events: 3}); err != nil {
		t.Errorf("room: %v", err)
	}
	l := mustTake(t, ch, 2)
	mustPut(t, ch, "leased", "count") // dropped: what is leased needs its room
	same(t, bodies(l), all[:2])
	l.Ack(nil)
	mustPut(t, ch, "x", "y")
	same(t, Drain(t, ch), append(all[2:], "x", "y"))
	if n := ch.Len(); n != (core.Size{}) {
		t.Errorf("Len %v at the end", n)
	}
}

func dropOldest(t testing.TB, s Subject) {
	ch, cells := open(t, s, s.keys(t, "capacity", "5", "transactionCapacity", "4", "whenFull", "drop_oldest"))
	mustPut(t, ch, "0", "1")
	waits := putMarked(t, ch, 3, "2", "3", "4")
	if ch.Durable() {
		if err := within(t, waits); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, ch, "5", "6", "7") // 0, 1, 2 give way
	l := mustTake(t, ch, 2)
	same(t, bodies(l), []string{"3", "4"})
	mustPut(t, ch, "8") // the oldest that is not leased is 5
	if n := dropped(cells); n != 4 {
		t.Errorf("%d events counted as dropped, want 4", n)
	}
	mustPut(t, ch, "no", "room", "for", "me") // only three can give way: it is dropped itself
	if n := dropped(cells); n != 8 {
		t.Errorf("%d events counted as dropped, want 8", n)
	}
	l.Rollback(errors.New("again"))
	mustPut(t, ch, "9", "10", "11") // 3, 4, 6
	if !ch.Durable() {
		if err := within(t, waits); err != nil {
			t.Errorf("a marked batch, all of it dropped, is answered with %v", err)
		}
	}
	same(t, Drain(t, ch), []string{"7", "8", "9", "10", "11"})
	if n := ch.Len(); n != (core.Size{}) {
		t.Errorf("Len %v at the end", n)
	}
}

// adjust changes settings of a channel at work.
//
// flume: TestFileChannel testReconfigure
// flume: TestMemoryChannel testChannelResize
func adjust(t testing.TB, s Subject) {
	keys := s.keys(t, "capacity", "5", "transactionCapacity", "5", "keep-alive", "60")
	ch, cells := open(t, s, keys)
	adjuster, ok := ch.(core.Adjuster)
	if !ok {
		t.Fatal("it does not take settings in place")
	}
	set := func(more ...string) {
		t.Helper()
		for i := 0; i < len(more); i += 2 {
			keys[more[i]] = more[i+1]
		}
		next := s.bind(t, keys)
		if key := adjuster.Fixed(next); key != "" {
			t.Fatalf("%s cannot be changed", key)
		}
		adjuster.Adjust(next)
	}
	mustPut(t, ch, suite.Bodies(0, 5)...)
	answer := make(chan error, 1)
	go func() { answer <- ch.Room(context.Background(), core.Size{Events: 3, Bytes: 3}) }()
	set("capacity", "8")
	if err := within(t, answer); err != nil {
		t.Errorf("room in the larger channel: %v", err)
	}
	mustPut(t, ch, suite.Bodies(5, 3)...)
	if ch.Capacity() != 8 || ch.Len().Events != 8 {
		t.Errorf("%d events of %d", ch.Len().Events, ch.Capacity())
	}
	l := mustTake(t, ch, 3)
	set("capacity", "4", "transactionCapacity", "2", "keep-alive", "0")
	if err := Put(ch, "x"); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("put into the smaller channel: %v", err)
	}
	if err := ch.Room(context.Background(), core.Size{Events: 1}); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("room with no keep-alive: %v", err)
	}
	if err := Put(ch, "x", "y", "z"); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("put beyond the smaller transactionCapacity: %v", err)
	}
	set("whenFull", "drop_newest")
	mustPut(t, ch, "dropped")
	if dropped(cells) != 1 {
		t.Error("whenFull was not taken")
	}
	l.Rollback(errors.New("again"))
	l = mustTake(t, ch, 5)
	if n := len(l.Batch().Events); n != 2 {
		t.Errorf("a take of %d events with transactionCapacity = 2", n)
	}
	l.Rollback(errors.New("again"))
	set("whenFull", "drop_oldest")
	mustPut(t, ch, "last") // down to the smaller capacity
	same(t, Drain(t, ch), append(suite.Bodies(5, 3), "last"))
	if next := s.keys(t); strings.Contains(next["dataDirs"], "/") {
		if key := adjuster.Fixed(s.bind(t, next)); key != "checkpointDir" {
			t.Errorf("directories can not change: %q", key)
		}
	}
}
