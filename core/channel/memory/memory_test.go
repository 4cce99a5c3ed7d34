package memory

import (
	"testing"

	"github.com/millrace/millrace/core/channeltest"
)

func TestSuite(t *testing.T) {
	channeltest.Run(t, channeltest.Subject{New: Channel.New, BytesKey: "byteCapacity", Bytes1000: "1250"})
}

func BenchmarkChannel(b *testing.B) { channeltest.Bench(b, channeltest.Subject{New: Channel.New}) }
