package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

// start opens a channel on fsys; without one it has no disk.
func start(t *testing.T, fsys vfs.FS, o Options) *Channel {
	t.Helper()
	o.Log, o.Now = slog.New(slog.DiscardHandler), time.Now
	if o.Transaction == 0 {
		o.Transaction = 100
	}
	if fsys != nil {
		if err := vfs.MakeDir(fsys, "/d", 0o755); err != nil {
			t.Fatal(err)
		}
		log, err := wal.Open(wal.Options{
			FS: fsys, Dirs: []string{"/d"}, SegmentBytes: 16 << 10, AckDelay: time.Millisecond, Retry: 100 * time.Millisecond,
			Log: o.Log, Now: o.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Disk.Log = log
		if o.Disk.MemoryBytes == 0 {
			o.Disk.MemoryBytes = 1 << 20
		}
	}
	c := new(Channel)
	c.Start(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// commit puts bodies, if there is room, and returns what tells that they are stored.
func commit(c *Channel, mark int64, bodies ...string) (<-chan error, error) {
	b := core.NewBatch()
	defer b.Release()
	for _, s := range bodies {
		b.Copy(core.Headers{}, []byte(s))
	}
	if mark > 0 {
		b.Mark("s", mark)
	}
	tx, err := c.TryClaim(b.Size())
	if err != nil {
		return nil, err
	}
	stored := make(chan error, 1)
	tx.Commit(b, nil, func(err error) { stored <- err })
	return stored, nil
}

func put(t *testing.T, c *Channel, bodies ...string) {
	t.Helper()
	stored, err := commit(c, 0, bodies...)
	if err == nil {
		err = <-stored
	}
	if err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, c *Channel, n int) (core.Lease, []string) {
	t.Helper()
	l, err := c.Take(context.Background(), core.Take{Events: n, NoWait: true})
	if errors.Is(err, core.ErrEmpty) {
		return nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, e := range l.Batch().Events {
		bodies = append(bodies, string(e.Body))
	}
	return l, bodies
}

func drain(t *testing.T, c *Channel) (all []string) {
	t.Helper()
	for {
		l, bodies := take(t, c, 7)
		if l == nil {
			return all
		}
		all = append(all, bodies...)
		l.Ack(nil)
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func state(t *testing.T, c *Channel, inMemory int, overflows bool) {
	t.Helper()
	if held, over := c.InMemory(); held.Events != inMemory || over != overflows {
		t.Fatalf("%d events in memory, overflows %v; want %d, %v", held.Events, over, inMemory, overflows)
	}
}

// Memory, then disk, then memory again when enough of it is free; in order.
//
// flume: TestSpillableMemoryChannel testOverflow testDrainOrder
func TestMemoryThenDiskThenMemory(t *testing.T) {
	c := start(t, vfs.NewMem(), Options{Memory: core.Size{Events: 4}, Disk: Disk{Events: 100}, Resume: 50})
	put(t, c, "0", "1", "2")
	put(t, c, "3")
	state(t, c, 4, false)
	stored, err := commit(c, 0, "4") // KeepAlive is 0: at once
	if err != nil {
		t.Fatal(err)
	}
	<-stored
	state(t, c, 4, true)
	l, got := take(t, c, 1)
	want(t, got, "0")
	l.Ack(nil)
	put(t, c, "5") // there is room in memory, but not enough
	state(t, c, 3, true)
	l, got = take(t, c, 2)
	want(t, got, "1", "2")
	if l.Unpin() {
		t.Error("what is in memory alone is unpinned")
	}
	put(t, c, "6") // they are leased still
	state(t, c, 3, true)
	l.Ack(nil)
	put(t, c, "7")
	state(t, c, 2, false)
	l, got = take(t, c, 4)
	want(t, got, "3", "4", "5", "6")
	l.Ack([]int32{1, 2})
	l.Rollback(nil)
	want(t, drain(t, c), "3", "6", "7")
	balanced(t, c)
}

// balanced checks that nothing is left anywhere once all is delivered.
func balanced(t *testing.T, c *Channel) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var none [places]core.Size
	if c.held != none || c.free != none || c.rooms.used != none || c.rooms.waiting != 0 || c.cached != 0 || c.head != len(c.queue) || len(c.leases) != 0 {
		t.Errorf("held %v, free %v, used %v, waiting %d, cached %d, %d spans, %d leases: all should be 0",
			c.held, c.free, c.rooms.used, c.rooms.waiting, c.cached, len(c.queue)-c.head, len(c.leases))
	}
}

// Memory is worth waiting for until it was full for KeepAlive.
//
// flume: TestSpillableMemoryChannel testCapacityWithOverflow
func TestOverflowTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, vfs.NewMem(), Options{KeepAlive: 3 * time.Second, Memory: core.Size{Events: 2}, Disk: Disk{Events: 3}})
		defer c.Close()
		put(t, c, "0", "1")
		begun := time.Now()
		if err := c.Room(context.Background(), core.Size{Events: 2}); err != nil || time.Since(begun) != 3*time.Second {
			t.Fatal(err, time.Since(begun))
		}
		put(t, c, "2", "3")
		begun = time.Now()
		if err := c.Room(context.Background(), core.Size{Events: 2}); !errors.Is(err, core.ErrChannelFull) || time.Since(begun) != 3*time.Second {
			t.Fatal(err, time.Since(begun))
		}
		put(t, c, "4")
		want(t, drain(t, c), "0", "1", "2", "3", "4")

		put(t, c, "5", "6") // memory again: it waits anew
		time.AfterFunc(time.Second, func() {
			l, _ := take(t, c, 2)
			l.Ack(nil)
		})
		begun = time.Now()
		if err := c.Room(context.Background(), core.Size{Events: 2}); err != nil || time.Since(begun) != time.Second {
			t.Fatal(err, time.Since(begun))
		}
		put(t, c, "7", "8")
		state(t, c, 2, false)

		// Whoever only asks, as optional channels are asked, gets the disk in the end too.
		if _, err := c.TryClaim(core.Size{Events: 1}); !errors.Is(err, core.ErrChannelFull) {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		put(t, c, "9")
		want(t, drain(t, c), "7", "8", "9")
		balanced(t, c)
	})
}

// A transaction that memory can never take does not wait for it.
//
// flume: TestSpillableMemoryChannel testByteCapacity
func TestLargerThanMemory(t *testing.T) {
	c := start(t, vfs.NewMem(), Options{KeepAlive: time.Hour, Memory: core.Size{Events: 4, Bytes: 10}, Disk: Disk{Events: 6}})
	put(t, c, "0")
	put(t, c, "1", "2", "3", "4", "5")
	put(t, c, "6 is longer than memory")
	state(t, c, 1, false)
	put(t, c, "7")
	if _, err := c.TryClaim(core.Size{Events: 7}); !errors.Is(err, core.ErrTooLarge) {
		t.Error(err)
	}
	want(t, drain(t, c), "0", "1", "2", "3", "4", "5", "6 is longer than memory", "7")
	balanced(t, c)
}

// Close writes what is in memory alone to the disk; what was delivered is not.
func TestCloseSavesMemory(t *testing.T) {
	m := vfs.NewMem()
	o := Options{Memory: core.Size{Events: 10}, Disk: Disk{Events: 10}}
	c := start(t, m, o)
	first, err := commit(c, 1, "0", "1", "2")
	if err != nil {
		t.Fatal(err)
	}
	second, err := commit(c, 2, "3")
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "4", "5")
	put(t, c, "6")
	l, _ := take(t, c, 5)
	l.Ack([]int32{1})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	l.Ack(nil) // does nothing
	if a, b := <-first, <-second; a != nil || b != nil {
		t.Errorf("marked batches that are on disk are answered with %v, %v", a, b)
	}
	c = start(t, m, o)
	state(t, c, 0, false)
	want(t, drain(t, c), "0", "2", "3", "4", "5", "6")
	balanced(t, c)

	// Where the disk fails they are not stored, and the source hears of it.
	f := vfs.NewFault(m, vfs.Rule{Kind: vfs.OpWrite, Path: "*.wal", At: 1, Times: 100, Err: syscall.EIO})
	_ = c.Close()
	c = start(t, f, o)
	first, _ = commit(c, 3, "7")
	_ = c.Close()
	if err := <-first; !errors.Is(err, core.ErrClosed) {
		t.Error(err)
	}
}

// Without a disk what was not delivered is not stored.
func TestCloseOfMemoryAlone(t *testing.T) {
	c := start(t, nil, Options{Memory: core.Size{Events: 10}})
	queued, _ := commit(c, 1, "0")
	leased, _ := commit(c, 2, "1")
	_, _ = take(t, c, 2)
	_ = c.Close()
	for _, answer := range []<-chan error{queued, leased} {
		if err := <-answer; !errors.Is(err, core.ErrClosed) {
			t.Error(err)
		}
	}
}

// Marks that a file channel left on the same directories would lie.
func TestMarksAreForgottenWithMemory(t *testing.T) {
	m := vfs.NewMem()
	c := start(t, m, Options{Disk: Disk{Events: 10}})
	stored, _ := commit(c, 5, "0")
	<-stored
	l, _ := take(t, c, 1)
	<-l.Ack([]int32{}, core.Mark{Stream: "sink", Pos: 1})
	_ = c.Close()
	c = start(t, m, Options{Memory: core.Size{Events: 10}, Disk: Disk{Events: 10}})
	if _, ok := c.Position("s"); ok || len(c.Marks()) > 0 || c.Durable() {
		t.Error("it speaks for events that are in memory")
	}
	want(t, drain(t, c), "0")
	_ = c.Close()
	c = start(t, m, Options{Disk: Disk{Events: 10}})
	if _, ok := c.Position("s"); ok || len(c.Marks()) > 0 || !c.Durable() {
		t.Error("marks from before are left")
	}
}

// Beyond its memory a backlog is a handful of spans.
func TestBacklogMelts(t *testing.T) {
	c := start(t, vfs.NewMem(), Options{Disk: Disk{Events: 1000, MemoryBytes: 64 << 10}})
	var all []string
	for i := range 300 {
		all = append(all, fmt.Sprint(i, strings.Repeat("x", 2000)))
		put(t, c, all[i])
	}
	c.mu.Lock()
	if c.cached > 64<<10 || len(c.queue) > 100 {
		t.Errorf("%d bytes and %d spans", c.cached, len(c.queue))
	}
	c.mu.Unlock()
	want(t, drain(t, c), all...)
	balanced(t, c)
}

// The oldest give way where they are only on disk as well, exactly.
func TestDropOldestFromTheBacklog(t *testing.T) {
	m := vfs.NewMem()
	o := Options{Disk: Disk{Events: 100, MemoryBytes: 1 << 10}, WhenFull: DropOldest}
	c := start(t, m, o)
	body := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 500)) }
	n := 0
	for ; n < 250; n += 5 {
		put(t, c, body(n), body(n+1), body(n+2), body(n+3), body(n+4))
	}
	l, got := take(t, c, 1)
	want(t, got, body(150))
	l.Rollback(nil)
	put(t, c, body(n))
	put(t, c, body(n+1))
	_ = c.Close()
	c = start(t, m, o)
	put(t, c, body(n+2), body(n+3))
	got = drain(t, c)
	if len(got) != 100 || got[0] != body(154) || got[99] != body(n+3) {
		t.Errorf("%d events from %.4s to %.4s", len(got), got[0], got[len(got)-1])
	}
	if c.drops.count.Load() != 2 {
		t.Error(c.drops.count.Load())
	}
	balanced(t, c)
}

// A put that drops waits for the disk alone: while what could give way is still
// to be written, and while more is to be written than memory is for.
func TestDropsWaitForTheDisk(t *testing.T) {
	for _, policy := range []Policy{DropOldest, DropNewest} {
		synctest.Test(t, func(t *testing.T) {
			f := vfs.NewFault(vfs.NewMem())
			o := Options{Disk: Disk{Events: 4, MemoryBytes: 100}, WhenFull: policy, KeepAlive: time.Minute}
			c := start(t, f, o)
			defer c.Close()
			f.Add(vfs.Rule{Kind: vfs.OpWrite, Path: "*.wal", At: 1, Times: 3, Err: syscall.EIO})
			first, err := commit(c, 0, strings.Repeat("x", 60), "1", "2", "3")
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_, err = c.TryClaim(core.Size{Events: 1, Bytes: 1})
			if late := errors.Is(err, core.ErrChannelFull); late != (policy == DropOldest) {
				t.Fatalf("policy %d, while the disk fails: %v", policy, err)
			}
			begun := time.Now()
			if err := c.Room(context.Background(), core.Size{Events: 1, Bytes: 1}); err != nil || policy == DropOldest && time.Since(begun) == 0 {
				t.Fatal(err, time.Since(begun))
			}
			if policy == DropNewest { // it was answered, and there is no room
				<-first
			}
			put(t, c, "4")
			if policy == DropOldest {
				want(t, drain(t, c), "1", "2", "3", "4")
			} else {
				want(t, drain(t, c), strings.Repeat("x", 60), "1", "2", "3")
			}

			f.Add(vfs.Rule{Kind: vfs.OpWrite, Path: "*.wal", At: 1, Times: 3, Err: syscall.EIO})
			if first, err = commit(c, 0, strings.Repeat("y", 60)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, err = c.TryClaim(core.Size{Events: 1, Bytes: 60}); !errors.Is(err, core.ErrChannelFull) {
				t.Fatalf("policy %d: more than %d bytes wait for the disk: %v", policy, o.Disk.MemoryBytes, err)
			}
			if err := c.Room(context.Background(), core.Size{Events: 1, Bytes: 60}); err != nil {
				t.Fatal(err)
			}
			<-first
			drain(t, c)
			balanced(t, c)
		})
	}
}

// On a nearly full volume the newest are dropped, whatever the policy.
func TestDropsOnAFullVolume(t *testing.T) {
	low := errors.New("low")
	var space error
	c := start(t, vfs.NewMem(), Options{
		WhenFull: DropOldest,
		Disk:     Disk{Events: 10, Space: func() error { return space }},
	})
	put(t, c, "0")
	space = low
	c.Adjust(c.o)
	put(t, c, "1")
	if !errors.Is(c.Health(), low) || c.drops.count.Load() != 1 {
		t.Error(c.Health(), c.drops.count.Load())
	}
	want(t, drain(t, c), "0")
	balanced(t, c)
}

// Drops are logged, but not each of them.
func TestDropsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		c := new(Channel)
		c.Start(Options{
			Log: slog.New(slog.NewTextHandler(&said, nil)), Now: time.Now,
			Transaction: 10, Memory: core.Size{Events: 2}, WhenFull: DropNewest,
		})
		defer c.Close()
		put(t, c, "kept")
		for range 25 { // 0, 1, ... 24 s
			put(t, c, "a", "b")
			time.Sleep(time.Second)
		}
		var counts []string
		for line := range strings.Lines(said.String()) {
			if _, after, ok := strings.Cut(line, " dropped="); ok {
				counts = append(counts, strings.TrimSpace(after))
			}
		}
		want(t, counts, "2 in_all=2", "20 in_all=22", "20 in_all=42")
	})
}

// TestAccounts does whatever comes to its mind, and then everything must be
// delivered once, in order, or be counted as dropped, and nothing be left.
func TestAccounts(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { account(t, seed) })
	}
}

func account(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	policy := Policy(seed % 3)
	o := Options{WhenFull: policy, Resume: rng.IntN(101), Transaction: 10}
	if policy != Block {
		o.KeepAlive = 10 * time.Second
	}
	var fsys vfs.FS
	if kind := seed / 3 % 3; kind != 0 {
		o.Memory = core.Size{Events: 15, Bytes: int64(rng.IntN(2) * 4000)}
		if kind == 2 {
			fsys = vfs.NewMem()
		}
	} else {
		fsys = vfs.NewMem()
	}
	if fsys != nil {
		o.Disk = Disk{Events: 25, MemoryBytes: 2 << 10}
	}
	c := start(t, fsys, o)
	n, open := 0, []core.Lease(nil)
	var answers []<-chan error
	seen := map[int]bool{}
	ids := func(l core.Lease) (list []int) {
		for _, e := range l.Batch().Events {
			id, _, _ := strings.Cut(string(e.Body), ":")
			i, err := strconv.Atoi(id)
			if err != nil || len(list) > 0 && i <= list[len(list)-1] {
				t.Fatalf("%q after %v", id, list)
			}
			list = append(list, i)
		}
		return list
	}
	got := func(id int) {
		if seen[id] {
			t.Fatalf("%d is delivered twice", id)
		}
		seen[id] = true
	}
	more := func() {
		var bodies []string
		var size core.Size
		for range 1 + rng.IntN(8) {
			bodies = append(bodies, fmt.Sprintf("%d:%s", n+len(bodies), strings.Repeat("z", rng.IntN(300))))
			size = size.Add(core.Size{Events: 1, Bytes: int64(len(bodies[len(bodies)-1]))})
		}
		stored, err := commit(c, int64(rng.IntN(2)*(n+1)), bodies...)
		if errors.Is(err, core.ErrChannelFull) {
			if err := c.Room(context.Background(), size); err != nil && policy != Block {
				t.Fatal(err) // it waits for the disk alone
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(bodies)
		answers = append(answers, stored)
	}
	for range 400 {
		switch x := rng.IntN(20); {
		case x < 9:
			more()
		case x < 15 && len(open) < 4:
			if l, _ := take(t, c, 1+rng.IntN(12)); l != nil {
				ids(l)
				open = append(open, l)
			}
		case len(open) > 0:
			i := rng.IntN(len(open))
			l := open[i]
			open = slices.Delete(open, i, i+1)
			list := ids(l)
			switch y := rng.IntN(4); {
			case y == 0:
				l.Unpin()
				l.Rollback(nil)
			case y == 1 && len(list) > 1:
				l.Ack([]int32{0, int32(len(list) - 1)})
				got(list[0])
				got(list[len(list)-1])
				l.Rollback(nil)
			default:
				l.Ack(nil)
				for _, id := range list {
					got(id)
				}
			}
		}
	}
	for range 200 { // until it is full
		if more(); c.drops.count.Load() > 0 {
			break
		}
	}
	for _, l := range open {
		l.Rollback(nil)
	}
	last := -1
	end := time.Now().Add(10 * time.Second)
	for len(answers) > 0 || c.Len().Events > 0 {
		if l, _ := take(t, c, 10); l != nil {
			for _, id := range ids(l) {
				if got(id); id <= last {
					t.Fatalf("%d after %d", id, last)
				}
				last = id
			}
			l.Ack(nil)
		}
		answers = slices.DeleteFunc(answers, func(a <-chan error) bool {
			select {
			case err := <-a:
				if err != nil {
					t.Error(err)
				}
				return true
			default:
				return false
			}
		})
		if time.Now().After(end) {
			t.Fatalf("%d puts are not answered, %d events are left", len(answers), c.Len().Events)
		}
	}
	dropped := int(c.drops.count.Load())
	if policy == Block && dropped > 0 || policy != Block && dropped == 0 || len(seen)+dropped != n {
		t.Errorf("of %d events %d came and %d were dropped", n, len(seen), dropped)
	}
	balanced(t, c)
}
