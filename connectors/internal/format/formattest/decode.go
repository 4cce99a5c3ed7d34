// Package formattest reads what package format writes, for tests.
package formattest

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/connectors/internal/avroschema"
	"github.com/millrace/millrace/core"
)

// File is a decoded Avro object container file.
type File struct {
	Meta   map[string]string
	Sync   []byte
	Events []core.Event
	Bodies []string // the records as they are
	Blocks int
}

// Decode reads an AVRO_EVENT file. It is strict: what an Avro reader would
// refuse is an error.
func Decode(data []byte) (File, error) {
	return decode(data, func(f *File, d *decoder) { f.Events = append(f.Events, d.event()) })
}

// DecodeBodies reads a file of AVRO, by the schema in it.
func DecodeBodies(data []byte) (File, error) {
	var schema *avroschema.Schema
	return decode(data, func(f *File, d *decoder) {
		if schema == nil {
			s, _, err := avroschema.Parse([]byte(f.Meta["avro.schema"]))
			if err != nil {
				panic(err)
			}
			schema = s
		}
		n, err := schema.Skip(d.b)
		if err != nil {
			panic(err)
		}
		f.Bodies = append(f.Bodies, string(d.take(int64(n))))
	})
}

func decode(data []byte, record func(*File, *decoder)) (f File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("avro file: %v", r)
		}
	}()
	d := &decoder{data}
	if string(d.take(4)) != "Obj\x01" {
		return f, fmt.Errorf("avro file: no magic")
	}
	f.Meta = map[string]string{}
	for n := d.long(); n != 0; n = d.long() {
		for range n {
			k := string(d.take(d.long()))
			f.Meta[k] = string(d.take(d.long()))
		}
	}
	f.Sync = d.take(16)
	for len(d.b) > 0 {
		n := d.long()
		block := &decoder{unpack(f.Meta["avro.codec"], d.take(d.long()))}
		for range n {
			record(&f, block)
		}
		if len(block.b) > 0 {
			return f, fmt.Errorf("avro file: %d bytes left in block %d", len(block.b), f.Blocks)
		}
		if !bytes.Equal(d.take(16), f.Sync) {
			return f, fmt.Errorf("avro file: no sync marker after block %d", f.Blocks)
		}
		f.Blocks++
	}
	return f, nil
}

func unpack(codec string, data []byte) []byte {
	var err error
	switch codec {
	case "bzip2":
		data, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(data)))
	case "deflate":
		data, err = io.ReadAll(flate.NewReader(bytes.NewReader(data)))
	case "snappy":
		sum := binary.BigEndian.Uint32(data[len(data)-4:])
		if data, err = snappy.Decode(nil, data[:len(data)-4]); err == nil && crc32.ChecksumIEEE(data) != sum {
			err = fmt.Errorf("checksum of a snappy block")
		}
	case "zstandard":
		var r *zstd.Decoder
		if r, err = zstd.NewReader(nil); err == nil {
			data, err = r.DecodeAll(data, nil)
			r.Close()
		}
	}
	if err != nil {
		panic(err)
	}
	return data
}

type decoder struct{ b []byte }

func (d *decoder) long() int64 {
	n, used := binary.Varint(d.b)
	if used <= 0 {
		panic("bad number")
	}
	d.b = d.b[used:]
	return n
}

func (d *decoder) take(n int64) []byte {
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) event() core.Event {
	var h []core.Header
	for n := d.long(); n != 0; n = d.long() {
		for range n {
			k := string(d.take(d.long()))
			h = append(h, core.Header{Key: k, Value: string(d.take(d.long()))})
		}
	}
	return core.Event{Headers: core.NewHeaders(h...), Body: d.take(d.long())}
}
