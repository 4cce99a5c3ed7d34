// Package sinkgroup holds the sink processors, which drive the sinks of a group
// as one: default, failover, load_balance.
//
// A processor never retries a transaction on another sink by itself: it rolls
// it back into the channel, and the runner takes it again at once and hands it
// to the sink whose turn it is. So a sink that acks late, or in parts, needs no
// special care, and order is the channel's.
package sinkgroup
