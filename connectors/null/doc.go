// Package null is Flume's null sink: it takes events and forgets them.
package null
