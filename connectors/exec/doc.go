// Package exec is Flume's exec source: it runs a command and makes an event of
// each line that the command prints.
//
//	command ── pipe ── reader ── batch ── Outlet.Send
//	  └ process group: TERM, then KILL, when the source stops
//
// The reader reads straight into the memory of batches and cuts lines out of
// it. While the channels are full it does not read: the pipe fills, and the
// command waits. (Flume kills the command then, and loses the batch.) What was
// printed and read when the agent stops is still put; what a crash finds in the
// pipe is lost, since a pipe cannot be read again: that is what taildir is for.
//
// One goroutine reads standard output; the pipe's read deadline is the batch
// timeout, so none waits beside it. Three more live as long as the command: one
// holds the thread that started it (Linux ends the child with that thread, which
// is how a killed agent takes its command along), one reads standard error, one
// waits to end it.
//
// An image without a `tail` can still run Flume's commonest configuration: a
// plain `tail -F FILE` then becomes `millrace tail -F FILE`, a child process
// like any other.
package exec
