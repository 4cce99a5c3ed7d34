package avro

import (
	"bufio"
	"crypto/md5"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zlib"
)

func md5sum(text []byte) [16]byte { return md5.Sum(text) }

// own is the protocol that is offered.
func own(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("rpc/protocol.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// inflated reads a zlib stream as it comes.
func inflated(r io.Reader) io.Reader {
	return &inflater{r: r}
}

type inflater struct {
	r io.Reader
	z io.Reader
}

func (i *inflater) Read(p []byte) (n int, err error) {
	if i.z == nil {
		if i.z, err = zlib.NewReader(bufio.NewReader(i.r)); err != nil {
			return 0, err
		}
	}
	return i.z.Read(p)
}

// readFrame reads a frame and returns its pieces as one.
func readFrame(r io.Reader) (serial uint32, whole []byte, err error) {
	var n [4]byte
	next := func() uint32 {
		if err == nil {
			_, err = io.ReadFull(r, n[:])
		}
		return binary.BigEndian.Uint32(n[:])
	}
	serial = next()
	for range next() {
		piece := make([]byte, next())
		if err == nil {
			_, err = io.ReadFull(r, piece)
		}
		if err != nil {
			return serial, nil, err
		}
		whole = append(whole, piece...)
	}
	return serial, whole, err
}
