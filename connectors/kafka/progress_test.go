package kafka

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// The agent dies between a commit and its ack, and between acks and their being
// stored: nothing is there twice, however the events are taken again.
func TestProgressAfterACrash(t *testing.T) {
	for name, again := range map[string]int{"as before": 10, "in smaller takes": 3, "in larger takes": 100, "in odd takes": 17} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(2, "t"))
			s := newShelf(t, suite.Bodies(0, 100)...)
			in := s.open(c, "defaultPartitionId", "0")
			s.deliver(in, 10)
			s.late = true
			s.deliver(in, 10)
			s.deliver(in, 5)
			s.dead = true
			s.deliver(in, 10)
			if got := len(c.visible("t")); got != 35 || s.left() != 75 {
				t.Fatalf("%d events are there, %d left", got, s.left())
			}
			s.crash()
			next := s.open(c, "defaultPartitionId", "0", "flumeBatchSize", "3")
			if s.left() != 90 {
				t.Fatalf("%d left", s.left())
			}
			s.drain(next, again)
			if seen := c.visible("t"); !slices.Equal(seen, suite.Bodies(0, 100)) {
				t.Errorf("%d events: %q", len(seen), seen)
			}
			next.Close()
			in.Close()
		})
	}
}

// It is not known whether a transaction was committed until the time is over: it was.
func TestProgressCommitUnknown(t *testing.T) {
	l := &lossy{key: int16(kmsg.EndTxn)}
	c := newCluster(t, kfake.SeedTopics(1, "t"), l.opt())
	l.in(c)
	s := newShelf(t, suite.Bodies(0, 20)...)
	in := s.open(c)
	defer in.Close()
	s.deliver(in, 5)
	l.on.Store(true)
	in.Sink.(*sink).timeout = 300e6
	if err := s.deliver(in, 5); err == nil {
		t.Fatal("the commit had no answer")
	}
	l.on.Store(false)
	in.Sink.(*sink).timeout = suite.Deadline
	s.drain(in, 5)
	if seen := c.visible("t"); !slices.Equal(seen, suite.Bodies(0, 20)) {
		t.Errorf("%q", seen)
	}
}

// The channel gives others than those that were written: they are sent, and the next crash finds the right ones.
func TestProgressOfOtherEvents(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	s := newShelf(t, suite.Bodies(0, 10)...)
	in := s.open(c)
	defer in.Close()
	s.deliver(in, 5)
	s.dead = true
	s.deliver(in, 5)
	s.crash()
	s.now.acked[5] = true // another has it
	next := s.open(c)
	defer next.Close()
	s.drain(next, 4)
	want := append(suite.Bodies(0, 10), suite.Bodies(6, 4)...)
	if seen := c.visible("t"); !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
	s.put(suite.Bodies(20, 4)...)
	s.dead = true
	s.deliver(next, 4)
	s.crash()
	last := s.open(c)
	defer last.Close()
	s.drain(last, 4)
	if seen := c.visible("t"); !slices.Equal(seen, append(want, suite.Bodies(20, 4)...)) {
		t.Errorf("%q", seen)
	}
}

// Fewer events come than were written: they are sent when the agent drains.
func TestProgressHoldsInVain(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	s := newShelf(t, suite.Bodies(0, 10)...)
	in := s.open(c)
	defer in.Close()
	s.dead = true
	s.deliver(in, 10)
	s.crash()
	for i := range 5 {
		s.now.acked[i] = true
	}
	next := s.open(c, "flumeBatchSize", "5")
	defer next.Close()
	s.deliver(next, 5)
	if s.left() != 5 {
		t.Fatalf("%d left before the flush", s.left())
	}
	if err := next.Sink.Flush(context.Background()); err != nil || s.left() != 0 {
		t.Errorf("%d left: %v", s.left(), err)
	}
	if seen := c.visible("t"); !slices.Equal(seen, append(suite.Bodies(0, 10), suite.Bodies(5, 5)...)) {
		t.Errorf("%q", seen)
	}
}

// Refused events do not count, and do not come between after a crash.
func TestProgressRefused(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "t"))
	s := newShelf(t, "a", strings.Repeat("x", 5000), "b", "c")
	in := s.open(c, "kafka.producer.max.request.size", "4000")
	defer in.Close()
	p := in.Sink.(*sink).p.txn.progress
	if err := s.deliver(in, 3); err != nil || s.left() != 1 || p.n != 1 {
		t.Fatalf("%v, %d left, transaction %d", err, s.left(), p.n)
	}
	s.crash()
	next := s.open(c)
	defer next.Close()
	s.drain(next, 10)
	if seen := c.visible("t"); !slices.Equal(seen, []string{"a", "b", "c"}) {
		t.Errorf("%q", seen)
	}
}

func TestProgressMetadata(t *testing.T) {
	all := []carried{{n: 6, events: 10, sum: 0xffffffff}, {n: 7, events: 1}, {n: 8, events: 100000, sum: 7}}
	text := appendProgress(all)
	if got := readProgress(8, text); !slices.Equal(got, all) {
		t.Errorf("%s: %v", text, got)
	}
	for _, bad := range []string{"", "millrace-transactions", "millrace x", text + " 5", text + " 0:5", text + " 1:123456789"} {
		if got := readProgress(8, bad); got != nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	a := []core.Event{event("a", "k", "v", "l", "w"), event("b")}
	for _, other := range [][]core.Event{{a[1], a[0]}, {event("ab"), event("")}, {event("a", "k", "w", "l", "v"), a[1]}, {a[0]}} {
		if checksum(0, a) == checksum(0, other) {
			t.Errorf("%v", other)
		}
	}
	if same := []core.Event{event("a", "l", "w", "k", "v"), a[1]}; checksum(checksum(0, same[:1]), same[1:]) != checksum(0, a) {
		t.Error("the order of headers, or of parts, changes the checksum")
	}
}
