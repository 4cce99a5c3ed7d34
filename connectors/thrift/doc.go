// Package thrift is Flume's thrift source and sink: agents to agents, and
// programs that have a Thrift library to agents.
//
//	sink of an agent ─┐
//	Flume's SDK       ├─ TCP, TLS ─ frame -> decode -> Outlet.Put -> answer
//	Thrift's clients  ─┘
//
// OK means that every required channel has all events of the request, any other
// answer that the client keeps them and sends them again.
//
// # Wire
//
// Framed transport: the length of a message as four bytes, big end first, and the
// message, in the compact or the binary protocol of Apache Thrift
// (doc/specs/thrift-compact-protocol.md, thrift-binary-protocol.md there). The
// service is Flume's flume.thrift:
//
//	struct ThriftFlumeEvent { 1: required map<string,string> headers, 2: required binary body }
//	enum Status { OK = 0, FAILED = 1, ERROR = 2, UNKNOWN = 3 }
//	Status append(1: ThriftFlumeEvent event)
//	Status appendBatch(1: list<ThriftFlumeEvent> events)
//
// A sink that would send on before the answer asks for order with a field of its
// own in the arguments of the first request, 1000: bool ordered, and a source of
// Millrace grants it with the same field in the result: then, once a request is
// not answered OK, none after it on that connection is stored. To others it is a
// field that they do not know and read over, as every Thrift does.
//
// # Source
//
// A connection has one goroutine, which reads a frame into a block, cuts events
// out of it (bodies stay where they are), puts them and answers, one request
// after the other: what a client sends ahead waits in the socket.
//
// Bytes of all frames that are being read or stored count against one budget; a
// frame that exceeds it is read over and answered FAILED: try again. What is no
// frame, or no request, ends that connection and nothing else.
//
// # Sink
//
// Batches go out without waiting for the answers to those before, up to
// max-in-flight of them, if the far end keeps order, and one at a time if it is
// a Flume. After the first failure nothing more goes out; what was on its way is
// waited for, and what was not stored goes back into the channel, newest first,
// so that it comes again in its old order.
package thrift
