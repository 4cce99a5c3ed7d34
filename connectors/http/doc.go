// Package http is Flume's http source: a request is a batch of events.
//
//	request -> admit -> body into a block -> decode -> Outlet.Put -> answer
//	          method,    bounded, unzipped   handler   one trans-
//	          password                                 action
//
// The answer 200 means that every required channel has all events of the
// request, any other that none has any. 4xx: the request is at fault, sending
// it again will not help. 503: try again later.
//
// # Handlers
//
// A handler makes events of a body. JSON (Flume's default) reads an array of
// {"headers": {...}, "body": "..."}; BLOB takes the whole body as one event;
// lines takes each line as one. JSON goes through a strict tokenizer, and a
// text that it refuses through a second pass, which turns the lenient dialect
// that Flume's reader (Gson) accepts into JSON proper: only those pay for it.
//
// # Memory
//
// A body is read into one block that grows as bytes arrive, never by what a
// Content-Length claims. All bodies that are in the works count against one
// budget (maxPendingBytes); what exceeds it is answered 503. Blob and lines
// keep the block, bodies are slices of it. JSON copies bodies, unescaped, into
// memory of the batch: else one small body would keep a large request text
// alive for as long as it waits in a channel.
//
// # Peers that are slow or many
//
// A connection that waits for its next request ends after
// ServerConnector.idleTimeout; a request must be complete within
// requestTimeout; answers must be read within seconds; connections are
// bounded. What a slow client costs is a goroutine and the few KiB it has sent.
//
// # The end
//
// When the source stops it closes the listener and the connections that wait
// for a request, and answers the requests in the works. When there is no more
// time for the drain, bodies that still arrive are cut off, and puts that wait
// for room are given up and answered 503.
package http
