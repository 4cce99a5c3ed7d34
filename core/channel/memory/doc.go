// Package memory is Flume's memory channel: events wait in memory, in order,
// and are gone when the process ends. Whoever puts a marked batch (one that can
// be read again) hears "stored" only when the events were delivered, so that a
// tail or a Kafka offset never moves past what a crash would lose; for other
// batches stored means accepted, as in Flume.
//
// It is a queue (core/channel/internal/queue) without a disk.
package memory
