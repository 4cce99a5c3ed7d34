package lines

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// options binds keys: k, v, k, v.
func options(t testing.TB, kv ...string) *Options {
	t.Helper()
	o, faults := bind(kv...)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return o
}

type binder struct{ Options }

func bind(kv ...string) (*Options, conf.Faults) {
	b, props := new(binder), map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	_, faults := conf.Bind(b, props)
	return &b.Options, faults
}

// got is an event that is kept.
type got struct {
	body   string
	stream Stream
	begin  int64
	end    int64
}

// feeder gives the lines of a text to joiners.
type feeder struct {
	o       *Options
	limit   int64
	drop    bool
	j       *Joiner
	n       *Counters
	m       *metric.Group
	read    int64
	events  []got
	stored  Positions // as channels hold them
	highest Positions
	t       testing.TB
}

func newFeeder(t testing.TB, limit int64, drop bool, kv ...string) *feeder {
	f := &feeder{o: options(t, kv...), limit: limit, drop: drop, m: new(metric.Group), t: t}
	f.n = NewCounters(f.m)
	f.j = f.o.Joiner(f.n, limit, drop, f.stored)
	return f
}

func (f *feeder) keep(events []Event) {
	f.t.Helper()
	for _, e := range events {
		if e.End <= f.highest[e.Stream] {
			f.t.Fatalf("event %q ends at %d, one before it at %d", e.Body, e.End, f.highest[e.Stream])
		}
		f.highest[e.Stream] = e.End
		f.events = append(f.events, got{string(e.Body), e.Stream, e.Begin, e.End})
	}
}

var clock = time.Unix(1700000000, 0)

// feed adds the whole lines of data from f.read to its end.
func (f *feeder) feed(data string) {
	f.t.Helper()
	for {
		i := strings.IndexByte(data[f.read:], '\n')
		if i < 0 {
			return
		}
		end := f.read + int64(i) + 1
		f.keep(f.j.Add(Line{Text: []byte(data[f.read : end-1]), Begin: f.read, End: end}, clock))
		f.read = end
	}
}

// restart begins again with what positions say, as after a crash.
func (f *feeder) restart() {
	p := f.j.Positions(f.read)
	f.read = p.Safe()
	f.j = f.o.Joiner(f.n, f.limit, f.drop, p)
}

func (f *feeder) bodies() (b []string) {
	for _, e := range f.events {
		b = append(b, e.body)
	}
	return b
}

func (f *feeder) count(name string) int64 { return f.m.Counter(name, "").Value() }

func TestMultiline(t *testing.T) {
	trace := "INFO a\nERROR b\n\tat x\n\tat y\nCaused by: z\n\tat w\nINFO c\n"
	for name, c := range map[string]struct {
		keys []string
		text string
		want []string
	}{
		"start": {
			[]string{"multiline.startPattern", `^[A-Z]+\s`},
			trace,
			[]string{"INFO a", "ERROR b\n\tat x\n\tat y\nCaused by: z\n\tat w", "INFO c"},
		},
		"start, nothing before": {
			[]string{"multiline.startPattern", `^[A-Z]+\s`},
			"\tat x\n\tat y\nINFO a\n",
			[]string{"\tat x\n\tat y", "INFO a"},
		},
		"start, negated": {
			[]string{"multiline.startPattern", `^(\s|Caused by)`, "multiline.negate", "true"},
			trace,
			[]string{"INFO a", "ERROR b\n\tat x\n\tat y\nCaused by: z\n\tat w", "INFO c"},
		},
		"continue": {
			[]string{"multiline.continuePattern", `^(\s|Caused by)`},
			trace,
			[]string{"INFO a", "ERROR b\n\tat x\n\tat y\nCaused by: z\n\tat w", "INFO c"},
		},
		"continue, negated": {
			[]string{"multiline.continuePattern", `^[A-Z]+\s`, "multiline.negate", "true"},
			trace,
			[]string{"INFO a", "ERROR b\n\tat x\n\tat y\nCaused by: z\n\tat w", "INFO c"},
		},
		"end": {
			[]string{"multiline.endPattern", `;$`},
			"select a\n from b;\ncommit;\nselect\n",
			[]string{"select a\n from b;", "commit;", "select"},
		},
		"end, negated: a backslash goes on": {
			[]string{"multiline.endPattern", `\\$`, "multiline.negate", "true"},
			"a \\\nb \\\nc\nd\n",
			[]string{"a \\\nb \\\nc", "d"},
		},
		"start and end": {
			[]string{"multiline.startPattern", `^begin`, "multiline.endPattern", `^end`},
			"begin\n1\nend\nbegin\n2\nbegin\n3\nend\n",
			[]string{"begin\n1\nend", "begin\n2", "begin\n3\nend"},
		},
		"start and continue": {
			[]string{"multiline.startPattern", `^E`, "multiline.continuePattern", `^( |E)`},
			"E1\n a\nE2\nalone\nother\n b\n",
			[]string{"E1\n a", "E2", "alone", "other\n b"},
		},
		"empty lines": {
			[]string{"multiline.startPattern", `^x`}, "x\n\n\nx\n\n", []string{"x\n\n", "x\n"},
		},
		"most lines": {
			[]string{"multiline.startPattern", `^x`, "multiline.maxLines", "2"},
			"x\n1\n2\n3\n4\nx\n",
			[]string{"x\n1", "2\n3", "4", "x"},
		},
		"most bytes": {
			[]string{"multiline.startPattern", `^x`, "multiline.maxBytes", "4"},
			"x\n12\n3\nlonger than all\n4\nx\n",
			[]string{"x\n12", "3", "longer than all", "4", "x"},
		},
		"one line": {
			[]string{"multiline.startPattern", `^x`, "multiline.maxLines", "1"}, "x\n1\n", []string{"x", "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeeder(t, 1<<20, false, c.keys...)
			f.feed(c.text)
			f.keep(f.j.Flush())
			if got := f.bodies(); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if got := f.j.Positions(f.read); got != At(int64(len(c.text))) {
				t.Errorf("positions %v", got)
			}
		})
	}
}

func TestSplitsAreCounted(t *testing.T) {
	f := newFeeder(t, 1<<20, false, "multiline.startPattern", `^x`, "multiline.maxLines", "2")
	f.feed("x\n1\n2\n3\n4\nx\n")
	if n := f.count("multiline_splits_total"); n != 2 {
		t.Errorf("%d splits", n)
	}
}

// A line that the source had to split is one line of the event again.
func TestPieces(t *testing.T) {
	f := newFeeder(t, 4, false, "multiline.startPattern", `^x`)
	f.keep(f.j.Add(Line{Text: []byte("x123"), Begin: 0, End: 4, More: true}, clock))
	f.keep(f.j.Add(Line{Text: []byte("x456"), Begin: 4, End: 8, More: true}, clock))
	f.keep(f.j.Add(Line{Text: []byte("7"), Begin: 8, End: 10}, clock))
	f.keep(f.j.Add(Line{Text: []byte("y"), Begin: 10, End: 12}, clock))
	f.keep(f.j.Flush())
	if got := f.bodies(); !slices.Equal(got, []string{"x123x4567\ny"}) {
		t.Errorf("got %q", got)
	}
}

func TestTimeout(t *testing.T) {
	f := newFeeder(t, 1<<20, false, "multiline.startPattern", `^x`, "multiline.timeout", "100")
	if _, ok := f.j.Due(); ok {
		t.Error("due with nothing pending")
	}
	f.feed("x\n1\n")
	due, ok := f.j.Due()
	if !ok || !due.Equal(clock.Add(100*time.Millisecond)) {
		t.Errorf("due %v %v", due, ok)
	}
	f.keep(f.j.Expired(due.Add(-1)))
	if len(f.events) != 0 {
		t.Error("before its time")
	}
	f.keep(f.j.Expired(due))
	f.feed("x\n1\n2\nx\n")
	f.restart() // what was cut by the clock is not joined again
	f.feed("x\n1\n2\nx\n")
	f.keep(f.j.Flush())
	if got := f.bodies(); !slices.Equal(got, []string{"x\n1", "2", "x"}) {
		t.Errorf("got %q", got)
	}
}

const (
	criTime  = "2016-10-06T00:17:09.669794202Z"
	criMilli = 1475713029669
)

func criLine(s, tag, text string) string { return criTime + " " + s + " " + tag + " " + text + "\n" }

func dockerLine(s, text string) string {
	b, err := json.Marshal(map[string]any{"log": text, "stream": s, "time": criTime, "attrs": map[string]string{"a": "b"}})
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

func TestContainer(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		text string
		want []string
	}{
		"cri": {
			[]string{"container", "cri"},
			criLine("stdout", "F", "one") + criLine("stderr", "F", "two words ") + criLine("stdout", "F", ""),
			[]string{"stdout one", "stderr two words ", "stdout "},
		},
		"cri, no text": {[]string{"container", "cri"}, criTime + " stdout F\n", []string{"stdout "}},
		"cri, tags":    {[]string{"container", "cri"}, criLine("stdout", "F:a:b", "x"), []string{"stdout x"}},
		"cri, parts of two streams": {
			[]string{"container", "cri"},
			criLine("stdout", "P", "one ") + criLine("stderr", "P", "ONE ") + criLine("stdout", "P", "two ") +
				criLine("stderr", "F", "TWO") + criLine("stdout", "F", "three") + criLine("stdout", "F", "next"),
			[]string{"stderr ONE TWO", "stdout one two three", "stdout next"},
		},
		"cri, the end of a part is empty": {
			[]string{"container", "cri"}, criLine("stdout", "P", "one") + criLine("stdout", "F", ""), []string{"stdout one"},
		},
		"docker": {
			[]string{"container", "docker"},
			dockerLine("stdout", "one\n") + dockerLine("stderr", "\"quoted\" é\u2028\n") + dockerLine("stdout", "tty\r\n"),
			[]string{"stdout one", "stderr \"quoted\" é\u2028", "stdout tty"},
		},
		"docker, parts": {
			[]string{"container", "docker"},
			dockerLine("stdout", "one ") + dockerLine("stderr", "x\n") + dockerLine("stdout", "two\n"),
			[]string{"stderr x", "stdout one two"},
		},
		"auto": {
			[]string{"container", "auto"}, dockerLine("stdout", "one\n") + criLine("stderr", "F", "{two}"), []string{"stdout one", "stderr {two}"},
		},
		"only stderr": {
			[]string{"container", "cri", "container.stream", "stderr"}, criLine("stdout", "F", "one") + criLine("stderr", "F", "two"), []string{"stderr two"},
		},
		"malformed": {
			[]string{"container", "auto"},
			"\nplain\n{\"log\":1}\n{\"log\":\"x\\n\"}\n" + criTime + " stdin F x\n" + criTime + " stdout X x\nnow stdout F x\n" + dockerLine("stdout", "ok\n"),
			[]string{" ", " plain", " {\"log\":1}", " {\"log\":\"x\\n\"}", " " + criTime + " stdin F x", " " + criTime + " stdout X x", " now stdout F x", "stdout ok"},
		},
		"traces of two streams": {
			[]string{"container", "cri", "multiline.startPattern", `^\S`},
			criLine("stdout", "F", "E1") + criLine("stderr", "F", "E2") + criLine("stdout", "P", "  at ") + criLine("stderr", "F", "  at b") +
				criLine("stdout", "F", "a") + "noise\n" + criLine("stdout", "F", "E3") + criLine("stderr", "P", "E") + criLine("stderr", "F", "4"),
			[]string{" noise", "stdout E1\n  at a", "stderr E2\n  at b", "stdout E3", "stderr E4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeeder(t, 1<<20, false, c.keys...)
			f.feed(c.text)
			f.keep(f.j.Flush())
			var got []string
			for _, e := range f.events {
				got = append(got, e.stream.String()+" "+e.body)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestMalformedIsCounted(t *testing.T) {
	f := newFeeder(t, 1<<20, false, "container", "auto")
	f.feed("plain\n{}\n" + criLine("stdout", "F", "x"))
	if n := f.count("container_lines_malformed_total"); n != 2 {
		t.Errorf("%d malformed", n)
	}
}

func TestLongContainerLines(t *testing.T) {
	text := criLine("stdout", "P", "1234") + criLine("stdout", "P", "5678") + criLine("stderr", "F", "x") + criLine("stdout", "P", "9") +
		criLine("stdout", "F", "end") + criLine("stdout", "F", "next")
	f := newFeeder(t, 8, false, "container", "cri")
	f.feed(text)
	if got, want := f.bodies(), []string{"x", "12345678", "9end", "next"}; !slices.Equal(got, want) {
		t.Errorf("split: got %q, want %q", got, want)
	}
	f = newFeeder(t, 8, true, "container", "cri")
	f.feed(text)
	if got, want := f.bodies(), []string{"x", "next"}; !slices.Equal(got, want) {
		t.Errorf("drop: got %q, want %q", got, want)
	}
	if n := f.count("container_lines_long_total"); n != 1 {
		t.Errorf("%d long", n)
	}
	f = newFeeder(t, 3, true, "container", "cri")
	f.feed(criLine("stdout", "F", "1234") + criLine("stdout", "P", "1234") + criLine("stdout", "F", "1") + criLine("stdout", "F", "123"))
	if got, want := f.bodies(), []string{"123"}; !slices.Equal(got, want) {
		t.Errorf("drop of single parts: got %q, want %q", got, want)
	}
}

func TestHeaders(t *testing.T) {
	f := newFeeder(t, 1<<20, false, "container", "cri")
	base := core.NewHeaders(core.Header{Key: "file", Value: "f"})
	events := f.j.Add(Line{Text: []byte(strings.TrimSuffix(criLine("stderr", "F", "x"), "\n")), End: 50}, clock)
	if len(events) != 1 {
		t.Fatal(events)
	}
	h := f.j.Headers(base, &events[0])
	if want := core.NewHeaders(core.Header{Key: "file", Value: "f"}, core.Header{Key: "stream", Value: "stderr"}, core.Header{Key: "timestamp", Value: fmt.Sprint(criMilli)}); !h.Equal(want) {
		t.Errorf("got %v", h)
	}
	if again := f.j.Headers(base, &events[0]); again != h {
		t.Error("equal headers are not shared")
	}
	if raw := f.j.Headers(base, &Event{}); raw != base {
		t.Error("a raw line has headers")
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want string
	}{
		"negate with two":    {[]string{"multiline.startPattern", "a", "multiline.endPattern", "b", "multiline.negate", "true"}, "goes with one pattern"},
		"no pattern":         {[]string{"multiline.maxLines", "3"}, "has no effect without"},
		"timeout alone":      {[]string{"multiline.timeout", "3"}, "has no effect without"},
		"stream alone":       {[]string{"container.stream", "stderr"}, "has no effect without container"},
		"format":             {[]string{"container", "rkt"}, "must be"},
		"pattern":            {[]string{"multiline.startPattern", "("}, "missing"},
		"look-ahead of Java": {[]string{"multiline.startPattern", "^(?!x)"}, "only Java"},
	} {
		_, faults := bind(c.keys...)
		if len(faults) == 0 || !strings.Contains(faults[0].Text, c.want) {
			t.Errorf("%s: %v", name, faults)
		}
	}
	if !options(t).Plain() || options(t, "container", "cri").Plain() || options(t, "multiline.endPattern", "x").Plain() {
		t.Error("Plain is wrong")
	}
}

// randomText makes lines that have everything in them.
func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	texts := []string{"E one", "  at a", "  at b", "E two;", "", "x;", "Caused by"}
	for range n {
		text, s := texts[r.IntN(len(texts))], []string{"stdout", "stderr"}[r.IntN(2)]
		switch r.IntN(8) {
		case 0:
			b.WriteString(text + "\n")
		case 1, 2:
			b.WriteString(criLine(s, "P", text))
		case 3:
			b.WriteString(dockerLine(s, text))
		case 4:
			b.WriteString(dockerLine(s, text+"\n"))
		default:
			b.WriteString(criLine(s, "F", text))
		}
	}
	return b.String()
}

var variants = [][]string{
	{"multiline.startPattern", `^E`},
	{"multiline.continuePattern", `^ `},
	{"multiline.endPattern", `;$`},
	{"multiline.startPattern", `E`, "multiline.maxLines", "3", "multiline.maxBytes", "30"},
	{"container", "auto"},
	{"container", "auto", "container.stream", "stderr"},
	{"container", "auto", "multiline.startPattern", `^E`},
	{"container", "cri", "multiline.startPattern", `^E`, "multiline.maxLines", "2"},
	{"container", "auto", "multiline.continuePattern", `^ `, "multiline.endPattern", `;$`},
	{"container", "docker", "multiline.endPattern", `;$`, "multiline.maxBytes", "20"},
}

// However the reading is interrupted, the events are the same: each once and in order.
func TestAnyInterruption(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := randomText(r, 60)
		for _, keys := range variants {
			for _, limit := range []int64{12, 1 << 20} {
				drop := seed%2 == 1
				whole := newFeeder(t, limit, drop, keys...)
				whole.feed(text)
				whole.keep(whole.j.Flush())
				f := newFeeder(t, limit, drop, keys...)
				for at := 0; at < len(text); {
					at = min(len(text), at+r.IntN(200))
					f.feed(text[:at])
					if r.IntN(3) == 0 {
						f.restart()
					}
				}
				f.feed(text)
				f.keep(f.j.Flush())
				if !slices.Equal(f.events, whole.events) {
					t.Fatalf("seed %d, %v, limit %d:\ngot  %+v\nwant %+v", seed, keys, limit, f.events, whole.events)
				}
			}
		}
	}
}

// After a crash the channels may hold more than the positions that were kept.
func TestKeptPositionsAreOld(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		text := randomText(r, 60)
		for _, keys := range variants {
			f := newFeeder(t, 1<<20, false, keys...)
			f.feed(text[:r.IntN(len(text))])
			kept := f.j.Positions(f.read)
			f.feed(text[:f.read+r.Int64N(int64(len(text))-f.read)])
			f.keep(f.j.Expired(clock.Add(time.Hour))) // which nobody knows of later
			for s := range kept {
				kept[s] = max(kept[s], f.highest[s])
			}
			f.read = kept.Safe()
			f.j = f.o.Joiner(f.n, f.limit, false, kept)
			f.feed(text)
			f.keep(f.j.Flush())
			want := map[Stream]int64{}
			for _, e := range f.events {
				if e.begin < want[e.stream] {
					t.Fatalf("seed %d, %v: %q begins at %d, before the end %d of the last one", seed, keys, e.body, e.begin, want[e.stream])
				}
				want[e.stream] = e.end
			}
			whole := newFeeder(t, 1<<20, false, keys...)
			whole.feed(text)
			whole.keep(whole.j.Flush())
			if got, want := size(f.events), size(whole.events); got != want {
				t.Fatalf("seed %d, %v: %d bytes, want %d", seed, keys, got, want)
			}
		}
	}
}

// size counts what is in events, whatever they were cut into.
func size(events []got) (n int) {
	for _, e := range events {
		n += len(strings.ReplaceAll(e.body, "\n", ""))
	}
	return n
}

func FuzzCRI(f *testing.F) {
	f.Add([]byte(criLine("stdout", "F", "text")))
	f.Add([]byte(criLine("stderr", "P:x", "")))
	f.Add([]byte("2016-10-06T00:17:09+99:99 stdout F x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := parseCRI(line)
		if err != nil {
			return
		}
		if got.stream == Raw || len(got.body) > len(line) {
			t.Errorf("%q: %+v", line, got)
		}
		if f := strings.SplitN(string(line), " ", 4); len(f) == 4 && got.partial && f[3] != string(got.body) {
			t.Errorf("%q: %q", line, got.body)
		}
	})
}

func FuzzDocker(f *testing.F) {
	f.Add([]byte(dockerLine("stdout", "text\n")))
	f.Add([]byte(`{"log":"\ud83d\ude00 \u0000","stream":"stderr","time":"` + criTime + `","attrs":{"a":[1,{}]}}`))
	f.Add([]byte(`{"log":"a","log":"b","stream":"stderr","time":"` + criTime + `"}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var j jsonReader
		got, err := j.parse(line, nil)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatalf("%q: encoding/json says %v", line, err)
		}
		body, _ := want["log"].(string)
		if cut, ok := strings.CutSuffix(body, "\n"); ok != !got.partial {
			t.Errorf("%q: partial %v", line, got.partial)
		} else if ok {
			body = strings.TrimSuffix(cut, "\r")
		}
		if body != string(got.body) || want["stream"] != got.stream.String() {
			t.Errorf("%q: %+v", line, got)
		}
	})
}

func FuzzJoiner(f *testing.F) {
	f.Add(criLine("stdout", "P", "text")+"E\n a\n"+dockerLine("stderr", "x"), uint8(20), uint8(4), false)
	f.Fuzz(func(t *testing.T, text string, cut, limit uint8, drop bool) {
		for _, keys := range variants {
			whole := newFeeder(t, int64(limit)+1, drop, keys...)
			whole.feed(text)
			whole.keep(whole.j.Flush())
			f := newFeeder(t, int64(limit)+1, drop, keys...)
			f.feed(text[:min(int(cut), len(text))])
			f.restart()
			f.feed(text)
			f.keep(f.j.Flush())
			if !slices.Equal(f.events, whole.events) {
				t.Fatalf("%v:\ngot  %+v\nwant %+v", keys, f.events, whole.events)
			}
		}
	})
}
