package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// discard is an outlet that stores nothing and says so at once.
type discard struct{ events, bytes atomic.Int64 }

func (d *discard) Put(context.Context, *core.Batch) error { return errors.New("not used") }

func (d *discard) Send(_ context.Context, b *core.Batch, done func(error)) error {
	n := b.Size()
	d.events.Add(int64(n.Events))
	d.bytes.Add(n.Bytes)
	b.Release()
	done(nil)
	return nil
}

func (d *discard) Position(string) (int64, bool) { return 0, false }
func (d *discard) Forget(string)                 {}

const (
	benchLines = 1 << 20
	benchLine  = 200
)

// benchFile makes 210 MB of lines of 200 bytes, newline included.
func benchFile(b *testing.B, path string) {
	b.Helper()
	part := []byte(strings.Repeat(strings.Repeat("x", benchLine-1)+"\n", 1<<10))
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for range benchLines >> 10 {
		if _, err := f.Write(part); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil { // or the first save of positions waits for it
		b.Fatal(err)
	}
}

// BenchmarkBareRead is what tailing is measured by: ReadAt into one block, and
// the end of every line found.
func BenchmarkBareRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.log")
	benchFile(b, path)
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, blockBytes)
	b.SetBytes(benchLines * benchLine)
	for b.Loop() {
		lines := 0
		for at := int64(0); ; {
			n, err := f.ReadAt(buf, at)
			if err != nil && err != io.EOF {
				b.Fatal(err)
			}
			p := 0
			for {
				i := bytes.IndexByte(buf[p:n], '\n')
				if i < 0 {
					break
				}
				p += i + 1
				lines++
			}
			at += int64(p)
			if err == io.EOF {
				break
			}
		}
		if lines != benchLines {
			b.Fatal(lines)
		}
	}
}

// BenchmarkTail reads the same file into an outlet that discards.
func BenchmarkTail(b *testing.B) {
	for _, batch := range []string{"100", "1000"} {
		b.Run("batch "+batch, func(b *testing.B) {
			b.SetBytes(benchLines * benchLine)
			dir := b.TempDir()
			benchFile(b, filepath.Join(dir, "a.log"))
			var mem0, mem1 runtime.MemStats
			for b.Loop() {
				b.StopTimer()
				r := newRig(b, ``, "filegroups.g", dir+`/.*\.log`, "batchSize", batch, "pollInterval", "250", "writePosInterval", "3000")
				out := new(discard)
				r.outlet = out
				runtime.ReadMemStats(&mem0)
				b.StartTimer()
				r.start()
				for out.events.Load() < benchLines {
					time.Sleep(100 * time.Microsecond)
				}
				b.StopTimer()
				runtime.ReadMemStats(&mem1)
				r.close()
				b.StartTimer()
			}
			b.ReportMetric(float64(mem1.Mallocs-mem0.Mallocs)/benchLines, "allocs/event")
			b.ReportMetric(float64(b.N)*benchLines/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}

// BenchmarkIdle reports what 10 000 files at rest cost, in percent of a core.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b, `.*\.log`, "pollInterval", "250", "writePosInterval", "3000")
	for i := range 10000 {
		if err := os.WriteFile(r.path(fmt.Sprintf("%d.log", i)), []byte("line\n"), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	out := new(discard)
	r.outlet = out
	begun := time.Now()
	r.start()
	for out.events.Load() < 10000 {
		time.Sleep(time.Millisecond)
	}
	first := time.Since(begun)
	time.Sleep(activeTime + 2*time.Second)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const span = 10 * time.Second
	at := cpu()
	time.Sleep(span)
	b.ReportMetric(100*float64(cpu()-at)/float64(span), "%core")
	b.ReportMetric(first.Seconds(), "s-to-read-all")
	r.close()
}
