package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Configurations of the two halves of a backlog: what fills the channel, and
// what empties it. Bodies are of lineBytes.
const (
	fillConf = `
a1.sources = r
a1.channels = c
a1.sources.r.type = org.apache.flume.source.StressSource
a1.sources.r.channels = c
a1.sources.r.size = SIZE
a1.sources.r.batchSize = 1000
a1.sources.r.maxTotalEvents = EVENTS
a1.channels.c.capacity = 2000000000
` + onDisk
	emptyConf = `
a1.channels = c
a1.sinks = k
a1.sinks.k.type = null
a1.sinks.k.channel = c
a1.sinks.k.batchSize = 1000
a1.channels.c.capacity = 2000000000
` + onDisk
)

// backlog fills a file channel with so many bytes while nobody takes them, and
// then empties it, and prints what that costs as it grows.
func (s *stage) backlog(bytes int64) error {
	const parts = 10
	events := int(bytes/lineBytes) / (1000 * parts) * 1000 * parts
	dir, err := s.fresh()
	if err != nil {
		return err
	}
	fill := strings.NewReplacer("SIZE", fmt.Sprint(lineBytes), "EVENTS", fmt.Sprint(events)).Replace(fillConf)
	p, admin, err := s.serve(dir, fill)
	if err != nil {
		return err
	}
	idle := residentBytes(p.cmd.Process.Pid)
	fmt.Printf("backlog of %d events, %.1f GB of bodies; put by batches of 1000, each synced\n", events, float64(events)*lineBytes/1e9)
	last := time.Now()
	for i := range parts {
		if err := p.until(time.Hour, func() bool { return held(admin) >= events/parts*(i+1) }); err != nil {
			return err
		}
		took := time.Since(last)
		last = time.Now()
		fmt.Printf("  %3d %% full: %7.1f MB/s  RSS %6.1f MiB  on disk %6.2f GB\n", (i+1)*100/parts,
			float64(events/parts)*lineBytes/1e6/took.Seconds(), float64(residentBytes(p.cmd.Process.Pid))/(1<<20), float64(dirSize(filepath.Join(dir, "state")))/1e9)
	}
	f, err := p.stop()
	if err != nil {
		return err
	}
	fmt.Printf("  peak RSS %.1f MiB (%.1f at the start)\n", float64(f.rss)/(1<<20), float64(idle)/(1<<20))

	p, admin, err = s.serve(dir, emptyConf)
	if err != nil {
		return err
	}
	if err := p.until(time.Minute, func() bool { return delivered(admin) > 0 }); err != nil {
		return err
	}
	fmt.Printf("  first event of the backlog delivered %.0f ms after the start\n", float64(time.Since(p.began).Milliseconds()))
	began := time.Now()
	if err := p.until(time.Hour, func() bool { return delivered(admin) >= events }); err != nil {
		return err
	}
	took := time.Since(began)
	var left int64
	if err := p.until(time.Minute, func() bool { left = dirSize(filepath.Join(dir, "state")); return left < 300<<20 }); err != nil {
		return fmt.Errorf("%d bytes are still on disk: %w", left, err)
	}
	freed := time.Since(began) - took
	f, err = p.stop()
	if err != nil {
		return err
	}
	fmt.Printf("  emptied at %.1f MB/s, peak RSS %.1f MiB; %.1f s later %.2f GB are on disk\n",
		float64(events)*lineBytes/1e6/took.Seconds(), float64(f.rss)/(1<<20), freed.Seconds(), float64(left)/1e9)
	return os.RemoveAll(dir)
}

// serve starts Millrace and waits until it is ready.
func (s *stage) serve(dir, conf string) (p *proc, admin int, err error) {
	if admin, err = freePort(); err != nil {
		return nil, 0, err
	}
	if err := s.config(dir, conf, 0); err != nil {
		return nil, 0, err
	}
	p, err = start(dir, "log", s.bin, "agent", "-n", "a1", "-f", "flume.conf", "--admin", fmt.Sprint("127.0.0.1:", admin))
	if err != nil {
		return nil, 0, err
	}
	return p, admin, p.ready(admin)
}

// held is how many events the channel holds.
func held(admin int) int {
	var st struct {
		Channels []struct{ Events int }
	}
	if get(fmt.Sprintf("http://127.0.0.1:%d/status", admin), &st) != nil || len(st.Channels) == 0 {
		return 0
	}
	return st.Channels[0].Events
}
