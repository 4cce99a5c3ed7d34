package tailcmd

import (
	"bytes"
	"errors"
	"io"
)

const blockBytes = 64 << 10

// backwards calls f with the blocks of r from its end to its begin, until f
// returns false.
func backwards(r io.ReaderAt, size int64, f func(at int64, block []byte) bool) error {
	buf := make([]byte, blockBytes)
	for end := size; end > 0; {
		at := max(0, end-blockBytes)
		block := buf[:end-at]
		if n, err := r.ReadAt(block, at); n < len(block) {
			if errors.Is(err, io.EOF) { // it was cut meanwhile: what is gone has no lines
				block = block[:n]
			} else {
				return err
			}
		}
		if !f(at, block) {
			return nil
		}
		end = at
	}
	return nil
}

// afterLastNewline is where the last complete line ends.
func afterLastNewline(r io.ReaderAt, size int64) (end int64, err error) {
	err = backwards(r, size, func(at int64, block []byte) bool {
		i := bytes.LastIndexByte(block, '\n')
		end = at + int64(i) + 1
		return i < 0
	})
	return end, err
}

// lastLines is where the last n lines begin; one without newline counts.
func lastLines(r io.ReaderAt, size, n int64) (from int64, err error) {
	if n == 0 {
		return size, nil
	}
	err = backwards(r, size, func(at int64, block []byte) bool {
		for i := len(block); ; {
			i = bytes.LastIndexByte(block[:i], '\n')
			if i < 0 {
				return true
			}
			if at+int64(i) == size-1 {
				continue // the end of the last line
			}
			if n--; n == 0 {
				from = at + int64(i) + 1
				return false
			}
		}
	})
	return from, err
}

// skipLines is where the line after the first n ones begins.
func skipLines(r io.ReaderAt, size, n int64) (int64, error) {
	buf := make([]byte, blockBytes)
	for at := int64(0); at < size; {
		got, err := r.ReadAt(buf[:min(blockBytes, size-at)], at)
		for block := buf[:got]; ; {
			i := bytes.IndexByte(block, '\n')
			if i < 0 {
				at += int64(len(block))
				break
			}
			at += int64(i) + 1
			block = block[i+1:]
			if n--; n == 0 {
				return at, nil
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if got == 0 {
			break
		}
	}
	return size, nil
}
