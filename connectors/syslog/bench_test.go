package syslog

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// BenchmarkParse frames and parses lines of 200 bytes: of one host and second,
// of many hosts in turn, each with its own microsecond, and of other forms.
func BenchmarkParse(b *testing.B) {
	text := " app[123]: " + strings.Repeat("x", 140)
	for _, bb := range []struct {
		name string
		line func(i int) string
	}{
		{"rfc5424/second", func(i int) string { return fmt.Sprintf("<13>1 2026-11-22T15:43:%02dZ host1%s\n", i/1000, text) }},
		{"rfc5424/second/16hosts", func(i int) string { return fmt.Sprintf("<13>1 2026-11-22T15:43:%02dZ host%d%s\n", i/1000, i%16, text) }},
		{"rfc5424/micro", func(i int) string {
			return fmt.Sprintf("<13>1 2026-11-22T15:43:52.%06d+00:00 host1%s\n", i*997%1000000, text)
		}},
		{"rfc3164/second", func(i int) string { return fmt.Sprintf("<13>Nov 22 15:43:%02d host1%s\n", i/1000, text) }},
		{"rfc5424/counted", func(int) string {
			s := "<13>1 2026-11-22T15:43:52Z host1" + text
			return fmt.Sprintf("%d %s", len(s), s)
		}},
		{"invalid", func(int) string { return text + "\n" }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var all []byte
			const lines = 10000
			for i := range lines {
				all = append(all, bb.line(i)...)
			}
			p := newParser(&rules{now: time.Now, loc: time.UTC}, nil)
			f := framer{size: 2500, counted: true}
			b.SetBytes(int64(len(all) / lines))
			b.ReportAllocs()
			batch := core.NewBatch()
			for rest, n := all, 0; n < b.N; n++ {
				line, used, cut, ok := f.next(rest, false)
				if !ok {
					rest = all
					continue
				}
				rest = rest[used:]
				p.event(batch, line, cut)
				if len(batch.Events) == 1000 {
					batch.Release()
					batch = core.NewBatch()
				}
			}
			batch.Release()
		})
	}
}

// BenchmarkTCP runs the source: 4 connections over loopback, lines of 200 bytes.
func BenchmarkTCP(b *testing.B) {
	for _, tt := range []struct{ name, stamp string }{{"second", "2026-11-22T15:43:52Z"}, {"micro", ""}} {
		b.Run(tt.name, func(b *testing.B) {
			out := new(counting)
			addr := run(b, TCP.New(), map[string]string{"host": "127.0.0.1", "port": "0"}, out, nil)
			const conns = 4
			var data []byte
			lines := 0
			for ; len(data) < 1<<20; lines++ {
				stamp := tt.stamp
				if stamp == "" {
					stamp = fmt.Sprintf("2026-11-22T15:43:52.%06dZ", lines*997%1000000)
				}
				data = fmt.Appendf(data, "<13>1 %s host1 app[123]: %s\n", stamp, strings.Repeat("x", 155))
			}
			b.SetBytes(int64(len(data) / lines))
			b.ReportAllocs()
			rounds := b.N/lines/conns + 1
			b.ResetTimer()
			begun := time.Now()
			for range conns {
				go func() {
					c, err := net.Dial("tcp", addr.String())
					if err != nil {
						b.Error(err)
						return
					}
					defer c.Close()
					for range rounds {
						if _, err := c.Write(data); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			want := int64(conns * rounds * lines)
			for out.events.Load() < want && !b.Failed() {
				time.Sleep(100 * time.Microsecond)
			}
			b.ReportMetric(float64(want)/time.Since(begun).Seconds(), "events/s")
			b.ReportMetric(float64(out.bytes.Load())/float64(want), "bodybytes/event")
		})
	}
}
