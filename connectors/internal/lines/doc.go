// Package lines makes events of physical lines, for the sources that read
// lines: it takes container runtimes' envelopes off, joins what they cut into
// parts, and joins lines into multi-line events.
//
//	physical line ─ container ─> text of a stream ─ parts ─> logical line ─ multiline ─> event
//	  [begin,end)     docker,cri    stdout, stderr     P F                    patterns
//
// [Pipe] is all of a source that reads what cannot be read again, such as the
// output of a command; sources of files have positions and use a [Joiner].
//
// Where neither is asked for (Options.Plain), a source leaves this package out
// of its way: a line is an event.
//
// # Streams
//
// A container's file has two texts in it, line by line: standard output and
// standard error. Each is joined for itself, and each has positions of its own:
// Positions says, by Stream, from where on lines have not become events yet.
// Lines that are no lines of a container are a third stream, Raw; it is the only
// one where no container format is set.
//
// The events of one stream tile its lines: each line belongs to exactly one
// event, and Event.End, which is the end of the event's last line, grows from
// event to event. Between streams it does not: an event of standard error may
// be finished by the clock long after later lines of standard output. So one
// number can not say what is done, and a source marks its batches (core.Batch.Mark)
// with a name of each stream's own, see [Stream.Of], and puts events of only one
// stream into a batch. What the channels then hold of each stream is exact,
// whatever was flushed by timeout, however batches were cut.
//
// # Beginning again
//
// Nothing that is pending is stored anywhere: it is read again. Positions.Safe
// is the place to read from; [Options.Joiner] is told the Positions and leaves
// out the lines that have become events before. After a restart, of whatever
// kind, the events are the same ones, except where the clock had cut one: that
// one stays cut.
//
// # Limits
//
// A line comes with the source's own limit (maxEventBytes), cut into pieces or
// left out; parts of a container's line are joined up to the same limit. A
// multi-line event ends before multiline.maxBytes or at multiline.maxLines, and
// the rest is the next event: nothing is lost. Memory is at most one event for each
// stream of each file that has one unfinished.
package lines
