// Package file is the durable channel: what it has answered for is on disk.
//
//	put  -> wal.Log (one write and one sync for all who wait) -> span -> stored(nil)
//	take <- spans, oldest first: in memory while the sink keeps up, else read back from the log
//	ack  -> wal.Log (a small frame that rides with the next put)
//
// The log is the queue: package wal describes its format and what it assumes
// of a disk. This package adds what makes it a channel: room, leases, memory,
// and keys.
//
// A span is a run of events with consecutive sequences. Spans are kept in
// order; a take cuts them from the front, a rollback puts them back by
// sequence. A span in memory refers to the batch it was put in, up to a budget
// of memoryBytes for all; beyond it a put leaves only its place in the log,
// and neighbouring places melt into one span: a backlog costs disk, not
// memory. When a disk span comes to the front about a megabyte of it is read
// at once.
//
// An event counts against capacity from claim to ack. Puts that wait for the
// disk count against memoryBytes as well: a disk that does not keep up makes
// the channel full, not the process large. Nearly full volumes make it full
// too (minimumRequiredSpace), until there is space again.
//
// Marks: each put may store the position of its batch's stream; events at or
// below the position that is held already are dropped and counted, so a batch
// that is sent again after a crash is stored once. Sinks store their resume
// states with acks. A sink may publish what depends on an ack only when the
// channel that Ack returned is closed: the ack is on disk then.
package file
