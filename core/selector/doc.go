// Package selector holds the channel selectors: replicating,
// multiplexing, load_balancing.
package selector
