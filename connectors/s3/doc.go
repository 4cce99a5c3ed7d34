// Package s3 is a sink that writes events into objects of S3, or of a store that
// speaks its protocol, with the words of Flume's hdfs sink.
//
//	lease 1 ─ n piece n ─ 1 output 1 ─ 1 bucket (path + prefix + schema)
//
//	Deliver ─ bucketOf ─ encode ─ buffer ─ spool ── commit point: sync, ack with a mark
//	                                         │
//	                           carrier ──────┴── whole parts: UploadPart ... end: Complete, or one Put
//
// # What is promised
//
// Bytes go to a directory of the sink's own first, the spool, a file for each
// part. A commit point is a sync of those files, and the ack that follows it has
// a mark: the object's key, its length, the events in it. A part is uploaded
// when the channel has that ack on its disk, and from then on its bytes never
// change: parts end at multiples of s3.partSize, wherever that is in an event. So
// an upload that was broken off by anything goes on where it was, a request may
// be made twice, and no failure of the store undoes anything. An object appears
// with its last request, which comes after the ack that says it has ended, and
// does not replace one that is there. So each event is in the objects once; with
// a channel that keeps no marks the spool's own record of what was acked takes
// their place: at least once.
//
// # What is in memory
//
// Buffers of 64 KiB, 16 MiB of them at most, and what requests read from the
// spool on their way. The number of open objects does not count.
//
// # When something fails
//
// A failure of the spool undoes all that is not acked, in every open object: a
// lease ends as a whole. One of the store is tried again for ever, with growing
// pauses, while events go on into the spool; from s3.maxBacklog on they wait in
// the channel, and the sink says why.
//
// # Locks
//
// One lock guards all. A carrier, one for each object that has something to
// carry, holds it only to look and to note; requests are made without it,
// s3.threadsPoolSize at a time.
package s3
