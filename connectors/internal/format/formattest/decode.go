// Package formattest reads what package format writes, for tests.
package formattest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/core"
)

// File is a decoded AVRO_EVENT file.
type File struct {
	Meta   map[string]string
	Sync   []byte
	Events []core.Event
	Blocks int
}

// Decode reads an AVRO_EVENT file. It is strict: what an Avro reader would
// refuse is an error.
func Decode(data []byte) (f File, err error) {
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
			f.Events = append(f.Events, block.event())
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
