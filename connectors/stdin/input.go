package stdin

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// input reads a file that may block, but not longer than its deadline, and not
// after stop. It is a lines.Input.
type input struct {
	file       *os.File // kept as long as its descriptor is used
	descriptor int
	stopping   *os.File // its other end is written to when the reading is to end
	stopper    *os.File
	deadline   time.Time
	stopped    atomic.Bool
}

// newInput makes an input of f, which it does not close.
func newInput(f *os.File) (*input, error) {
	fd := f.Fd()
	if fd == ^uintptr(0) {
		return nil, os.ErrClosed
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &input{file: f, descriptor: int(fd), stopping: r, stopper: w}, nil
}

// Stopped implements lines.Input.
func (in *input) Stopped() bool { return in.stopped.Load() }

// stop ends the reading, from any goroutine.
func (in *input) stop() {
	in.stopped.Store(true)
	_, _ = in.stopper.Write([]byte{0}) // one byte has room
}

// close gives the input's own pipe back. Nobody reads or stops any more.
func (in *input) close() {
	_ = in.stopping.Close() // a pipe has nothing to lose
	_ = in.stopper.Close()
}

// SetReadDeadline implements lines.Input. It is called by the one who reads.
func (in *input) SetReadDeadline(t time.Time) error {
	in.deadline = t
	return nil
}

// Read implements lines.Input.
func (in *input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(in.descriptor), Events: unix.POLLIN},
		{Fd: int32(in.stopping.Fd()), Events: unix.POLLIN},
	}
	for {
		wait := -1
		if !in.deadline.IsZero() {
			left := time.Until(in.deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			wait = int(min(left+time.Millisecond, time.Hour) / time.Millisecond) // rounded up
		}
		switch _, err := unix.Poll(fds, wait); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case in.Stopped():
			return 0, os.ErrDeadlineExceeded
		case fds[0].Revents == 0:
			continue
		}
		n, err := unix.Read(in.descriptor, p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue // somebody else was faster
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
