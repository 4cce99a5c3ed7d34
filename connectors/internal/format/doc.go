// Package format holds the serializers that write events into files: TEXT,
// HEADER_AND_TEXT, AVRO_EVENT and AVRO, as Flume's file_roll and hdfs sinks know
// them, and JSON.
//
//	Config 1 ── n Serializer ── one file each
//
// A serializer appends to a []byte that its sink owns and writes where it
// likes. What has been appended becomes a complete file, or a complete
// beginning of one, at each Flush: there, and only there, a file may be cut and
// gone on with later, by a Serializer that has resumed from State. A sink that
// wants to undo what it wrote throws the Serializer away and makes a new one.
//
//	TEXT             body, '\n'
//	HEADER_AND_TEXT  {k=v, k2=v2} body, '\n'     the order of Java's HashMap
//	JSON             {"headers":{"k":"v"},"body":"..."}, '\n'     or flat: {"k":"v","message":"..."}
//	AVRO_EVENT       Avro object container file of Event{headers map<string>, body bytes}
//	AVRO             Avro object container file whose records are the bodies
//
// The file of AVRO has one schema, which events name in their headers: Prepare
// finds it before a batch is written, and the sink gives each schema a file.
//
// Avro object container file: magic "Obj" 0x01, a map of metadata (avro.schema,
// avro.codec), a sync marker of 16 random bytes; then blocks of: events, bytes
// (both zigzag varints), the data (perhaps compressed), the marker.
package format
