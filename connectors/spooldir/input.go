package spooldir

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/core/vfs"
)

// input is the content of a file from some place on, decompressed. Its end is
// the end that the file has when it is reached.
type input struct {
	raw io.Reader
	gz  *gzip.Reader // nil: as it is
	f   vfs.File
	off int64 // in the file
	at  int64 // in what Read returns
}

// readError says that reading the file failed, in contrast to what is in it.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// readFile reads on in the file.
type readFile struct{ in *input }

func (r readFile) Read(p []byte) (int, error) {
	in := r.in
	n, err := in.f.ReadAt(p, in.off)
	in.off += int64(n)
	if n > 0 {
		err = nil // the next read tells again
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError{err}
	}
	return n, err
}

// newInput reads f, through gzip or not.
func newInput(f vfs.File, gz bool) (*input, error) {
	in := &input{f: f}
	in.raw = readFile{in}
	if !gz {
		return in, nil
	}
	in.raw = bufio.NewReaderSize(in.raw, 64<<10)
	var err error
	if in.gz, err = gzip.NewReader(in.raw); err != nil {
		return nil, in.explain(err)
	}
	return in, nil
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	if in.gz == nil {
		n, err := in.raw.Read(p)
		in.at += int64(n)
		return n, err
	}
	n, err := in.gz.Read(p)
	in.at += int64(n)
	if n > 0 && err != nil {
		err = nil // it is told again
	}
	return n, in.explain(err)
}

// explain says of an error in compressed content where it is.
func (in *input) explain(err error) error {
	switch {
	case err == nil || err == io.EOF, errors.As(err, new(readError)): //nolint:errorlint // an io.EOF that is wrapped is no end
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("compressed data end too early, before byte %d of the file: %w", in.off, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("before byte %d of the file: %w", in.off, err)
}

// skip goes on to a place in what Read returns. io.EOF: it ends before that.
func (in *input) skip(to int64) error {
	if in.gz == nil {
		in.off, in.at = to, to
		return nil
	}
	_, err := io.CopyN(io.Discard, in, to-in.at)
	return err
}

// isGzip reports whether a file begins as gzip's do.
func isGzip(f vfs.File) (bool, error) {
	magic := []byte{0x1f, 0x8b, 8}
	var head [3]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, readError{err}
	}
	return bytes.Equal(head[:n], magic), nil
}
