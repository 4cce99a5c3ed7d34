// Package kafka is the sink into Apache Kafka, the source from it, and the channel
// that keeps events in it.
//
// github.com/segmentio/kafka-go brings what is rarely called: the messages for
// metadata, offsets, producer ids and groups, and SASL. The membership of a
// group is this package's own (group.go): kafka-go's can not lead a group that
// Java's clients are in. So is what every record passes: record batches are written out of events
// and cut into events without a copy (encode.go, decode.go), and Produce and
// Fetch are written and read by hand (wire.go) on connections that belong to one
// user each (client.go).
//
// # The sink
//
// One transaction at a time, all partitions of it at once:
//
//	events → topic, partition → chunks → one request in flight a broker → ack by index
//
// A chunk is a run of events of one partition that is sent as one record batch.
// The next chunk of a partition is sent when the one before it is answered, and
// the next transaction when this one has ended: so nothing overtakes within a
// partition, through retries and changes of leaders. A chunk whose answer got
// lost is sent again with the same producer id and sequence, and the broker
// drops what it already has.
//
// # The sink in transactions
//
// With transactional.id a take is one transaction of Kafka's (txn.go: its requests,
// txnflow.go: its course). What says how far the channel is delivered is in it:
//
//	prepare → add partitions → produce → offsets → commit → ack
//
// Of a Kafka channel in the same cluster these are the offsets of its group
// (claim.go); of a channel that keeps marks a number that is also the ack's mark
// (progress.go). After a failure, a lost answer or a crash the next producer id ends
// what was open, and what was committed is left out when it comes again. See
// docs/decisions/013-kafka-transactions.md.
//
// # The source
//
// A generation of the group assigns partitions. Each is a stream with a cursor;
// one goroutine a broker fetches for all cursors that it leads, and sends what
// came at once. What the channels have stored moves the cursor's done, and done is
// what is committed, never past what is not stored. With the offset goes, as the
// commit's metadata, the name of the stream: whoever gets the partition next asks
// its channels how far they hold that stream, and so repeats nothing that a crash
// left stored and not committed. A partition that comes back in the next
// generation, with the offset that was committed here, goes on where it was.
//
// A topic that is deleted and made anew has another id (topics.go), and is then
// read from its beginning: an offset of the old one says nothing of it.
//
// # The channel
//
// What the sink writes with (output) and what the source reads with (consumer),
// with a stash in place of the source's outlet:
//
//	puts → writer → producing → topic → consumer → stash → leases → acks → commits
//
// The writer takes what all sources have put, writes it as one transaction, and
// tells them. The stash is the consumer's keeper: what was read waits there in
// the order in which it came, of all partitions together. A lease is cut from the front; up
// to where a partition is acked without a gap is committed. When the group comes together
// again nothing more is given out, sinks are asked for what they hold, and what
// is of partitions that then are others' is dropped, leases with it.
//
// # Formats
//
// Record batches: version 2 (Kafka 0.11 and later). See
// https://kafka.apache.org/documentation/#recordbatch and the messages of
// https://kafka.apache.org/protocol. useFlumeEventFormat: the Avro datum of
// AvroFlumeEvent, headers and body, with nothing around it (event.go).
package kafka
