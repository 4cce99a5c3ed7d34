package crash

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// line is number n of a log: it knows who it is, and that it is whole.
func line(log string, n int) string {
	text := fmt.Sprintf("%s %d %s", log, n, strings.Repeat("abcdefghijklmnopqrstuvwxyz-", 4)[:n*37%100])
	return fmt.Sprintf("%08x %s", crc32.ChecksumIEEE([]byte(text)), text)
}

// parse takes a line apart; ok is false if it is not one of line's.
func parse(s string) (log string, n int, ok bool) {
	f := strings.Fields(s)
	if len(f) < 3 {
		return "", 0, false
	}
	n, err := strconv.Atoi(f[2])
	return f[1], n, err == nil && line(f[1], n) == s
}

// verdict is how what was delivered differs from what was to be.
type verdict struct {
	lost, repeated, foreign, late int
	first                         string // the first difference
}

func (v verdict) good() bool { return v == verdict{} }

func (v verdict) String() string {
	return fmt.Sprintf("%d lost, %d repeated, %d foreign, %d out of order; %s", v.lost, v.repeated, v.foreign, v.late, v.first)
}

func (v *verdict) note(n *int, format string, args ...any) {
	if *n++; v.first == "" {
		v.first = fmt.Sprintf(format, args...)
	}
}

// judge compares the content of the output files with the logs, of which each
// has so many lines.
func judge(logs map[string]int, files []string) (v verdict) {
	seen := map[string][]bool{}
	for log, n := range logs {
		seen[log] = make([]bool, n+1)
	}
	last := map[string]int{}
	for i, text := range files {
		if text != "" && !strings.HasSuffix(text, "\n") {
			v.note(&v.foreign, "file %d ends within a line", i)
		}
		for s := range strings.Lines(text) {
			log, n, ok := parse(strings.TrimSuffix(s, "\n"))
			switch {
			case !ok || n < 1 || n > logs[log]:
				v.note(&v.foreign, "file %d has a line that was never written: %.40q", i, s)
				continue
			case seen[log][n]:
				v.note(&v.repeated, "line %d of %s comes again in file %d", n, log, i)
			case n < last[log]:
				v.note(&v.late, "line %d of %s comes after %d in file %d", n, log, last[log], i)
			}
			seen[log][n], last[log] = true, n
		}
	}
	for log, all := range seen {
		for n := 1; n < len(all); n++ {
			if !all[n] {
				v.note(&v.lost, "line %d of %s is nowhere", n, log)
			}
		}
	}
	return v
}

// rolledOrder sorts file_roll's names, <start>-<number>, by when they were made.
func rolledOrder(names []string) {
	key := func(s string) (start, n int) {
		a, b, _ := strings.Cut(s, "-")
		start, _ = strconv.Atoi(a)
		n, _ = strconv.Atoi(b)
		return start, n
	}
	slices.SortFunc(names, func(x, y string) int {
		a, m := key(x)
		b, n := key(y)
		return cmp.Or(cmp.Compare(a, b), cmp.Compare(m, n))
	})
}

// tally is the table that make crash prints.
type tally struct {
	mu     sync.Mutex
	rounds int
	hits   map[string]map[string]int // fault point -> how -> times
	bad    verdict                   // sums
}

// newTally makes an empty one; each of the points has to be hit.
func newTally(must []string) *tally {
	t := &tally{hits: map[string]map[string]int{}}
	for _, p := range must {
		t.hits[p] = map[string]int{}
	}
	return t
}

func (t *tally) hit(point, how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hits[point] == nil {
		t.hits[point] = map[string]int{}
	}
	t.hits[point][how]++
}

func (t *tally) round(v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rounds++
	t.bad.lost += v.lost
	t.bad.repeated += v.repeated
	t.bad.foreign += v.foreign
	t.bad.late += v.late
}

// total is how often something was done in one way, at all points.
func (t *tally) total(how string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hits {
		n += h[how]
	}
	return n
}

// least is how often the one of the points that was hit least was hit in any of these ways.
func (t *tally) least(points []string, hows ...string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 1 << 30
	for _, p := range points {
		for _, how := range hows {
			n = min(n, t.hits[p][how])
		}
	}
	return n
}

// seldomest returns how often the point was hit that was hit least, in all ways together.
func (t *tally) seldomest(points []string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 1 << 30
	for _, p := range points {
		sum := 0
		for _, hits := range t.hits[p] {
			sum += hits
		}
		n = min(n, sum)
	}
	return n
}

// unknown returns the points that are in no list: they belong into one.
func (t *tally) unknown(lists ...[]string) (list []string) {
	for p := range t.hits {
		if !slices.Contains(slices.Concat(lists...), p) {
			list = append(list, p)
		}
	}
	return list
}

// rarest returns the points in the order of how seldom they were hit that way.
func (t *tally) rarest(how string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for p := range t.hits {
		list = append(list, p)
	}
	slices.Sort(list)
	slices.SortStableFunc(list, func(a, b string) int { return t.hits[a][how] - t.hits[b][how] })
	return list
}

func (t *tally) print(w io.Writer, title string, hows ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder // at once: others may print too
	fmt.Fprintf(&b, "\n%s\n%-22s", title, "fault point")
	for _, h := range hows {
		fmt.Fprintf(&b, "%12s", h)
	}
	b.WriteByte('\n')
	var list []string
	for p := range t.hits {
		list = append(list, p)
	}
	sort.Strings(list)
	sum := map[string]int{}
	for _, p := range list {
		fmt.Fprintf(&b, "%-22s", p)
		for _, h := range hows {
			fmt.Fprintf(&b, "%12d", t.hits[p][h])
			sum[h] += t.hits[p][h]
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-22s", "all")
	for _, h := range hows {
		fmt.Fprintf(&b, "%12d", sum[h])
	}
	fmt.Fprintf(&b, "\n%d rounds: %d lines lost, %d repeated, %d foreign, %d out of order\n", t.rounds, t.bad.lost, t.bad.repeated, t.bad.foreign, t.bad.late)
	_, _ = io.WriteString(w, b.String()) // standard output
}
