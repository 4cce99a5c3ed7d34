package bucket

import (
	"time"

	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/core"
)

// Bucket is where events of one path, prefix and schema go: one file at a time.
type Bucket[O Output] struct {
	Target string             // what tells it from others: path, prefix and the id of a schema, with a byte 0 between
	Base   string             // of the names of its files
	Schema *format.BodySchema // of its events; nil: they need none, or none came since the sink began
	Out    O                  // nil: none is begun
	Used   time.Time          // when it was last to get an event
	Number *int64             // of its newest file, where the sink counts them by their base
}

// Output is a sink's own kind of file: a pointer to a struct that embeds File.
type Output interface {
	comparable
	self() *File
}

// File is what all kinds of open files have.
type File struct {
	Enc      filetype.Encoder
	Buf      []byte    // encoded, not yet written
	Written  int64     // its length, with Buf
	Total    int64     // events in it
	InBodies int64     // bytes of their bodies: what rollSize counts
	Held     []Part    // what is in it and not acked
	Since    time.Time // of the oldest of those
	Begun    time.Time
	Used     time.Time       // when it got its last event
	Ended    bool            // it gets no more
	Stored   <-chan struct{} // closed when the newest ack of its events is on the channel's disk; nil: there was none
}

func (f *File) self() *File { return f }

// Lease is a transaction whose events may be in several files.
type Lease struct {
	Tx   core.TakeTx
	Left int // events that are neither acked nor refused
}

// Part is what one file has of a lease.
type Part struct {
	*Lease
	Pick                   []int32
	Length, Events, Bodies int64 // of the file with it: there it may be cut
}

// has reports whether the newest of what f holds is of l.
func (f *File) has(l *Lease) bool {
	n := len(f.Held)
	return n > 0 && f.Held[n-1].Lease == l
}

// Lost returns an error if a lease of what f holds was taken away.
func (f *File) Lost() error {
	for i := range f.Held {
		select {
		case <-f.Held[i].Tx.Lost():
			return resume.ErrLost
		default:
		}
	}
	return nil
}

// LetGo forgets what f holds.
func (f *File) LetGo() {
	clear(f.Held)
	f.Held = f.Held[:0]
}
