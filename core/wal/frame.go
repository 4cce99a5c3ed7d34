package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	magic           = "MILLRACE"
	version         = 1
	headerSize      = 64
	frameHead       = 48
	align           = 8
	maxPayload      = 1 << 30
	flagLast   byte = 1
)

type kind byte

const (
	kindPut  kind = 1
	kindAck  kind = 2
	kindHead kind = 3
	kindSeal kind = 4
)

var (
	table = crc32.MakeTable(crc32.Castagnoli)
	le    = binary.LittleEndian
)

// frame is one decoded frame header, with its payload.
type frame struct {
	kind    kind
	flags   byte
	count   uint32
	first   uint64
	promise int64
	time    int64
	salt    uint32
	payload []byte
}

func (f *frame) last() bool { return f.flags&flagLast != 0 }

var (
	errFrame   = errors.New("not a frame")
	errPayload = errors.New("frame with damaged payload")
	errShort   = errors.New("frame goes on beyond what was read")
)

func padded(n int64) int64 { return (n + align - 1) &^ (align - 1) }

// parseFrame decodes the frame at the start of b. salt 0 accepts any.
// size is its padded length, valid with nil, errPayload and errShort; after
// errFrame nothing is known. It allocates nothing; payload is memory of b.
func parseFrame(b []byte, salt uint32) (f frame, size int64, err error) {
	if len(b) < frameHead {
		return f, frameHead, errShort
	}
	f.salt = le.Uint32(b[40:])
	// Salt first: it is the cheap test while searching byte by byte.
	if salt != 0 && f.salt != salt || le.Uint32(b[44:]) != crc32.Checksum(b[:44], table) {
		return f, 0, errFrame
	}
	n := le.Uint32(b)
	f.kind, f.flags = kind(b[8]), b[9]
	f.count, f.first = le.Uint32(b[12:]), le.Uint64(b[16:])
	f.promise, f.time = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	if n > maxPayload || f.kind < kindPut || f.kind > kindSeal {
		return f, 0, errFrame
	}
	size = padded(frameHead + int64(n))
	if int64(len(b)) < size {
		return f, size, errShort
	}
	f.payload = b[frameHead : frameHead+int(n)]
	if crc32.Checksum(f.payload, table) != le.Uint32(b[4:]) {
		return f, size, errPayload
	}
	return f, size, nil
}

// startFrame reserves a frame's header at the end of b.
func startFrame(b []byte) []byte {
	var head [frameHead]byte
	return append(b, head[:]...)
}

// endFrame completes the frame that was started at b[at]; its payload is the rest of b.
func endFrame(b []byte, at int, f frame) []byte {
	n := len(b) - at - frameHead
	for len(b)%align != at%align {
		b = append(b, 0)
	}
	h := b[at : at+frameHead]
	le.PutUint32(h, uint32(n))
	le.PutUint32(h[4:], crc32.Checksum(b[at+frameHead:at+frameHead+n], table))
	h[8], h[9] = byte(f.kind), f.flags
	le.PutUint32(h[12:], f.count)
	le.PutUint64(h[16:], f.first)
	le.PutUint64(h[24:], uint64(f.promise))
	le.PutUint64(h[32:], uint64(f.time))
	le.PutUint32(h[40:], f.salt)
	le.PutUint32(h[44:], crc32.Checksum(h[:44], table))
	return b
}

// header is a segment's first 64 bytes.
type header struct {
	salt          uint32
	number, first uint64
	time          int64
}

// ErrVersion says that a segment was written by a newer program.
var ErrVersion = errors.New("written by a newer version of millrace")

func (h header) append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, headerSize)...)
	p := b[at:]
	copy(p, magic)
	le.PutUint32(p[8:], version)
	le.PutUint32(p[12:], h.salt)
	le.PutUint64(p[16:], h.number)
	le.PutUint64(p[24:], h.first)
	le.PutUint64(p[32:], uint64(h.time))
	le.PutUint32(p[60:], crc32.Checksum(p[:60], table))
	return b
}

func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return h, errFrame
	}
	if le.Uint32(b[60:]) != crc32.Checksum(b[:60], table) {
		return h, errFrame
	}
	if v := le.Uint32(b[8:]); v != version {
		return h, fmt.Errorf("format %d: %w", v, ErrVersion)
	}
	h.salt, h.number, h.first, h.time = le.Uint32(b[12:]), le.Uint64(b[16:]), le.Uint64(b[24:]), int64(le.Uint64(b[32:]))
	return h, nil
}
