// Package logger is Flume's logger sink: it writes each event into the agent's
// own log, as headers and a short hexadecimal dump. It is for looking at a flow,
// not for keeping it.
package logger
