package thrift

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/millrace/millrace/core"
)

// errMalformed is what is wrong with bytes that are no frame, or no message of the protocol.
var errMalformed = errors.New("malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", errMalformed, what) }

// errBusy is a frame that was read over because there is no memory for it now.
var errBusy = errors.New("no memory for a request now (maxPendingBytes)")

// lengthBytes is the head of a frame: its length.
const lengthBytes = 4

// putLength fills in the length of a frame that was encoded behind room for it.
func putLength(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-lengthBytes))
	return frame
}

// reader reads frames. Each comes to lie in a block, which several small ones
// share; that is the one time that they are copied. It is used by one goroutine.
//
// What is allocated follows the bytes that have come, never a length that was
// only announced.
type reader struct {
	max int // longest frame
	// grant is asked before a frame takes so many more bytes, if it is not nil.
	// If it denies them the rest of the frame is read over.
	grant func(more int) bool

	src  io.Reader
	br   *bufio.Reader // only while it may hold something: idle connections are cheap
	blk  *core.Block
	used int // of blk, by earlier frames
	last int // size of the frame before
	n    int // size of the frame that head has announced
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// head waits for the next frame and reads its length. io.EOF: there is none, and
// the stream ends in order.
func (r *reader) head() error {
	if r.blk != nil && (len(r.blk.Buf) > sharedBlock || len(r.blk.Buf)-r.used < sharedBlock/64) {
		r.blk.Release()
		r.blk = nil
	}
	var head [lengthBytes]byte
	from := r.src
	if r.br != nil {
		from = r.br
	}
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(r.max) {
		return fmt.Errorf("%w: a frame of %d bytes, more than %d%s", errMalformed, n, r.max, guess(head))
	}
	if n == 0 {
		return malformed("an empty frame")
	}
	r.n = int(n)
	return nil
}

// guess says what the four bytes may be that are no length.
func guess(head [lengthBytes]byte) string {
	switch {
	case head[0] == 0x80 && head[1] == 1, head[0] == 0x82:
		return ": it may be a message without a frame, from a client whose transport is not the framed one"
	case head[0] == 0x15 && head[1] == 3, head[0] == 0x16 && head[1] == 3: // an alert, a handshake
		return ": it may be TLS"
	}
	return ""
}

// release gives back what the reader holds; it is not used after that.
func (r *reader) release() {
	if r.blk != nil {
		r.blk.Release()
		r.blk = nil
	}
	r.rest()
}

// rest gives the buffer back.
func (r *reader) rest() {
	if r.br != nil {
		r.br.Reset(nil)
		buffers.Put(r.br)
		r.br = nil
	}
}

const (
	// sharedBlock is the largest block that is kept while waiting for a frame, to put it there too.
	sharedBlock = 16 << 10
	// minStep is how much memory an announced length alone gets.
	minStep = 64 << 10
	// callHead is what is read of a frame in any case, to be able to answer it.
	callHead = 64
)

// body reads the frame whose head was read. It is valid as long as its block,
// r.blk, is held. With errBusy it is what was read before memory ran out, its
// first bytes at least, and the next frame can be read.
func (r *reader) body() (frame []byte, err error) {
	if r.br == nil {
		r.br = buffers.Get().(*bufio.Reader)
		r.br.Reset(r.src)
	}
	got, busy := 0, false
	for got < r.n && !busy {
		step := min(r.n-got, max(minStep, got))
		if r.grant != nil && !r.grant(step) {
			busy = true
			step = min(r.n-got, max(callHead-got, 0))
		}
		r.room(got, step)
		at := r.used + got
		if _, err := io.ReadFull(r.br, r.blk.Buf[at:at+step]); err != nil {
			return nil, cut(err)
		}
		got += step
	}
	if _, err := r.br.Discard(r.n - got); err != nil {
		return nil, cut(err)
	}
	r.last = got
	frame = r.blk.Buf[r.used : r.used+got : r.used+got]
	r.used += got
	if r.br.Buffered() == 0 {
		r.rest()
	}
	if busy {
		return frame, errBusy
	}
	return frame, nil
}

// cut makes the end of the stream within a frame no end in order.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// room makes the block hold step more bytes of the frame, of which got are there.
func (r *reader) room(got, step int) {
	if r.blk != nil && len(r.blk.Buf)-r.used-got >= step {
		return
	}
	// Frames of one client resemble each other: one as large as the last gets its memory at once.
	size := max(got+step, min(2*got, r.n), min(r.n, r.last+r.last/8))
	blk := core.NewBlock(size)
	if r.blk != nil {
		copy(blk.Buf, r.blk.Buf[r.used:r.used+got])
		r.blk.Release()
	}
	r.blk, r.used = blk, 0
}
