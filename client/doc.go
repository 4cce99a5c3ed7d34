// Package client sends events to agents, Millrace's and Flume's alike, by Avro
// RPC. It is the successor of the client SDK of Apache Flume.
//
//	c, err := client.New(client.Config{Hosts: []string{"flume:4141"}})
//	...
//	err = c.AppendBatch(ctx, events)
//	...
//	err = c.Close()
//
// When AppendBatch returns nil the agent has all events, in the channels of its
// source. When it returns an error it may have some of them: those of requests
// whose answer was lost on the way. [DeliveryError] says how many are certain;
// whoever sends the rest again loses nothing, and may repeat some.
//
// One client may be used from many goroutines; their requests share a
// connection and do not wait for each other. It connects at the first request,
// and again after a failure, unlike Flume's, which is then of no use any more.
package client
