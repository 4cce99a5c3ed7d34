package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/file"
	"github.com/millrace/millrace/connectors/tail"
	"github.com/millrace/millrace/core"
	filechannel "github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/selector"
	"github.com/millrace/millrace/core/vfs"
	"github.com/millrace/millrace/core/vfs/points"
)

// flowPoints are the fault points of the flow in one process.
var flowPoints = []string{
	"mkdir channel", "mkdir out", "mkdir pos", "syncdir channel", "syncdir out", "syncdir pos", "syncdir /",
	"lock dir",
	"create log", "allocate log", "write log head", "write log puts", "write log acks", "write log seal",
	"sync log", "truncate log", "remove log",
	"create torn", "write torn", "sync torn",
	"create pos", "write pos", "sync pos", "rename pos", "create side", "write side", "sync side", "rename side",
	"create out", "write out", "sync out", "truncate out",
}

// seldomPoints are those that no plan reaches for certain.
var seldomPoints = []string{"remove out"}

const flowConfig = `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = TAILDIR
a1.sources.r.channels = c
a1.sources.r.filegroups = f
a1.sources.r.filegroups.f = /log/.*\\.log
a1.sources.r.positionFile = /pos/positions.json
a1.sources.r.batchSize = 5
a1.sources.r.writePosInterval = 20
a1.sources.r.pollInterval = 10
a1.channels.c.type = file
a1.channels.c.checkpointDir = /channel
a1.channels.c.dataDirs = /channel
a1.channels.c.maxFileSize = 4096
a1.channels.c.minimumRequiredSpace = 1048576
a1.channels.c.capacity = 1000
a1.channels.c.transactionCapacity = 100
a1.sinks.k.type = file_roll
a1.sinks.k.channel = c
a1.sinks.k.sink.directory = /out
a1.sinks.k.sink.rollInterval = 0
a1.sinks.k.sink.rollCount = 30
a1.sinks.k.sink.batchSize = 7
a1.sinks.k.sink.commitInterval = 15
`

// bind binds the configuration anew.
func (f *flow) bind() (*conf.Agent, error) {
	channel := filechannel.Channel
	if f.wrong != nil && f.wrong.channel != nil {
		channel.New = func() core.Channel { return f.wrong.channel(filechannel.Channel.New()) }
	}
	o := conf.FromText("a.conf", flowConfig+f.keys)
	loaded, faults := conf.Load(o)
	if len(faults) > 0 {
		return nil, fmt.Errorf("%v", faults)
	}
	cfg, faults := loaded.Build("a1", &core.Catalog{
		Sources:   []core.Type[core.Source]{tail.Source},
		Channels:  []core.Type[core.Channel]{channel},
		Sinks:     []core.Type[core.Sink]{file.Sink},
		Selectors: []core.Type[core.Selector]{selector.Replicating},
	}, o)
	if len(faults) > 0 {
		return nil, fmt.Errorf("%v", faults)
	}
	return cfg, nil
}

// The ways in which a life is ended or disturbed.
const (
	kill  = "kill"  // the process ends: all that was written stays
	power = "power" // the machine ends: what was not synced may be gone, in part, in any order
	fault = "error" // the operation fails, once or a few times, and all goes on
	full  = "full"  // the same with ENOSPC, and half of a write done
)

// flow is one round: some lives on one disk.
type flow struct {
	rng   *rand.Rand
	mem   *vfs.Mem
	made  map[string]int
	logs  []string
	table *tally
	wrong *mutant // nil: the program as it is
	keys  string  // more of the configuration
	lives int
	more  int // times that the logs are to grow in this life
}

// linesAtOnce is how many lines a log gets at a time, at most.
const linesAtOnce = 16

// round runs one seed. It depends on nothing else, but for what the table says
// has seldom been hit; aim, if it is set, is where all lives end.
func round(t *testing.T, seed uint64, table *tally, wrong *mutant, keys string, aims []aim) (v verdict, err error) {
	synctest.Test(t, func(*testing.T) {
		f := &flow{rng: rand.New(rand.NewPCG(seed, 11)), mem: vfs.NewMem(), made: map[string]int{}, logs: []string{"app"}, table: table, wrong: wrong, keys: keys}
		if f.rng.IntN(3) == 0 {
			f.logs = append(f.logs, "web")
		}
		if err = f.mem.MkdirAll("/log", 0o755); err == nil {
			err = f.mem.SyncDir("/")
		}
		for _, a := range aims {
			if err == nil {
				err = f.life(a)
			}
		}
		if err == nil {
			err = f.life(aim{})
		}
		if err == nil {
			v = judge(f.made, f.output())
			if v.good() {
				f.pieces(&v)
			}
		}
	})
	return v, err
}

// aim is where one life ends: at operation n of those of that name, or of any.
type aim struct {
	how, point string
	n          int
}

func (a aim) String() string { return fmt.Sprintf("%s:%s:%d", a.how, a.point, a.n) }

// grow appends lines to the logs. The application syncs them: what a log loses
// when the power goes is not the agent's loss.
func (f *flow) grow() error {
	for _, log := range f.logs {
		w, err := f.mem.OpenFile("/log/"+log+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		for range 1 + f.rng.IntN(linesAtOnce) {
			f.made[log]++
			b.WriteString(line(log, f.made[log]) + "\n")
		}
		_, err = w.Write(b.Bytes())
		if err = errors.Join(err, w.Sync(), w.Close(), f.mem.SyncDir("/log")); err != nil {
			return err
		}
	}
	return nil
}

// life runs the agent until the crash that is aimed at, or until all is delivered.
func (f *flow) life(a aim) error {
	f.lives++
	f.more = 1 + f.rng.IntN(6)
	disk := vfs.NewNamedFault(f.mem, points.Name)
	rule := vfs.Rule{Point: a.point, At: a.n, Short: f.rng.IntN(2) == 0}
	switch a.how {
	case kill, power:
		rule.Crash = true
		disk.Add(rule)
	case fault, full:
		rule.Short = rule.Short && strings.HasPrefix(a.point, "write") // what else fails has not been done
		rule.Times = 1 + f.rng.IntN(3)
		if a.how == full {
			rule.Err = syscall.ENOSPC
		}
		disk.Add(rule)
	}
	var fsys vfs.FS = disk
	if f.wrong != nil {
		fsys = &mutantFS{disk, *f.wrong}
	}
	if err := f.run(disk, fsys); err != nil {
		return fmt.Errorf("life %d, %v: %w", f.lives, a, err)
	}
	if a.how == "" {
		return nil
	}
	for _, p := range disk.Struck() {
		f.table.hit(p, a.how)
	}
	mode := vfs.KeepAll
	if a.how == power {
		mode = []vfs.CrashMode{vfs.DropAll, vfs.Sectors, vfs.Pages, vfs.TearLast}[f.rng.IntN(4)]
	}
	if disk.Crashed() {
		f.mem = f.mem.CrashClone(f.rng, mode)
	}
	return nil
}

// stuck is when a life that neither crashes nor delivers everything is over.
// The clock is the bubble's: it costs nothing.
const stuck = 5 * time.Minute

// run runs the agent on fsys. An agent that ends at its start because of an
// injected fault is started again, as an orchestrator would.
func (f *flow) run(disk *vfs.Fault, fsys vfs.FS) error {
	for try := 0; ; try++ {
		cfg, err := f.bind()
		if err != nil {
			return err
		}
		var log strings.Builder
		var mu sync.Mutex
		agent := core.NewAgent(cfg, core.World{
			Log: slog.New(slog.NewTextHandler(locked{&mu, &log}, nil)), FS: fsys, Now: time.Now, Listen: net.Listen, ListenPacket: net.ListenPacket, DrainTimeout: 20 * time.Second,
		})
		ctx, cancel := context.WithCancel(context.Background())
		hard, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- agent.Run(ctx, hard) }()
		over, grown := false, error(nil)
		for began := time.Now(); !over && !disk.Crashed() && !f.complete() && time.Since(began) < stuck; {
			if f.more > 0 && f.rng.IntN(3) == 0 {
				f.more--
				if grown = f.grow(); grown != nil {
					break
				}
			}
			select {
			case err = <-ended:
				over = true
			case <-time.After(10 * time.Millisecond):
			}
		}
		complete := f.complete()
		cancel()
		if disk.Crashed() {
			stop()
		}
		if !over {
			err = <-ended
		}
		stop()
		switch {
		case grown != nil:
			return grown
		case disk.Crashed():
			return nil
		case err != nil && try < 8 && len(disk.Struck()) > 0:
			continue
		case err != nil:
			return fmt.Errorf("the agent ended: %w\n%s", err, &log)
		case !complete && f.wrong == nil:
			return fmt.Errorf("after %v not everything is delivered\n%s", stuck, &log)
		}
		return nil
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (f *flow) output() (files []string) {
	list, err := f.mem.ReadDir("/out")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	rolledOrder(names)
	for _, name := range names {
		text, err := vfs.ReadFile(f.mem, "/out/"+name)
		if err != nil {
			return append(files, err.Error())
		}
		files = append(files, string(text))
	}
	return files
}

func (f *flow) complete() bool {
	n := 0
	for _, text := range f.output() {
		n += strings.Count(text, "\n")
	}
	for _, made := range f.made {
		n -= made
	}
	return n >= 0 && f.more == 0
}

// pieces checks that the files are cut as those of an undisturbed run.
func (f *flow) pieces(v *verdict) {
	files := f.output()
	for i, text := range files {
		if n := strings.Count(text, "\n"); n != 30 && i < len(files)-1 {
			v.note(&v.foreign, "file %d has %d lines, not 30", i, n)
		}
	}
}

// plan chooses where the lives of a round end: at points that were seldom hit.
func plan(rng *rand.Rand, table *tally) (aims []aim) {
	for range 1 + rng.IntN(5) {
		how := []string{kill, power, power, power, fault, full}[rng.IntN(6)]
		if how == kill || how == power {
			if rng.IntN(4) == 0 {
				aims = append(aims, aim{how: how, n: 1 + rng.IntN(120)})
				continue
			}
		}
		rare := table.rarest(how)
		point := rare[rng.IntN(len(rare))]
		if rng.IntN(2) == 0 {
			point = rare[rng.IntN(6)]
		}
		n := 1
		if rng.IntN(2) == 0 {
			n += rng.IntN(6)
		}
		switch a := (aim{how, point, n}); {
		case strings.HasPrefix(point, "mkdir"), point == "syncdir /": // only where nothing is there yet
			a.n = min(n, 2)
			aims = append([]aim{a}, aims...)
		case strings.HasSuffix(point, " torn"): // only after half a write
			a.n = 1
			aims = append(aims, aim{kill, "write log puts", 1 + rng.IntN(3)}, a)
		case point == "truncate out": // only where more was written than acked
			a.n = 1
			aims = append(aims, aim{kill, "write log acks", 1 + rng.IntN(3)}, a)
		default:
			aims = append(aims, a)
		}
	}
	return aims
}

// TestFlow crashes the flow, again and again. MILLRACE_CRASH=n makes it n times
// longer; with 80 there are 10,000 kills and as many power losses.
// MILLRACE_CRASH_ROUND=... replays the one round that a failure names (what
// goroutines do at the same time may come in another order).
func TestFlow(t *testing.T) {
	scale := 1
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_CRASH")); err == nil && n > 0 {
		scale = n
	}
	rounds, few := 200*scale, (scale+1)/2
	if text := os.Getenv("MILLRACE_CRASH_ROUND"); text != "" {
		seed, aims, err := parseRound(text)
		if err != nil {
			t.Fatal(err)
		}
		v, err := round(t, seed, newTally(flowPoints), nil, "", aims)
		t.Logf("%v %v", v, err)
		if err != nil || !v.good() {
			t.Fail()
		}
		return
	}
	table := newTally(flowPoints)
	// What goroutines do at the same time decides which points a plan reaches:
	// rounds go on until each point has had its share. A short run may miss one
	// way at a point that plans reach by chance only, not the point.
	enough := func() bool {
		if min(table.total(kill), table.total(power)) < 125*scale {
			return false
		}
		if scale == 1 {
			return table.seldomest(flowPoints) >= 4*few
		}
		return table.least(flowPoints, kill, power, fault, full) >= few
	}
	var next sync.Mutex
	seed := uint64(0)
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for {
				next.Lock()
				s := seed
				seed++
				next.Unlock()
				if s >= uint64(rounds) && enough() || s >= uint64(3*rounds) || t.Failed() {
					return
				}
				aims := plan(rand.New(rand.NewPCG(s, 5)), table)
				v, err := round(t, s, table, nil, "", aims)
				table.round(v)
				if err != nil || !v.good() {
					t.Errorf("MILLRACE_CRASH_ROUND='%s': %v %v", roundText(s, aims), v, err)
				}
			}
		})
	}
	work.Wait()
	if testing.Verbose() || os.Getenv("MILLRACE_CRASH") != "" {
		table.print(os.Stdout, "one process, disk in memory", kill, power, fault, full)
	}
	if list := table.unknown(flowPoints, seldomPoints); len(list) > 0 {
		t.Errorf("fault points that are in no list: %q", list)
	}
	for _, p := range flowPoints {
		sum := 0
		for _, how := range []string{kill, power, fault, full} {
			n := table.hits[p][how]
			sum += n
			if scale > 1 && n < few {
				t.Errorf("%s: %s was tried %d times, want %d at least", p, how, n, few)
			}
		}
		if sum < 4*few {
			t.Errorf("%s was tried %d times, want %d at least", p, sum, 4*few)
		}
	}
	for _, how := range []string{kill, power} {
		if n := table.total(how); n < 125*scale {
			t.Errorf("%s was tried %d times, want %d at least", how, n, 125*scale)
		}
	}
}

// TestFlowWithoutSync: with fsyncPerTransaction = false the process may still be killed anywhere.
func TestFlowWithoutSync(t *testing.T) {
	table := newTally(flowPoints)
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		aims := plan(rng, table)
		for i := range aims {
			aims[i].how = kill
		}
		v, err := round(t, seed, table, nil, "a1.channels.c.fsyncPerTransaction = false\na1.channels.c.fsyncInterval = 1\n", aims)
		if err != nil || !v.good() {
			t.Fatalf("%s: %v %v", roundText(seed, aims), v, err)
		}
	}
}

// roundText is what replays a round.
func roundText(seed uint64, aims []aim) string {
	text := strconv.FormatUint(seed, 10)
	for _, a := range aims {
		text += "," + a.String()
	}
	return text
}

func parseRound(text string) (seed uint64, aims []aim, err error) {
	part := strings.Split(text, ",")
	if seed, err = strconv.ParseUint(part[0], 10, 64); err != nil {
		return 0, nil, err
	}
	for _, p := range part[1:] {
		f := strings.Split(p, ":")
		if len(f) != 3 {
			return 0, nil, fmt.Errorf("%q is not how:point:n", p)
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			return 0, nil, err
		}
		aims = append(aims, aim{f[0], f[1], n})
	}
	return seed, aims, nil
}
