// Package spillable is Flume's spillable memory channel: events go to memory
// while there is room, and to a log on disk when memory has been full for a
// while, until part of it is free again. It is a queue
// (core/channel/internal/queue) with both; order is kept over the two.
//
// A crash takes what is in memory alone, as in Flume, unless it came in marked
// batches (which a source can read again): those count as stored when they are
// delivered or on disk. What is on disk survives. Unlike Flume's, the channel
// writes what it holds in memory to disk when it is closed.
//
// With memoryCapacity = 0 it is a file channel, and keeps marks as that does;
// with overflowCapacity = 0 it is a memory channel, and opens no directory.
package spillable
