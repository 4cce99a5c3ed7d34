package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// Metadata, version 10, which tells the ids of topics: a topic that is deleted
// and made again has another one. kafka-go ends at version 8. Brokers before
// Kafka 2.8 have no ids.

// metadataWithIDs is the version from which on brokers tell ids; it is the one that is spoken.
const metadataWithIDs = 10

// topicsRequest is a metadata.Request in that version.
type topicsRequest struct {
	metadata.Request
	clientID string
}

// topicsAnswer is the answer to it.
type topicsAnswer struct {
	metadata.Response
	ids map[string]string // by topic, as text
}

// ApiKey implements protocol.Message.
func (*topicsRequest) ApiKey() protocol.ApiKey { return protocol.Metadata }

// ApiKey implements protocol.Message.
func (*topicsAnswer) ApiKey() protocol.ApiKey { return protocol.Metadata }

// Required implements protocol.RawExchanger.
func (*topicsRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (r *topicsRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	b := append(head(nil, protocol.Metadata, metadataWithIDs, r.clientID), 0)
	if r.TopicNames == nil {
		b = append(b, 0) // all
	} else {
		b = binary.AppendUvarint(b, uint64(len(r.TopicNames)+1))
	}
	for _, name := range r.TopicNames {
		b = append(b, make([]byte, 16)...) // by name, not by id
		b = append(appendCompact(b, name), 0)
	}
	create := byte(0)
	if r.AllowAutoTopicCreation {
		create = 1
	}
	b = append(b, create, 0, 0, 0) // and no authorized operations
	blk, data, err := exchange(rw, b)
	if err != nil {
		return nil, err
	}
	defer blk.Release()
	return readTopics(data)
}

func readTopics(data []byte) (*topicsAnswer, error) {
	out := &topicsAnswer{ids: make(map[string]string)}
	c := cursor{data: data}
	c.tags()
	out.ThrottleTimeMs = c.int32()
	for range c.compact(10) {
		out.Brokers = append(out.Brokers, metadata.ResponseBroker{NodeID: c.int32(), Host: c.compactText(), Port: c.int32(), Rack: c.compactText()})
		c.tags()
	}
	out.ClusterID = c.compactText()
	out.ControllerID = c.int32()
	for range c.compact(22) {
		t := metadata.ResponseTopic{ErrorCode: c.int16(), Name: c.compactText()}
		id := string(c.take(16))
		t.IsInternal = c.bool()
		for range c.compact(17) {
			p := metadata.ResponsePartition{ErrorCode: c.int16(), PartitionIndex: c.int32(), LeaderID: c.int32(), LeaderEpoch: c.int32()}
			for range 3 { // replicas: all, in sync, away
				for range c.compact(4) {
					c.int32()
				}
			}
			c.tags()
			t.Partitions = append(t.Partitions, p)
		}
		c.int32() // what may be done with it
		c.tags()
		out.Topics = append(out.Topics, t)
		if id != noID {
			out.ids[t.Name] = base64.RawURLEncoding.EncodeToString([]byte(id))
		}
	}
	return out, c.err
}

const noID = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func (c *cursor) bool() bool {
	b := c.take(1)
	return len(b) == 1 && b[0] != 0
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.data)
	if n <= 0 {
		c.fail(errShort)
		return 0
	}
	c.data = c.data[n:]
	return v
}

// compact is the length of a compact array whose elements take at least size bytes each; a null one is empty.
func (c *cursor) compact(size int) int {
	n := c.uvarint()
	if n == 0 || c.err != nil {
		return 0
	}
	if n-1 > uint64(len(c.data)/size) {
		c.fail(errShort)
		return 0
	}
	return int(n - 1)
}

// compactText is a compact string; a null one is empty.
func (c *cursor) compactText() string { return string(c.take(int64(c.compact(1)))) }

// tags skips tagged fields.
func (c *cursor) tags() {
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		c.uvarint()
		size := c.uvarint()
		if size > uint64(len(c.data)) {
			c.fail(errShort)
			return
		}
		c.take(int64(size))
	}
}
