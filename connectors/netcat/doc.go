// Package netcat is Flume's netcat source: lines over TCP, each answered.
//
//	client: a\nb\n        source: OK\nOK\n
//
// The protocol has no more than that: a line, which ends with a newline, is an
// event; the answer is OK once every required channel has it, or FAILED and a
// reason. A line that is too long, or bytes that are no text, end the
// connection after a FAILED. What a client leaves without its newline is no
// line, and was never acknowledged: it is dropped and counted.
//
// Flume puts line by line, one transaction each. Here all whole lines that one
// read has brought are put as one batch and answered one by one, so that the
// bytes on the wire are Flume's. If the batch has no room its lines are put
// singly, as Flume does, and each gets the answer that is its own.
//
// Text is read straight into blocks that the batches hold; lines are slices of
// it. The rest of a block is filled on by later reads while batches made from
// its beginning are on their way: nobody writes twice to the same byte. A
// connection begins with a block of 4 KiB, and gets larger ones only while its
// reads fill them, so that idle connections stay cheap.
package netcat
