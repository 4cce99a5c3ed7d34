package spillable

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channeltest"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// dirs are the keys of a log of its own.
func dirs(t testing.TB, more ...string) map[string]string {
	dir := t.TempDir()
	keys := map[string]string{"checkpointDir": dir + "/c", "dataDirs": dir + "/d", "minimumRequiredSpace": "1m"}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	return keys
}

// flume: TestSpillableMemoryChannel testPutTake testCapacityDisableOverflow testRollBack
func TestMemoryOnly(t *testing.T) {
	channeltest.Run(t, channeltest.Subject{
		New:      Channel.New,
		Keys:     func(testing.TB) map[string]string { return map[string]string{"overflowCapacity": "0"} },
		Names:    map[string]string{"capacity": "memoryCapacity", "keep-alive": "overflowTimeout"},
		BytesKey: "byteCapacity", Bytes1000: "1250",
	})
}

func TestDiskOnly(t *testing.T) {
	channeltest.Run(t, channeltest.Subject{
		New:   Channel.New,
		Keys:  func(t testing.TB) map[string]string { return dirs(t, "memoryCapacity", "0") },
		Names: map[string]string{"capacity": "overflowCapacity", "keep-alive": "overflowTimeout"},
	})
}

// spilling is a channel that goes back and forth between memory and disk. The
// checks that fill one place to the last event do not suit it.
var spilling = channeltest.Subject{
	New:   Channel.New,
	Keys:  func(t testing.TB) map[string]string { return dirs(t, "memoryCapacity", "20", "overflowTimeout", "0") },
	Names: map[string]string{"capacity": "overflowCapacity"},
}

// flume: TestSpillableMemoryChannel testParallelSingleSourceAndSink testParallelMultipleSourcesAndSinks
func TestBoth(t *testing.T) {
	channeltest.Run(t, spilling, "put is atomic and claims count", "capacity in events", "room waits", "stall",
		"the newest are dropped", "the oldest are dropped", "settings change in place")
}

var crashKeys = map[string]string{
	"memoryCapacity": "12", "overflowTimeout": "0", "maxFileSize": "16384", "memoryBytes": "65536", "transactionCapacity": "1000",
}

func TestCrash(t *testing.T) {
	channeltest.RunCrash(t, channeltest.CrashSubject{New: Channel.New, Keys: crashKeys, Spills: true})
}

// Without memory it promises all that the file channel does.
func TestDiskOnlySurvives(t *testing.T) {
	keys := maps.Clone(crashKeys)
	keys["memoryCapacity"] = "0"
	channeltest.RunCrash(t, channeltest.CrashSubject{New: Channel.New, Keys: keys})
}

// open binds and opens a channel on fsys.
func open(t *testing.T, fsys vfs.FS, keys map[string]string) *channel {
	t.Helper()
	c := new(channel)
	if _, faults := conf.Bind(c, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	env := core.Env{Name: "ch", Log: slog.New(slog.DiscardHandler), FS: fsys, Dir: "/state", Now: time.Now, Metrics: new(metric.Group)}
	if err := c.Open(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// After a crash what went over is there, and what was in memory is not, as in Flume.
//
// flume: TestSpillableMemoryChannel testRestart
func TestOverflowSurvivesACrash(t *testing.T) {
	m := vfs.NewMem()
	keys := map[string]string{"memoryCapacity": "2", "overflowTimeout": "0"}
	c := open(t, m, keys)
	for _, body := range []string{"0", "1", "2", "3"} {
		if err := channeltest.Put(c, body); err != nil {
			t.Fatal(err)
		}
	}
	if held, over := c.InMemory(); held.Events != 2 || !over {
		t.Fatal(held, over)
	}
	after := open(t, m.CrashClone(nil, vfs.DropAll), keys)
	if got := channeltest.Drain(t, after); strings.Join(got, " ") != "2 3" {
		t.Errorf("after a crash: %q", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	got := channeltest.Drain(t, open(t, m, keys)) // what was saved comes last
	if strings.Join(got, " ") != "2 3 0 1" {
		t.Errorf("after a stop: %q", got)
	}
}

// flume: TestSpillableMemoryChannel testBasicStart
func TestKeys(t *testing.T) {
	for _, x := range []struct{ keys, fault string }{
		{"", ""},
		{"memoryCapacity=0 overflowCapacity=0", "overflowCapacity is 100000000"},
		{"overflowCapacity=50", "transactionCapacity 10000 is more than overflowCapacity 50"},
		{"overflowCapacity=0 memoryCapacity=50 encryption.activeKey=k", ""},
		{"encryption.activeKey=k", "not supported yet"},
		{"memoryCapacity=-1", "at least 0"},
		{"overflowDeactivationThreshold=101", "between 0 and 100"},
		{"whenFull=drop", "one of block, drop_newest, drop_oldest"},
	} {
		props := map[string]string{}
		for _, word := range strings.Fields(x.keys) {
			key, value, _ := strings.Cut(word, "=")
			props[key] = value
		}
		c := new(channel)
		_, faults := conf.Bind(c, props)
		if said := fmt.Sprint(faults); len(faults) > 0 != (x.fault != "") || !strings.Contains(said, x.fault) {
			t.Errorf("%s: %s", x.keys, said)
		}
		if c.memoryCapacity+c.overflowCapacity <= 0 {
			t.Errorf("%s: no room at all", x.keys)
		}
	}
}

func TestFixed(t *testing.T) {
	for _, x := range []struct{ from, to, key string }{
		{"memoryCapacity=5", "memoryCapacity=10 overflowCapacity=20000 overflowTimeout=9 whenFull=drop_oldest maxFileSize=1m", ""},
		{"memoryCapacity=5", "memoryCapacity=0", "memoryCapacity"},
		{"memoryCapacity=0", "memoryCapacity=5", "memoryCapacity"},
		{"memoryCapacity=5", "memoryCapacity=5 overflowCapacity=0", "overflowCapacity"},
		{"overflowCapacity=0", "overflowCapacity=0 dataDirs=/elsewhere", ""},
		{"memoryCapacity=5", "dataDirs=/elsewhere", "dataDirs"},
		{"memoryCapacity=5", "checkpointDir=/elsewhere", "checkpointDir"},
		{"memoryCapacity=5", "minimumRequiredSpace=100m", "minimumRequiredSpace"}, // the volume is too small
	} {
		var cs [2]map[string]string
		for i, words := range []string{x.from, x.to} {
			cs[i] = map[string]string{"minimumRequiredSpace": "1m"}
			for _, word := range strings.Fields(words) {
				key, value, _ := strings.Cut(word, "=")
				cs[i][key] = value
			}
		}
		m := vfs.NewMem()
		m.SetVolume(50 << 20)
		next := new(channel)
		if _, faults := conf.Bind(next, cs[1]); faults.HasErrors() {
			t.Fatal(faults)
		}
		if key := open(t, m, cs[0]).Fixed(next); key != x.key {
			t.Errorf("from %s to %s: fixed %q, want %q", x.from, x.to, key, x.key)
		}
	}
}

func BenchmarkChannel(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		channeltest.Bench(b, channeltest.Subject{
			New:   Channel.New,
			Keys:  func(t testing.TB) map[string]string { return dirs(t) },
			Names: map[string]string{"capacity": "memoryCapacity"},
		})
	})
	b.Run("both", func(b *testing.B) { channeltest.Bench(b, spilling) })
}
