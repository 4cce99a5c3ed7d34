package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs of a record batch, by their number in its attributes.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLz4
	codecZstd
)

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// codec compresses the records of a batch. It keeps its memory from one batch
// to the next, and is for one goroutine.
type codec struct {
	id   int
	gzip *gzip.Writer
	lz4  *lz4.Writer
	zstd *zstd.Encoder
	out  bytes.Buffer
}

// newCodec makes a codec; level 0 is its default.
func newCodec(id, level int) (*codec, error) {
	c := &codec{id: id}
	var err error
	switch id {
	case codecGzip:
		if level == 0 {
			level = gzip.DefaultCompression
		}
		c.gzip, err = gzip.NewWriterLevel(&c.out, level)
	case codecLz4:
		c.lz4 = lz4.NewWriter(&c.out)
		err = c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1))
	case codecZstd:
		if level == 0 {
			level = 3
		}
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
	}
	return c, err
}

func (c *codec) compress(dst, data []byte) []byte {
	c.out.Reset()
	// A bytes.Buffer never fails.
	switch c.id {
	case codecNone:
		return append(dst, data...)
	case codecGzip:
		c.gzip.Reset(&c.out)
		_, _ = c.gzip.Write(data)
		_ = c.gzip.Close()
	case codecSnappy:
		return appendXerial(dst, data)
	case codecLz4:
		c.lz4.Reset(&c.out)
		_, _ = c.lz4.Write(data)
		_ = c.lz4.Close()
	case codecZstd:
		return c.zstd.EncodeAll(data, dst)
	}
	return append(dst, c.out.Bytes()...)
}

// xerial is how Java's clients frame snappy: this, then blocks with their
// length before them.
const (
	xerialMagic = "\x82SNAPPY\x00"
	xerialHead  = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialBlock = 32 << 10
)

func appendXerial(dst, data []byte) []byte {
	dst = append(dst, xerialHead...)
	for len(data) > 0 {
		n := min(len(data), xerialBlock)
		at := len(dst)
		dst = append(dst, make([]byte, 4+s2.MaxEncodedLen(n))...)
		size := len(s2.EncodeSnappy(dst[at+4:], data[:n]))
		binary.BigEndian.PutUint32(dst[at:], uint32(size))
		dst, data = dst[:at+4+size], data[n:]
	}
	return dst
}

// maxUnpacked is the most that the records of one batch may become. A broker's
// limit is on the compressed batch, 1 MiB by default; a reader needs one of its own.
const maxUnpacked = 256 << 20

var errUnpacked = fmt.Errorf("records of a batch are more than %d bytes when decompressed", maxUnpacked)

// unpacker decompresses the records of batches. It is for one goroutine.
type unpacker struct {
	limit int64 // at most maxUnpacked
	gzip  *gzip.Reader
	lz4   *lz4.Reader
	zstd  *zstd.Decoder
}

func newUnpacker() *unpacker { return &unpacker{limit: maxUnpacked} }

// unpack returns the records in memory of their own.
func (u *unpacker) unpack(id int, data []byte) ([]byte, error) {
	switch id {
	case codecGzip:
		if u.gzip == nil {
			u.gzip = new(gzip.Reader)
		}
		if err := u.gzip.Reset(bytes.NewReader(data)); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return u.read("gzip", u.gzip, len(data))
	case codecSnappy:
		return u.snappy(data)
	case codecLz4:
		if u.lz4 == nil {
			u.lz4 = lz4.NewReader(nil)
		}
		u.lz4.Reset(bytes.NewReader(data))
		return u.read("lz4", u.lz4, len(data))
	case codecZstd:
		if u.zstd == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(u.limit)))
			if err != nil {
				return nil, err
			}
			u.zstd = d
		}
		out, err := u.zstd.DecodeAll(data, nil)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			err = errUnpacked
		}
		return out, err
	}
	return nil, fmt.Errorf("compression %d is not known", id)
}

func (u *unpacker) read(name string, r io.Reader, packed int) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(min(4*packed, 1<<20))
	n, err := io.Copy(&out, io.LimitReader(r, u.limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case n > u.limit:
		return nil, errUnpacked
	}
	return out.Bytes(), nil
}

// snappy takes both framings: Java's, and none, as other clients write it.
func (u *unpacker) snappy(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte(xerialMagic)) {
		return u.snappyBlock(nil, data)
	}
	if len(data) < len(xerialHead) {
		return nil, errShort
	}
	var out []byte
	for data = data[len(xerialHead):]; len(data) > 0; {
		if len(data) < 4 {
			return nil, errShort
		}
		n := binary.BigEndian.Uint32(data)
		if data = data[4:]; uint64(n) > uint64(len(data)) {
			return nil, errShort
		}
		var err error
		if out, err = u.snappyBlock(out, data[:n]); err != nil {
			return nil, err
		}
		data = data[n:]
	}
	return out, nil
}

func (u *unpacker) snappyBlock(out, data []byte) ([]byte, error) {
	n, err := s2.DecodedLen(data)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if int64(n)+int64(len(out)) > u.limit {
		return nil, errUnpacked
	}
	block, err := s2.Decode(nil, data)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if out == nil {
		return block, nil
	}
	return append(out, block...), nil
}

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
		u.zstd = nil
	}
}
