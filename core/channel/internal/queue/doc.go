// Package queue is what the channels have in common: an ordered queue of
// events that are kept in memory, on disk, or some here and some there. The
// memory, file and spillable channels are this queue with different limits and
// keys.
//
//	put  -> memory: a span at once
//	        disk:   wal.Log (one write and one sync for all who wait), then a span
//	take <- spans, oldest first; those on disk that are not in memory are read back
//	ack  -> memory: gone      disk: wal.Log (a small frame that rides with the next put)
//
// A span is a run of events of one put, or, of those on disk, of neighbours in
// the log. Each event has an order, given at commit, whatever place it goes to.
// A take cuts spans from the front; a rollback puts them back by order, so the
// order holds however many leases are rolled back, in whatever order. What is
// on its way to the disk keeps later puts, even those to memory, from being
// taken before it. Bodies are never copied: a lease holds the put's batch.
//
// Events on disk may be in memory as well, up to a budget for all of them:
// a sink that keeps up never reads the disk. Beyond it a put leaves only its
// place in the log, and neighbouring places melt into one span: a backlog costs
// disk, not memory. When such a span comes to the front about a megabyte of it
// is read at once.
//
// An event counts against the room of its place from claim to ack. Claims are
// counted, not queued: whoever finds no room waits (Room) or, with a policy
// other than Block, claims nothing and settles at commit what is dropped.
//
// Marks. A channel that keeps everything on disk stores the position of a
// source's stream with its events, drops events at or below the position it
// holds, and stores sinks' resume states with their acks. One that keeps some
// events in memory only must do none of it: after a crash a position would
// speak for events that are gone, and a sink's old state would undo what it
// delivered since. There a marked batch (one that can be read again) counts as
// stored when its events are on disk or delivered, so its source repeats what a
// crash took.
package queue
