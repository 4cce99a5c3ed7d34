package syslog

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/millrace/millrace/core"
)

// errDry says that nothing can be read at once.
var errDry = errors.New("nothing to read")

// input reads from a connection.
type input interface {
	// read reads into the free memory of w. Without wait it answers errDry
	// rather than wait; where that can not be had it always does.
	read(w *window, wait bool) (int, error)
}

// plainInput is for connections that hide their socket: TLS.
type plainInput struct{ net.Conn }

func (in plainInput) read(w *window, wait bool) (int, error) {
	if !wait {
		return 0, errDry
	}
	return in.Read(w.space())
}

// rawInput reads from the socket itself. So it knows when the kernel has no
// more, and waits without holding memory.
type rawInput struct{ syscall.RawConn }

func newInput(c net.Conn) input {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return rawInput{raw}
		}
	}
	return plainInput{c}
}

func (in rawInput) read(w *window, wait bool) (n int, err error) {
	failed := in.Read(func(fd uintptr) bool {
		if w.blk == nil && wait {
			var peek [1]byte
			if _, _, err = syscall.Recvfrom(int(fd), peek[:], syscall.MSG_PEEK); err == syscall.EAGAIN {
				return false
			}
		}
		space := w.space()
		for {
			if n, err = syscall.Read(int(fd), space); err != syscall.EINTR {
				break
			}
		}
		return err != syscall.EAGAIN || !wait
	})
	switch {
	case failed != nil:
		return 0, failed
	case err == syscall.EAGAIN:
		return 0, errDry
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// The sizes of the blocks a window reads into; all are pooled.
var blockSizes = [...]int{4 << 10, 64 << 10, 256 << 10}

// window is the memory a connection is read into. It moves through blocks: what
// is read is not copied, except for the part of a message that is at a block's
// end. Events point into the blocks, which batches hold.
type window struct {
	blk        *core.Block
	start, end int // what is read and not done with: blk.Buf[start:end]
	need       int // room that one message may need
	class      int // size of the next block
	pauses     int // how often the reader ran dry since the block was new
}

// rest is what is read and not done with.
func (w *window) rest() []byte {
	if w.blk == nil {
		return nil
	}
	return w.blk.Buf[w.start:w.end]
}

// space returns free memory behind rest, which may move.
func (w *window) space() []byte {
	if w.blk == nil {
		w.renew(w.class)
	}
	if len(w.blk.Buf)-w.end < len(w.blk.Buf)/16 {
		switch {
		case w.pauses == 0 && w.class+1 < len(blockSizes):
			w.class++
		case w.pauses > 4 && w.class > 0:
			w.class--
		}
		w.renew(w.class)
	}
	return w.blk.Buf[w.end:]
}

// renew goes on in a new block of that class, or a larger one if the rest needs it.
func (w *window) renew(class int) {
	rest := w.rest()
	size := blockSizes[class]
	if room := min(2*len(rest), w.need); len(rest) > 0 && size < room {
		size = room
	}
	for size <= len(rest) {
		size *= 2
	}
	old := w.blk
	w.blk = core.NewBlock(size)
	w.start, w.end, w.pauses = 0, copy(w.blk.Buf, rest), 0
	if old != nil {
		old.Release()
	}
}

// large reports whether shrink would give memory back.
func (w *window) large() bool {
	n := len(w.rest())
	return w.blk != nil && (n == 0 || len(w.blk.Buf) > blockSizes[0] && n < len(w.blk.Buf)/4)
}

// shrink gives memory back while the peer is idle.
func (w *window) shrink() {
	switch {
	case !w.large():
	case w.start == w.end:
		w.release()
	default:
		w.renew(0)
	}
	w.class = 0
}

func (w *window) release() {
	if w.blk != nil {
		w.blk.Release()
	}
	w.blk, w.start, w.end = nil, 0, 0
}
