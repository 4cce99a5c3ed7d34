package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// figure is one run of one program.
type figure struct {
	wall time.Duration // from the start of work to the last event delivered
	cpu  time.Duration // user and system, of the whole process
	rss  int64         // peak, bytes
}

// contender is a program in a row.
type contender struct {
	name  string
	state string // what is switched on: channel, transactions, completeness check
	run   func() (figure, error)
}

// row compares contenders; the first is the physical limit.
type row struct {
	name  string
	bytes int64
	field []contender
}

const (
	lineBytes = 200
	settle    = 300 * time.Millisecond // between runs
)

func main() {
	dir := flag.String("dir", "", "directory for input and output, on the disk to measure (default: a temporary one)")
	bin := flag.String("bin", "build/millrace", "the binary")
	size := flag.Int64("mb", 1000, "input in MB")
	rounds := flag.Int("rounds", 3, "rounds of each row")
	only := flag.String("only", "", "rows whose name contains this")
	peers := flag.Bool("peers", true, "run peers that are installed")
	tails := flag.Bool("tail-matrix", false, "instead: what each program loses and repeats when files are rotated")
	gigabytes := flag.Float64("backlog", 0, "instead: what a backlog of so many GB in the file channel costs")
	flag.Parse()
	if err := bench(*dir, *bin, *size*1_000_000, *rounds, *only, *peers, *tails, int64(*gigabytes*1e9)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(dir, bin string, size int64, rounds int, only string, peers, tails bool, backlog int64) (err error) {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "millrace-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	s := &stage{dir: dir, bin: bin, events: int(size / lineBytes), peers: peers}
	switch {
	case tails:
		return s.matrix(only)
	case backlog > 0:
		return s.backlog(backlog)
	}
	if err := s.input(); err != nil {
		return err
	}
	defer func() {
		for _, end := range s.ends {
			err = errors.Join(err, end())
		}
	}()
	for _, r := range s.rows() {
		if !strings.Contains(r.name, only) {
			continue
		}
		if err := r.print(rounds); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return s.small()
}

// print runs the row's contenders in turn and prints one line each.
func (r row) print(rounds int) error {
	got := make([][]figure, len(r.field))
	for range rounds {
		for i, c := range r.field {
			f, err := c.run()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			got[i] = append(got[i], f)
			time.Sleep(settle)
		}
	}
	fmt.Printf("\n%s (%d MB)\n", r.name, r.bytes/1_000_000)
	limit := median(got[0], wall)
	for i, c := range r.field {
		w := median(got[i], wall)
		fmt.Printf("  %-10s %8.1f MB/s  %5.2f of the limit (%.2f..%.2f)  %6.2f CPU s/GB  %6.1f MiB peak   %s\n", c.name,
			float64(r.bytes)/1e6/w, limit/w, worst(got[0], got[i]), best(got[0], got[i]),
			median(got[i], cpu)*1e9/float64(r.bytes), median(got[i], rss)/(1<<20), c.state)
	}
	return nil
}

func wall(f figure) float64 { return f.wall.Seconds() }
func cpu(f figure) float64  { return f.cpu.Seconds() }
func rss(f figure) float64  { return float64(f.rss) }

func median(fs []figure, of func(figure) float64) float64 {
	v := make([]float64, len(fs))
	for i, f := range fs {
		v[i] = of(f)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// ratios are those of the limit's time to the contender's, round by round.
func ratios(limit, fs []figure) []float64 {
	v := make([]float64, len(fs))
	for i := range fs {
		v[i] = wall(limit[i]) / wall(fs[i])
	}
	return v
}

func worst(limit, fs []figure) float64 { return slices.Min(ratios(limit, fs)) }
func best(limit, fs []figure) float64  { return slices.Max(ratios(limit, fs)) }
