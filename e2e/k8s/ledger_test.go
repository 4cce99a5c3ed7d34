//go:build k8s

package k8s

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"slices"
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

// theLedger listens until the tests end: pods may outlive the test that made them.
var theLedger = sync.OnceValues(func() (*ledger, error) {
	l, err := net.Listen("tcp", "10.250.0.1:7777")
	if err != nil {
		return nil, err
	}
	b := &ledger{written: map[string]int{}, ended: map[string]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go b.serve(c)
		}
	}()
	return b, nil
})

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

// apps are the beginnings of the names of a test's pods.
type apps []string

func (a apps) have(run string) bool {
	return slices.ContainsFunc(a, func(prefix string) bool { return strings.HasPrefix(run, prefix) })
}

// count returns how many runs of these pods have begun, how many have ended, and the lines that they have written.
func (b *ledger) count(of apps) (begun, ended, lines int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for run, n := range b.written {
		if of.have(run) {
			begun, lines = begun+1, lines+n
			if b.ended[run] {
				ended++
			}
		}
	}
	return begun, ended, lines
}

// delivered are the lines in the files of the collector: how often each number of each run is there.
func delivered(t *testing.T, dir string) map[string]map[int]int {
	t.Helper()
	all := map[string]map[int]int{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, name := range files {
		text := read(t, name)
		text = text[:strings.LastIndexByte(text, '\n')+1] // what is being written is seen the next time
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) != 3 || len(fields[2]) != 80 {
				t.Fatalf("%s: a line that nobody wrote: %q", name, line)
			}
			n, err := strconv.Atoi(fields[1])
			must(t, err)
			if all[fields[0]] == nil {
				all[fields[0]] = map[int]int{}
			}
			all[fields[0]][n]++
		}
	}
	return all
}

// missing are the lines that these pods have written, by the ledger, and that
// were not delivered; double is how many were more than once.
func (b *ledger) missing(of apps, got map[string]map[int]int) (missing []string, double int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for run, n := range b.written {
		for i := 1; of.have(run) && i <= n; i++ {
			if got[run][i] == 0 {
				missing = append(missing, fmt.Sprint(run, " ", i))
			}
		}
	}
	for run, lines := range got {
		if !of.have(run) {
			continue
		}
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
