package accept

import "sync/atomic"

// Budget bounds the bytes of all requests that are being read or stored.
type Budget struct {
	Max  int64
	used atomic.Int64
}

// Take reports whether n more bytes may be used by a request that has held so
// far. A request alone always may.
func (b *Budget) Take(n, held int64) bool {
	if used := b.used.Add(n); used > b.Max && used > n+held {
		b.used.Add(-n)
		return false
	}
	return true
}

// Give gives bytes back.
func (b *Budget) Give(n int64) { b.used.Add(-n) }
