package vfs

import (
	"maps"
	"math/rand/v2"
)

// CrashMode says what a crash does to that which is not synced.
type CrashMode int

// The modes of CrashClone.
const (
	DropAll  CrashMode = iota // nothing of it survives
	KeepAll                   // all of it survives, as when only the process was killed
	Sectors                   // any 512-byte sectors of it survive, any names
	Pages                     // the same by 4 KiB
	TearLast                  // all but the file written last, of which a prefix survives
	crashModes
)

// CrashModes is how many modes there are, for a test that picks one.
const CrashModes = int(crashModes)

// CrashClone returns what a disk could hold if the power failed now: all that
// is synced, and of the rest what rng and mode decide. m is not changed; locks
// are gone. The clone's content is all synced.
func (m *Mem) CrashClone(rng *rand.Rand, mode CrashMode) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &crash{rng: rng, mode: mode, last: m.last, kept: map[*change]bool{}, nodes: map[*node]*node{}}
	out := NewMem()
	out.total, out.inodes, out.now = m.total, m.inodes, m.now
	out.root = c.node(m.root)
	for _, n := range c.nodes {
		out.used += int64(len(n.data))
	}
	return out
}

type crash struct {
	rng   *rand.Rand
	mode  CrashMode
	last  *node
	kept  map[*change]bool
	nodes map[*node]*node
}

func (c *crash) coin() bool {
	switch c.mode {
	case DropAll:
		return false
	case KeepAll, TearLast:
		return true
	default:
		return c.rng.IntN(2) == 0
	}
}

func (c *crash) node(n *node) *node {
	if done := c.nodes[n]; done != nil {
		return done
	}
	out := &node{ino: n.ino, dir: n.dir, mode: n.mode, mtime: n.mtime}
	c.nodes[n] = out
	if !n.dir {
		c.content(n, out)
		return out
	}
	names := maps.Clone(n.stable)
	for _, ch := range n.pending {
		keep, known := c.kept[ch]
		if !known {
			keep = ch.done || c.coin()
			c.kept[ch] = keep
		}
		for name, child := range ch.set[n] {
			switch {
			case !keep:
			case child == nil:
				delete(names, name)
			default:
				names[name] = child
			}
		}
	}
	out.entries = map[string]*node{}
	for name, child := range names {
		out.entries[name] = c.node(child)
	}
	out.stable = maps.Clone(out.entries)
	return out
}

// content builds a file from its synced state and the unsynced pages that survive.
func (c *crash) content(n, out *node) {
	out.dirty, out.lost = map[int64][]byte{}, map[int64][]byte{}
	size := n.size
	if c.coin() {
		size = int64(len(n.data))
	}
	cut := int64(-1)
	if c.mode == TearLast && n == c.last && len(n.dirty) > 0 {
		cut = c.rng.Int64N(int64(len(n.data)) + 1)
	}
	out.data = make([]byte, size)
	copy(out.data, n.data)
	unit := int64(1)
	if c.mode == Pages {
		unit = 8
	}
	fate := map[int64]bool{}
	for p, old := range n.dirty {
		keep, known := fate[p/unit]
		if !known {
			keep = c.coin()
			fate[p/unit] = keep
		}
		switch {
		case !keep:
			put(out.data, p, old)
		case cut >= 0 && cut < (p+1)*page:
			from := max(0, cut-p*page)
			if p*page+from < size {
				copy(out.data[p*page+from:], old[from:])
			}
		}
	}
	for p, old := range n.lost {
		put(out.data, p, old)
	}
	out.size = size
}

func put(data []byte, p int64, content []byte) {
	if p*page < int64(len(data)) {
		copy(data[p*page:], content)
	}
}
