// Package stress is Flume's load generator: events of one size, all the same,
// as many and as fast as the keys say. Unlike seq it does not wait until its
// channels have room for good: an event that finds none within the channel's
// keep-alive has failed, and the next one is tried.
package stress
