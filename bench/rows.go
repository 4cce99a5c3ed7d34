package main

import "slices"

// Configurations of the rows. INPUT, DIR and PORT are filled in.
const (
	parts = `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.channels = c
a1.sinks.k.channel = c
`
	inMemory = `
a1.channels.c.type = memory
a1.channels.c.capacity = 20000
a1.channels.c.transactionCapacity = 5000
`
	onDisk = `
a1.channels.c.type = file
a1.channels.c.checkpointDir = DIR/state/checkpoint
a1.channels.c.dataDirs = DIR/state/data
a1.channels.c.minimumRequiredSpace = 50000000
`
	tail = `
a1.sources.r.type = taildir
a1.sources.r.filegroups = g
a1.sources.r.filegroups.g = INPUT/.*\\.log
a1.sources.r.positionFile = DIR/state/positions.json
a1.sources.r.batchSize = 1000
`
	null = `
a1.sinks.k.type = null
a1.sinks.k.batchSize = 1000
`
	roll = `
a1.sinks.k.type = file_roll
a1.sinks.k.sink.directory = DIR/out
a1.sinks.k.sink.rollInterval = 0
a1.sinks.k.sink.batchSize = 1000
`
	unsynced = `
a1.sinks.k.sink.sync = false
`
	syslog = `
a1.sources.r.type = syslogtcp
a1.sources.r.host = 127.0.0.1
a1.sources.r.port = PORT
`
	web = `
a1.sources.r.type = http
a1.sources.r.bind = 127.0.0.1
a1.sources.r.port = PORT
`
	tailNull = parts + inMemory + tail + null
)

func (s *stage) rows() []row {
	read := contender{"limit", "read 256 KiB blocks, count lines", func() (figure, error) {
		return loop(func() error { _, err := readAll(s.file()); return err })
	}}
	rows := []row{
		{"tail to null", s.size(), []contender{
			read,
			{"millrace", "memory channel, counted", s.agent(tailNull, nil)},
		}},
		{"tail to file", s.size(), []contender{
			{"limit", "copy loop, 256 KiB, not synced", s.limitCopy(false)},
			{"millrace", "memory channel, file not synced, counted", s.agent(parts+inMemory+tail+roll+unsynced, nil)},
			{"synced", "memory channel, acked when the file is synced, counted", s.agent(parts+inMemory+tail+roll, nil)},
		}},
		{"tail to synced file channel to file", s.size(), []contender{
			{"limit", "append + fdatasync per MiB, once", s.limitCopy(true)},
			{"millrace", "every put synced, acked when the file is synced, counted", s.agent(parts+onDisk+tail+roll, nil)},
		}},
		{"syslog TCP, 4 connections", s.size(), []contender{
			{"limit", "loopback reader", s.limitTCP(s.feedSyslog)},
			{"millrace", "memory channel, parsed, to null, counted", s.agent(parts+inMemory+syslog+null, s.feedSyslog)},
		}},
		{"HTTP, JSON batches of 100", s.size(), []contender{
			{"limit", "net/http that reads and answers", s.limitHTTP},
			{"millrace", "memory channel, to null, counted", s.agent(parts+inMemory+web+null, s.feedHTTP)},
		}},
	}
	if s.peers {
		s.addPeers(rows)
	}
	return slices.Concat(rows, s.fileChannelRows(), s.avroRows(), s.storeRows())
}
