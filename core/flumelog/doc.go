// Package flumelog reads what a stopped Flume 1.11 has left in a file channel:
// the events that it had accepted and not delivered, in their order. It is how
// `millrace channel import` brings a backlog along. It changes nothing.
//
//	dataDir/       log-N  log-N.meta      records, in files numbered over all dataDirs
//	checkpointDir/ checkpoint  checkpoint.meta  inflighttakes  inflightputs
//
// # Data file (format 3)
//
//	1 byte   op: 0x7F record, 0x00 record that the integrity tool disabled, 0x80 end (padding)
//	4 bytes  length, big-endian
//	payload  delimited protobuf messages: header {1 type, 2 transaction, 3 write order; all little-endian fixed},
//	         body by type: 1 put {1 event {1 headers {1 key, 2 value}, 2 body}, 2 CRC-32 of the body},
//	         2 take {1 file, 2 offset of the put}, 3 rollback, 4 commit {1 type: 1 puts, 2 takes}; footer
//
// # Replay
//
// The records of all files are merged by their write order. A committed put
// joins the queue, a committed take leaves it; what was never committed counts
// for nothing. A checkpoint that is complete gives the queue as it was at some
// write order, and what was in flight then; records up to there are passed
// over. Without a good checkpoint everything is replayed, as Flume does. Takes
// that were in flight at the checkpoint and never committed go back to the
// front, in the order of their puts (Flume gives them back in no order). The
// puts of a transaction that was open at the checkpoint keep their order too.
//
// Source: Flume's org.apache.flume.channel.file (Log, ReplayHandler,
// EventQueueBackingStoreFileV3, FlumeEventQueue, LogFileV3).
package flumelog
