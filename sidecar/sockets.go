package sidecar

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sockets gives components their listeners. While a hand-over is under way one
// that is closed stays open for whoever listens on its address next: clients that
// connect meanwhile wait in the kernel's queue.
type sockets struct {
	mu     sync.Mutex
	open   int // hand-overs
	parked map[string][]socket
}

// socket is what a listener and a packet connection have in common.
type socket interface {
	SetDeadline(t time.Time) error
	Close() error
}

// Handover begins a hand-over; end closes what nobody has taken.
func (s *sockets) Handover() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open--; s.open > 0 {
			return
		}
		for _, list := range s.parked {
			for _, one := range list {
				_ = one.Close() // nobody wants it
			}
		}
		s.parked = nil
	})
}

// park keeps a socket that its user has closed, if there is a hand-over.
func (s *sockets) park(key string, one socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == 0 {
		return false
	}
	if s.parked == nil {
		s.parked = make(map[string][]socket)
	}
	s.parked[key] = append(s.parked[key], one)
	return true
}

// take returns a parked socket of that address, ready to use, or nil.
func (s *sockets) take(key string) socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	for list := s.parked[key]; len(list) > 0; list = s.parked[key] {
		one := list[0]
		s.parked[key] = list[1:]
		if one.SetDeadline(time.Time{}) == nil {
			return one
		}
		_ = one.Close() // it is broken: a new one is made
	}
	return nil
}

// clear closes what is parked on the same port under another address, which is
// in the way of one that is wider.
func (s *sockets) clear(network, addr string) (found bool) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, list := range s.parked {
		if !strings.HasPrefix(key, network+" ") || !strings.HasSuffix(key, ":"+port) {
			continue
		}
		for _, one := range list {
			_ = one.Close() // its address is wanted otherwise
			found = true
		}
		delete(s.parked, key)
	}
	return found
}

func keyOf(network, addr string) string { return network + " " + addr }

// obtain takes a parked socket, or makes one.
func obtain[T socket](s *sockets, network, addr string, make func(network, addr string) (T, error)) (T, error) {
	if one, ok := s.take(keyOf(network, addr)).(T); ok {
		return one, nil
	}
	one, err := make(network, addr)
	if errors.Is(err, syscall.EADDRINUSE) && s.clear(network, addr) {
		one, err = make(network, addr)
	}
	return one, err
}

// streamSocket is a listener with deadlines, as all of package net's are.
type streamSocket interface {
	net.Listener
	socket
}

// Listen is core.World's.
func (s *sockets) Listen(network, addr string) (net.Listener, error) {
	l, err := obtain(s, network, addr, func(network, addr string) (streamSocket, error) {
		l, err := listen(network, addr)
		if err != nil {
			return nil, err
		}
		own, ok := l.(streamSocket)
		if !ok {
			_ = l.Close() // it is of no use
			return nil, fmt.Errorf("listen on %s %s: no such network for a listener", network, addr)
		}
		return own, nil
	})
	if err != nil {
		return nil, err
	}
	return &listener{streamSocket: l, sockets: s, key: keyOf(network, addr)}, nil
}

// listener is a listener in the hands of a component.
type listener struct {
	streamSocket
	sockets   *sockets
	key       string
	closed    atomic.Bool
	accepting sync.RWMutex // held by each Accept: one that is left behind would take connections of the next user
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.accepting.RLock()
	defer l.accepting.RUnlock()
	if l.closed.Load() {
		return nil, l.isClosed("accept")
	}
	c, err := l.streamSocket.Accept()
	if err != nil && l.closed.Load() {
		return nil, l.isClosed("accept")
	}
	return c, err
}

func (l *listener) isClosed(op string) error {
	return &net.OpError{Op: op, Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return l.isClosed("close")
	}
	if l.SetDeadline(time.Unix(1, 0)) != nil {
		return l.streamSocket.Close()
	}
	l.accepting.Lock()
	defer l.accepting.Unlock()
	if l.sockets.park(l.key, l.streamSocket) {
		return nil
	}
	return l.streamSocket.Close()
}

// ListenPacket is core.World's.
func (s *sockets) ListenPacket(network, addr string) (net.PacketConn, error) {
	c, err := obtain(s, network, addr, func(network, addr string) (datagramSocket, error) {
		c, err := listenPacket(network, addr)
		if err != nil {
			return nil, err
		}
		return c.(datagramSocket), nil
	})
	if err != nil {
		return nil, err
	}
	own := &parking{sockets: s, key: keyOf(network, addr), socket: c}
	// The component sees all that the connection can do.
	switch c := c.(type) {
	case *net.UDPConn:
		return &udpSocket{c, own}, nil
	case *packetSocket:
		return &unixSocket{c.UnixConn, own}, nil
	}
	return c, nil
}

type datagramSocket interface {
	net.PacketConn
	socket
}

// parking is the end of a packet connection in the hands of a component. Nobody
// reads from it any more then.
type parking struct {
	sockets *sockets
	key     string
	socket  socket
	closed  atomic.Bool
}

func (p *parking) close() error {
	if p.closed.Swap(true) {
		return net.ErrClosed
	}
	if p.sockets.park(p.key, p.socket) {
		return nil
	}
	return p.socket.Close()
}

type udpSocket struct {
	*net.UDPConn
	own *parking
}

func (u *udpSocket) Close() error { return u.own.close() }

type unixSocket struct {
	*net.UnixConn
	own *parking
}

func (u *unixSocket) Close() error { return u.own.close() }
