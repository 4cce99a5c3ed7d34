package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channeltest"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/wal"
)

func TestChannel(t *testing.T) {
	channeltest.Run(t, channeltest.Subject{
		New: Channel.New,
		Keys: func(t testing.TB) map[string]string {
			dir := t.TempDir()
			return map[string]string{"checkpointDir": dir + "/c", "dataDirs": dir + "/d1, " + dir + "/d2", "minimumRequiredSpace": "1m"}
		},
	})
}

func TestCrash(t *testing.T) {
	channeltest.RunCrash(t, channeltest.CrashSubject{
		New: Channel.New,
		Keys: map[string]string{
			"maxFileSize": "16384", "memoryBytes": "65536", "keep-alive": "0", "transactionCapacity": "1000",
		},
	})
}

// subject is a channel in a test.
type subject struct {
	*channel
	metrics *metric.Group
	late    atomic.Int64 // nanoseconds by which its clock is ahead
}

// metric returns the value of one of its own metrics.
func (c *subject) metric(name string) int64 {
	for _, x := range c.metrics.Extras() {
		if x.Name == name {
			return x.Value()
		}
	}
	return -1
}

func bind(t *testing.T, keys ...string) *channel {
	t.Helper()
	props := map[string]string{"keep-alive": "0"}
	for i := 0; i < len(keys); i += 2 {
		props[keys[i]] = keys[i+1]
	}
	c := new(channel)
	if _, faults := conf.Bind(c, props); faults.HasErrors() {
		t.Fatal(faults)
	}
	return c
}

// start opens a channel on fsys below /state.
func start(t *testing.T, fsys vfs.FS, keys ...string) (*subject, error) {
	t.Helper()
	c := &subject{channel: bind(t, keys...), metrics: &metric.Group{Kind: metric.Channel, Name: "ch"}}
	env := core.Env{
		Name: "ch", Log: slog.New(slog.DiscardHandler), FS: fsys, Dir: "/state", Metrics: c.metrics,
		Now: func() time.Time { return time.Now().Add(time.Duration(c.late.Load())) },
	}
	if err := c.Open(context.Background(), env); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

func mustStart(t *testing.T, fsys vfs.FS, keys ...string) *subject {
	t.Helper()
	c, err := start(t, fsys, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c *subject, bodies ...string) {
	t.Helper()
	if err := channeltest.Put(c, bodies...); err != nil {
		t.Fatal(err)
	}
}

// send puts a marked batch with events at positions 10, 20, ... up to pos.
func send(t *testing.T, c *subject, stream string, from, pos int64) {
	t.Helper()
	b := core.NewBatch()
	defer b.Release()
	for p := from; p <= pos; p += 10 {
		b.Copy(core.Headers{}, fmt.Appendf(nil, "%s%d", stream, p))
		b.Events[len(b.Events)-1].Pos = p
	}
	b.Mark(stream, pos)
	tx, err := c.TryClaim(b.Size())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	tx.Commit(b, nil, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, c *subject, bodies ...string) {
	t.Helper()
	if got := channeltest.Drain(t, c); strings.Join(got, " ") != strings.Join(bodies, " ") {
		t.Fatalf("got %q, want %q", got, bodies)
	}
}

func TestRepeatsAreDropped(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m)
	send(t, c, "a", 10, 30)
	send(t, c, "b", 10, 10)
	if pos, ok := c.Position("a"); pos != 30 || !ok {
		t.Fatal(pos, ok)
	}
	_ = c.Close()
	c = mustStart(t, m)
	send(t, c, "a", 10, 20) // all of it is held
	send(t, c, "a", 20, 50) // half of it
	if n := c.metric("events_repeated_total"); n != 4 {
		t.Fatal(n)
	}
	if pos, _ := c.Position("a"); pos != 50 {
		t.Fatal(pos)
	}
	want(t, c, "a10", "a20", "a30", "b10", "a40", "a50")
	if n := c.Len(); n != (core.Size{}) {
		t.Fatal(n)
	}
	c.Forget("a")
	send(t, c, "a", 10, 10)
	c.Forget("a")
	_ = c.Close()
	c = mustStart(t, m)
	if _, ok := c.Position("a"); ok {
		t.Fatal("not forgotten")
	}
	want(t, c, "a10")
}

func TestBacklogCostsNoMemory(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m, "memoryBytes", "65536", "maxFileSize", "100000")
	var all []string
	for i := range 300 {
		body := fmt.Sprint(i, strings.Repeat("x", 2000))
		all = append(all, body)
		put(t, c, body)
	}
	if n := c.metric("memory_bytes"); n > 65536 {
		t.Fatalf("%d bytes of memory", n)
	}
	_ = c.Close()
	c = mustStart(t, m, "memoryBytes", "65536", "maxFileSize", "100000")
	if n := c.metric("memory_bytes"); n != 0 || c.Len().Events != 300 {
		t.Fatal(n, c.Len())
	}
	want(t, c, all...)
	if n := c.metric("memory_bytes"); n != 0 || c.Len() != (core.Size{}) {
		t.Fatal(n, c.Len())
	}
	put(t, c, "last") // it carries the acks, which free the segments as soon as it is answered
	suite.Eventually(t, "two segments are left", func() bool { return c.dir.Stats().Segments <= 2 })
}

func TestUnpinGivesMemoryBack(t *testing.T) {
	c := mustStart(t, vfs.NewMem())
	put(t, c, "a", "b", "c", "d")
	l, err := c.Take(context.Background(), core.Take{Events: 3})
	if err != nil {
		t.Fatal(err)
	}
	l.Ack([]int32{1})
	for range 2 {
		if !l.Unpin() {
			t.Fatal("not unpinned")
		}
	}
	l.Rollback(nil)
	want(t, c, "a", "c", "d")
	if n := c.metric("memory_bytes"); n != 0 {
		t.Fatal(n)
	}
}

func TestSinkMarksAreStoredWithTheAck(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m)
	put(t, c, "a", "b")
	l, _ := c.Take(context.Background(), core.Take{})
	<-l.Ack([]int32{0}, core.Mark{Stream: "f", Pos: 1, State: []byte("x")}, core.Mark{Stream: "g", Pos: 2})
	<-l.Ack(nil, core.Mark{Stream: "g", Pos: -1})
	c = mustStart(t, m.CrashClone(nil, vfs.DropAll))
	marks := c.Marks()
	if len(marks) != 1 || marks["f"].Pos != 1 || string(marks["f"].State) != "x" {
		t.Fatal(marks)
	}
	want(t, c)
}

// flume: TestFileChannelErrorMetrics testHealthy
// flume: TestLog testMinimumRequiredSpaceTooSmallOnStartup testMinimumRequiredSpaceTooSmallForPut
func TestNearlyFullVolume(t *testing.T) {
	m := vfs.NewMem()
	m.SetVolume(20 << 20)
	if _, err := start(t, m); err == nil || !strings.Contains(err.Error(), "set minimumRequiredSpace") {
		t.Fatal(err)
	}
	c := mustStart(t, m, "minimumRequiredSpace", "2m", "maxFileSize", "65536")
	put(t, c, "a")
	m.SetVolume(2 << 20)
	c.late.Add(int64(time.Minute)) // it looks once a second
	if err := channeltest.Put(c, "b"); !errors.Is(err, core.ErrChannelFull) || !strings.Contains(err.Error(), "minimumRequiredSpace") {
		t.Fatal(err)
	}
	if err := c.Room(context.Background(), core.Size{Events: 1}); !errors.Is(err, core.ErrChannelFull) {
		t.Fatal(err)
	}
	if c.Health() == nil {
		t.Error("healthy while the volume is nearly full")
	}
	c.Adjust(bind(t, "minimumRequiredSpace", "2m", "maxFileSize", "65536", "keep-alive", "60"))
	m.SetVolume(20 << 20)
	if err := c.Room(context.Background(), core.Size{Events: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.Health(); err != nil {
		t.Error(err)
	}
	put(t, c, "c")
	want(t, c, "a", "c")
}

// flume: TestFileChannel testLocking
func TestRefusals(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m)
	put(t, c, "kept")
	if _, err := start(t, m); err == nil || !strings.Contains(err.Error(), "/state/ch is in use by another channel or agent") {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := vfs.WriteFile(m, "/state/ch/log-7", []byte{0x7f}, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, m); !errors.Is(err, wal.ErrFlume) {
		t.Fatal(err)
	}
	if err := m.Remove("/state/ch/log-7"); err != nil {
		t.Fatal(err)
	}
	want(t, mustStart(t, m), "kept") // a refusal leaves no lock and no damage
	if _, faults := conf.Bind(new(channel), map[string]string{"encryption.activeKey": "k"}); !strings.Contains(fmt.Sprint(faults), "not supported yet") {
		t.Fatal(faults)
	}
	if _, faults := conf.Bind(new(channel), map[string]string{"capacity": "10"}); !faults.HasErrors() {
		t.Fatal("transactionCapacity is more than capacity")
	}
}

// Transactions of nothing are nothing, over a restart too.
//
// flume: TestFileChannel testCommitAfterNoPutTake testFileChannelCounterIsOpen
// flume: TestFileChannelRollback testRollbackAfterNoPutTake
// flume: TestLog testCommitNoPut testCommitNoTake testRollbackNoPutTake
func TestEmptyTransactions(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m)
	for _, end := range []func(tx core.PutTx) error{
		func(tx core.PutTx) error {
			b, stored := core.NewBatch(), make(chan error, 1)
			defer b.Release()
			tx.Commit(b, nil, func(err error) { stored <- err })
			return <-stored
		},
		func(tx core.PutTx) error {
			tx.Rollback()
			return nil
		},
	} {
		tx, err := c.TryClaim(core.Size{})
		if err != nil {
			t.Fatal(err)
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Take(context.Background(), core.Take{NoWait: true}); !errors.Is(err, core.ErrEmpty) {
			t.Fatal(err)
		}
		_ = c.Close()
		c = mustStart(t, m)
		if c.IsOpen() != 1 || c.Len() != (core.Size{}) {
			t.Fatal(c.Len())
		}
	}
	put(t, c, "a")
	want(t, c, "a")
	_ = c.Close()
	if c.IsOpen() != 0 || c.metric("closed") != 1 {
		t.Error("open when it is closed")
	}
}

// Bad numbers are no reason not to start, as in Flume; here they are warnings.
//
// flume: TestFileChannel testNegativeCapacities
func TestBadNumbers(t *testing.T) {
	c := bind(t, "capacity", "-3", "transactionCapacity", "-1", "checkpointInterval", "-2", "keep-alive", "soon", "maxFileSize", "x")
	if d := bind(t, "keep-alive", "3"); !reflect.DeepEqual(c.settings, d.settings) {
		t.Errorf("%+v, want the defaults", c.settings)
	}
}

func TestMissingSegmentIsRefused(t *testing.T) {
	m := vfs.NewMem()
	c := mustStart(t, m, "maxFileSize", "4096")
	for range 4 {
		put(t, c, strings.Repeat("x", 5000))
	}
	_ = c.Close()
	list, _ := m.ReadDir("/state/ch")
	name := list[1].Name()
	if err := m.Rename("/state/ch/"+name, "/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, m); err == nil || !strings.Contains(err.Error(), name) {
		t.Fatal(err)
	}
	f, _ := m.OpenFile("/state/ch/"+name, os.O_CREATE, 0o644) // the operator gives it up
	f.Close()
	c = mustStart(t, m)
	if n := len(channeltest.Drain(t, c)); n != 3 || c.Lost() != 1 || c.Len().Events != 0 {
		t.Fatal(n, c.Lost(), c.Len())
	}
}

func TestWithoutSyncPerTransaction(t *testing.T) {
	m := vfs.NewMem()
	f := vfs.NewFault(m)
	c := mustStart(t, f, "fsyncPerTransaction", "false", "fsyncInterval", "0.05s")
	put(t, c, "first") // makes the segment: synced
	syncs := f.Count(vfs.OpSync)
	put(t, c, "a")
	for deadline := time.Now().Add(10 * time.Second); f.Count(vfs.OpSync) == syncs; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never synced")
		}
	}
	_ = c.Close()
	want(t, mustStart(t, m.CrashClone(nil, vfs.DropAll)), "first", "a")
}

// TestOnDisk is the real file system, two directories in turn.
//
// flume: TestLog testPutGet
// flume: TestLogFile testPutGet testReader
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	keys := []string{"checkpointDir", dir + "/c", "dataDirs", dir + "/1," + dir + "/2", "maxFileSize", "8192", "minimumRequiredSpace", "1m"}
	c := mustStart(t, vfs.OS(), keys...)
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprint(i, strings.Repeat("y", 2000)))
		put(t, c, all[i])
	}
	_ = c.Close()
	for _, d := range []string{"1", "2"} {
		if list, _ := filepath.Glob(filepath.Join(dir, d, "*.wal")); len(list) == 0 {
			t.Fatal("no segment in", d)
		}
	}
	want(t, mustStart(t, vfs.OS(), keys...), all...)
}

// BenchmarkChannel measures the channel, not the disk: syncs are not waited for.
func BenchmarkChannel(b *testing.B) {
	channeltest.Bench(b, channeltest.Subject{
		New: Channel.New,
		Keys: func(t testing.TB) map[string]string {
			dir := t.TempDir()
			return map[string]string{"checkpointDir": dir, "dataDirs": dir, "minimumRequiredSpace": "1m", "fsyncPerTransaction": "false"}
		},
	})
}

// A take waits for no sync: a thousand of them, with their acks, share one that
// comes when there was no put for the acks to ride on.
func TestTakesDoNotSync(t *testing.T) {
	const n = 1000
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewFault(vfs.NewMem())
		c := mustStart(t, disk)
		for i := range n {
			put(t, c, fmt.Sprint(i))
		}
		if puts := disk.Count(vfs.OpSync); puts < n {
			t.Errorf("%d puts, one after the other, synced %d times", n, puts)
		}
		before := disk.Count(vfs.OpSync)
		for range n {
			l, err := c.Take(t.Context(), core.Take{Events: 1, NoWait: true})
			if err != nil {
				t.Fatal(err)
			}
			l.Ack(nil)
		}
		if takes := disk.Count(vfs.OpSync) - before; takes != 0 {
			t.Errorf("%d takes synced %d times", n, takes)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if acks := disk.Count(vfs.OpSync) - before; acks != 1 {
			t.Errorf("%d acks synced %d times", n, acks)
		}
		_ = c.Close()
	})
}
