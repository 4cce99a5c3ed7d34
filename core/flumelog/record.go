package flumelog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/millrace/millrace/core"
)

const (
	opRecord byte = 0x7F
	opNoop   byte = 0x00
	opEnd    byte = 0x80

	framing = 5 // op and length
)

type kind uint32

const (
	put      kind = 1
	take     kind = 2
	rollback kind = 3
	commit   kind = 4
)

// pointer is where a put is: its file's number and its offset there.
type pointer struct{ file, offset uint32 }

// record is one record's place in the flow of transactions.
type record struct {
	kind        kind
	transaction int64
	order       int64
	taken       pointer // of a take
	puts        bool    // of a commit: its transaction put, else it took
	body        message // of a put: the rest of it
}

// message is the fields of one protobuf message.
type message []byte

var errRecord = errors.New("not a record of Flume's")

// The wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of a message: its number, and a value or bytes.
type field struct {
	number uint64
	wire   uint64
	value  uint64
	bytes  []byte
}

// next takes the first field off m.
func (m *message) next() (f field, err error) {
	tag, n := binary.Uvarint(*m)
	if n <= 0 {
		return f, errRecord
	}
	b := (*m)[n:]
	f.number, f.wire = tag>>3, tag&7
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, errRecord
		}
		b = b[n:]
	case wireFixed64:
		if len(b) < 8 {
			return f, errRecord
		}
		f.value, b = binary.LittleEndian.Uint64(b), b[8:]
	case wireFixed32:
		if len(b) < 4 {
			return f, errRecord
		}
		f.value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
	case wireBytes:
		if f.bytes, b, err = delimited(b); err != nil {
			return f, err
		}
	default:
		return f, errRecord
	}
	*m = b
	return f, nil
}

// delimited cuts a length and that many bytes off b.
func delimited(b []byte) (part, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errRecord
	}
	end := n + int(size)
	return b[n:end:end], b[end:], nil
}

// each gives m's fields to f.
func (m message) each(f func(field)) error {
	for len(m) > 0 {
		x, err := m.next()
		if err != nil {
			return err
		}
		f(x)
	}
	return nil
}

// parse takes a record's payload apart.
func parse(payload []byte) (r record, err error) {
	head, rest, err := delimited(payload)
	if err != nil {
		return r, err
	}
	seen := 0
	err = message(head).each(func(f field) {
		switch {
		case f.number == 1 && f.wire == wireFixed32:
			r.kind, seen = kind(f.value), seen|1
		case f.number == 2 && f.wire == wireFixed64:
			r.transaction, seen = int64(f.value), seen|2
		case f.number == 3 && f.wire == wireFixed64:
			r.order, seen = int64(f.value), seen|4
		}
	})
	if err != nil || seen != 7 {
		return r, errRecord
	}
	body, rest, err := delimited(rest)
	if err != nil {
		return r, err
	}
	if _, _, err = delimited(rest); err != nil { // the footer: a record without it is a torn one
		return r, err
	}
	r.body = body
	return r, r.parseBody()
}

func (r *record) parseBody() error {
	seen := 0
	err := r.body.each(func(f field) {
		switch {
		case r.kind == take && f.number == 1 && f.wire == wireFixed32:
			r.taken.file, seen = uint32(f.value), seen|1
		case r.kind == take && f.number == 2 && f.wire == wireFixed32:
			r.taken.offset, seen = uint32(f.value), seen|2
		case r.kind == commit && f.number == 1 && f.wire == wireFixed32:
			r.puts, seen = kind(f.value) == put, seen|3
		}
	})
	switch {
	case err != nil:
		return err
	case r.kind < put || r.kind > commit:
		return errRecord
	case (r.kind == take || r.kind == commit) && seen != 3:
		return errRecord
	}
	return nil
}

// event returns the event of a put; its body is memory of the record.
func (r *record) event() (e core.Event, err error) {
	var text []byte
	var sum uint64
	var summed bool
	err = r.body.each(func(f field) {
		switch {
		case f.number == 1 && f.wire == wireBytes:
			text = f.bytes
		case f.number == 2 && f.wire == wireFixed64:
			sum, summed = f.value, true
		}
	})
	if err != nil || r.kind != put || text == nil {
		return e, errRecord
	}
	var kv []core.Header
	var broken error
	err = message(text).each(func(f field) {
		switch {
		case f.number == 1 && f.wire == wireBytes:
			var h core.Header
			if e := message(f.bytes).each(func(f field) {
				switch {
				case f.number == 1 && f.wire == wireBytes:
					h.Key = string(f.bytes)
				case f.number == 2 && f.wire == wireBytes:
					h.Value = string(f.bytes)
				}
			}); e != nil {
				broken = e
			}
			kv = append(kv, h)
		case f.number == 2 && f.wire == wireBytes:
			e.Body = f.bytes
		}
	})
	if err = errors.Join(err, broken); err != nil {
		return e, err
	}
	if summed && uint64(crc32.ChecksumIEEE(e.Body)) != sum {
		return e, errors.New("the body's checksum is wrong")
	}
	e.Headers = core.NewHeaders(kv...)
	return e, nil
}
