package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrChannelFull says that a channel has no room now. Sources answer "try
// again": HTTP 503, Avro and Thrift FAILED; a tail waits.
var ErrChannelFull = errors.New("channel is full")

// ErrTooLarge says that a batch can never fit: it exceeds transactionCapacity
// or the whole capacity of a channel.
var ErrTooLarge = errors.New("batch is larger than the channel can ever take")

// ErrClosed says that a channel or an outlet is closing.
var ErrClosed = errors.New("closed")

// ErrStalled is what Take answers when nothing is left to take, puts are
// waiting for room, and all of it is leased: the sink should flush.
var ErrStalled = errors.New("channel is full of leases")

// ErrEmpty is what Take answers, if asked not to wait, when there is nothing to take.
var ErrEmpty = errors.New("channel is empty")

// PermanentError marks a failure that trying again will not mend: the events
// are refused. Nil stays nil.
func PermanentError(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether err, or one it wraps, is a PermanentError.
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// EventErrors refuses single events of a batch, by their index; the rest is delivered.
type EventErrors map[int]error

func (e EventErrors) Error() string {
	first := slices.Min(slices.Collect(maps.Keys(e)))
	return fmt.Sprintf("%d events refused, first at %d: %v", len(e), first, e[first])
}

// RetryNow wraps the cause of a rollback after which the runner need not back
// off: a sink group has another sink to try.
type RetryNow struct{ Cause error }

func (r *RetryNow) Error() string { return r.Cause.Error() }
func (r *RetryNow) Unwrap() error { return r.Cause }
