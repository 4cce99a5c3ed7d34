package spillable

import (
	"maps"
	"testing"

	"github.com/millrace/millrace/core/channeltest"
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

func TestBoth(t *testing.T) {
	channeltest.Run(t, spilling, "put is atomic and claims count", "capacity in events", "room waits", "stall",
		"the newest are dropped", "the oldest are dropped", "settings change in place")
}

func TestCrash(t *testing.T) {
	keys := map[string]string{
		"memoryCapacity": "12", "overflowTimeout": "0", "maxFileSize": "16384", "memoryBytes": "65536", "transactionCapacity": "1000",
	}
	t.Run("both", func(t *testing.T) {
		channeltest.RunCrash(t, channeltest.CrashSubject{New: Channel.New, Keys: keys, Spills: true})
	})
	t.Run("disk only", func(t *testing.T) {
		keys := maps.Clone(keys)
		keys["memoryCapacity"] = "0"
		channeltest.RunCrash(t, channeltest.CrashSubject{New: Channel.New, Keys: keys})
	})
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
