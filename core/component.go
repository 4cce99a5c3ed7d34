package core

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/vfs"
)

// Component is what every source, channel, sink, selector, interceptor and
// sink processor is: a struct that binds its keys and then opens.
type Component interface {
	// Keys binds fields to configuration keys. It has no effects: it is also
	// called to print the reference.
	Keys(k *conf.Keys)
	// Open acquires what the component needs. On error it has undone itself.
	// It must not block for long: what may take time belongs into Run or the
	// first delivery.
	Open(ctx context.Context, env Env) error
}

// Env is all that a component may know of the world; tests replace any of it.
type Env struct {
	Agent   string // the agent's name
	Name    string // the component's name
	Log     *slog.Logger
	Metrics *metric.Group
	FS      vfs.FS
	Dir     string // the agent's state directory, empty if none was given; components with files of their own default to a place below it
	Now     func() time.Time
	// Listen and ListenPacket give listeners that survive a reload; unix
	// sockets too (network "unix", "unixgram").
	Listen       func(network, addr string) (net.Listener, error)
	ListenPacket func(network, addr string) (net.PacketConn, error)
	// Marks are a sink's resume states by stream, as its channel holds them. Nil for others.
	Marks map[string]Mark
	// MaxEvents is, for a source, the largest batch that all its channels take
	// in one transaction; for a sink, its channel's transactionCapacity. 0: no limit.
	MaxEvents int
}

// Mark is a place to resume from: a source's position in a stream, or a sink's
// own state under a name it chooses.
type Mark struct {
	Stream string
	Pos    int64  // -1: forget the stream
	State  []byte // small; opaque to the channel
}

// Source takes events in.
type Source interface {
	Component
	// Run puts events until ctx ends, and returns after its last Put or Send.
	// nil before that means the source has nothing more (it stays idle); an
	// error makes the agent run it again after a pause.
	Run(ctx context.Context, out Outlet) error
	// Close releases what Open acquired. It comes after Run has returned and
	// every outstanding done has been called.
	Close() error
}

// Outlet is the way from a source to its channels: interceptors, selector,
// transactions. Both methods take over the caller's reference to b. They may
// be called from several goroutines.
type Outlet interface {
	// Put returns nil once every required channel has b as its promise says
	// (on disk, for the file channel), or ErrChannelFull after the channel's
	// keep-alive. All or nothing over the required channels' room.
	Put(ctx context.Context, b *Batch) error
	// Send is for streams: it waits for room as long as it takes, and returns
	// once b is on its way; done is called when b is stored, in order within
	// b's stream. done(err) comes only when the channel is closing; every later
	// Send fails then. done may be nil. It must not block nor call the outlet.
	// If Send returns an error, done is not called and b is not stored; of a batch
	// that no channel takes whole, and that was therefore split, a first part may be.
	Send(ctx context.Context, b *Batch, done func(error)) error
	// Position returns up to where every required channel durably holds
	// stream. ok=false: not known here, the source's own record decides.
	Position(stream string) (pos int64, ok bool)
	// Forget tells the channels that stream will never be sent again.
	Forget(stream string)
}

// Interceptor changes a batch in place: drops events, replaces headers or
// bodies. It runs once per batch, before the selector, from any goroutine.
type Interceptor interface {
	Component
	Intercept(b *Batch) error
}

// Selector routes a batch. It may look at runs of equal headers or event by event.
type Selector interface {
	Component
	// Select adds to r, which is empty, for each event the channels it goes to,
	// by their place in the source's list (conf.Report.Members gives the names).
	Select(b *Batch, r *Routes)
	// Required reports whether channel c can ever be required: such channels
	// also store the marks of batches they get no events of.
	Required(c int) bool
}

// Channel keeps events between sources and sinks.
type Channel interface {
	Component
	// TryClaim reserves room, without waiting. ErrChannelFull: not now.
	// ErrTooLarge: never. A claim of no events always succeeds.
	TryClaim(room Size) (PutTx, error)
	// Room waits until a claim of that size may succeed; ErrChannelFull after
	// the channel's keep-alive.
	Room(ctx context.Context, room Size) error
	// Take leases the oldest events. It waits for the first, then at most
	// want.Linger for more. It returns ctx's error, ErrStalled (see Take), or
	// ErrClosed.
	Take(ctx context.Context, want Take) (Lease, error)
	// Len returns what is held; leased events count, as in Flume.
	Len() Size
	// Capacity returns the events the channel is made for; 0: no limit.
	Capacity() int
	// Position returns the last position of stream that is stored for good;
	// ok=false where the channel does not survive a crash or knows nothing of stream.
	Position(stream string) (pos int64, ok bool)
	// Forget drops the position of stream.
	Forget(stream string)
	// Marks returns the resume states that sinks stored with their acks.
	Marks() map[string]Mark
	// Durable reports whether stored events survive a crash.
	Durable() bool
	// Close waits for what is being stored. Outstanding leases are given up;
	// their later Ack and Rollback do nothing. Then stored(ErrClosed) is
	// called for whatever was not stored.
	Close() error
}

// Take says what a lease should hold.
type Take struct {
	Events int           // at most; 0 means the channel's transactionCapacity
	Bytes  int64         // at most, but always at least one event; 0: no limit
	Linger time.Duration // how long to wait for more after the first event
	// Stall asks for ErrStalled if nothing is left to take while puts wait for
	// room that leases occupy. The runner sets it while its sink holds leases.
	Stall bool
	// NoWait asks for ErrEmpty at once if nothing can be taken now.
	NoWait bool
}

// PutTx is room reserved in one channel. It ends with Commit or Rollback, exactly once.
type PutTx interface {
	// Commit puts the events of b at pick (nil: all; empty: only b's mark),
	// whose size must be what was claimed. The channel takes references of its
	// own. stored is called exactly once, from any goroutine, perhaps before
	// Commit returns: nil when the events are stored as the channel promises.
	// For a channel that is not durable that means accepted, or, if b is
	// marked (it can be read again), delivered.
	Commit(b *Batch, pick []int32, stored func(error))
	Rollback()
}

// Lease is a run of events taken out of a channel and not yet delivered. It is
// used by one goroutine at a time. It ends when all its events are acked, or
// with Rollback.
type Lease interface {
	// Batch returns the leased events; it is valid until the lease has ended
	// or Unpin returned true, unless held.
	Batch() *Batch
	// Ack says that the events at pick are delivered (nil: all that are left,
	// which ends the lease; an index may be acked once; empty and not nil: none,
	// only the marks are stored). Marks are stored together with the ack. The channel returned is closed when both are
	// stored; Ack does not wait for it.
	Ack(pick []int32, m ...Mark) (stored <-chan struct{})
	// Rollback ends the lease: what was not acked goes back, in order, in front.
	Rollback(cause error)
	// Unpin gives the memory back and keeps the lease: true only where the
	// channel can read the events again after a Rollback.
	Unpin() bool
	// Lost is closed when the lease was taken away: acks no longer count. Nil
	// where that cannot happen.
	Lost() <-chan struct{}
}

// TakeTx is a lease in a sink's hands.
type TakeTx interface {
	Lease
	// Refuse says that the far end will never take event i: it goes to the dead
	// letter channel, or is counted and logged, and counts as acked. A sink
	// that has acked or refused every event by its index is done with tx; one
	// Ack(nil) after that does nothing, any other call panics.
	Refuse(i int, why error)
}

// Origin returns the lease of the channel itself that is beneath tx: a sink that
// knows the channel (both ends in one system) may so do more with it than the
// interfaces say. What ends tx it still calls on tx. Who wraps a lease has a method
// Unwrap that returns what is inside; through any that has none it is not seen.
func Origin(tx Lease) Lease {
	for {
		outer, ok := tx.(interface{ Unwrap() Lease })
		if !ok {
			return tx
		}
		tx = outer.Unwrap()
	}
}

// Sink delivers events that it may hold for a while. Most sinks are a Writer instead.
type Sink interface {
	Component
	// Deliver takes charge of tx and ends it exactly once, now or later (from
	// any goroutine). It blocks at the sink's own limit of what is in flight.
	Deliver(ctx context.Context, tx TakeTx)
	// Flush makes what is held durable and acks it. It is called when the
	// channel is full of leases, and at drain.
	Flush(ctx context.Context) error
	// Close ends what is held (rolling back what is not delivered) and
	// releases what Open acquired.
	Close(ctx context.Context) error
}

// Writer is the easy sink: it writes a batch and says how it went.
type Writer interface {
	Component
	// Write delivers b. nil: delivered. EventErrors: all but those. A
	// PermanentError: refused as a whole. Any other error: try again later.
	Write(ctx context.Context, b *Batch) error
	Close(ctx context.Context) error
}

// SinkProcessor drives a group of sinks as one.
type SinkProcessor interface {
	Sink
	// Group gives the open sinks, in written order (conf.Report.Members gives
	// their names), before Open.
	Group(sinks []Sink)
}

// Type is an entry of the catalogue.
type Type[T conf.Binder] struct {
	Name    string   // Flume's alias, lower case
	Doc     string   // one sentence
	Aliases []string // further names, and historical class names
	New     func() T
}
