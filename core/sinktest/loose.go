package sinktest

import "github.com/millrace/millrace/core"

// Loose is a transaction that belongs to no instance and checks nothing: it notes
// what becomes of its batch. Acks are stored at once. It may be read when the sink
// is done with it.
type Loose struct {
	Events  *core.Batch
	Acks    int     // how often it was acked, of nothing too
	Acked   []int32 // by their indexes
	Marks   []core.Mark
	Refused []int
	Cause   error         // of its rollback
	Taken   chan struct{} // closed by who takes the lease away; nil: nobody does
}

// Batch implements core.Lease.
func (x *Loose) Batch() *core.Batch { return x.Events }

// Ack implements core.Lease.
func (x *Loose) Ack(pick []int32, m ...core.Mark) <-chan struct{} {
	x.Acks++
	x.Acked, x.Marks = append(x.Acked, pick...), append(x.Marks, m...)
	stored := make(chan struct{})
	close(stored)
	return stored
}

// Refuse implements core.TakeTx.
func (x *Loose) Refuse(i int, _ error) { x.Refused = append(x.Refused, i) }

// Rollback implements core.Lease.
func (x *Loose) Rollback(cause error) { x.Cause = cause }

// Unpin implements core.Lease.
func (x *Loose) Unpin() bool { return true }

// Lost implements core.Lease.
func (x *Loose) Lost() <-chan struct{} { return x.Taken }
