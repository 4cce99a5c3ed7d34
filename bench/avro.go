package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/client"
)

// Rows of one Avro hop: four clients, which wait for each answer, a channel, a null sink.

func avroConf(channel string, batch int) string {
	return parts + channel + fmt.Sprintf(`
a1.channels.c.transactionCapacity = %[1]d
a1.channels.c.capacity = 100000
a1.sources.r.type = avro
a1.sources.r.bind = 127.0.0.1
a1.sources.r.port = PORT
a1.sinks.k.type = null
a1.sinks.k.batchSize = %[1]d
`, batch)
}

func (s *stage) avroRows() []row {
	const memory = "\na1.channels.c.type = memory\n"
	var rows []row
	for _, c := range []struct{ name, conf, state string }{
		{"memory channel", memory, "counted"},
		{"file channel", onDisk, "every put synced, counted"},
	} {
		for _, batch := range []int{100, 1000} {
			one := &stage{dir: s.dir, bin: s.bin, events: min(s.events, 2000*batch) / (connections * batch) * (connections * batch)}
			feed := one.feedAvro(batch)
			r := row{fmt.Sprintf("Avro hop, %s, batches of %d", c.name, batch), one.size(), []contender{
				{"limit", "loopback reader of as many bytes", one.limitTCP(one.feedSyslog)},
				{"millrace", c.state, one.agent(avroConf(c.conf, batch), feed)},
			}}
			if jars := filepath.Join(e2eHome(), "lib", "flume"); s.peers && exists(jars) {
				r.field = append(r.field, contender{"flume", c.state, one.flumeAvro(jars, c.conf, batch)})
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// feedAvro sends the events in batches over four connections.
func (s *stage) feedAvro(batch int) func(addr string) error {
	return func(addr string) error {
		events := make([]client.Event, batch)
		for i := range events {
			events[i].Body = bytes.Repeat([]byte("x"), lineBytes)
		}
		return inParallel(connections, func(int) error {
			c, err := client.New(client.Config{Hosts: []string{addr}, BatchSize: batch})
			if err != nil {
				return err
			}
			defer c.Close()
			for range s.events / connections / batch {
				if err := c.AppendBatch(context.Background(), events); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// flumeAvro is Flume with a fifth of the events; its times are scaled.
func (s *stage) flumeAvro(jars, channel string, batch int) func() (figure, error) {
	return func() (figure, error) {
		const part = 5
		few := &stage{dir: s.dir, bin: s.bin, events: s.events / part / (connections * batch) * (connections * batch)}
		dir, err := few.fresh()
		if err != nil {
			return figure{}, err
		}
		port, err := freePort()
		if err != nil {
			return figure{}, err
		}
		if err := few.config(dir, avroConf(channel, batch), port); err != nil {
			return figure{}, err
		}
		addr := fmt.Sprint("127.0.0.1:", port)
		f, err := few.runFlume(dir, jars, func() (time.Time, error) {
			end := time.Now().Add(time.Minute)
			for {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					_ = c.Close()
					began := time.Now()
					return began, few.feedAvro(batch)(addr)
				}
				if time.Now().After(end) {
					return time.Time{}, err
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
		scale := float64(s.events) / float64(few.events)
		f.wall, f.cpu = time.Duration(float64(f.wall)*scale), time.Duration(float64(f.cpu)*scale)
		return f, err
	}
}
