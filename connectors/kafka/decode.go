package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var (
	errShort = errors.New("ends too early")
	errOld   = errors.New("messages of Kafka before 0.11 (format 0 or 1) are not read: let a broker of Kafka 3 rewrite the topic")
)

// batch is a record batch as it was fetched.
type batch struct {
	base       int64 // offset of the first record
	last       int64 // and of the last one; there may be fewer records, after compaction
	attributes int16
	firstTime  int64
	maxTime    int64
	producer   int64
	count      int
	records    []byte // perhaps compressed
}

// cutBatch takes the first batch off data. A batch that is cut off, as a broker
// may do with the last one, is errShort.
func cutBatch(data []byte) (b batch, rest []byte, err error) {
	if len(data) <= batchMagicAt {
		return b, nil, errShort
	}
	size := int64(int32(binary.BigEndian.Uint32(data[batchLengthAt:]))) + 12
	if data[batchMagicAt] < 2 {
		return b, nil, errOld
	}
	if data[batchMagicAt] > 2 {
		return b, nil, fmt.Errorf("record batch of format %d is not known", data[batchMagicAt])
	}
	switch {
	case size < batchHead:
		return b, nil, fmt.Errorf("record batch of %d bytes is too short to be one", size)
	case size > int64(len(data)):
		return b, nil, errShort
	}
	rest, data = data[size:], data[:size]
	if want, got := binary.BigEndian.Uint32(data[batchCRCAt:]), crc32.Checksum(data[batchAttrAt:], castagnoli); want != got {
		return b, nil, fmt.Errorf("record batch has checksum %08x, its bytes %08x", want, got)
	}
	b = batch{
		base:       int64(binary.BigEndian.Uint64(data)),
		attributes: int16(binary.BigEndian.Uint16(data[batchAttrAt:])),
		firstTime:  int64(binary.BigEndian.Uint64(data[batchFirstTime:])),
		maxTime:    int64(binary.BigEndian.Uint64(data[batchMaxTime:])),
		producer:   int64(binary.BigEndian.Uint64(data[batchProducer:])),
		count:      int(int32(binary.BigEndian.Uint32(data[batchCountAt:]))),
		records:    data[batchHead:],
	}
	delta := int32(binary.BigEndian.Uint32(data[batchLastAt:]))
	b.last = b.base + int64(delta)
	if delta < 0 || b.base < 0 || b.last < b.base || b.count < 0 {
		return b, nil, fmt.Errorf("record batch at %d has %d records up to %d", b.base, b.count, b.last)
	}
	return b, rest, nil
}

func (b *batch) control() bool       { return b.attributes&attrControl != 0 }
func (b *batch) transactional() bool { return b.attributes&attrTransactional != 0 }

// logAppendTime: the broker's clock made the time, one for all records.
func (b *batch) logAppendTime() bool { return b.attributes&0x08 != 0 }

// fetched is a record that was read. Its slices are of the batch's memory.
type fetched struct {
	offset  int64
	time    int64 // epoch ms; -1: none
	key     []byte
	value   []byte
	headers []fetchedHeader // of the reader's memory: valid until the next record
}

type fetchedHeader struct{ key, value []byte }

// each calls f with every record of data, the decompressed records of b, until f
// returns an error.
func (b *batch) each(data []byte, f func(*fetched) error) error {
	var r fetched
	in := cursor{data: data}
	for i := range b.count {
		size := in.varint()
		one := cursor{data: in.take(size)}
		if in.err != nil {
			return fmt.Errorf("record %d of batch at %d: %w", i, b.base, in.err)
		}
		one.take(1) // attributes, of which there are none
		timeDelta, offsetDelta := one.varint(), one.varint()
		r.time, r.offset = b.firstTime+timeDelta, b.base+offsetDelta
		if b.logAppendTime() {
			r.time = b.maxTime
		}
		r.key, r.value = one.nullable(), one.nullable()
		r.headers = r.headers[:0]
		n := one.varint()
		if n < 0 || n > int64(len(one.data)) {
			one.fail(fmt.Errorf("%d headers", n))
		}
		for ; n > 0 && one.err == nil; n-- {
			r.headers = append(r.headers, fetchedHeader{one.take(one.varint()), one.nullable()})
		}
		if one.err == nil && (offsetDelta < 0 || r.offset > b.last) {
			one.fail(fmt.Errorf("offset %d is not in the batch", r.offset))
		}
		if one.err != nil {
			return fmt.Errorf("record %d of batch at %d: %w", i, b.base, one.err)
		}
		if err := f(&r); err != nil {
			return err
		}
	}
	return nil
}

// cursor reads fields from data until there is an error.
type cursor struct {
	data []byte
	err  error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.data, c.err = nil, err
	}
}

func (c *cursor) take(n int64) []byte {
	if n < 0 || n > int64(len(c.data)) {
		c.fail(errShort)
		return nil
	}
	out := c.data[:n:n]
	c.data = c.data[n:]
	return out
}

// nullable is bytes behind their length as a varint; nil where that is negative.
func (c *cursor) nullable() []byte {
	n := c.varint()
	if n < 0 || c.err != nil {
		return nil
	}
	return c.take(n)
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.data)
	if n <= 0 {
		c.fail(errShort)
		return 0
	}
	c.data = c.data[n:]
	return v
}

func (c *cursor) int16() int16 {
	if b := c.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) int64() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// text is a string behind its length in 16 bits; a null one is empty.
func (c *cursor) text() string {
	if n := c.int16(); n > 0 {
		return string(c.take(int64(n)))
	}
	return ""
}

// array is the length of an array whose elements take at least size bytes each.
func (c *cursor) array(size int) int {
	n := int(c.int32())
	if n > len(c.data)/size {
		c.fail(errShort)
	}
	if n < 0 || c.err != nil {
		return 0
	}
	return n
}
