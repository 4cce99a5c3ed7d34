// Package seq is Flume's sequence generator: events whose bodies are 0, 1, 2 …
// in decimal. It feeds tests and demonstrations, and because every number is a
// position of its stream, a gap or a repetition at the far end shows a fault on
// the way.
package seq
