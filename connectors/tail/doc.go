// Package tail is the taildir source: it follows files that grow, whatever
// their writers and rotation do to them, and comes back to its place.
//
//	directory 1─n file 1─1 stream (one generation of its content) 1─n batch
//
// # How it works
//
// One goroutine does it all: it looks (tick), reads (turn), and hands batches
// to a second one that only sits in Outlet.Send, so that looking goes on while
// the channels are full: a file that is rotated then is already open.
//
// Looking has three parts. Files that changed lately are stat'ed at every poll.
// Directories are listed, with a stat of every match, as often as takes at most
// half a percent of the time: ten thousand files at rest every few seconds, ten
// at every poll.
// Inotify makes both faster and is never needed: containers, overlays and
// network file systems lose its events.
//
// Reading is ReadAt into memory of a core.Block; events are slices of it. No
// rest of a line is kept in memory: the position is the end of the last line,
// and what follows is read again when there is more of it. The 256 bytes before
// the position are read along and their checksum compared, so content that was
// replaced under our feet (truncated and grown past the position, an inode used
// again) is noticed before its first event.
//
// Where lines are joined (package lines) the events are copies, and a stream has
// up to three texts: what was read of it is then ahead of what became events,
// and every text has a position of its own, held back by the first event of it
// that is unfinished or not sent. The least of them is what is written down, and
// the others beside it.
//
// # Identity
//
// A file is its device and inode. Its content is a stream: a new one at first
// sight, after a truncation, after the reuse of its inode. A rename keeps the
// stream. A copy that logrotate makes before it truncates (copytruncate)
// continues the stream of what it was copied from. Where a name is a symbolic
// link its target is the file, and what was rotated is looked for beside that.
//
// Streams have random names, which are on disk before the first event is sent:
// the channels can then tell after a crash how far they have each stream.
//
// # Files
//
// The position file is Flume's, member by member; Flume can read it and go on.
// Beside it, in <positionFile>.millrace, is what Flume's reader would die of:
// the device, the stream and the positions of its texts, the checksum before the position, and which position
// file was written last. A position file that is not that one was changed by
// somebody, who is obeyed.
package tail
