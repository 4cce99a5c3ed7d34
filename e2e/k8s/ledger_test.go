//go:build k8s

package k8s

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// ledger knows what the applications' volumes have taken: how many lines each run
// of one has written, told by itself, line by line, after the write.
type ledger struct {
	mu      sync.Mutex
	written map[string]int // by run: POD/ID
	ended   map[string]bool
	bad     []string
}

func startLedger(t *testing.T, address string) *ledger {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	b := &ledger{written: map[string]int{}, ended: map[string]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close() }) // connections end with their pods
	return b
}

func (b *ledger) serve(c net.Conn) {
	defer c.Close()
	run := ""
	for lines := bufio.NewScanner(c); lines.Scan(); {
		name, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		b.mu.Lock()
		if err != nil || n != b.written[name]+1 {
			b.bad = append(b.bad, lines.Text())
		}
		run, b.written[name] = name, n
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended[run] = true
}

// count returns how many runs have begun and how many have ended, of pods whose names begin with prefix.
func (b *ledger) count(prefix string) (begun, ended int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for run := range b.written {
		if strings.HasPrefix(run, prefix) {
			begun++
			if b.ended[run] {
				ended++
			}
		}
	}
	return begun, ended
}

// lines is how many were written.
func (b *ledger) lines() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.written {
		n += w
	}
	return n
}

// delivered are the lines in the files of the collector: how often each number of each run is there.
func delivered(t *testing.T, dir string) map[string]map[int]int {
	t.Helper()
	all := map[string]map[int]int{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		must(t, err)
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) != 3 || len(fields[2]) != 80 {
				t.Fatalf("%s: a line that nobody wrote: %q", name, lines.Text())
			}
			n, err := strconv.Atoi(fields[1])
			must(t, err)
			if all[fields[0]] == nil {
				all[fields[0]] = map[int]int{}
			}
			all[fields[0]][n]++
		}
		must(t, lines.Err())
		must(t, f.Close())
	}
	return all
}

// missing are the lines of the ledger that were not delivered; double is how many were more than once.
func (b *ledger) missing(got map[string]map[int]int) (missing []string, double int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for run, n := range b.written {
		for i := 1; i <= n; i++ {
			if got[run][i] == 0 {
				missing = append(missing, fmt.Sprint(run, " ", i))
			}
		}
	}
	for run, lines := range got {
		for n, times := range lines {
			double += times - 1
			// The last line may have been written and not told.
			if n > b.written[run]+1 {
				missing = append(missing, fmt.Sprint("never written: ", run, " ", n))
			}
		}
	}
	return missing, double
}
