package rpc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash"
	"hash/adler32"
	"io"
	"net"
	"time"

	"github.com/klauspost/compress/zlib"
)

// deflated is a connection whose two directions are one zlib stream each, as
// Netty's handlers make them: what one Write says can be read before the next.
type deflated struct {
	net.Conn
	in  io.ReadCloser // made at the first Read: it reads at once
	out interface {
		io.Writer
		Flush() error
		Close() error
	}
	buf   bytes.Buffer // what one Write comes to: one write to the socket
	ended bool
}

// DeflateClient compresses what a client sends, by a level of zlib's.
func DeflateClient(c net.Conn, level int) (net.Conn, error) {
	d := &deflated{Conn: c}
	w, err := zlib.NewWriterLevel(&d.buf, level)
	if err != nil {
		return nil, err
	}
	d.out = w
	return d, nil
}

// DeflateServer is for what a server sends: answers of some bytes, or TLS
// records, which do not become shorter. They are stored in the stream as they
// are, and a connection does without a compressor's tables.
func DeflateServer(c net.Conn) net.Conn {
	d := &deflated{Conn: c}
	d.out = &storing{w: &d.buf, sum: adler32.New()}
	return d
}

// Read implements net.Conn.
func (d *deflated) Read(p []byte) (int, error) {
	if d.in == nil {
		in, err := zlib.NewReader(bufio.NewReader(d.Conn))
		if err != nil {
			return 0, err
		}
		d.in = in
	}
	return d.in.Read(p)
}

// Write implements net.Conn.
func (d *deflated) Write(p []byte) (int, error) {
	if _, err := d.out.Write(p); err != nil {
		return 0, err
	}
	if err := d.out.Flush(); err != nil {
		return 0, err
	}
	return len(p), d.send()
}

func (d *deflated) send() error {
	_, err := d.Conn.Write(d.buf.Bytes())
	d.buf.Reset()
	return err
}

// endTime is how long the end of the stream may take to be written.
const endTime = time.Second

// CloseWrite ends the stream, and the connection's own where it can.
func (d *deflated) CloseWrite() error {
	if err := d.end(); err != nil {
		return err
	}
	if h, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func (d *deflated) end() error {
	if d.ended {
		return nil
	}
	d.ended = true
	if err := d.SetWriteDeadline(time.Now().Add(endTime)); err != nil {
		return err
	}
	if err := d.out.Close(); err != nil {
		return err
	}
	return d.send()
}

// storing writes a zlib stream of stored blocks.
type storing struct {
	w     *bytes.Buffer
	sum   hash.Hash32
	begun bool
}

func (s *storing) begin() {
	if !s.begun {
		s.begun = true
		s.w.Write([]byte{0x78, 0x9c}) // as a compressor of level 6 begins
	}
}

// Write implements io.Writer.
func (s *storing) Write(p []byte) (int, error) {
	s.begin()
	s.sum.Write(p)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 0xffff)
		s.block(0, rest[:n])
		rest = rest[n:]
	}
	return len(p), nil
}

func (s *storing) block(final byte, p []byte) {
	head := [5]byte{final}
	binary.LittleEndian.PutUint16(head[1:], uint16(len(p)))
	binary.LittleEndian.PutUint16(head[3:], ^uint16(len(p)))
	s.w.Write(head[:])
	s.w.Write(p)
}

// Flush writes the empty block that makes every reader give out what it has.
func (s *storing) Flush() error {
	s.block(0, nil)
	return nil
}

// Close ends the stream.
func (s *storing) Close() error {
	s.begin()
	s.block(1, nil)
	s.w.Write(binary.BigEndian.AppendUint32(nil, s.sum.Sum32()))
	return nil
}
