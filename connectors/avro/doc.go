// Package avro is Flume's avro source and sink: agents to agents, and Flume's
// RPC clients to agents.
//
//	sink of an agent ─┐
//	Flume's SDK       ├─ TCP, deflate, TLS ─ frame -> decode -> Outlet.Put -> answer by serial
//	package client   ─┘
//
// The wire is in connectors/avro/rpc. OK means that every required
// channel has all events of the request, any other answer that the client keeps
// them and sends them again.
//
// # Source
//
// A connection has one goroutine, which reads a frame into a block, cuts events
// out of it (bodies stay where they are) and puts them. Of a client that has
// more requests on the way it works on some at once, as Flume does, so that they
// share a sync of the file channel; a client that asked for order (a sink of
// ours) gets it.
//
// Bytes of all frames that are being read or stored count against one budget;
// a frame that exceeds it is read over and answered FAILED: try again. What is
// no frame, or no request, ends that connection and nothing else.
//
// # Sink
//
// Batches go out without waiting for the answers to those before, up to
// max-in-flight of them, if the far end keeps order, and one at a time if it is a
// Flume. After the first failure nothing more goes out; what was on its way is
// waited for, and what was not stored goes back into the channel, newest first,
// so that it comes again in its old order.
package avro
