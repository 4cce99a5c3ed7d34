// Package core is the words of Flume and nothing that talks to the outside:
// event, batch, channel, transaction, selector, interceptor, sink processor,
// agent.
//
// # The journey of a batch
//
//	source goroutine                                      | channel |        sink goroutine
//	read → parse → Batch → interceptors → selector → claim × n, Commit × n | Take → Deliver → Ack
//
// A source reads into memory it owns and cuts events out of it: a [Batch]. It
// hands the batch to its [Outlet], the [ChannelProcessor], and never touches it
// again. Interceptors change it in place, the selector says which events go to
// which channels, room is claimed in all of them, and only when all have room is
// it committed to all. So a full channel never leaves half a fan-out behind, and
// nothing is held while waiting.
//
// On the other side a [SinkRunner] takes a lease of the oldest events and hands
// it to a [Sink] as a [TakeTx]. The sink acks when the events are safe at the far
// end, at once or much later, whole or by index; what it rolls back comes again,
// in order, in front. Bodies are never copied between the two sides: a lease
// holds the batch that was put.
//
// # What is promised
//
// "Stored" is what a channel promises. For a durable channel it means on disk.
// For another it means accepted, or, if the source can read the batch again
// (it is marked, see [Batch.Mark]), delivered: a tail's position never moves past
// what a crash would lose.
//
// Marks ride with the data. A source's position is stored in the same record as
// its events, and a channel drops events whose position it already holds; a sink's
// resume state is stored in the same record as its ack ([Mark], [Env].Marks). With a
// durable channel between a source that has positions and a sink that has resume
// states, a crash loses nothing and repeats nothing.
//
// # Where to read on
//
// [Agent].Run is the life of it all. component.go has the interfaces. The suites
// channeltest, sourcetest and sinktest say in code what is said here in words.
package core
