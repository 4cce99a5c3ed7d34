package core

import (
	"sync"
	"sync/atomic"
)

// Block is memory that bodies lie in. Several batches may hold one block: a
// reader fills a block once and cuts many batches out of it. The maker has one
// reference; the last Release gives the memory back for reuse.
type Block struct {
	Buf  []byte // the whole memory; the holder that fills it decides how much is used
	refs atomic.Int32
	pool *sync.Pool
}

// Block sizes that are pooled. Other sizes come from the heap and go back to it.
const (
	smallBlock = 4 << 10
	midBlock   = 64 << 10
	bigBlock   = 256 << 10
)

var pools = [...]struct {
	size int
	pool sync.Pool
}{{size: smallBlock}, {size: 16 << 10}, {size: midBlock}, {size: bigBlock}}

// NewBlock returns a block of at least n bytes with one reference. Its memory
// is not cleared.
func NewBlock(n int) *Block {
	for i := range pools {
		if p := &pools[i]; n <= p.size {
			b, _ := p.pool.Get().(*Block)
			if b == nil {
				b = &Block{Buf: make([]byte, p.size), pool: &p.pool}
			}
			b.refs.Store(1)
			return b
		}
	}
	b := &Block{Buf: make([]byte, n)}
	b.refs.Store(1)
	return b
}

// Hold adds a reference.
func (b *Block) Hold() *Block {
	b.refs.Add(1)
	return b
}

// Release gives a reference back. Forgetting it costs garbage, never safety.
func (b *Block) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("core: block released more often than held")
	case n == 0:
		poisonBlock(b.Buf)
		if b.pool != nil {
			b.pool.Put(b)
		}
	}
}
