package kafka

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
)

// dials are the connections that kafka-go has made for a group and not closed:
// it waits for answers on them for longer than a source may take to close.
type dials struct {
	mu   sync.Mutex
	open map[*tracked]bool
}

// tracked is a connection that is known until it is closed.
type tracked struct {
	net.Conn
	d *dials
}

func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &tracked{raw, d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = make(map[*tracked]bool)
	}
	d.open[c] = true
	return c, nil
}

// Close implements net.Conn.
func (c *tracked) Close() error {
	c.d.mu.Lock()
	delete(c.d.open, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// cut closes them all.
func (d *dials) cut() {
	d.mu.Lock()
	all := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}
