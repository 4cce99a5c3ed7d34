// Package memory is Flume's memory channel: events wait in memory, in order,
// and are gone when the process ends. Whoever puts a marked batch (one that can
// be read again) hears "stored" only when the events were delivered, so that a
// tail or a Kafka offset never moves past what a crash would lose; for other
// batches stored means accepted, as in Flume.
//
// The channel is a deque of spans. A span is a range of the events of one put;
// a take cuts spans from the front, a rollback puts them back where they were,
// by sequence, so the order holds however many leases are rolled back in
// whatever order. Bodies are never copied: a lease holds the put's batch.
package memory
