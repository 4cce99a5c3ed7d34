package kafka

import (
	"encoding/binary"
	"hash/crc32"
)

// Attributes of a record batch.
const (
	attrCodec         = 0x07
	attrTransactional = 0x10
	attrControl       = 0x20
)

// Places in a record batch of version 2.
const (
	batchLengthAt  = 8  // of what follows the length
	batchMagicAt   = 16 // same place in all versions
	batchCRCAt     = 17 // over what follows it
	batchAttrAt    = 21
	batchLastAt    = 23 // delta of the last offset
	batchFirstTime = 27
	batchMaxTime   = 35
	batchProducer  = 43
	batchEpochAt   = 51
	batchSeqAt     = 53
	batchCountAt   = 57
	batchHead      = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one record to write. Nil is another thing than empty.
type record struct {
	time    int64 // epoch ms
	key     []byte
	value   []byte
	headers []recordHeader

	room []byte // for the key of the next one
}

// setKey makes a copy of key that lasts until the next one.
func (r *record) setKey(key string) {
	if r.room == nil {
		r.room = make([]byte, 0, 64)
	}
	r.key = append(r.room[:0], key...)
	r.room = r.key
}

type recordHeader struct{ key, value string }

// encoder appends records to a batch.
type encoder struct {
	buf       []byte // the head of the batch, and the records
	count     int
	firstTime int64
	maxTime   int64
	one       []byte // scratch: a record without its length
}

// begin starts a batch in e's memory.
func (e *encoder) begin() {
	e.buf = append(e.buf[:0], make([]byte, batchHead)...)
	e.count = 0
}

// add appends r.
func (e *encoder) add(r *record) {
	if e.count == 0 {
		e.firstTime, e.maxTime = r.time, r.time
	}
	e.maxTime = max(e.maxTime, r.time)
	b := append(e.one[:0], 0)
	b = binary.AppendVarint(b, r.time-e.firstTime)
	b = binary.AppendVarint(b, int64(e.count))
	b = appendNullable(b, r.key)
	b = appendNullable(b, r.value)
	b = binary.AppendVarint(b, int64(len(r.headers)))
	for _, h := range r.headers {
		b = append(binary.AppendVarint(b, int64(len(h.key))), h.key...)
		b = append(binary.AppendVarint(b, int64(len(h.value))), h.value...)
	}
	e.one = b
	e.buf = append(binary.AppendVarint(e.buf, int64(len(b))), b...)
	e.count++
}

func appendNullable(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

// producer is who writes a batch; id -1: nobody that the broker remembers.
type producer struct {
	id    int64
	epoch int16
	txn   bool // in transactions
}

// finish appends the batch to dst, its records compressed by codec.
func (e *encoder) finish(dst []byte, codec *codec, p producer, sequence int32) []byte {
	start := len(dst)
	dst = append(dst, e.buf[:batchHead]...)
	dst = codec.compress(dst, e.buf[batchHead:])
	b := dst[start:]
	binary.BigEndian.PutUint64(b, 0)
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], ^uint32(0)) // the leader's epoch, which it writes itself
	b[batchMagicAt] = 2
	attributes := uint16(codec.id)
	if p.txn {
		attributes |= attrTransactional
	}
	binary.BigEndian.PutUint16(b[batchAttrAt:], attributes)
	binary.BigEndian.PutUint32(b[batchLastAt:], uint32(e.count-1))
	binary.BigEndian.PutUint64(b[batchFirstTime:], uint64(e.firstTime))
	binary.BigEndian.PutUint64(b[batchMaxTime:], uint64(e.maxTime))
	binary.BigEndian.PutUint64(b[batchProducer:], uint64(p.id))
	binary.BigEndian.PutUint16(b[batchEpochAt:], uint16(p.epoch))
	binary.BigEndian.PutUint32(b[batchSeqAt:], uint32(sequence))
	binary.BigEndian.PutUint32(b[batchCountAt:], uint32(e.count))
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchAttrAt:], castagnoli))
	return dst
}

// murmur2 is the hash by which Java's clients choose the partition of a key.
func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		h = h*m ^ (k^k>>24)*m
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// partitionOf is the partition of a key among n.
func partitionOf(key []byte, n int) int32 { return int32(murmur2(key)&0x7fffffff) % int32(n) }
