// Package resume is how sinks that write into files of a store keep, in the marks
// of their acks, what they go on with after a crash.
//
//	state    what comes first: the connector's version, and flags
//	         numbers     varints, unsigned
//	         texts       each its length, a varint, and its bytes
//
// There is nothing behind the last text. How many numbers and texts there are,
// and what they mean, is the connector's to say by its version.
package resume

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/millrace/millrace/core"
)

// ErrState says that a mark does not hold a state.
var ErrState = errors.New("not a resume state of this version")

// ErrLost says that a channel took a lease away: nothing of it may be acked.
var ErrLost = errors.New("lease was taken away")

// Append appends numbers, none of which is negative, and texts to what comes first.
func Append(b []byte, numbers []*int64, texts []*string) []byte {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(*n))
	}
	for _, text := range texts {
		b = binary.AppendUvarint(b, uint64(len(*text)))
		b = append(b, *text...)
	}
	return b
}

// Decode reads what Append has appended, and nothing else, from b. The error is
// ErrState; what was set before it means nothing. It copies the texts.
func Decode(b []byte, numbers []*int64, texts []*string) error {
	for _, p := range numbers {
		n, used := binary.Uvarint(b)
		if used <= 0 || int64(n) < 0 {
			return ErrState
		}
		*p, b = int64(n), b[used:]
	}
	for _, p := range texts {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return ErrState
		}
		*p, b = string(b[used:used+int(n)]), b[used+int(n):]
	}
	if len(b) > 0 {
		return ErrState
	}
	return nil
}

// Record stores marks through tx, of which it acks no event, and waits until they
// are on the channel's disk.
func Record(ctx context.Context, tx core.TakeTx, marks ...core.Mark) error {
	return Await(ctx, tx.Ack([]int32{}, marks...), tx.Lost())
}

// Await waits until an ack is on disk. ErrLost: its lease was taken away before;
// a nil lost: it is not asked.
func Await(ctx context.Context, stored, lost <-chan struct{}) error {
	select {
	case <-stored:
		return nil
	case <-lost:
		return ErrLost
	case <-ctx.Done():
		return ctx.Err()
	}
}
