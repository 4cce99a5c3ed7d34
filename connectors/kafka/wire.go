package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/core"
)

// Produce and Fetch, written and read by hand: the bytes of records are neither
// copied into pages nor decoded by reflection. kafka-go's connection lets a
// message exchange its own bytes: see protocol.RawExchanger.

// maxAnswer bounds an answer of a broker; beyond it, it is none.
const maxAnswer = 1 << 30

// topicPartition names a partition.
type topicPartition struct {
	topic     string
	partition int32
}

func (t topicPartition) String() string { return fmt.Sprintf("%s-%d", t.topic, t.partition) }

// head begins a request of version 1 of the header, with room for its length.
func head(b []byte, key protocol.ApiKey, version int16, clientID string) []byte {
	b = append(b[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, correlation)
	return appendString(b, clientID)
}

// correlation is the number of every request here: a connection has one at a time.
const correlation = 0x6d696c6c

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// exchange sends a request, of which head began and only the length is missing, and reads the answer.
func exchange(rw io.ReadWriter, b []byte) (*core.Block, []byte, error) {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := rw.Write(b); err != nil {
		return nil, nil, err
	}
	return answer(rw)
}

// answer reads an answer into a block, and returns it behind its head.
func answer(r io.Reader) (*core.Block, []byte, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, nil, err
	}
	n := int64(binary.BigEndian.Uint32(size[:])) - 4
	if n < 0 || n > maxAnswer {
		return nil, nil, fmt.Errorf("answer of %d bytes", n+4)
	}
	if got := binary.BigEndian.Uint32(size[4:]); got != correlation {
		return nil, nil, fmt.Errorf("answer to request %#x, which was not sent", got)
	}
	blk := core.NewBlock(int(n))
	data := blk.Buf[:n]
	if _, err := io.ReadFull(r, data); err != nil {
		blk.Release()
		return nil, nil, err
	}
	return blk, data, nil
}

// byTopic calls f for each run of parts with one topic, for requests that list
// partitions below their topic.
func byTopic[T any](parts []T, topic func(*T) string, f func(name string, run []T)) {
	for i := 0; i < len(parts); {
		name, from := topic(&parts[i]), i
		for i < len(parts) && topic(&parts[i]) == name {
			i++
		}
		f(name, parts[from:i])
	}
}

// produceRequest is Produce, version 3 to 8. Its parts are sorted by topic.
type produceRequest struct {
	clientID string
	txn      string // transactional.id; empty: no transaction
	acks     int16
	timeout  int32 // ms
	parts    []producePart
	version  int16
	buf      []byte // of the last use, perhaps
}

type producePart struct {
	topicPartition
	batch []byte
}

type produceAnswer struct{ parts []produced }

// produced is the answer for one partition.
type produced struct {
	topicPartition
	code    int16
	offset  int64
	message string
}

// ApiKey implements protocol.Message.
func (*produceRequest) ApiKey() protocol.ApiKey { return protocol.Produce }

// ApiKey implements protocol.Message.
func (*produceAnswer) ApiKey() protocol.ApiKey { return protocol.Produce }

// Required implements protocol.RawExchanger.
func (r *produceRequest) Required(versions map[protocol.ApiKey]int16) bool {
	r.version = versions[protocol.Produce]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *produceRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if r.version < 3 {
		return nil, fmt.Errorf("the broker is older than Kafka 0.11: Produce %d", r.version)
	}
	b := head(r.buf, protocol.Produce, r.version, r.clientID)
	if r.txn == "" {
		b = binary.BigEndian.AppendUint16(b, 0xffff) // null
	} else {
		b = appendString(b, r.txn)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(r.acks))
	b = appendInt32(b, r.timeout)
	at, topics := len(b), int32(0)
	b = appendInt32(b, 0)
	byTopic(r.parts, func(p *producePart) string { return p.topic }, func(name string, run []producePart) {
		topics++
		b = appendInt32(appendString(b, name), int32(len(run)))
		for _, p := range run {
			b = appendInt32(appendInt32(b, p.partition), int32(len(p.batch)))
			b = append(b, p.batch...)
		}
	})
	binary.BigEndian.PutUint32(b[at:], uint32(topics))
	r.buf = b
	blk, data, err := exchange(rw, b)
	if err != nil {
		return nil, err
	}
	defer blk.Release()
	return readProduced(data, r.version)
}

func readProduced(data []byte, version int16) (*produceAnswer, error) {
	out := new(produceAnswer)
	c := cursor{data: data}
	for range c.array(6) {
		name := c.text()
		for range c.array(22) {
			p := produced{topicPartition: topicPartition{name, c.int32()}, code: c.int16(), offset: c.int64()}
			c.int64() // time of the append
			if version >= 5 {
				c.int64() // start of the log
			}
			if version >= 8 {
				for range c.array(6) {
					c.int32() // of the record that is at fault
					if why := c.text(); p.message == "" {
						p.message = why
					}
				}
				if why := c.text(); why != "" {
					p.message = why
				}
			}
			if c.err == nil {
				out.parts = append(out.parts, p)
			}
		}
	}
	if c.err != nil {
		return nil, fmt.Errorf("answer to Produce: %w", c.err)
	}
	return out, nil
}

// fetchRequest is Fetch, version 4 to 11. Its parts are sorted by topic.
type fetchRequest struct {
	clientID  string
	maxWait   int32 // ms
	minBytes  int32
	maxBytes  int32
	partBytes int32
	committed bool // isolation level
	rack      string
	parts     []fetchPart
	version   int16
}

type fetchPart struct {
	topicPartition
	offset int64
}

// fetchAnswer holds its block: whoever has it releases it.
type fetchAnswer struct {
	block *core.Block
	code  int16
	parts []fetchedPart
}

type fetchedPart struct {
	topicPartition
	code    int16
	end     int64 // high watermark
	aborted []aborted
	batches []byte // of the block; the last one may be cut off
}

// aborted is a transaction whose records are not to be delivered.
type aborted struct{ producer, first int64 }

// ApiKey implements protocol.Message.
func (*fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch }

// ApiKey implements protocol.Message.
func (*fetchAnswer) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Required implements protocol.RawExchanger.
func (r *fetchRequest) Required(versions map[protocol.ApiKey]int16) bool {
	r.version = versions[protocol.Fetch]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if r.version < 4 {
		return nil, fmt.Errorf("the broker is older than Kafka 0.11: Fetch %d", r.version)
	}
	b := head(nil, protocol.Fetch, r.version, r.clientID)
	b = appendInt32(b, -1) // not a replica
	b = appendInt32(appendInt32(appendInt32(b, r.maxWait), r.minBytes), r.maxBytes)
	level := byte(0)
	if r.committed {
		level = 1
	}
	b = append(b, level)
	if r.version >= 7 {
		b = appendInt32(appendInt32(b, 0), -1) // no session
	}
	at, topics := len(b), int32(0)
	b = appendInt32(b, 0)
	byTopic(r.parts, func(p *fetchPart) string { return p.topic }, func(name string, run []fetchPart) {
		topics++
		b = appendInt32(appendString(b, name), int32(len(run)))
		for _, p := range run {
			b = appendInt32(b, p.partition)
			if r.version >= 9 {
				b = appendInt32(b, -1) // the leader's epoch is not known
			}
			b = appendInt64(b, p.offset)
			if r.version >= 5 {
				b = appendInt64(b, -1) // start of a replica's log
			}
			b = appendInt32(b, r.partBytes)
		}
	})
	binary.BigEndian.PutUint32(b[at:], uint32(topics))
	if r.version >= 7 {
		b = appendInt32(b, 0) // nothing to forget
	}
	if r.version >= 11 {
		b = appendString(b, r.rack)
	}
	blk, data, err := exchange(rw, b)
	if err != nil {
		return nil, err
	}
	out, err := readFetched(data, r.version)
	if err != nil {
		blk.Release()
		return nil, err
	}
	out.block = blk
	return out, nil
}

func readFetched(data []byte, version int16) (*fetchAnswer, error) {
	out := new(fetchAnswer)
	c := cursor{data: data}
	c.int32() // throttled by so much
	if version >= 7 {
		out.code = c.int16()
		c.int32() // session
	}
	for range c.array(6) {
		name := c.text()
		for range c.array(30) {
			p := fetchedPart{topicPartition: topicPartition{name, c.int32()}, code: c.int16(), end: c.int64()}
			c.int64() // last stable offset
			if version >= 5 {
				c.int64() // start of the log
			}
			for range c.array(16) {
				p.aborted = append(p.aborted, aborted{c.int64(), c.int64()})
			}
			if version >= 11 {
				c.int32() // preferred replica
			}
			if n := c.int32(); n > 0 {
				p.batches = c.take(int64(n))
			}
			if c.err == nil {
				out.parts = append(out.parts, p)
			}
		}
	}
	if c.err != nil {
		return nil, fmt.Errorf("answer to Fetch: %w", c.err)
	}
	return out, nil
}
