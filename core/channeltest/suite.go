// Package channeltest is the suite that every channel runs under: order,
// atomic puts, rollback to the front, room in count and bytes, waiting and
// stopping, many sources and many sinks at once. For durable channels the crash
// checks follow (see RunCrash).
package channeltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// Subject is a channel to test.
type Subject struct {
	New func() core.Channel
	// Keys returns the keys of a fresh channel beside capacity,
	// transactionCapacity and keep-alive, which the suite sets.
	Keys func(t testing.TB) map[string]string
	// Names are what the channel calls capacity and keep-alive, where it has other names.
	Names map[string]string
	// Bytes: the key that limits bytes, and its value for a limit of about 1000
	// body bytes. Empty: the channel has no such limit.
	BytesKey, Bytes1000 string
}

// Checks are the properties of a channel.
var Checks = []suite.Check[Subject]{
	{Name: "order", Run: order},
	{Name: "picks", Run: picks},
	{Name: "put is atomic and claims count", Run: atomicPut},
	{Name: "rollback comes again first", Run: rollback},
	{Name: "partial ack", Run: partial},
	{Name: "capacity in events", Run: capacity},
	{Name: "capacity in bytes", Run: bytes},
	{Name: "too large", Run: tooLarge},
	{Name: "room waits", Run: room},
	{Name: "take waits and lingers and stops", Run: take},
	{Name: "stall", Run: stall},
	{Name: "close wakes all", Run: closes},
	{Name: "the newest are dropped", Run: dropNewest},
	{Name: "the oldest are dropped", Run: dropOldest},
	{Name: "settings change in place", Run: adjust},
	{Name: "headers and bodies are kept", Run: contents},
	{Name: "many sources and many sinks", Run: crowd},
	{Name: "allocations", Run: allocations},
}

// Run runs the suite but for the checks that are named: those of a property
// that s does not have.
func Run(t *testing.T, s Subject, except ...string) {
	suite.Run(t, s, slices.DeleteFunc(slices.Clone(Checks), func(c suite.Check[Subject]) bool {
		return slices.Contains(except, c.Name)
	}))
}

// Open binds and opens a channel of s with further keys.
func Open(t testing.TB, s Subject, more ...string) core.Channel {
	t.Helper()
	ch, _ := open(t, s, s.keys(t, more...))
	return ch
}

// keys are those of a fresh channel.
func (s Subject) keys(t testing.TB, more ...string) map[string]string {
	keys := map[string]string{"capacity": "1000", "transactionCapacity": "100", "keep-alive": "0"}
	if s.Keys != nil {
		for k, v := range s.Keys(t) {
			keys[k] = v
		}
	}
	for i := 0; i+1 < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

func (s Subject) bind(t testing.TB, keys map[string]string) core.Channel {
	t.Helper()
	keys = maps.Clone(keys)
	for from, to := range s.Names {
		keys[to] = keys[from]
		delete(keys, from)
	}
	ch := s.New()
	if _, faults := conf.Bind(ch, keys); faults.HasErrors() {
		t.Fatalf("keys: %v", faults)
	}
	return ch
}

func open(t testing.TB, s Subject, keys map[string]string) (core.Channel, *metric.Group) {
	t.Helper()
	ch := s.bind(t, keys)
	env := sourcetest.NewEnv(t, "ch")
	env.Metrics = &metric.Group{Kind: metric.Channel, Name: "ch"}
	if err := ch.Open(context.Background(), env); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return ch, env.Metrics
}

// Put puts bodies in one transaction and waits until they are stored. It
// returns the error of the claim or of storing.
func Put(ch core.Channel, bodies ...string) error {
	b := core.NewBatch()
	defer b.Release()
	b.Born = time.Now()
	for _, s := range bodies {
		b.Copy(core.Headers{}, []byte(s))
	}
	tx, err := ch.TryClaim(b.Size())
	if err != nil {
		return err
	}
	stored := make(chan error, 1)
	tx.Commit(b, nil, func(err error) { stored <- err })
	return <-stored
}

func mustPut(t testing.TB, ch core.Channel, bodies ...string) {
	t.Helper()
	if err := Put(ch, bodies...); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func mustTake(t testing.TB, ch core.Channel, n int) core.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), suite.Deadline)
	defer cancel()
	l, err := ch.Take(ctx, core.Take{Events: n})
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	return l
}

// Drain takes and acks all there is.
func Drain(t testing.TB, ch core.Channel) []string {
	t.Helper()
	var all []string
	for {
		l, err := ch.Take(context.Background(), core.Take{Events: 7, NoWait: true})
		if errors.Is(err, core.ErrEmpty) {
			return all
		}
		if err != nil {
			t.Fatalf("take: %v", err)
		}
		all = append(all, bodies(l)...)
		l.Ack(nil)
	}
}

func bodies(l core.Lease) []string {
	var s []string
	for _, e := range l.Batch().Events {
		s = append(s, string(e.Body))
	}
	return s
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// flume: TestFileChannel testPut
// flume: TestMemoryChannelTransaction testCommit
// flume: TestBasicChannelSemantics testHappyPath
func order(t testing.TB, s Subject) {
	ch := Open(t, s)
	var want []string
	for i := range 40 {
		some := suite.Bodies(i*10, 1+i%10)
		mustPut(t, ch, some...)
		want = append(want, some...)
	}
	if n := ch.Len().Events; n != len(want) {
		t.Errorf("Len %d, want %d", n, len(want))
	}
	same(t, Drain(t, ch), want)
	if n := ch.Len(); n.Events != 0 || n.Bytes != 0 {
		t.Errorf("Len %v after all is delivered", n)
	}
}

func picks(t testing.TB, s Subject) {
	ch := Open(t, s)
	b := core.NewBatch()
	defer b.Release()
	for _, body := range suite.Bodies(0, 5) {
		b.Copy(core.Headers{}, []byte(body))
	}
	for _, pick := range [][]int32{{1, 3}, {}, {4}} {
		tx, err := ch.TryClaim(b.SizeOf(pick))
		if err != nil {
			t.Fatal(err)
		}
		stored := make(chan error, 1)
		tx.Commit(b, pick, func(err error) { stored <- err })
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	all := suite.Bodies(0, 5)
	same(t, Drain(t, ch), []string{all[1], all[3], all[4]})
}

// flume: TestMemoryChannel testCapacityBufferEmptyingAfterRollback
func atomicPut(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "10", "transactionCapacity", "10")
	tx, err := ch.TryClaim(core.Size{Events: 10})
	if err != nil {
		t.Fatal(err)
	}
	if n := ch.Len().Events; n != 0 {
		t.Errorf("a claim shows as %d events", n)
	}
	if _, err := ch.TryClaim(core.Size{Events: 1}); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("second claim: %v, want full", err)
	}
	tx.Rollback()
	mustPut(t, ch, suite.Bodies(0, 10)...)
	if err := Put(ch, "x"); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("put into the full channel: %v", err)
	}
	same(t, Drain(t, ch), suite.Bodies(0, 10))
}

// flume: TestFileChannel testRollbackIncompleteTransaction
// flume: TestMemoryChannelTransaction testRollBack
func rollback(t testing.TB, s Subject) {
	ch := Open(t, s)
	mustPut(t, ch, suite.Bodies(0, 6)...)
	mustPut(t, ch, suite.Bodies(6, 6)...)
	a, b, c := mustTake(t, ch, 2), mustTake(t, ch, 6), mustTake(t, ch, 3)
	a.Rollback(errors.New("a"))
	c.Rollback(errors.New("c"))
	b.Rollback(errors.New("b"))
	same(t, Drain(t, ch), suite.Bodies(0, 12))
}

func partial(t testing.TB, s Subject) {
	ch := Open(t, s)
	mustPut(t, ch, suite.Bodies(0, 4)...)
	mustPut(t, ch, suite.Bodies(4, 4)...)
	l := mustTake(t, ch, 8)
	l.Ack([]int32{1, 2, 5})
	<-l.Ack([]int32{}, core.Mark{Stream: "s", Pos: 1}) // only a mark
	if n := ch.Len().Events; n != 5 {
		t.Errorf("Len %d after 3 of 8 are acked", n)
	}
	l.Rollback(errors.New("rest"))
	all := suite.Bodies(0, 8)
	same(t, Drain(t, ch), []string{all[0], all[3], all[4], all[6], all[7]})
}

// flume: TestFileChannel testCapacity
// flume: TestMemoryChannel testCapacityOverload testCapacityBufferEmptyingAfterTakeCommit
func capacity(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "5", "transactionCapacity", "3")
	mustPut(t, ch, suite.Bodies(0, 3)...)
	if err := Put(ch, suite.Bodies(3, 3)...); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("put beyond capacity: %v", err)
	}
	l := mustTake(t, ch, 3)
	if err := Put(ch, suite.Bodies(3, 3)...); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("leased events must count: %v", err)
	}
	l.Rollback(errors.New("again"))
	if err := Put(ch, suite.Bodies(3, 3)...); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("a rollback must give no room back: %v", err)
	}
	l = mustTake(t, ch, 3)
	same(t, bodies(l), suite.Bodies(0, 3))
	l.Ack(nil)
	mustPut(t, ch, suite.Bodies(3, 3)...)
	same(t, Drain(t, ch), suite.Bodies(3, 3))
}

// flume: TestMemoryChannel testByteCapacityOverload testByteCapacityAfterRollback
// flume: TestMemoryChannel testByteCapacityBufferEmptyingAfterTakeCommit testByteCapacityBufferEmptyingAfterRollback
func bytes(t testing.TB, s Subject) {
	if s.BytesKey == "" {
		return
	}
	ch := Open(t, s, s.BytesKey, s.Bytes1000)
	big := string(make([]byte, 400))
	mustPut(t, ch, big, big)
	if err := Put(ch, big); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("put beyond the bytes: %v", err)
	}
	mustTake(t, ch, 1).Rollback(errors.New("again"))
	if err := Put(ch, big); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("put beyond the bytes after a rollback: %v", err)
	}
	tx, err := ch.TryClaim(core.Size{Events: 1, Bytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	mustTake(t, ch, 1).Ack(nil)
	mustPut(t, ch, big)
	if n := len(Drain(t, ch)); n != 2 {
		t.Errorf("%d events left, want 2", n)
	}
}

// flume: TestMemoryChannel testTransactionPutCapacityOverload
func tooLarge(t testing.TB, s Subject) {
	ch := Open(t, s)
	if _, err := ch.TryClaim(core.Size{Events: 101, Bytes: 101}); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("claim beyond transactionCapacity: %v", err)
	}
}

// flume: TestFileChannel testRaceFoundInFLUME1432
func room(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "2", "transactionCapacity", "2", "keep-alive", "60")
	mustPut(t, ch, "a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() { answer <- ch.Room(ctx, core.Size{Events: 1, Bytes: 1}) }()
	mustTake(t, ch, 1).Ack(nil)
	if err := within(t, answer); err != nil {
		t.Errorf("room after an ack: %v", err)
	}
	go func() { answer <- ch.Room(ctx, core.Size{Events: 2, Bytes: 2}) }()
	cancel()
	if err := within(t, answer); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("room when cancelled: %v", err)
	}
	full := Open(t, s, "capacity", "1", "transactionCapacity", "1", "keep-alive", "0")
	mustPut(t, full, "a")
	if err := full.Room(context.Background(), core.Size{Events: 1, Bytes: 1}); !errors.Is(err, core.ErrChannelFull) {
		t.Errorf("room after keep-alive: %v", err)
	}
}

func within(t testing.TB, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(suite.Deadline):
		t.Fatalf("no answer within %v", suite.Deadline)
		return nil
	}
}

func take(t testing.TB, s Subject) {
	ch := Open(t, s)
	if _, err := ch.Take(context.Background(), core.Take{Events: 1, NoWait: true}); !errors.Is(err, core.ErrEmpty) {
		t.Errorf("take without waiting: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() {
		_, err := ch.Take(ctx, core.Take{Events: 1})
		answer <- err
	}()
	cancel()
	if err := within(t, answer); !errors.Is(err, context.Canceled) {
		t.Errorf("take when cancelled: %v", err)
	}
	got := make(chan core.Lease, 1)
	go func() {
		l, err := ch.Take(context.Background(), core.Take{Events: 2, Linger: time.Minute})
		if err == nil {
			got <- l
		}
	}()
	mustPut(t, ch, "a")
	mustPut(t, ch, "b")
	select {
	case l := <-got:
		same(t, bodies(l), []string{"a", "b"})
		l.Ack(nil)
	case <-time.After(suite.Deadline):
		t.Fatal("a lingering take did not end when it was complete")
	}
}

func stall(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "2", "transactionCapacity", "2", "keep-alive", "60")
	mustPut(t, ch, "a", "b")
	l := mustTake(t, ch, 2)
	answer := make(chan error, 1)
	go func() {
		_, err := ch.Take(context.Background(), core.Take{Events: 1, Stall: true})
		answer <- err
	}()
	ctx, cancel := context.WithCancel(context.Background())
	waiting := make(chan error, 1)
	go func() { waiting <- ch.Room(ctx, core.Size{Events: 1, Bytes: 1}) }()
	if err := within(t, answer); !errors.Is(err, core.ErrStalled) {
		t.Errorf("take from a channel full of leases: %v", err)
	}
	l.Ack(nil)
	if err := within(t, waiting); err != nil {
		t.Errorf("room: %v", err)
	}
	cancel()
}

func closes(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "1", "transactionCapacity", "1", "keep-alive", "60")
	taken := make(chan error, 1)
	go func() {
		_, err := ch.Take(context.Background(), core.Take{Events: 1})
		taken <- err
	}()
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, taken); !errors.Is(err, core.ErrClosed) {
		t.Errorf("take when closed: %v", err)
	}
	if err := Put(ch, "a"); !errors.Is(err, core.ErrClosed) {
		t.Errorf("put when closed: %v", err)
	}
	other := Open(t, s, "capacity", "1", "transactionCapacity", "1", "keep-alive", "60")
	mustPut(t, other, "a")
	l := mustTake(t, other, 1)
	waiting := make(chan error, 1)
	go func() { waiting <- other.Room(context.Background(), core.Size{Events: 1, Bytes: 1}) }()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, waiting); err != nil && !errors.Is(err, core.ErrClosed) {
		t.Errorf("room when closed: %v", err)
	}
	l.Ack(nil) // does nothing
}

// flume: TestMemoryChannel testPutTake testNullEmptyEvent
func contents(t testing.TB, s Subject) {
	ch := Open(t, s)
	b := core.NewBatch()
	h := core.NewHeaders(core.Header{Key: "k", Value: "v"}, core.Header{Key: "leer", Value: ""})
	long := make([]byte, 300_000)
	for i := range long {
		long[i] = byte(i)
	}
	b.Copy(h, []byte("one"))
	b.Copy(h, nil)
	b.Copy(core.Headers{}, long)
	b.Copy(h.With("ü", "世界"), []byte{0, 0xff, '\n'})
	want := make([]core.Event, len(b.Events))
	for i, e := range b.Events {
		want[i] = core.Event{Headers: e.Headers, Body: slices.Clone(e.Body)}
	}
	tx, err := ch.TryClaim(b.Size())
	if err != nil {
		t.Fatal(err)
	}
	stored := make(chan error, 1)
	tx.Commit(b, nil, func(err error) { stored <- err })
	b.Release()
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	l := mustTake(t, ch, 10)
	got := l.Batch().Events
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Headers.Equal(want[i].Headers) || string(got[i].Body) != string(want[i].Body) {
			t.Errorf("event %d differs", i)
		}
	}
	l.Ack(nil)
}

// crowd has many goroutines put and take, with rollbacks; every event must be
// delivered exactly once.
//
// flume: TestFileChannel testThreaded
// flume: TestMemoryChannelConcurrency testTransactionConcurrency testManyThreads testConcurrentSinksAndSources
// flume: TestBasicChannelSemantics testMultiThreadedHappyPath
func crowd(t testing.TB, s Subject) {
	ch := Open(t, s, "capacity", "200", "keep-alive", "60")
	const sources, sinks, each = 6, 4, 400
	var putters, takers sync.WaitGroup
	for p := range sources {
		putters.Go(func() {
			for i := 0; i < each; {
				n := min(1+i%17, each-i)
				var some []string
				for j := range n {
					some = append(some, fmt.Sprintf("%d/%d", p, i+j))
				}
				err := Put(ch, some...)
				if errors.Is(err, core.ErrChannelFull) {
					_ = ch.Room(context.Background(), core.Size{Events: n, Bytes: int64(8 * n)})
					continue
				}
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				i += n
			}
		})
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	var delivered atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	for k := range sinks {
		takers.Go(func() {
			for round := 0; ; round++ {
				l, err := ch.Take(ctx, core.Take{Events: 1 + round%13})
				if err != nil {
					return
				}
				if round%5 == k {
					l.Rollback(errors.New("again"))
					continue
				}
				mu.Lock()
				for _, b := range bodies(l) {
					seen[b]++
				}
				mu.Unlock()
				n := int64(len(l.Batch().Events))
				l.Ack(nil)
				delivered.Add(n)
			}
		})
	}
	putters.Wait()
	suite.Within(suite.Deadline, func() bool { return delivered.Load() >= sources*each })
	cancel()
	takers.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != sources*each {
		t.Errorf("%d different events delivered, want %d", len(seen), sources*each)
	}
	for b, n := range seen {
		if n != 1 {
			t.Errorf("%s delivered %d times", b, n)
		}
	}
	if n := ch.Len(); n.Events != 0 {
		t.Errorf("Len %v at the end", n)
	}
}

// allocations bounds what one put and take of 100 events costs.
func allocations(t testing.TB, s Subject) {
	ch := Open(t, s)
	b := core.NewBatch()
	defer b.Release()
	for _, body := range suite.Bodies(0, 100) {
		b.Copy(core.Headers{}, []byte(body))
	}
	stored := make(chan error, 1)
	done := func(err error) { stored <- err }
	n := testing.AllocsPerRun(50, func() {
		tx, err := ch.TryClaim(b.Size())
		if err != nil {
			t.Fatal(err)
		}
		tx.Commit(b, nil, done)
		<-stored
		l, err := ch.Take(context.Background(), core.Take{Events: 100})
		if err != nil {
			t.Fatal(err)
		}
		l.Ack(nil)
	})
	if n > 40 {
		t.Errorf("%.0f allocations for a put and a take of 100 events", n)
	}
}
