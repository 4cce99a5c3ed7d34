package kafka

import (
	"encoding/binary"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
)

// OffsetFetch, version 7, which waits for transactions: an offset that one under
// way may still change is answered with UNSTABLE_OFFSET_COMMIT, and asked for
// again (KIP-447). kafka-go ends at version 5, whose answer is then the offset
// before it, and its records would be read twice. Brokers before Kafka 2.5 do not
// speak it.

// offsetsStable is that version.
const offsetsStable = 7

// stableRequest is an offsetfetch.Request in that version.
type stableRequest struct {
	offsetfetch.Request
	clientID string
}

// Required implements protocol.RawExchanger.
func (*stableRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (r *stableRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	b := append(head(nil, protocol.OffsetFetch, offsetsStable, r.clientID), 0)
	b = appendCompact(b, r.GroupID)
	if r.Topics == nil {
		b = append(b, 0) // all
	} else {
		b = binary.AppendUvarint(b, uint64(len(r.Topics)+1))
	}
	for _, t := range r.Topics {
		b = binary.AppendUvarint(appendCompact(b, t.Name), uint64(len(t.PartitionIndexes)+1))
		for _, p := range t.PartitionIndexes {
			b = appendInt32(b, p)
		}
		b = append(b, 0)
	}
	b = append(b, 1, 0) // stable ones
	blk, data, err := exchange(rw, b)
	if err != nil {
		return nil, err
	}
	defer blk.Release()
	return readOffsets(data)
}

func readOffsets(data []byte) (*offsetfetch.Response, error) {
	out := new(offsetfetch.Response)
	c := cursor{data: data}
	c.tags()
	out.ThrottleTimeMs = c.int32()
	for range c.compact(3) {
		t := offsetfetch.ResponseTopic{Name: c.compactText()}
		for range c.compact(20) {
			t.Partitions = append(t.Partitions, offsetfetch.ResponsePartition{
				PartitionIndex: c.int32(), CommittedOffset: c.int64(), ComittedLeaderEpoch: c.int32(), Metadata: c.compactText(), ErrorCode: c.int16(),
			})
			c.tags()
		}
		c.tags()
		out.Topics = append(out.Topics, t)
	}
	out.ErrorCode = c.int16()
	c.tags()
	return out, c.err
}

func appendCompact(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s)+1)), s...)
}
