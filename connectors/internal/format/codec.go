package format

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// coder appends data, compressed, to dst.
type coder func(dst, data []byte) []byte

func known(codec string) bool {
	switch codec {
	case "null", "deflate", "snappy", "zstandard", "bzip2":
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
	case "bzip2":
		var out bytes.Buffer
		w, err := bzip2.NewWriter(&out, nil)
		if err != nil {
			panic(err) // there are no options
		}
		return func(dst, data []byte) []byte {
			out.Reset()
			_ = w.Reset(&out) // always nil
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
