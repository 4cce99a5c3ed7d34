package rpctest

import (
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// Mode is what a Peer does with a request.
type Mode int

// Modes of every wire.
const (
	Well     Mode = iota
	Rejects       // answers FAILED
	Unknown       // answers UNKNOWN
	Words         // answers with an error in words
	Hangs         // answers nothing
	Halves        // answers half and closes
	Dies          // closes
	Garbage       // answers what is no frame
	Waits         // answers when the gate opens
	OwnModes      // from here on: those of a wire, of which Far makes the answer
)

// Far speaks on one connection to a Peer.
type Far interface {
	// Read reads the next request. ordered: order was asked for and is promised.
	Read() (b *core.Batch, ordered bool, err error)
	// Answer is the answer to that request. Where the mode has none of its own, it is OK.
	Answer(m Mode) []byte
	// Release gives back what it holds.
	Release()
}

// Peer is a far end that can be made to misbehave.
type Peer struct {
	T     testing.TB
	Plain bool // as a Flume: promises no order
	Addr  string

	wire Wire
	ln   net.Listener
	done sync.WaitGroup

	mu      sync.Mutex
	mode    Mode
	bodies  []string
	conns   map[net.Conn]bool
	waiting int // requests that wait for the gate
	gate    chan struct{}
}

// NewPeer listens until the test ends.
func NewPeer(t testing.TB, w Wire, plain bool) *Peer {
	t.Helper()
	p := &Peer{T: t, Plain: plain, Addr: "127.0.0.1:0", wire: w, conns: make(map[net.Conn]bool)}
	p.Listen()
	t.Cleanup(p.Stop)
	return p
}

// Listen listens, after Stop where it did before.
func (p *Peer) Listen() {
	p.T.Helper()
	var err error
	suite.Eventually(p.T, "the port is free", func() bool {
		p.ln, err = net.Listen("tcp", p.Addr)
		return err == nil
	})
	p.Addr = p.ln.Addr().String()
	ln := p.ln
	p.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			p.done.Go(func() {
				p.serve(c)
				_ = c.Close()
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			})
		}
	})
}

// Stop ends it as a kill does.
func (p *Peer) Stop() {
	_ = p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}

// Set says what it does from now on. With Waits there is a new gate.
func (p *Peer) Set(m Mode) {
	p.mu.Lock()
	p.mode = m
	if m == Waits {
		p.gate = make(chan struct{})
	}
	p.mu.Unlock()
}

// Mode is what it does.
func (p *Peer) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// Open opens the gate: requests that wait are stored.
func (p *Peer) Open() { close(p.gate) }

// Waiting is how many requests have waited for a gate.
func (p *Peer) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

// Seen are the bodies that it has stored.
func (p *Peer) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bodies)
}

// Keys are the keys of a sink that sends to it, with more.
func (p *Peer) Keys(more ...string) map[string]string {
	if p.Plain {
		more = slices.Concat(p.wire.PlainKeys, more)
	}
	return SinkKeys(p.Addr, more...)
}

func (p *Peer) serve(c net.Conn) {
	far := p.wire.Far(p, c)
	defer far.Release()
	refusing := false // nothing is stored after what was not
	for {
		b, ordered, err := far.Read()
		if err != nil {
			return
		}
		m := p.judge(b.Events, refusing)
		b.Release()
		answer := far.Answer(m)
		switch m {
		case Hangs:
			continue
		case Halves:
			_, _ = c.Write(answer[:15])
			return
		case Dies:
			return
		case Garbage:
			answer = []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
		}
		refusing = refusing || ordered && m != Well
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// judge says what becomes of a request with those events.
func (p *Peer) judge(events []core.Event, refusing bool) Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, gate := p.mode, p.gate
	if m == Waits {
		p.waiting++
		p.mu.Unlock()
		<-gate
		p.mu.Lock()
		m = Well
	}
	if refusing && m == Well {
		m = Rejects
	}
	if m == Well {
		for _, e := range events {
			p.bodies = append(p.bodies, string(e.Body))
		}
	}
	return m
}
