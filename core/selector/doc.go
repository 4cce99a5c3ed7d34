// Package selector holds the channel selectors: replicating and multiplexing.
package selector
