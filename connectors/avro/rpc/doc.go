// Package rpc is the wire of the avro source and sink and of package client:
// Avro's RPC over what Avro calls its Netty transport.
//
//	TCP | deflate | TLS | frame: serial, count, count × (length, bytes)
//	                      request:  [handshake] metadata method parameters
//	                      response: [handshake] metadata error? status
//
// A request and its response have the same serial; a connection may carry many
// at once. The pieces of a frame are one stream of bytes, where they are cut
// means nothing. With both TLS and deflate Flume 1.10 and later compress the TLS
// records, not what is in them, and so it is here; older Flumes did the
// opposite.
//
// # Handshake
//
// The first request of a connection carries the hash of the client's protocol,
// the answer says whether the server knows it (BOTH, CLIENT) or wants the text
// (NONE). A server here takes any protocol whose messages look as Flume's do on
// the wire; one that does not is told by closing the connection. A client here
// shakes hands with an empty message when it connects, so that a connection it
// has is one that works.
//
// # Order
//
// Flume works on the requests of one connection at the same time. A client that
// has several in flight therefore cannot tell in which order they are stored. A
// client of this package says in the metadata of its handshake that it minds
// (the key millrace.ordered), and a server of ours answers the same: then it
// stores the requests of that connection one after the other, and after one
// that failed it refuses all that follow, so that nothing overtakes what will
// be sent again. A Flume ignores the key and does not answer it.
//
// The package is here, and not internal, because package client is built on it.
// Who sends events from a program of his own uses that one.
package rpc
