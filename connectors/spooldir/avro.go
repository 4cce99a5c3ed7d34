package spooldir

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/connectors/internal/avroschema"
	"github.com/millrace/millrace/connectors/internal/lines"
	"github.com/millrace/millrace/core"
)

// container reads an Avro object container file, block by block.
//
//	file:  "Obj" 1, metadata (a map of bytes), sync marker, blocks
//	block: count of records, size, the records, compressed as the codec says, sync marker
type container struct {
	r     *bufio.Reader
	count counted // below r
	limit int64   // bytes of a block, before and after decompression

	meta map[string]string
	sync [16]byte
	raw  []byte // a block as it is in the file
	zstd *zstd.Decoder
}

// counted counts what is read through it.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var errNotAvro = errors.New("not an Avro object container file")

// openContainer reads the beginning of a file.
func openContainer(r io.Reader, limit int64) (*container, error) {
	c := &container{limit: limit, meta: make(map[string]string)}
	c.count.r = r
	c.r = bufio.NewReaderSize(&c.count, 32<<10)
	var magic [4]byte
	if _, err := io.ReadFull(c.r, magic[:]); err != nil {
		return nil, c.short(err)
	}
	if string(magic[:]) != "Obj\x01" {
		return nil, errNotAvro
	}
	left := int64(avroschema.MaxText)
	for {
		n, err := binary.ReadVarint(c.r)
		if err != nil {
			return nil, c.short(err)
		}
		if n == 0 {
			break
		}
		if n < 0 {
			if _, err = binary.ReadVarint(c.r); err != nil { // the size of what follows
				return nil, c.short(err)
			}
			n = -n
		}
		for ; n != 0; n-- {
			key, err := c.text(&left)
			if err != nil {
				return nil, err
			}
			if c.meta[key], err = c.text(&left); err != nil {
				return nil, err
			}
		}
	}
	_, err := io.ReadFull(c.r, c.sync[:])
	return c, c.short(err)
}

// text reads a string or bytes of the metadata, which have left bytes in all.
func (c *container) text(left *int64) (string, error) {
	n, err := binary.ReadVarint(c.r)
	if err != nil {
		return "", c.short(err)
	}
	if *left -= n + 1; n < 0 || *left < 0 {
		return "", fmt.Errorf("metadata before byte %d are longer than %d bytes", c.at(), avroschema.MaxText)
	}
	text := make([]byte, n)
	_, err = io.ReadFull(c.r, text)
	return string(text), c.short(err)
}

// at is where the next byte lies.
func (c *container) at() int64 { return c.count.n - int64(c.r.Buffered()) }

// short says where a file ends that has no right to.
func (c *container) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("file ends at byte %d, within a block: %w", c.at(), io.ErrUnexpectedEOF)
	}
	return err
}

// next begins the next block; io.EOF: there is none.
func (c *container) next() (records, size int64, err error) {
	at := c.at()
	if _, err := c.r.Peek(1); err != nil {
		return 0, 0, err
	}
	if records, err = binary.ReadVarint(c.r); err == nil {
		size, err = binary.ReadVarint(c.r)
	}
	switch {
	case err != nil:
		return 0, 0, c.short(err)
	case records < 0 || size < 0:
		return 0, 0, fmt.Errorf("block at byte %d is damaged", at)
	case size > c.limit:
		return 0, 0, fmt.Errorf("block at byte %d has %d bytes: more than deserializer.maxBlockBytes", at, size)
	}
	return records, size, nil
}

// pass leaves a block out.
func (c *container) pass(size int64) error {
	for size > 0 { // Discard takes an int
		n, err := c.r.Discard(int(min(size, 1<<20)))
		if size -= int64(n); err != nil {
			return c.short(err)
		}
	}
	return c.end()
}

// end reads the marker behind a block.
func (c *container) end() error {
	var sync [16]byte
	if _, err := io.ReadFull(c.r, sync[:]); err != nil {
		return c.short(err)
	}
	if sync != c.sync {
		return fmt.Errorf("no sync marker before byte %d: a block is damaged", c.at())
	}
	return nil
}

// block reads a block whose beginning next has read. The memory has one reference.
func (c *container) block(size int64) (*core.Block, []byte, error) {
	at := c.at()
	codec := c.meta["avro.codec"]
	if codec == "" || codec == "null" {
		blk, data, err := slurp(io.LimitReader(c.r, size), size, size)
		if err == nil && int64(len(data)) < size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = c.end()
		}
		if err != nil {
			blk.Release()
			return nil, nil, c.short(err)
		}
		return blk, data, nil
	}
	// What a damaged size promises need not be there: memory comes with the data.
	raw := bytes.NewBuffer(c.raw[:0])
	n, err := io.CopyN(raw, c.r, size)
	c.raw = raw.Bytes()
	if err == nil && n == size {
		err = c.end()
	}
	if err != nil {
		return nil, nil, c.short(err)
	}
	blk, data, err := c.unpack(codec, c.raw)
	if err != nil {
		return nil, nil, fmt.Errorf("block at byte %d: %w", at, err)
	}
	return blk, data, nil
}

// unpack decompresses.
func (c *container) unpack(codec string, raw []byte) (*core.Block, []byte, error) {
	guess := min(4*int64(len(raw)), c.limit)
	switch codec {
	case "deflate":
		return c.slurped(slurp(flate.NewReader(bytes.NewReader(raw)), guess, c.limit+1))
	case "bzip2":
		return c.slurped(slurp(bzip2.NewReader(bytes.NewReader(raw)), guess, c.limit+1))
	case "zstandard":
		if c.zstd == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(c.limit, 1<<20))))
			if err != nil {
				return nil, nil, err
			}
			c.zstd = d
		}
		if err := c.zstd.Reset(bytes.NewReader(raw)); err != nil {
			return nil, nil, err
		}
		return c.slurped(slurp(c.zstd, guess, c.limit+1))
	case "snappy":
		if len(raw) < 4 {
			return nil, nil, io.ErrUnexpectedEOF
		}
		packed, sum := raw[:len(raw)-4], binary.BigEndian.Uint32(raw[len(raw)-4:])
		n, err := snappy.DecodedLen(packed)
		if err != nil {
			return nil, nil, err
		}
		if int64(n) > c.limit {
			return nil, nil, errBlock
		}
		blk := core.NewBlock(n)
		data, err := snappy.Decode(blk.Buf, packed)
		if err == nil && crc32.ChecksumIEEE(data) != sum {
			err = errors.New("wrong checksum")
		}
		if err != nil {
			blk.Release()
			return nil, nil, err
		}
		return blk, data, nil
	}
	return nil, nil, fmt.Errorf("codec %q is not supported: null, deflate, snappy, zstandard and bzip2 are", clip([]byte(codec)))
}

var errBlock = errors.New("it is longer than deserializer.maxBlockBytes when decompressed")

// slurped refuses what is longer than a block may be.
func (c *container) slurped(blk *core.Block, data []byte, err error) (*core.Block, []byte, error) {
	if err == nil && int64(len(data)) > c.limit {
		err = errBlock
	}
	if err != nil {
		blk.Release()
		return nil, nil, err
	}
	return blk, data, nil
}

// slurp reads up to limit bytes into a block of its own, which the caller
// releases. guess is how many there will be, about.
func slurp(r io.Reader, guess, limit int64) (*core.Block, []byte, error) {
	const most = 1 << 20 // memory that is taken on trust
	blk := core.NewBlock(int(min(guess+1, most)))
	n := 0
	for {
		if n == len(blk.Buf) {
			if int64(n) >= limit {
				return blk, blk.Buf[:n:n], nil
			}
			larger := core.NewBlock(2 * n)
			copy(larger.Buf, blk.Buf)
			blk.Release()
			blk = larger
		}
		k, err := r.Read(blk.Buf[n:min(int64(len(blk.Buf)), max(limit, int64(n)))])
		n += k
		if errors.Is(err, io.EOF) || int64(n) >= limit {
			return blk, blk.Buf[:n:n], nil
		}
		if err != nil {
			return blk, nil, err
		}
	}
}

func (c *container) close() {
	if c.zstd != nil {
		c.zstd.Close()
	}
}

// avroReader is the deserializer AVRO: each record of an object container file
// is an event, as it stands there. Its positions count records.
type avroReader struct {
	in     *input
	c      *container
	schema *avroschema.Schema
	head   core.Headers

	blk  *core.Block
	data []byte // of blk, not cut yet
	left int64  // records in data
	at   int64  // records before data
	from int64  // where the block of data begins, or the next one
}

// newAvroReader makes one that begins behind so many records, and not before
// the first sync marker at or behind mark, which is how Flume tells a place.
func newAvroReader(s *source, in *input, head core.Headers, done, mark int64) (*avroReader, error) {
	c, err := openContainer(in, s.maxBlock)
	if err != nil {
		return nil, err
	}
	r := &avroReader{in: in, c: c}
	var literal string
	if r.schema, literal, err = avroschema.Parse([]byte(c.meta["avro.schema"])); err != nil {
		return nil, err
	}
	if s.schemaType == literalSchema {
		r.head = head.With("flume.avro.schema.literal", literal)
	} else {
		r.head = head.With("flume.avro.schema.hash", r.schema.Fingerprint())
	}
	for r.from = c.at(); r.at < done || r.mark() < mark; {
		records, size, err := c.next()
		switch {
		case errors.Is(err, io.EOF):
			return r, nil // fill finds the end again
		case err == nil && (records <= done-r.at || r.mark() < mark):
			r.at += records
			err = c.pass(size)
			r.from = c.at()
		case err == nil:
			if err = r.load(records, size); err == nil {
				err = r.leave(done)
			}
		}
		if err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// mark implements deserializer: the sync marker before the block that is not done.
func (r *avroReader) mark() int64 { return max(0, r.from-int64(len(r.c.sync))) }

// leave steps over records that are done.
func (r *avroReader) leave(done int64) error {
	for r.at < done {
		if _, err := r.record(); err != nil {
			return err
		}
	}
	return nil
}

// manyEmpty is how many records without bytes one block may have: nothing else
// limits their number.
const manyEmpty = 1 << 20

// load reads a block.
func (r *avroReader) load(records, size int64) error {
	r.unload()
	if records == 0 {
		err := r.c.pass(size)
		r.from = r.c.at()
		return err
	}
	at := r.c.at()
	var err error
	if r.blk, r.data, err = r.c.block(size); err != nil {
		return err
	}
	most := int64(len(r.data))
	if r.schema.Nothing() {
		most = manyEmpty
	}
	if records > most {
		return fmt.Errorf("block at byte %d can not have %d records", at, records)
	}
	r.left = records
	return nil
}

func (r *avroReader) unload() {
	if r.blk != nil {
		r.blk.Release()
		r.blk, r.data = nil, nil
	}
}

// record cuts the next record off. Those of a block fill it.
func (r *avroReader) record() ([]byte, error) {
	n, err := r.schema.Skip(r.data)
	if err == nil && r.left == 1 && n < len(r.data) {
		err = errors.New("the block has bytes behind it")
	}
	if err != nil {
		return nil, fmt.Errorf("record %d, in the block before byte %d: %w", r.at+1, r.c.at(), err)
	}
	body := r.data[:n:n]
	r.data, r.left, r.at = r.data[n:], r.left-1, r.at+1
	if r.left == 0 {
		r.from = r.c.at()
	}
	return body, nil
}

func (r *avroReader) fill(c *collector) error {
	for !c.full {
		if r.left == 0 {
			records, size, err := r.c.next()
			if err == nil {
				err = r.load(records, size)
			}
			if err != nil {
				return err
			}
			continue
		}
		body, err := r.record()
		if err != nil {
			return err
		}
		c.add(r.blk, r.head, body, r.at)
	}
	return nil
}

func (r *avroReader) rest(*collector) error { return nil }

func (r *avroReader) positions() lines.Positions { return lines.At(r.at) }

func (r *avroReader) close() {
	r.unload()
	r.c.close()
}
