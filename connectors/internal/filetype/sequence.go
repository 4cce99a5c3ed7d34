package filetype

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
)

// sequence writes Hadoop's SequenceFile, version 6: "SEQ" 6, the classes of key
// and value, two booleans (compressed, by blocks), the codec's class if
// compressed, a count of metadata (0), a sync marker of 16 bytes. Then
//
//	not compressed  records: length, length of the key (both 32 bits), key, value
//	compressed      blocks: -1, marker, number of records, and four buffers, each
//	                with its compressed size: lengths of keys, keys, lengths of values, values
//
// with -1 and the marker at each Flush and at least every 2000 bytes, where
// readers find the way in. Sizes in blocks, and lengths of texts, are Hadoop's
// variable integers.
type sequence struct {
	text  bool
	codec *codec
	now   func() time.Time
	mark  [16]byte
	since int // bytes since the last marker

	// Of the block, when compressed.
	records                            int
	keySizes, keys, valueSizes, values []byte
}

const (
	syncBytes  = 2000    // Hadoop's: 100 times the size of a marker
	blockBytes = 1000000 // Hadoop's io.seqfile.compress.blocksize
)

func newSequence(text bool, c *codec, now func() time.Time) *sequence {
	s := &sequence{text: text, codec: c, now: now}
	rand.Read(s.mark[:])
	return s
}

func (s *sequence) Begin(dst []byte) []byte {
	dst = append(dst, "SEQ\x06"...)
	dst = text(dst, "org.apache.hadoop.io.LongWritable")
	if s.text {
		dst = text(dst, "org.apache.hadoop.io.Text")
	} else {
		dst = text(dst, "org.apache.hadoop.io.BytesWritable")
	}
	if s.codec == nil {
		dst = append(dst, 0, 0)
	} else {
		dst = text(append(dst, 1, 1), s.codec.class())
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, s.mark[:]...)
}

func (s *sequence) Append(dst []byte, events []core.Event) []byte {
	for i := range events {
		at := len(dst)
		ms, err := strconv.ParseInt(events[i].Headers.Value("timestamp"), 10, 64)
		if err != nil {
			ms = s.now().UnixMilli()
		}
		if s.codec != nil {
			dst = s.block(dst, uint64(ms), events[i].Body)
			continue
		}
		if s.since >= syncBytes {
			dst = s.sync(dst)
		}
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 8)
		dst = binary.BigEndian.AppendUint64(dst, uint64(ms))
		value := len(dst)
		dst = s.value(dst, events[i].Body)
		binary.BigEndian.PutUint32(dst[value-16:], uint32(8+len(dst)-value))
		s.since += len(dst) - at
	}
	return dst
}

func (s *sequence) value(dst, body []byte) []byte {
	if s.text {
		return append(varint(dst, int64(len(body))), body...)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(body))), body...)
}

func (s *sequence) sync(dst []byte) []byte {
	s.since = 0
	return append(append(dst, 0xFF, 0xFF, 0xFF, 0xFF), s.mark[:]...)
}

func (s *sequence) block(dst []byte, ms uint64, body []byte) []byte {
	s.records++
	s.keySizes = varint(s.keySizes, 8)
	s.keys = binary.BigEndian.AppendUint64(s.keys, ms)
	before := len(s.values)
	s.values = s.value(s.values, body)
	s.valueSizes = varint(s.valueSizes, int64(len(s.values)-before))
	if len(s.keys)+len(s.values) >= blockBytes {
		return s.Flush(dst)
	}
	return dst
}

func (s *sequence) Flush(dst []byte) []byte {
	switch {
	case s.codec == nil && s.since > 0:
		return s.sync(dst)
	case s.records > 0:
		dst = varint(s.sync(dst), int64(s.records))
		for _, buffer := range [...]*[]byte{&s.keySizes, &s.keys, &s.valueSizes, &s.values} {
			packed := s.codec.compress(nil, *buffer)
			dst = append(varint(dst, int64(len(packed))), packed...)
			*buffer = (*buffer)[:0]
		}
		s.records = 0
	}
	return dst
}

// State is the kind of the values, the codec and the sync marker.
func (s *sequence) State() string {
	return s.kind() + " " + hex.EncodeToString(s.mark[:])
}

func (s *sequence) kind() string {
	kind := "SequenceFile Writable"
	if s.text {
		kind = "SequenceFile Text"
	}
	if s.codec != nil {
		kind += " " + s.codec.name
	}
	return kind
}

// Resume begins with nothing since a marker: each Flush ended with one.
func (s *sequence) Resume(state string) bool {
	rest, ok := strings.CutPrefix(state, s.kind()+" ")
	mark, err := hex.DecodeString(rest)
	if !ok || err != nil || len(mark) != len(s.mark) {
		return false
	}
	copy(s.mark[:], mark)
	return true
}

func text(dst []byte, s string) []byte { return append(varint(dst, int64(len(s))), s...) }

// varint appends n, which is not negative, as WritableUtils does: one byte up
// to 127; else a byte that says how many follow (-113: one, -114: two ...), big-endian.
func varint(dst []byte, n int64) []byte {
	if n <= 127 {
		return append(dst, byte(n))
	}
	size := 0
	for rest := n; rest > 0; rest >>= 8 {
		size++
	}
	dst = append(dst, byte(-112-size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}
