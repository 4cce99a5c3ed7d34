package thrift

import (
	"encoding/binary"

	"github.com/millrace/millrace/core"
)

// encoder appends messages of one protocol. What it appends are whole frames.
type encoder struct{ compact bool }

func (e encoder) i32(dst []byte, n int32) []byte {
	if e.compact {
		return binary.AppendUvarint(dst, uint64(uint32(n<<1)^uint32(n>>31)))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func (e encoder) count(dst []byte, n int) []byte {
	if e.compact {
		return binary.AppendUvarint(dst, uint64(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendText[T string | []byte](e encoder, dst []byte, s T) []byte {
	return append(e.count(dst, len(s)), s...)
}

// message appends room for the length and the head of a message.
func (e encoder) message(dst []byte, kind byte, name string, seq int32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	if e.compact {
		dst = binary.AppendUvarint(append(dst, 0x82, kind<<5|1), uint64(uint32(seq)))
		return appendText(e, dst, name)
	}
	dst = append(dst, 0x80, 1, 0, kind)
	return binary.BigEndian.AppendUint32(appendText(e, dst, name), uint32(seq))
}

// ordered appends the field that asks for order, or grants it.
func (e encoder) ordered(dst []byte) []byte {
	if e.compact {
		return append(dst, 1, 0xd0, 0x0f) // true; the field's number, zigzag
	}
	return append(dst, typeBool, orderedField>>8, orderedField&0xff, 1)
}

// batch appends a request appendBatch. Of a run with equal headers the second
// and later ones copy the first one's bytes.
func (e encoder) batch(dst []byte, seq int32, events []core.Event, ordered bool) []byte {
	dst = e.message(dst, kindCall, methodBatch, seq)
	switch n := len(events); {
	case !e.compact:
		dst = e.count(append(dst, typeList, 0, 1, typeStruct), n)
	case n < 15:
		dst = append(dst, 0x19, byte(n)<<4|0xc)
	default:
		dst = e.count(append(dst, 0x19, 0xfc), n)
	}
	from, to := 0, 0 // where the headers of the event before lie in dst
	for i := range events {
		x := &events[i]
		if i > 0 && x.Headers == events[i-1].Headers {
			dst = append(dst, dst[from:to]...)
			to, from = len(dst), len(dst)-(to-from)
		} else {
			from = len(dst)
			dst = e.headers(dst, x.Headers)
			to = len(dst)
		}
		if e.compact {
			dst = append(dst, 0x18)
		} else {
			dst = append(dst, typeString, 0, 2)
		}
		dst = append(appendText(e, dst, x.Body), 0)
	}
	if ordered {
		dst = e.ordered(dst)
	}
	return putLength(append(dst, 0))
}

// headers appends the first field of an event.
func (e encoder) headers(dst []byte, h core.Headers) []byte {
	n := h.Len()
	switch {
	case !e.compact:
		dst = e.count(append(dst, typeMap, 0, 1, typeString, typeString), n)
	case n == 0:
		return append(dst, 0x1b, 0)
	default:
		dst = append(e.count(append(dst, 0x1b), n), 0x88)
	}
	for k, v := range h.All() {
		dst = appendText(e, appendText(e, dst, valid(k)), valid(v))
	}
	return dst
}

// status appends an answer.
func (e encoder) status(dst []byte, name string, seq int32, s status, ordered bool) []byte {
	dst = e.message(dst, kindReply, name, seq)
	if e.compact {
		dst = append(dst, 5, 0)
	} else {
		dst = append(dst, typeI32, 0, 0)
	}
	dst = e.i32(dst, int32(s))
	if ordered {
		dst = e.ordered(dst)
	}
	return putLength(append(dst, 0))
}

// exception appends an answer that is an error.
func (e encoder) exception(dst []byte, name string, seq int32, x *exception) []byte {
	dst = e.message(dst, kindException, name, seq)
	if e.compact {
		dst = appendText(e, append(dst, 0x18), x.text)
		dst = append(dst, 0x15)
	} else {
		dst = appendText(e, append(dst, typeString, 0, 1), x.text)
		dst = append(dst, typeI32, 0, 2)
	}
	return putLength(append(e.i32(dst, x.kind), 0))
}
