// Package http is Flume's http source and http sink.
//
// # The source: a request is a batch of events
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
//
// # The sink: events become requests
//
//	sink 1 ── n lane            a lane is one request in flight, and its memory
//	Deliver -> free lane -> encode -> POST -> rule of the status -> ack | refuse | halve | roll back
//	                        form      transport                                    Retry-After
//
// A form is what a request of one format looks like; loki has an encoder of its
// own, because it sorts lines by their labels. With one lane Deliver waits for
// the answer, and so order is kept. A batch that is answered as faulty is
// halved until the event at fault is alone, and refused.
//
// The transport may hold a request's memory after its answer; a payload takes
// it back. Answers are read up to a limit; only that of _bulk matters beyond
// its status, and one that can not be read means that nothing is known.
package http
