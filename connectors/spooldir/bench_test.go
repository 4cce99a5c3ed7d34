package spooldir

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// sinkhole takes everything at once.
type sinkhole struct {
	events, want int
	all          func()
}

func (s *sinkhole) Put(_ context.Context, b *core.Batch) error { b.Release(); return nil }

func (s *sinkhole) Send(_ context.Context, b *core.Batch, done func(error)) error {
	if s.events += len(b.Events); s.events >= s.want {
		s.all()
	}
	b.Release()
	done(nil)
	return nil
}
func (s *sinkhole) Position(string) (int64, bool) { return 0, false }
func (s *sinkhole) Forget(string)                 {}

// BenchmarkRead reads one large file, and many small ones.
func BenchmarkRead(b *testing.B) {
	line := strings.Repeat("x", 120) + "\n"
	for name, c := range map[string]struct {
		files, lines int
		keys         map[string]string
	}{
		"large":           {1, 400_000, nil},
		"large, batch 1":  {1, 100_000, map[string]string{"batchSize": "1"}},
		"small":           {2000, 20, nil},
		"large, latin1":   {1, 100_000, map[string]string{"inputCharset": "ISO-8859-1"}},
		"large, to joins": {1, 100_000, map[string]string{"multiline.startPattern": "^x"}},
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(strings.Repeat(line, c.lines))
			b.SetBytes(int64(c.files * len(text)))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				r := newRig(b, "batchSize", "1000", "trackingPolicy", "tracker_dir")
				for k, v := range c.keys {
					r.keys[k] = v
				}
				for i := range c.files {
					must(b, os.WriteFile(r.path(fmt.Sprint("f", i)), text, 0o644))
				}
				s := new(source)
				conf.Bind(s, r.keys)
				must(b, s.Open(context.Background(), sourcetest.NewEnv(b, "src")))
				ctx, cancel := context.WithCancel(context.Background())
				b.StartTimer()
				must(b, s.Run(ctx, &sinkhole{want: c.files * c.lines, all: cancel}))
				b.StopTimer()
				must(b, s.Close())
				cancel()
				b.StartTimer()
			}
		})
	}
}
