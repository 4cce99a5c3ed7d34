package http

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/core"
)

const (
	firstBlock  = 4 << 10
	secondBlock = 64 << 10
	// trusted is how much of a Content-Length is reserved before it has arrived.
	trusted = 256 << 10
)

// read reads a body of at most limit bytes into a block, of which the caller
// gets the reference. size is the length expected, -1 if unknown. held is what
// it has taken of the budget, in any case. more: there is something behind limit.
func (v *service) read(r io.Reader, size, limit int64) (blk *core.Block, n int, held int64, more bool, f *fault) {
	first := int64(firstBlock)
	if size > 0 {
		first = min(size, limit, trusted)
	}
	for next := first; ; next = max(secondBlock, 4*held) {
		room := min(next, limit+1) // one byte more, to see whether there is one
		grown := core.NewBlock(int(max(room, 1)))
		if !v.budget.Take(int64(len(grown.Buf))-held, held) {
			grown.Release()
			if blk != nil {
				blk.Release()
			}
			return nil, 0, held, false, errBusy
		}
		held = int64(len(grown.Buf))
		if blk != nil {
			copy(grown.Buf, blk.Buf[:n])
			blk.Release()
		}
		blk = grown
		end := int(min(int64(len(blk.Buf)), limit+1))
		var err error
		for n < end && err == nil {
			var got int
			got, err = r.Read(blk.Buf[n:end])
			n += got
		}
		switch {
		case int64(n) > limit:
			return blk, int(limit), held, true, nil
		case errors.Is(err, io.EOF):
			return blk, n, held, false, nil
		case err != nil:
			blk.Release()
			return nil, 0, held, false, broken(err)
		}
	}
}

// broken is the answer to a body that did not arrive.
func broken(err error) *fault {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return refuse(http.StatusRequestTimeout, "request did not arrive in time (requestTimeout)")
	}
	return refuse(http.StatusBadRequest, "read body: ", err.Error())
}

// unzipped returns the body as it was before its Content-Encoding, and how to end it.
func (v *service) unzipped(r *http.Request) (body io.Reader, size int64, end func(), f *fault) {
	switch e := strings.TrimSpace(r.Header.Get("Content-Encoding")); strings.ToLower(e) {
	case "", "identity":
		return r.Body, r.ContentLength, func() {}, nil
	case "gzip", "x-gzip":
		z, _ := v.unzips.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		if err := z.Reset(r.Body); err != nil {
			v.unzips.Put(z)
			if errors.Is(err, io.EOF) {
				return r.Body, 0, func() {}, nil
			}
			return nil, 0, nil, broken(err)
		}
		return z, -1, func() { v.unzips.Put(z) }, nil
	default:
		return nil, 0, nil, refuse(http.StatusUnsupportedMediaType, "content encoding ", e, " is not supported, gzip is")
	}
}
