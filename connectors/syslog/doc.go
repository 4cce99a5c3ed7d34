// Package syslog takes syslog messages: over TCP, TLS and unix stream sockets
// (syslogtcp), over UDP and unix datagram sockets (syslogudp).
//
//	          rawInput ─ window ─ framer ─┐
//	conn 1 ─┤ (or plainInput: TLS)        ├─ parser ─ Batch ─ sender ─ Outlet.Send
//	          datagram ───────── framer ──┘  (scan, known heads)
//
// # Bytes
//
// A connection is read straight into blocks, and the bodies of its events are
// slices of them (window). A batch is sent when it is full, or when the kernel
// has nothing more to read, so nothing waits for company. While the channel has
// no room nothing is read, and TCP makes the peer wait. A silent connection
// costs its goroutine and a few hundred bytes, over TLS a few kilobytes.
//
// syslog has no answers: what was read and is not yet stored is lost when the
// machine dies. Package flight keeps that in bounds.
//
// # Messages
//
// framer is Flume's state machine and finds messages: a line each, or counted
// frames (RFC 6587), told apart frame by frame by a number, a blank and a <.
// scan does what Flume's two patterns do, without a regular expression. What it
// finds are headers:
//
//	Facility Severity   numbers, of all messages
//	priority version timestamp host   of those that match a pattern and have it
//	flume.syslog.status   Invalid: no <priority>; Incomplete: cut
//
// The text behind the host is the body, structured data, message id and a byte
// order mark included. A message that matches no pattern is the body as a whole.
//
// # Headers
//
// Most messages in a row begin alike. parser remembers what it has made of the
// last few such heads and recognises them by their bytes: no parsing, no
// allocation, and headers that are one value for a whole run of events, which
// interceptors and selectors handle once. A new second, or another host, costs
// three allocations; so does each message if senders write microseconds.
package syslog
