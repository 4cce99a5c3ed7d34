// Package hdfs is Flume's hdfs sink: events go into files of HDFS, in
// directories named after headers and time.
//
//	lease 1 ─ n part n ─ 1 output 1 ─ 1 bucket (path + prefix + schema)
//
//	Deliver ─ bucketOf ─ encode ─ buffer ─ Write ──┬── commit point: Close, ack with a mark, later Append
//	                                               └── end: Close, ack, wait until it is stored, rename
//
// # What is promised
//
// The library (github.com/colinmarc/hdfs) has a Flush that confirms nothing,
// and no recovery of a write pipeline. So the only commit point is a Close that
// returned nil: until then events stay leased. With each ack goes a mark: the
// file's name in use, its final name, its length, the events in it. A channel
// that survives a crash gives the marks back; what a file has beyond the
// recorded length was not acked, will come again, and is cut off before the file
// gets its final name. A file's name is recorded, with no events, before it is
// made, so that one nobody acked anything of is removed. A rename comes only
// after the ack that says so is on the channel's disk. So each event is in the
// finished files once; with a channel in memory, at least once.
//
// # When something fails
//
// A lease may have events in several files, and can only be rolled back as a
// whole. So one failure undoes all that is not acked, in every open file; the
// connection is dropped with them, for HDFS takes a file as being written as
// long as its writer's connection renews its lease. Files of which nothing is
// acked are removed; the others are cut and renamed in the background: the name
// node is asked to take the dead writer's lease away, and again where a cut
// stalls. Left alone it would finish one such file a minute.
//
// # Locks
//
// One lock guards all but the calls that close files: they run beside the
// deliveries, hdfs.threadsPoolSize at a time, and take the lock to ack. Every
// call is given up after hdfs.callTimeout, whether the library returns or not.
package hdfs
