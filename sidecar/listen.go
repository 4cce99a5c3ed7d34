package sidecar

import (
	"fmt"
	"io"
	"net"
	"os"
)

// listen gives components their listeners. A unix socket that a dead process
// left behind is replaced; a new one may be written to by every user, as
// /dev/log is: the program beside this one seldom has the same user.
func listen(network, addr string) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, addr)
	}
	if err := clearSocket(network, addr); err != nil {
		return nil, err
	}
	l, err := net.Listen(network, addr)
	if err == nil {
		err = openSocket(addr, l)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// listenPacket is listen for datagrams.
func listenPacket(network, addr string) (net.PacketConn, error) {
	if network != "unixgram" {
		return net.ListenPacket(network, addr)
	}
	if err := clearSocket(network, addr); err != nil {
		return nil, err
	}
	c, err := net.ListenPacket(network, addr)
	if err == nil {
		err = openSocket(addr, c)
	}
	if err != nil {
		return nil, err
	}
	return &packetSocket{c.(*net.UnixConn), addr}, nil
}

// packetSocket takes its file away when it is closed, as a net.UnixListener does.
type packetSocket struct {
	*net.UnixConn
	file string
}

func (s *packetSocket) Close() error {
	err := s.UnixConn.Close()
	if e := os.Remove(s.file); err == nil && e != nil && !os.IsNotExist(e) {
		err = e
	}
	return err
}

func openSocket(file string, c io.Closer) error {
	if err := os.Chmod(file, 0o666); err != nil {
		_ = c.Close() // the error that matters is another
		return err
	}
	return nil
}

// clearSocket removes a socket that nobody listens on. Anything else under that name stays, and Listen fails.
func clearSocket(network, file string) error {
	info, err := os.Lstat(file)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return nil //nolint:nilerr // Listen says what is wrong
	}
	if c, err := net.Dial(network, file); err == nil {
		_ = c.Close() // it was only a question
		return fmt.Errorf("listen %s: another process listens on it", file)
	}
	return os.Remove(file)
}
