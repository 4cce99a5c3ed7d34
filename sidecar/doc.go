// Package sidecar makes a program of core and the connectors: commands, the one
// list of types, the admin server, signals, logs.
//
//	main.go ── Main ── Run ─┬─ agent ───────── conf.Load, Text.Build, core.NewAgent, Agent.Run
//	                        │                  and beside it the reloader: Agent.Reload
//	                        ├─ validate ────── the same, as far as Build
//	                        ├─ help, docs ──── the keys of every type in Catalog
//	                        ├─ healthcheck ─── asks an agent's admin server
//	                        ├─ avro-client ─── package client
//	                        ├─ inject ──────── package inject
//	                        └─ tail, sleep, version
//
// A running agent has two doors of its own. The admin server (--admin) shows
// health, status and metrics; beyond loopback everything but /healthz, /readyz
// and /metrics takes a token. The monitoring server (-Dflume.monitoring.type)
// is Flume's own, for whoever reads Flume's JSON today.
//
// # Stopping
//
// The first SIGTERM or SIGINT drains: sources end, channels empty themselves
// into their sinks until --drain-timeout, what is left is told in one line of
// JSON on standard error, whatever the log's form. A second signal cuts it short.
//
// # Reloading
//
// A configuration that changes is read again: at once where the system tells of
// it (the directories of the files, and those that links lead to, are watched),
// at the next --poll-interval where it does not, and at SIGHUP. It is taken when
// it has been the same for a moment, and only if all of it is valid; what it
// changes is the difference to what runs, component by component
// ([core.Agent.Reload]). Listeners are handed over by their address, so that
// no client is refused. A line in the log, /status and the metrics
// millrace_reload... tell what became of it. --no-reload-conf switches it off.
//
// # Exit codes
//
//	0   it went well; after a signal: nothing was lost, what is left is kept on disk
//	1   it failed while running, could not start, or events were left in a channel that does not keep them
//	2   the configuration has errors
//	64  the command line has errors
//
// # Flume's name
//
// Called as flume-ng (a link will do) the program is lenient, as Flume is: a
// faulty component is left out and the rest starts, and one that cannot open is
// tried again.
package sidecar
