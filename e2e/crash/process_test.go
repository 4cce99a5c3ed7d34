//go:build crashpoints

package crash

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// processPoints are the fault points of the whole process. The rest of package
// points cannot be reached by ending a process: a torn tail, say, takes a write
// of which only a part arrived.
var processPoints = []string{
	"mkdir channel", "mkdir out", "mkdir pos", "syncdir channel", "syncdir out", "syncdir pos", "syncdir world",
	"lock dir",
	"create log", "allocate log", "write log head", "write log puts", "write log acks", "write log seal",
	"sync log", "truncate log", "remove log",
	"create torn", "write torn", "sync torn",
	"create pos", "write pos", "sync pos", "rename pos", "create side", "write side", "sync side", "rename side",
	"create out", "write out", "sync out", "truncate out",
}

const (
	linesOfWorld = 2400
	livesOfWorld = 40
	rollCount    = 70
)

// random is where a life ends that does not end itself.
const random = "a random moment"

// world is one directory with an agent's whole life in it.
type world struct {
	t    *testing.T
	bin  string
	dir  string
	logs []string // one or two
	made map[string]int
	rng  *rand.Rand
	torn bool // the last life has left half a write in the log
	long bool // and perhaps more in the output than is acked
}

const config = `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = TAILDIR
a1.sources.r.channels = c
a1.sources.r.filegroups = f
a1.sources.r.filegroups.f = %[1]s/log/.*\\.log
a1.sources.r.positionFile = %[1]s/pos/positions.json
a1.sources.r.batchSize = 7
a1.sources.r.writePosInterval = 10
a1.sources.r.pollInterval = 2
a1.channels.c.type = file
a1.channels.c.checkpointDir = %[1]s/channel
a1.channels.c.dataDirs = %[1]s/channel
a1.channels.c.maxFileSize = 4096
a1.channels.c.minimumRequiredSpace = 1048576
a1.channels.c.capacity = 10000
a1.channels.c.transactionCapacity = 100
a1.sinks.k.type = file_roll
a1.sinks.k.channel = c
a1.sinks.k.sink.directory = %[1]s/out
a1.sinks.k.sink.rollInterval = 0
a1.sinks.k.sink.rollCount = %[2]d
a1.sinks.k.sink.batchSize = 5
a1.sinks.k.sink.commitInterval = 1
`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, bin string, seed uint64, logs ...string) *world {
	root, err := os.MkdirTemp("", "crash")
	must(t, err)
	w := &world{t: t, bin: bin, dir: filepath.Join(root, "world"), logs: logs, made: map[string]int{}, rng: rand.New(rand.NewPCG(seed, 3))}
	must(t, os.MkdirAll(filepath.Join(w.dir, "log"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.dir, "a.conf"), fmt.Appendf(nil, config, w.dir, rollCount), 0o644))
	return w
}

// grow appends the next n lines of each log, up to a total.
func (w *world) grow(n, total int) {
	w.t.Helper()
	for _, log := range w.logs {
		f, err := os.OpenFile(filepath.Join(w.dir, "log", log+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		must(w.t, err)
		var b bytes.Buffer
		for range max(0, min(n, total-w.made[log])) {
			w.made[log]++
			b.WriteString(line(log, w.made[log]) + "\n")
		}
		_, err = f.Write(b.Bytes())
		must(w.t, err)
		must(w.t, f.Close())
	}
}

// process is one life.
type process struct {
	cmd   *exec.Cmd
	ended chan error
	out   bytes.Buffer
}

func (w *world) start(at string) *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(w.bin, "agent", "-n", "a1", "-f", filepath.Join(w.dir, "a.conf"), "--no-reload-conf", "--strict", "--admin", "off"), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "MILLRACE_CRASHPOINT="+at)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(w.t, p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	return p
}

// life runs the agent until it ends itself at a fault point or, after so long, is killed.
func (w *world) life(at string, patience time.Duration) (itself bool) {
	w.t.Helper()
	p := w.start(at)
	itself = true
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill() // it may just have ended itself
		<-p.ended
		itself = false
	}
	if st := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGKILL {
		w.t.Errorf("%s: the agent ended by itself, %v:\n%s", at, p.cmd.ProcessState, p.out.String())
	}
	return itself
}

// end lets the agent deliver all there is, and returns the output files.
func (w *world) end() (files []string) {
	w.t.Helper()
	w.grow(linesOfWorld, linesOfWorld)
	total := 0
	for _, n := range w.made {
		total += n
	}
	p := w.start("")
	deadline := time.Now().Add(60 * time.Second)
	for w.delivered() < total && time.Now().Before(deadline) {
		select {
		case err := <-p.ended:
			w.t.Fatalf("the agent ended: %v\n%s", err, p.out.String())
		case <-time.After(5 * time.Millisecond): // a poll: the loop ends by its condition
		}
	}
	must(w.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.ended:
		if err != nil {
			w.t.Errorf("the agent, stopped, ended with %v:\n%s", err, p.out.String())
		}
	case <-time.After(60 * time.Second):
		_ = p.cmd.Process.Kill()
		w.t.Fatal("the agent does not stop")
	}
	for _, name := range w.names() {
		text, err := os.ReadFile(filepath.Join(w.dir, "out", name))
		must(w.t, err)
		files = append(files, string(text))
	}
	return files
}

func (w *world) names() (names []string) {
	list, _ := os.ReadDir(filepath.Join(w.dir, "out")) // not there before the first life is
	for _, e := range list {
		names = append(names, e.Name())
	}
	rolledOrder(names)
	return names
}

func (w *world) delivered() (n int) {
	for _, name := range w.names() {
		text, _ := os.ReadFile(filepath.Join(w.dir, "out", name))
		n += bytes.Count(text, []byte("\n"))
	}
	return n
}

// number is a setting from the environment.
func number(t *testing.T, name string, or int) int {
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// build makes the binary that knows of fault points, and checks that the one
// that is shipped does not.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, tags := range []string{"", "crashpoints"} {
		bin := filepath.Join(dir, "millrace"+tags)
		c := exec.Command("go", "build", "-tags", tags, "-o", bin, "../..")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		text, err := os.ReadFile(bin)
		must(t, err)
		if has := bytes.Contains(text, []byte("MILLRACE_CRASHPOINT")); has != (tags != "") {
			t.Fatalf("with the tags %q the binary has fault points: %v", tags, has)
		}
	}
	return filepath.Join(dir, "millracecrashpoints")
}

// reach is the largest number of an operation within a life that is tried.
type reach struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *reach) pick(point string, rng *rand.Rand) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n[point] == 0 {
		r.n[point] = 2
	}
	return 1 + rng.IntN(r.n[point])
}

func (r *reach) learn(point string, n int, hit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case hit && n == r.n[point]:
		r.n[point] = min(n+1, 40)
	case !hit && n == 1: // it is not there at all in such a life
	case !hit:
		r.n[point] = n - 1
	}
}

// TestSIGKILL kills MILLRACE_KILLS agents (a few hundred by default), each of
// which goes on where the one before it was killed. MILLRACE_KILLS_FOR ends it
// earlier, after so many seconds.
func TestSIGKILL(t *testing.T) {
	kills := number(t, "MILLRACE_KILLS", 400)
	seconds := number(t, "MILLRACE_KILLS_FOR", 24*3600)
	seed := number(t, "MILLRACE_SEED", 1)
	bin := build(t)
	began := time.Now()

	undisturbed := newWorld(t, bin, 0, "app")
	want := undisturbed.end()
	must(t, os.RemoveAll(filepath.Dir(undisturbed.dir)))
	if len(want) != (linesOfWorld+rollCount-1)/rollCount || !judge(undisturbed.made, want).good() {
		t.Fatalf("undisturbed: %d files, %v", len(want), judge(undisturbed.made, want))
	}

	table, r := newTally(processPoints), &reach{n: map[string]int{}}
	next, stop := make(chan int), time.After(time.Duration(seconds)*time.Second)
	go func() {
		defer close(next)
		for i := range (kills + livesOfWorld - 1) / livesOfWorld {
			select {
			case next <- i:
			case <-stop:
				return
			}
		}
	}()
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for i := range next {
				oneWorld(t, bin, uint64(seed)<<32+uint64(i), table, r, min(livesOfWorld, kills-i*livesOfWorld), want)
			}
		})
	}
	work.Wait()
	all := table.total("SIGKILL")
	took := time.Since(began)
	table.print(os.Stdout, fmt.Sprintf("whole processes, seed %d: %d SIGKILLs in %v, %v each", seed, all, took.Round(time.Second), (2*took/time.Duration(max(1, all))).Round(time.Millisecond)), "SIGKILL")
	few := max(1, all/400)
	if list := table.unknown(processPoints, seldomPoints, []string{random}); len(list) > 0 {
		t.Errorf("fault points that are in no list: %q", list)
	}
	for _, p := range processPoints {
		want := few
		if p == "truncate out" { // takes a life that ended between the write and its ack
			want = max(1, few/4)
		}
		if n := table.hits[p]["SIGKILL"]; n < want {
			t.Errorf("%s was hit %d times, want %d at least", p, n, want)
		}
	}
}

// oneWorld lets an agent live and die so many times, and judges what it leaves.
func oneWorld(t *testing.T, bin string, seed uint64, table *tally, r *reach, lives int, want []string) {
	logs := []string{"app"}
	if seed%3 == 2 {
		logs = append(logs, "web")
	}
	w := newWorld(t, bin, seed, logs...)
	for range lives {
		w.grow(linesOfWorld/livesOfWorld, linesOfWorld-100) // the rest is for the end
		at, n := "", 0
		if w.rng.IntN(8) > 0 {
			at, n = w.choose(table, r)
		}
		when := [...]string{"before", "after", "half"}[w.rng.IntN(3)]
		if strings.HasPrefix(at, "write log") && w.rng.IntN(2) == 0 {
			when = "half" // there is more to see afterwards
		}
		patience := time.Duration(5+w.rng.IntN(95)) * time.Millisecond
		arg := ""
		if at != "" {
			arg, patience = fmt.Sprintf("%s:%d:%s", at, n, when), 250*time.Millisecond
		}
		hit := w.life(arg, patience)
		if at != "" {
			r.learn(at, n, hit)
		}
		w.torn = hit && when == "half" && strings.HasPrefix(at, "write log")
		w.long = hit && (at == "write out" || at == "sync out" || at == "write log acks" && when != "after")
		if hit {
			table.hit(at, "SIGKILL")
		} else {
			table.hit(random, "SIGKILL")
		}
		if t.Failed() {
			return
		}
	}
	files := w.end()
	v := judge(w.made, files)
	if len(logs) == 1 && v.good() && strings.Join(files, "\f") != strings.Join(want, "\f") {
		v.note(&v.foreign, "the files are not equal to those of an undisturbed run")
	}
	table.round(v)
	if !v.good() {
		t.Errorf("seed %d, %s: %v", seed, w.dir, v)
		return // it is kept for a look
	}
	must(t, os.RemoveAll(filepath.Dir(w.dir)))
}

// choose takes a point that can be reached in this life: one of those that were
// hit least, or any.
func (w *world) choose(table *tally, r *reach) (at string, n int) {
	var early, list []string
	for _, p := range table.rarest("SIGKILL") {
		dir, first := strings.CutPrefix(p, "mkdir ")
		if p == "syncdir world" {
			dir, first = "pos", true // the last one that is made
		}
		switch _, err := os.Stat(filepath.Join(w.dir, dir)); {
		case p == random, strings.HasSuffix(p, " torn") && !w.torn:
		case !first:
			list = append(list, p)
		case os.IsNotExist(err):
			early = append(early, p)
		}
	}
	if len(early) > 0 && w.rng.IntN(6) > 0 {
		return early[0], 1
	}
	if w.torn { // such a chance comes seldom
		return slices.DeleteFunc(list, func(p string) bool { return !strings.HasSuffix(p, " torn") })[0], 1
	}
	if w.long && w.rng.IntN(2) == 0 {
		return "truncate out", 1
	}
	if w.rng.IntN(2) == 0 {
		list = list[:8]
	}
	p := list[w.rng.IntN(len(list))]
	return p, r.pick(p, w.rng)
}
