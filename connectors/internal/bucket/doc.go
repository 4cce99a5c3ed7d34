// Package bucket is how sinks that have many files open put the events of
// transactions into them: which file an event goes to, what each file has of
// which lease, where it may be cut, and which leases are not acked.
//
//	Lease 1 ─ n Part n ─ 1 File 0..1 ─ 1 Bucket n ─ 1 Table
//
// A lease ends as a whole, so a file can be cut only where it has got all it gets
// of one: each part says where that is. A sink embeds File in a type of its own,
// the output, and tells its Table how to begin one, and what to do with one that
// has grown. What makes events durable, and when, is the sink's.
//
// Nothing here locks: all is used with the sink's lock held.
package bucket
