package format

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/millrace/millrace/core"
)

// Schema is the schema of AVRO_EVENT, to the letter what Flume stores in its files.
const Schema = `{"type":"record","name":"Event","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}`

// container writes an object container file, whatever is in its records.
type container struct {
	limit int // of a block
	codec string
	mark  [16]byte

	block  []byte // records that are not yet in the file
	events int64
	coder  coder // made with the first block that needs it
}

func newContainer(limit int, codec string) container {
	c := container{limit: limit, codec: codec}
	rand.Read(c.mark[:])
	return c
}

func (c *container) begin(dst []byte, schema string) []byte {
	dst = append(dst, "Obj\x01"...)
	if !known(c.codec) { // then Flume names no codec, and readers take that for null
		dst = str(str(long(dst, 1), "avro.schema"), schema)
	} else {
		dst = str(str(long(dst, 2), "avro.schema"), schema)
		dst = str(str(dst, "avro.codec"), c.codec)
	}
	dst = long(dst, 0)
	return append(dst, c.mark[:]...)
}

// append is Serializer.Append; record appends one event to the block.
func (c *container) append(dst []byte, events []core.Event, limit int64, record func(block []byte, e *core.Event) []byte) ([]byte, int) {
	begin := len(dst) + len(c.block)
	for i := range events {
		c.block = record(c.block, &events[i])
		c.events++
		if len(c.block) >= c.limit {
			dst = c.Flush(dst)
		}
		if limit > 0 && int64(len(dst)+len(c.block)-begin) >= limit {
			return dst, i + 1
		}
	}
	return dst, len(events)
}

func (c *container) Flush(dst []byte) []byte {
	if c.events == 0 {
		return dst
	}
	dst = long(dst, c.events)
	if c.coder == nil {
		c.coder = newCoder(c.codec)
	}
	dst = c.coder(dst, c.block)
	c.block, c.events = c.block[:0], 0
	return append(dst, c.mark[:]...)
}

// state is the marker and the codec, which resume takes again.
func (c *container) state() string { return hex.EncodeToString(c.mark[:]) + " " + c.codec }

func (c *container) resume(state string) bool {
	mark, codec, _ := strings.Cut(state, " ")
	raw, err := hex.DecodeString(mark)
	if codec != c.codec || err != nil || len(raw) != len(c.mark) {
		return false
	}
	copy(c.mark[:], raw)
	return true
}

// avro is AVRO_EVENT.
type avro struct {
	container
	last core.Headers // whose encoding is in head
	head []byte
}

func newAvro(limit int, codec string) *avro { return &avro{container: newContainer(limit, codec)} }

func (a *avro) Begin(dst []byte) []byte { return a.begin(dst, Schema) }

func (a *avro) Append(dst []byte, events []core.Event, limit int64) ([]byte, int) {
	return a.append(dst, events, limit, a.record)
}

func (a *avro) record(dst []byte, e *core.Event) []byte {
	dst = a.headers(dst, e.Headers)
	dst = long(dst, int64(len(e.Body)))
	return append(dst, e.Body...)
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

func (a *avro) State() string { return names[avroEvent][0] + " " + a.state() }

func (a *avro) Resume(state string) bool {
	rest, ok := strings.CutPrefix(state, names[avroEvent][0]+" ")
	return ok && a.resume(rest)
}

// datum is AVRO: the body of each event is a record as it is.
type datum struct {
	container
	schema *BodySchema // nil: the serializer only goes on with a file
	id     string      // of the file's schema
}

func newDatum(limit int, codec string, schema *BodySchema) *datum {
	d := &datum{container: newContainer(limit, codec), schema: schema}
	if schema != nil {
		d.id = schema.ID
	}
	return d
}

func (d *datum) Begin(dst []byte) []byte { return d.begin(dst, d.schema.text) }

func (d *datum) Append(dst []byte, events []core.Event, limit int64) ([]byte, int) {
	return d.append(dst, events, limit, func(block []byte, e *core.Event) []byte { return append(block, e.Body...) })
}

func (d *datum) State() string { return names[avroBody][0] + " " + d.id + " " + d.state() }

func (d *datum) Resume(state string) bool {
	rest, ok := strings.CutPrefix(state, names[avroBody][0]+" ")
	id, rest, _ := strings.Cut(rest, " ")
	if !ok || id == "" || d.schema != nil && id != d.id || !d.resume(rest) {
		return false
	}
	d.id = id
	return true
}

// long appends n as Avro does: zigzag, then seven bits a byte, low ones first.
func long(dst []byte, n int64) []byte { return binary.AppendVarint(dst, n) }

func str(dst []byte, s string) []byte {
	return append(long(dst, int64(len(s))), s...)
}
