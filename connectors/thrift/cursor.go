package thrift

import (
	"encoding/binary"
	"fmt"
)

// Types of values, by their numbers in the binary protocol.
const (
	typeStop   = 0
	typeNone   = 1 // no type of Thrift's
	typeBool   = 2
	typeByte   = 3
	typeDouble = 4
	typeI16    = 6
	typeI32    = 8
	typeI64    = 10
	typeString = 11
	typeStruct = 12
	typeMap    = 13
	typeSet    = 14
	typeList   = 15
	typeUUID   = 16
)

// compactTypes are the types by their numbers in the compact protocol, where a
// bool that is a field has its value in the number: 1 true, 2 false.
var compactTypes = [16]byte{
	typeStop, typeBool, typeBool, typeByte, typeI16, typeI32, typeI64, typeDouble, typeString, typeList, typeSet, typeMap, typeStruct,
	typeUUID, typeNone, typeNone,
}

// maxDepth is how deep values may lie in one another, as in Java.
const maxDepth = 64

// cursor reads a message. After its first error it reads nothing more: err says
// what was wrong. No length or count is believed that the rest of the frame has
// no bytes for.
type cursor struct {
	compact bool
	in      []byte // what is left
	err     error
	truth   bool // of the bool field in the compact protocol whose head was read
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = malformed(what)
	}
	c.in = nil
}

// next returns the next n bytes, nil if there are not so many.
func (c *cursor) next(n int) []byte {
	if n > len(c.in) {
		c.fail("a value reaches beyond the frame")
		return nil
	}
	b := c.in[:n:n]
	c.in = c.in[n:]
	return b
}

func (c *cursor) byte() byte {
	if len(c.in) == 0 {
		c.fail("a value reaches beyond the frame")
		return 0
	}
	b := c.in[0]
	c.in = c.in[1:]
	return b
}

func (c *cursor) varint() uint64 {
	n, size := binary.Uvarint(c.in)
	if size <= 0 {
		c.fail("a number has no end")
		return 0
	}
	c.in = c.in[size:]
	return n
}

func zigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }

func (c *cursor) fixed16() int16 {
	if b := c.next(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) fixed32() int32 {
	if b := c.next(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) i32() int32 {
	if c.compact {
		return int32(zigzag(c.varint()))
	}
	return c.fixed32()
}

// count reads a length or a count of things that have least bytes each.
func (c *cursor) count(least int) int {
	var n int64
	if c.compact {
		n = int64(c.varint())
	} else {
		n = int64(c.fixed32())
	}
	if n < 0 || n > int64(len(c.in)/least) {
		c.fail("a length or a count reaches beyond the frame")
		return 0
	}
	return int(n)
}

// blob reads a string or binary; it stays where it is.
func (c *cursor) blob() []byte { return c.next(c.count(1)) }

// Kinds of messages.
const (
	kindCall      = 1
	kindReply     = 2
	kindException = 3
)

// message reads the head of a message.
func (c *cursor) message() (kind byte, name []byte, seq int32) {
	if len(c.in) == 0 {
		c.fail("an empty message")
		return kind, name, seq
	}
	if c.compact {
		if b := c.byte(); b != 0x82 {
			c.fail(c.foreign(b, 0x80))
			return kind, name, seq
		}
		b := c.byte()
		if b&0x1f != 1 && c.err == nil {
			c.fail(fmt.Sprintf("version %d of the compact protocol", b&0x1f))
		}
		seq = int32(c.varint())
		return b >> 5, c.blob(), seq
	}
	if c.in[0] == 0x82 {
		c.fail(c.foreign(0x82, 0x82))
		return kind, name, seq
	}
	w := c.fixed32()
	if w >= 0 { // the old form, which Java takes as well
		if int(w) > len(c.in) {
			c.fail("no message of the binary protocol")
			return kind, name, seq
		}
		name = c.next(int(w))
		return c.byte(), name, c.fixed32()
	}
	if uint32(w)&0xffff0000 != 0x80010000 {
		c.fail("no message of the binary protocol")
		return kind, name, seq
	}
	name = c.blob()
	return byte(w), name, c.fixed32()
}

// foreign says what a message is that begins with b.
func (c *cursor) foreign(b, other byte) string {
	mine, its := "binary", "compact"
	if c.compact {
		mine, its = its, mine
	}
	if b == other {
		return "a message of the " + its + " protocol; protocol is " + mine + " here"
	}
	return "no message of the " + mine + " protocol"
}

// typeOf is the type with that number in the compact protocol.
func (c *cursor) typeOf(number byte) byte {
	typ := compactTypes[number]
	if typ == typeNone {
		c.fail(fmt.Sprintf("a value of type %d", number))
	}
	return typ
}

// field reads the head of a field of a struct; the type is typeStop at its end.
// last is the field before, 0 for the first one.
func (c *cursor) field(last int16) (typ byte, id int16) {
	b := c.byte()
	if b == 0 {
		return typeStop, 0
	}
	if !c.compact {
		return b, c.fixed16()
	}
	typ, c.truth = c.typeOf(b&15), b&15 == 1
	if delta := b >> 4; delta != 0 {
		return typ, last + int16(delta)
	}
	return typ, int16(zigzag(c.varint()))
}

// flag reads the value of a field that is a bool.
func (c *cursor) flag() bool {
	if c.compact {
		return c.truth
	}
	return c.byte() != 0
}

// list reads the head of a list or a set.
func (c *cursor) list() (elem byte, n int) {
	b := c.byte()
	if !c.compact {
		return b, c.count(1)
	}
	elem = c.typeOf(b & 15)
	if n = int(b >> 4); n == 15 {
		n = c.count(1)
	} else if n > len(c.in) {
		c.fail("a length or a count reaches beyond the frame")
	}
	return elem, n
}

// mapping reads the head of a map. An empty one may have any types.
func (c *cursor) mapping() (key, value byte, n int) {
	if c.compact {
		if n = c.count(2); n == 0 {
			return typeString, typeString, 0
		}
		b := c.byte()
		return c.typeOf(b >> 4), c.typeOf(b & 15), n
	}
	key, value = c.byte(), c.byte()
	return key, value, c.count(2)
}

// skip reads over the value of a field.
func (c *cursor) skip(typ byte) {
	if typ == typeBool && c.compact {
		return
	}
	c.pass(typ, maxDepth)
}

func (c *cursor) pass(typ byte, depth int) {
	if depth == 0 {
		c.fail(fmt.Sprintf("values lie in one another deeper than %d", maxDepth))
		return
	}
	switch typ {
	case typeBool, typeByte:
		c.next(1)
	case typeI16, typeI32, typeI64:
		if c.compact {
			c.varint()
		} else {
			c.next([...]int{typeI16: 2, typeI32: 4, typeI64: 8}[typ])
		}
	case typeDouble:
		c.next(8)
	case typeUUID:
		c.next(16)
	case typeString:
		c.blob()
	case typeStruct:
		for last := int16(0); c.err == nil; {
			typ, id := c.field(last)
			if typ == typeStop {
				return
			}
			if last = id; typ != typeBool || !c.compact {
				c.pass(typ, depth-1)
			}
		}
	case typeList, typeSet:
		elem, n := c.list()
		for ; n > 0 && c.err == nil; n-- {
			c.pass(elem, depth-1)
		}
	case typeMap:
		key, value, n := c.mapping()
		for ; n > 0 && c.err == nil; n-- {
			c.pass(key, depth-1)
			c.pass(value, depth-1)
		}
	default:
		c.fail(fmt.Sprintf("a value of type %d", typ))
	}
}
