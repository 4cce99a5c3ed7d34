// Package wal is the log under the file channel: segments of frames, group
// commit, recovery, reading back. The log is the queue: an event is written
// once, and read again only by a sink that is late.
//
//	Log ──1:n── segment ──1:n── frame (put | ack | head | seal)
//	            the newest one is written; all others are only read, then removed
//
// # Segment
//
// A file "<number, 8 digits or more>-<first sequence, 20 digits>.wal" in one
// of the log's directories (they take turns). Numbers ascend in log order. All
// integers are little-endian.
//
//	offset 0   64 bytes  segment header
//	       0   8  magic "MILLRACE"
//	       8   4  version (1)
//	       12  4  salt, random, also in every frame of the segment
//	       16  8  number
//	       24  8  first sequence
//	       32  8  time of creation, Unix nanoseconds
//	       40  20 zero
//	       60  4  CRC32C of bytes 0..59
//	       (magic, version and this checksum keep their places in all versions)
//	offset 64  frames, each at a multiple of 8, the first of kind head;
//	           zeros to the end of the file (space reserved ahead)
//
// # Frame
//
//	0   4  length of the payload
//	4   4  CRC32C of the payload
//	8   1  kind: 1 put, 2 ack, 3 head, 4 seal
//	9   1  flags: 1 = last frame of its transaction
//	10  2  zero
//	12  4  count of events
//	16  8  sequence of its first event; in the other kinds, of the next event to come
//	24  8  promise: everything in this segment below this offset was synced when the frame was written
//	32  8  time the events were taken in, Unix nanoseconds
//	40  4  salt of the segment
//	44  4  CRC32C of bytes 0..43
//	48     payload, padded with zeros to a multiple of 8
//
// Payloads (n = uvarint, s = n and that many bytes, z = zigzag varint):
//
//	put   n marks {s stream, z position}; n runs {n events, n headers {s key, s value}};
//	      per event n length of body; bodies
//	ack   n ranges {n gap from the end of the one before, n length};
//	      n marks {s stream, z position, s state}
//	head  n next sequence; ranges and marks of sinks as in ack; marks of sources as in put;
//	      n segments {n number, n first sequence of its name, n from, n to, n bytes, n trusted length, n damaged}
//	seal  n from, n to, n bytes
//
// A put transaction is one or more frames, the last flagged: it is there as a
// whole or not at all. Events are numbered without gaps; a segment holds the
// sequences [from, to). A position of -1 removes the stream.
//
// # Group commit
//
// One goroutine writes whatever has queued up meanwhile in one write of one
// buffer, syncs once, and then answers all of them in order. Acks never ask
// for a sync: they ride with the next put, or go on their own after AckDelay.
// A segment's name is synced before anything in it is answered.
//
// The head of a segment is a snapshot of all that frames before it have said
// and that is synced: acked ranges, marks, and the catalogue of live segments.
// Hence starting reads the newest segment only, however long the queue is, and
// a segment whose events are all acked, durably, can be removed at once.
//
// # Failure
//
// After a failed sync (or a failed write other than ENOSPC) nothing beyond the
// last good sync in that file is trusted or read again: the trusted length
// goes into the catalogue, a new segment is begun, and the frames that were
// not answered are written there again, with the same sequences. ENOSPC is
// tried again in place. Nobody is told of an error before the log closes.
//
// # Recovery
//
// The newest segment with a valid head gives the state; its frames and those
// of later segments (their heads never reached the disk, or have rotted) are
// applied. Where a frame is damaged the highest promise in the segment
// decides: damage at or above the highest promise is a torn tail, written but
// never answered: it is copied aside to "<segment>.torn" and cut off. Damage
// below it was once good: it is passed over, searching for the next frame
// header with this segment's salt; its events are counted as lost when they
// are come upon, and the file is kept as "<segment>.damaged" instead of being
// removed. A clean Close ends with a seal, which promises everything before it.
//
// The format relies on what package vfs says about disks: fdatasync makes
// content and size durable, overwriting leaves synced neighbours alone
// (frames are not padded to sectors), names need a sync of their directory.
package wal
