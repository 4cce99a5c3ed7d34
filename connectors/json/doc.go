// Package json holds the interceptor json: fields of a body that is a JSON
// object become headers, so that selectors, paths of sinks and other
// interceptors can go by them. Flume has none.
//
// A body is read once, as tokens, and the whole of it is checked: what is no
// JSON, or is followed by something, gives no headers at all. Names lead down
// into objects joined by dots, and a name with dots in it is as good:
// user.id is found in {"user":{"id":1}} and in {"user.id":1}. Where a name
// comes twice the later one counts.
package json
