package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channeltest"
	"github.com/millrace/millrace/core/conf"
)

func TestSuite(t *testing.T) {
	channeltest.Run(t, channeltest.Subject{New: Channel.New, BytesKey: "byteCapacity", Bytes1000: "1250"})
}

func bind(t *testing.T, keys map[string]string) (*channel, conf.Faults) {
	t.Helper()
	c := new(channel)
	_, faults := conf.Bind(c, keys)
	if faults.HasErrors() {
		t.Fatal(faults)
	}
	return c, faults
}

// Bad numbers are no reason not to start, as in Flume; here they are warnings.
//
// flume: TestMemoryChannel testNegativeCapacities
func TestBadNumbers(t *testing.T) {
	c, faults := bind(t, map[string]string{"capacity": "-3", "transactionCapacity": "-1", "keep-alive": "soon", "byteCapacity": "much"})
	if len(faults) != 4 || c.capacity != 100 || c.transaction != 100 || c.keepAlive != 3*time.Second || c.byteCapacity != defaultByteCapacity {
		t.Errorf("%v: %+v", faults, c.settings)
	}
}

// Flume's steps, in bytes where Flume counts slots of 100: a limit below what
// the channel holds costs nothing, and counts until it is drained.
//
// flume: TestMemoryChannel testByteCapacityBufferChangeConfig
func TestByteCapacityChanges(t *testing.T) {
	set := func(n string) *channel {
		c, _ := bind(t, map[string]string{"capacity": "1000", "keep-alive": "0", "byteCapacity": n, "byteCapacityBufferPercentage": "20"})
		return c
	}
	body := string(make([]byte, 405))
	c := set("2000")
	if err := c.Open(context.Background(), core.Env{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range []struct {
		bytes string
		put   int // bodies that go in, before one does not
		left  int // that are taken then: all but so many
	}{
		{"2000", 3, 3}, {"1500", 0, 3}, {"250", 0, 1}, {"300", 0, 0}, {"3300", 6, 6}, {"4000", 1, 0},
	} {
		c.Adjust(set(step.bytes))
		for i := range step.put + 1 {
			if err := channeltest.Put(c, body); (err == nil) != (i < step.put) || err != nil && !errors.Is(err, core.ErrChannelFull) && !errors.Is(err, core.ErrTooLarge) {
				t.Errorf("byteCapacity %s, put %d: %v", step.bytes, i+1, err)
			}
		}
		if n := c.Len().Events - step.left; n > 0 {
			l, err := c.Take(context.Background(), core.Take{Events: n})
			if err != nil || len(l.Batch().Events) != n {
				t.Fatal(err)
			}
			l.Ack(nil)
		}
	}
}

func BenchmarkChannel(b *testing.B) { channeltest.Bench(b, channeltest.Subject{New: Channel.New}) }
