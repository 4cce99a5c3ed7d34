// Package filetype holds the file types of Flume's hdfs sink, for every sink that
// writes whole files into a store: what a serializer writes, the same compressed
// in Hadoop's framing, and Hadoop's SequenceFile.
//
//	Config 1 ── n Encoder ── one file each
//
// What has been appended becomes a complete file, or a complete beginning of
// one, at each Flush: there, and only there, a file may be cut and gone on with
// later, by an Encoder that has resumed from State. Another file type is another
// Encoder, chosen in Config.New; one that can only be written as a whole, such as
// Parquet, would keep all back until its file ends, and refuse to resume.
package filetype
