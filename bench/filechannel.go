package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Rows of the file channel alone: stress sources that put batches and wait for
// each to be stored, a null sink that takes as much at a time.

// fileChannelConf has n sources, which put events of lineBytes in all.
func fileChannelConf(n, batch, events int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
a1.channels = c
a1.sinks = k
a1.sinks.k.channel = c
a1.channels.c.transactionCapacity = %[1]d
a1.channels.c.capacity = 1000000
a1.sinks.k.type = null
a1.sinks.k.batchSize = %[1]d
%[2]s`, batch, onDisk)
	names := ""
	for i := range n {
		names += fmt.Sprintf(" r%d", i)
		fmt.Fprintf(&b, `
a1.sources.r%[1]d.type = org.apache.flume.source.StressSource
a1.sources.r%[1]d.channels = c
a1.sources.r%[1]d.size = %[2]d
a1.sources.r%[1]d.batchSize = %[3]d
a1.sources.r%[1]d.maxTotalEvents = %[4]d
`, i, lineBytes, batch, events/n)
	}
	return "a1.sources =" + names + b.String()
}

// fileChannelRows compare at the batch sizes and numbers of sources that count.
func (s *stage) fileChannelRows() []row {
	var rows []row
	for _, n := range []int{1, 8} {
		for _, batch := range []int{100, 1000} {
			one := &stage{dir: s.dir, bin: s.bin, events: min(s.events, 4000*batch) / (n * batch) * (n * batch)}
			r := row{fmt.Sprintf("file channel, %d source(s), batches of %d", n, batch), one.size(), []contender{
				{"limit", "write of a batch + fdatasync, one after the other", one.limitAppend(batch)},
				{"millrace", "every put synced", one.agent(fileChannelConf(n, batch, one.events), nil)},
			}}
			if jars := filepath.Join(e2eHome(), "lib", "flume"); s.peers && exists(jars) {
				r.field = append(r.field, contender{"flume", "every put and take synced", one.flumeChannel(jars, n, batch)})
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// limitAppend is what the disk does for one who writes and syncs batches.
func (s *stage) limitAppend(batch int) func() (figure, error) {
	return func() (figure, error) {
		dir, err := s.fresh()
		if err != nil {
			return figure{}, err
		}
		f, err := os.Create(filepath.Join(dir, "out", "log"))
		if err != nil {
			return figure{}, err
		}
		defer f.Close()
		buf := make([]byte, batch*lineBytes)
		return loop(func() error {
			for range s.events / batch {
				if _, err := f.Write(buf); err != nil {
					return err
				}
				if err := syscall.Fdatasync(int(f.Fd())); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// flumeChannel is Flume with a tenth of the events; its times are scaled.
func (s *stage) flumeChannel(jars string, n, batch int) func() (figure, error) {
	return func() (figure, error) {
		const part = 10
		few := &stage{dir: s.dir, bin: s.bin, events: s.events / part / (n * batch) * (n * batch)}
		dir, err := few.fresh()
		if err != nil {
			return figure{}, err
		}
		if err := few.config(dir, fileChannelConf(n, batch, few.events), 0); err != nil {
			return figure{}, err
		}
		f, err := few.runFlume(dir, jars, nil)
		scale := float64(s.events) / float64(few.events)
		f.wall, f.cpu = time.Duration(float64(f.wall)*scale), time.Duration(float64(f.cpu)*scale)
		return f, err
	}
}
