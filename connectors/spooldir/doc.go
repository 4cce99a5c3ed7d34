// Package spooldir is the spooldir source: it takes in files that somebody puts
// into a directory, one after the other, and renames or deletes each one when
// its events are stored.
//
//	directory 1─n file 1─1 stream (one generation of its content) 1─n batch
//
// # How it works
//
// One goroutine does it all. It lists the directory, reads the next file to its
// end, sends its batches, and goes on to the next file while the last ones of
// the file before are still under way. A file is finished (renamed, deleted, or
// entered in the tracker directory) when all its batches are done: on disk in a
// file channel, delivered from a memory channel.
//
// # Identity
//
// A file is its inode and when it was made; that is the name of its stream, so
// the channels know after a crash how far they have it, and nothing need be
// written before its first event. A file system that keeps no birth times has
// the time of the last change in its place.
//
// Positions are offset+1 in the unit of the deserializer (bytes of the
// decompressed content, for AVRO records), since the event of an empty file ends
// at offset 0, and position 0 is none.
//
// # Files that are not at rest
//
// A file is read to its end when it is, at its end, what it was when it was
// opened. Otherwise it is left, without its unfinished last line, and opened
// again at its place after pollDelay: one that is still being written loses
// nothing. One that is shorter than what was read of it, or has changed in
// place, is set aside, as is one whose content is damaged: it is renamed with
// asideSuffix, and neither read again nor deleted.
//
// # State
//
// Flume's meta file (see tracker.go) tells the place in the oldest file that is
// not finished, in a form that Flume reads. Its header has the places in all
// such files, in ours.
package spooldir
