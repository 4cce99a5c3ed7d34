package avro

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zlib"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
)

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

// frame is a frame of those pieces.
func frame(serial uint32, pieces ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, serial)
	b = binary.BigEndian.AppendUint32(b, uint32(len(pieces)))
	for _, p := range pieces {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	return b
}

func hello(client rpc.Hash) []byte {
	b := append(client[:], 0)
	b = append(b, rpc.Own[:]...)
	return append(b, 2, 0)
}

func batch(bodies ...string) []byte {
	return encode(rpc.AppendCall(nil, rpc.AppendBatch), bodies...)
}

func encode(dst []byte, bodies ...string) []byte {
	return rpc.AppendEvents(dst, rpctest.Events(bodies...))
}
