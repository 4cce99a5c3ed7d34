// Package file is the durable channel: what it has answered for is on disk. It
// is a queue (core/channel/internal/queue) that keeps everything in a log
// (core/wal), and in memory what a sink is about to take.
//
// Marks: each put may store the position of its batch's stream; events at or
// below the position that is held already are dropped and counted, so a batch
// that is sent again after a crash is stored once. Sinks store their resume
// states with acks. A sink may publish what depends on an ack only when the
// channel that Ack returned is closed: the ack is on disk then.
package file
