package format

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/core"
)

// Schema is the schema of AVRO_EVENT, to the letter what Flume stores in its files.
const Schema = `{"type":"record","name":"Event","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}`

// avro writes an object container file.
type avro struct {
	limit int // of a block
	codec string
	mark  [16]byte

	block  []byte // events that are not yet in the file
	events int64
	last   core.Headers // whose encoding is in head
	head   []byte
	coder  coder // made with the first block that needs it
}

// coder appends data, compressed, to dst.
type coder func(dst, data []byte) []byte

func newAvro(limit int, codec string) *avro {
	a := &avro{limit: limit, codec: codec}
	rand.Read(a.mark[:])
	return a
}

func (a *avro) Begin(dst []byte) []byte {
	dst = append(dst, "Obj\x01"...)
	if !known(a.codec) { // then Flume names no codec, and readers take that for null
		dst = str(str(long(dst, 1), "avro.schema"), Schema)
	} else {
		dst = str(str(long(dst, 2), "avro.schema"), Schema)
		dst = str(str(dst, "avro.codec"), a.codec)
	}
	dst = long(dst, 0)
	return append(dst, a.mark[:]...)
}

func (a *avro) Append(dst []byte, events []core.Event, limit int64) ([]byte, int) {
	begin := len(dst) + len(a.block)
	for i := range events {
		a.block = a.headers(a.block, events[i].Headers)
		a.block = long(a.block, int64(len(events[i].Body)))
		a.block = append(a.block, events[i].Body...)
		a.events++
		if len(a.block) >= a.limit {
			dst = a.Flush(dst)
		}
		if limit > 0 && int64(len(dst)+len(a.block)-begin) >= limit {
			return dst, i + 1
		}
	}
	return dst, len(events)
}

func (a *avro) headers(dst []byte, h core.Headers) []byte {
	if h != a.last || len(a.head) == 0 {
		a.last = h
		a.head = a.head[:0]
		if n := h.Len(); n > 0 {
			a.head = long(a.head, int64(n))
			for k, v := range h.All() {
				a.head = str(a.head, validText(k))
				a.head = str(a.head, validText(v))
			}
		}
		a.head = long(a.head, 0)
	}
	return append(dst, a.head...)
}

func (a *avro) Flush(dst []byte) []byte {
	if a.events == 0 {
		return dst
	}
	dst = long(dst, a.events)
	if a.coder == nil {
		a.coder = newCoder(a.codec)
	}
	dst = a.coder(dst, a.block)
	a.block, a.events = a.block[:0], 0
	return append(dst, a.mark[:]...)
}

func (a *avro) State() string {
	return names[avroEvent][0] + " " + hex.EncodeToString(a.mark[:]) + " " + a.codec
}

func (a *avro) Resume(state string) bool {
	kind, rest, _ := strings.Cut(state, " ")
	mark, codec, _ := strings.Cut(rest, " ")
	raw, err := hex.DecodeString(mark)
	if kind != names[avroEvent][0] || codec != a.codec || err != nil || len(raw) != len(a.mark) {
		return false
	}
	copy(a.mark[:], raw)
	return true
}

func known(codec string) bool {
	switch codec {
	case "null", "deflate", "snappy", "zstandard":
		return true
	}
	return false
}

// newCoder returns what writes a block's size and its data by a codec. It keeps
// its memory from block to block.
func newCoder(codec string) coder {
	switch codec {
	case "deflate":
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.DefaultCompression)
		if err != nil {
			panic(err) // the level is a constant
		}
		return func(dst, data []byte) []byte {
			out.Reset()
			w.Reset(&out)
			// A bytes.Buffer never fails.
			_, _ = w.Write(data)
			_ = w.Close()
			return append(long(dst, int64(out.Len())), out.Bytes()...)
		}
	case "snappy":
		var out []byte
		return func(dst, data []byte) []byte {
			out = snappy.Encode(out[:cap(out)], data)
			dst = append(long(dst, int64(len(out)+4)), out...)
			return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(data))
		}
	case "zstandard":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // the options are constants
		}
		var out []byte
		return func(dst, data []byte) []byte {
			out = w.EncodeAll(data, out[:0])
			return append(long(dst, int64(len(out))), out...)
		}
	}
	return func(dst, data []byte) []byte {
		return append(long(dst, int64(len(data))), data...)
	}
}

// long appends n as Avro does: zigzag, then seven bits a byte, low ones first.
func long(dst []byte, n int64) []byte { return binary.AppendVarint(dst, n) }

func str(dst []byte, s string) []byte {
	return append(long(dst, int64(len(s))), s...)
}
