package filetype

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// codec is one of Hadoop's. What it makes of one text is complete in itself,
// and several may follow each other in a file: Hadoop's streams read on.
type codec struct {
	name      string // simple name of Hadoop's class, without Codec
	extension string
	compress  func(dst, raw []byte) []byte
}

const (
	codecPackage = "org.apache.hadoop.io.compress."
	hdfsPackage  = "org.apache.flume.sink.hdfs."
)

func (c *codec) class() string { return codecPackage + c.name + "Codec" }

var codecs = []*codec{
	{"Gzip", ".gz", pooled(func() resetter { return gzip.NewWriter(nil) })},
	{"BZip2", ".bz2", pooled(newBzip2)},
	{"Snappy", ".snappy", blocks(func(dst, raw []byte) []byte { return append(dst, snappy.Encode(nil, raw)...) })},
	{"Lz4", ".lz4", blocks(lz4Block)},
	{"ZStandard", ".zst", zstdFrame()},
	{"Default", ".deflate", pooled(func() resetter { return zlib.NewWriter(nil) })},
	{"Deflate", ".deflate", pooled(func() resetter { return zlib.NewWriter(nil) })},
}

var (
	errFileType    = errors.New("is not a file type: there are SequenceFile, DataStream and CompressedStream")
	errCodec       = errors.New("is not a codec: there are gzip, bzip2, snappy, lz4, zstd and deflate")
	errWriteFormat = errors.New("is not a write format: there are Writable and Text (Java classes cannot run here)")
)

// codecOf finds a codec by the class of Hadoop's, its simple name, or that
// without Codec, the latter two in any case of letters; nil for None.
func codecOf(text string) (*codec, error) {
	simple := strings.TrimPrefix(text, codecPackage)
	simple = strings.ToLower(simple)
	simple = strings.TrimSuffix(simple, "codec")
	switch simple {
	case "none":
		return nil, nil
	case "zstd":
		simple = "zstandard"
	}
	if strings.HasSuffix(simple, "lzop") || strings.HasSuffix(simple, "lzo") {
		return nil, fmt.Errorf("%s is not supported: no codec of its kind may be shipped (its licence); use lz4, snappy or zstd", text)
	}
	for _, c := range codecs {
		if simple == strings.ToLower(c.name) {
			return c, nil
		}
	}
	return nil, errCodec
}

// resetter is a compressor that can be used again.
type resetter interface {
	io.WriteCloser
	Reset(io.Writer)
}

// pooled keeps compressors, which are large, for all files together.
func pooled(make func() resetter) func(dst, raw []byte) []byte {
	pool := sync.Pool{New: func() any { return make() }}
	return func(dst, raw []byte) []byte {
		w := pool.Get().(resetter)
		defer pool.Put(w)
		out := sliceWriter{dst}
		w.Reset(&out)
		// A slice takes everything.
		_, _ = w.Write(raw)
		_ = w.Close()
		return out.b
	}
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

type bzip2Writer struct{ *bzip2.Writer }

func (w bzip2Writer) Reset(to io.Writer) { _ = w.Writer.Reset(to) } // always nil

func newBzip2() resetter {
	w, err := bzip2.NewWriter(nil, nil)
	if err != nil {
		panic(err) // there are no options to be wrong
	}
	return bzip2Writer{w}
}

func zstdFrame() func(dst, raw []byte) []byte {
	get := sync.OnceValue(func() *zstd.Encoder {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // the options are constants
		}
		return w
	})
	return func(dst, raw []byte) []byte { return get().EncodeAll(raw, dst) }
}

// chunkBytes is the largest part that is compressed at once; Hadoop's readers
// have buffers of 256 KiB.
const chunkBytes = 64 << 10

// blocks makes Hadoop's block stream: length of the text, then pieces, each
// with its compressed length. All lengths are 32 bits, big-endian.
func blocks(compress func(dst, raw []byte) []byte) func(dst, raw []byte) []byte {
	return func(dst, raw []byte) []byte {
		for len(raw) > 0 {
			n := min(len(raw), chunkBytes)
			dst = binary.BigEndian.AppendUint32(dst, uint32(n))
			at := len(dst)
			dst = compress(append(dst, 0, 0, 0, 0), raw[:n])
			binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
			raw = raw[n:]
		}
		return dst
	}
}

var lz4Pool = sync.Pool{New: func() any { return new(lz4.Compressor) }}

func lz4Block(dst, raw []byte) []byte {
	c := lz4Pool.Get().(*lz4.Compressor)
	defer lz4Pool.Put(c)
	at := len(dst)
	dst = append(dst, make([]byte, lz4.CompressBlockBound(len(raw)))...)
	n, err := c.CompressBlock(raw, dst[at:])
	if err != nil || n == 0 {
		panic(fmt.Sprintf("filetype: lz4 of %d bytes: %d, %v", len(raw), n, err)) // the bound is always enough
	}
	return dst[:at+n]
}
