package syslog

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// What is known of peers' names: for how long, of how many, and how long
// reading waits for a name, and how long it is looked for.
const (
	nameAge    = 5 * time.Minute
	maxNames   = 4096
	nameWait   = 250 * time.Millisecond
	nameSearch = 5 * time.Second
	maxLookups = 16
)

// peers makes the headers that tell who sent a message.
type peers struct {
	ipHeader, nameHeader string
	now                  func() time.Time
	lookup               func(ctx context.Context, addr string) ([]string, error)

	mu       sync.Mutex
	names    map[netip.Addr]*peerName
	running  int
	lookups  sync.WaitGroup
	searches context.Context
	stop     context.CancelFunc
}

// peerName is the name of an address; found is closed when it is known.
type peerName struct {
	found chan struct{}
	name  string
	until time.Time
}

func newPeers(s *settings, now func() time.Time) *peers {
	p := &peers{
		ipHeader: s.clientIP, nameHeader: s.clientHostname, now: now,
		lookup: net.DefaultResolver.LookupAddr, names: make(map[netip.Addr]*peerName),
	}
	p.searches, p.stop = context.WithCancel(context.Background())
	return p
}

// wanted reports whether there are such headers at all.
func (p *peers) wanted() bool { return p.ipHeader != "" || p.nameHeader != "" }

// close ends all look-ups and waits for them.
func (p *peers) close() {
	p.stop()
	p.lookups.Wait()
}

// headers returns those of addr; an address that is not valid (a unix socket's) has empty values.
func (p *peers) headers(addr netip.Addr) []core.Header {
	var kv []core.Header
	ip := ""
	if addr.IsValid() {
		ip = addr.String()
	}
	if p.ipHeader != "" {
		kv = append(kv, core.Header{Key: p.ipHeader, Value: ip})
	}
	if p.nameHeader != "" {
		name := ip
		if addr.IsValid() {
			name = p.name(addr)
		}
		kv = append(kv, core.Header{Key: p.nameHeader, Value: name})
	}
	return kv
}

// name returns the host name of addr, or its text where none is known. It waits
// for a short time only, and not at all while many others are being looked for.
func (p *peers) name(addr netip.Addr) string {
	p.mu.Lock()
	n := p.names[addr]
	if n == nil || p.now().After(n.until) {
		if p.running >= maxLookups {
			p.mu.Unlock()
			return addr.String()
		}
		if len(p.names) >= maxNames {
			clear(p.names)
		}
		n = &peerName{found: make(chan struct{}), name: addr.String(), until: p.now().Add(nameAge)}
		p.names[addr] = n
		p.running++
		p.lookups.Go(func() { p.search(addr, n) })
	}
	p.mu.Unlock()
	wait := time.NewTimer(nameWait)
	defer wait.Stop()
	select {
	case <-n.found:
		return n.name
	case <-wait.C:
		return addr.String()
	case <-p.searches.Done():
		return addr.String()
	}
}

func (p *peers) search(addr netip.Addr, n *peerName) {
	ctx, cancel := context.WithTimeout(p.searches, nameSearch)
	defer cancel()
	names, err := p.lookup(ctx, addr.String())
	if err == nil && len(names) > 0 {
		n.name = strings.TrimSuffix(names[0], ".")
	}
	close(n.found)
	p.mu.Lock()
	p.running--
	p.mu.Unlock()
}

// addrOf returns the IP address in a, not valid where it has none.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
