// Package file is Flume's file_roll sink: events go into numbered files of one
// directory, and a new file begins after a time, a size or a count.
//
//	Deliver ─ serialize ─ buffer ─ write ──┬── commit point: sync, ack with a mark
//	                                       └── roll: commit, wait for the ack, rename
//
// # What is promised
//
// Events are acked only when their file is synced, and with each ack goes a
// mark: the name of the file, its length, the events in it. A channel that
// survives a crash gives the mark back at the next start; what the file has
// beyond the recorded length was not acked, will be delivered again, and is cut
// off. So each event is in the files once, whenever the machine stops.
//
// That holds for a file no mark speaks of too, because there is none: before a
// file is made its name is recorded, with length 0. And what readers may take
// for finished (a file that has lost its in-use suffix) is finished only after
// the ack that covers all of it is on the channel's disk: nothing published is
// ever cut.
//
// With a channel in memory there are no marks to come back: at least once.
//
// # Commit points
//
// A sync for each batch of a hundred events would be the limit of everything,
// so several leases share one: it comes after 8 MiB, after sink.commitInterval,
// when the channel is full of leases (Flush), and at each roll. An Avro
// file is cut between blocks only: each batch ends a block, as in Flume. An event
// of another schema (serializer AVRO) ends the file too.
//
// # When something fails
//
// All that is not acked is rolled back, the file is closed, and the next
// delivery opens it again and cuts it to its last commit point: the same path
// as after a crash. So a full disk costs neither an event nor a second copy.
package file
