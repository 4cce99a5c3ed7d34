// Package stdin is the source that makes an event of each line of the process's
// standard input: of a pipe, a file, a terminal.
//
//	cat file | millrace agent ...      standard input ── Pipe ── batch ── Outlet.Send
//
// While the channels are full it does not read, and whoever writes waits. At the
// end of the input the source has nothing more to do, and the agent goes on.
//
// Standard input belongs to the process, and to others too: it may be the same
// open terminal or pipe that a shell has. So it is not made non-blocking; the
// source waits in poll, together with a pipe of its own that ends the waiting.
// Nor is it closed, and only one source reads it at a time.
package stdin
