package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/millrace/millrace/core"
)

// appendFrame appends a frame of those pieces.
func appendFrame(dst []byte, serial uint32, pieces ...[]byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, serial)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(pieces)))
	for _, p := range pieces {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p)))
		dst = append(dst, p...)
	}
	return dst
}

// headBytes is the length of a frame's head with the length of its only piece.
const headBytes = 12

// putHead fills in the head of a frame of one piece that was encoded behind room for it.
func putHead(frame []byte, serial uint32) {
	binary.BigEndian.PutUint32(frame, serial)
	binary.BigEndian.PutUint32(frame[4:], 1)
	binary.BigEndian.PutUint32(frame[8:], uint32(len(frame)-headBytes))
}

// maxPieces is the most pieces of a frame. Java cuts at 8192 bytes, so that it
// is far above what a frame of the largest size has.
const maxPieces = 1 << 18

// ErrBusy is a frame that was read over because there is no memory for it now.
var ErrBusy = errors.New("no memory for a request now")

// Reader reads frames. The pieces of one come to lie one behind the other in a
// block, which several small frames share; that is the one time that they are
// copied. It is used by one goroutine.
//
// What is allocated follows the bytes that have come, never a length that was
// only announced.
type Reader struct {
	Max int // longest frame, without its lengths
	// Grant is asked before a frame takes so many more bytes, if it is not nil.
	// If it denies them the rest of the frame is read over.
	Grant func(more int) bool

	src  io.Reader
	br   *bufio.Reader // only while it may hold something: idle connections are cheap
	blk  *core.Block
	used int // of blk, by earlier frames
	size int // of the frame before
	n    int // pieces of the frame that Head has read
}

// NewReader reads frames of up to max bytes from src.
func NewReader(src io.Reader, max int) *Reader { return &Reader{src: src, Max: max} }

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// Head waits for the next frame and reads its head. io.EOF: there is none, and
// the stream ends in order.
func (r *Reader) Head() (serial uint32, err error) {
	if r.blk != nil && (len(r.blk.Buf) > shared || len(r.blk.Buf)-r.used < shared/64) {
		r.blk.Release()
		r.blk = nil
	}
	var head [8]byte
	from := r.src
	if r.br != nil {
		from = r.br
	}
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n == 0 || n > maxPieces {
		return 0, fmt.Errorf("%w: a frame of %d pieces", ErrMalformed, n)
	}
	r.n = int(n)
	return binary.BigEndian.Uint32(head[:]), nil
}

// More reports whether bytes of a further frame have been read already.
func (r *Reader) More() bool { return r.br != nil }

// Block is where the frame of the last Body lies. Who keeps part of the frame holds it.
func (r *Reader) Block() *core.Block { return r.blk }

// Release gives back what the reader holds; it is not used after that.
func (r *Reader) Release() {
	if r.blk != nil {
		r.blk.Release()
		r.blk = nil
	}
	r.rest()
}

// rest gives the buffer back.
func (r *Reader) rest() {
	if r.br != nil {
		r.br.Reset(nil)
		buffers.Put(r.br)
		r.br = nil
	}
}

// Body reads the frame whose head was read. It is valid as long as its block is
// held. With ErrBusy frame is what was read before memory ran out, and the next
// frame can be read.
func (r *Reader) Body() (frame []byte, err error) {
	if r.br == nil {
		r.br = buffers.Get().(*bufio.Reader)
		r.br.Reset(r.src)
	}
	total, got, busy := 0, 0, false // got: kept
	for i := range r.n {
		var length [4]byte
		if _, err := io.ReadFull(r.br, length[:]); err != nil {
			return nil, cut(err)
		}
		size := binary.BigEndian.Uint32(length[:])
		if int64(size) > int64(r.Max-total) {
			return nil, fmt.Errorf("%w: a frame of more than %d bytes", ErrMalformed, r.Max)
		}
		total += int(size)
		for left := int(size); left > 0; {
			step := min(left, max(minStep, got))
			if !busy && r.Grant != nil && !r.Grant(step) {
				busy = true
			}
			if busy {
				if _, err := r.br.Discard(left); err != nil {
					return nil, cut(err)
				}
				break
			}
			r.room(got, step, left+8192*(r.n-i-1))
			at := r.used + got
			if _, err := io.ReadFull(r.br, r.blk.Buf[at:at+step]); err != nil {
				return nil, cut(err)
			}
			got, left = got+step, left-step
		}
	}
	r.size = got
	if r.blk != nil {
		frame = r.blk.Buf[r.used : r.used+got : r.used+got]
	}
	r.used += got
	if r.br.Buffered() == 0 {
		r.rest()
	}
	if busy {
		return frame, ErrBusy
	}
	return frame, nil
}

// shared is the largest block that is kept while waiting for a frame, to put it there too.
const shared = 16 << 10

// minStep is how much memory an announced length alone gets.
const minStep = 64 << 10

// cut makes the end of the stream within a frame no end in order.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// room makes the block hold step more bytes of the frame, of which got are
// there. announced is what the frame says will come.
func (r *Reader) room(got, step, announced int) {
	if r.blk != nil && len(r.blk.Buf)-r.used-got >= step {
		return
	}
	// Frames of one client resemble each other: one as large as the last gets its memory at once.
	size := max(got+step, 2*got, min(got+announced, r.size+r.size/8))
	blk := core.NewBlock(size)
	if r.blk != nil {
		copy(blk.Buf, r.blk.Buf[r.used:r.used+got])
		r.blk.Release()
	}
	r.blk, r.used = blk, 0
}
