package lines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
)

// pipe makes an open Pipe of keys: k, v, k, v.
func pipe(t testing.TB, kv ...string) *Pipe {
	t.Helper()
	p, props := new(pipeBinder), map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		props[kv[i]] = kv[i+1]
	}
	if _, faults := conf.Bind(p, maps.Clone(props)); faults.HasErrors() {
		t.Fatal(faults)
	}
	p.Pipe.Open(core.Env{Name: "src", Log: slog.New(slog.DiscardHandler), Metrics: new(metric.Group)})
	return &p.Pipe
}

type pipeBinder struct{ Pipe }

func (b *pipeBinder) Open(context.Context, core.Env) error { return nil }

// script is an input of texts that come at their times.
type script struct {
	steps    []step
	deadline time.Time
	stop     bool
}

type step struct {
	at   time.Time
	text string
}

func (s *script) SetReadDeadline(t time.Time) error { s.deadline = t; return nil }
func (s *script) Stopped() bool                     { return s.stop }

func (s *script) Read(p []byte) (int, error) {
	if s.over() {
		return 0, os.ErrDeadlineExceeded
	}
	if len(s.steps) == 0 {
		return 0, io.EOF
	}
	next := &s.steps[0]
	if !s.deadline.IsZero() && s.deadline.Before(next.at) {
		time.Sleep(time.Until(s.deadline))
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(time.Until(next.at))
	n := copy(p, next.text)
	if next.text = next.text[n:]; next.text == "" {
		s.steps = s.steps[1:]
	}
	return n, nil
}

func (s *script) over() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

// arrivals is an outlet that notes when batches come, and may let them wait.
type arrivals struct {
	sourcetest.Outlet
	begun time.Time
	slow  time.Duration // the first batch takes so long
	got   []string
}

func (a *arrivals) Send(_ context.Context, b *core.Batch, _ func(error)) error {
	defer b.Release()
	for _, e := range b.Events {
		a.got = append(a.got, fmt.Sprintf("%v %q %s", time.Since(a.begun), e.Body, e.Headers.Value("stream")))
	}
	time.Sleep(a.slow)
	a.slow = 0
	return nil
}

func TestPipeTimes(t *testing.T) {
	type in struct {
		at   time.Duration
		text string
	}
	for name, c := range map[string]struct {
		keys []string
		slow time.Duration
		in   []in
		want []string
	}{
		"plain": {
			[]string{"batchTimeout", "100"},
			0,
			[]in{{0, "a\n"}, {50e6, "b\nunfin"}, {150e6, "ished\n"}, {500e6, "last"}},
			[]string{`100ms "a" `, `100ms "b" `, `250ms "unfinished" `, `500ms "last" `},
		},
		"traces wait for lines, and then no longer": {
			[]string{"multiline.startPattern", `^\S`, "multiline.timeout", "300", "batchTimeout", "100"},
			0,
			[]in{{0, "E\n at\n"}, {200e6, " more\n"}, {700e6, "F\nG\n"}, {710e6, " end\n"}},
			[]string{`510ms "E\n at\n more" `, `710ms "F" `, `710ms "G\n end" `},
		},
		"a full channel tears nothing": {
			[]string{"multiline.startPattern", `^\S`, "multiline.timeout", "100", "batchSize", "1"},
			time.Second,
			[]in{{0, "E\nF\n"}, {50e6, " at\n more\n"}, {2000e6, "G\n"}},
			[]string{`0s "E" `, `1.11s "F\n at\n more" `, `2s "G" `},
		},
		"one stream is busy": {
			[]string{"container", "cri", "multiline.startPattern", `^\S`, "multiline.timeout", "100", "batchSize", "1"},
			0,
			[]in{
				{0, criLine("stderr", "F", "E") + criLine("stdout", "F", "1")},
				{90e6, criLine("stdout", "F", "2")},
				{105e6, criLine("stdout", "F", "3")},
				{190e6, criLine("stdout", "F", "4")},
			},
			[]string{`90ms "1" stdout`, `105ms "2" stdout`, `105ms "E" stderr`, `190ms "3" stdout`, `190ms "4" stdout`},
		},
		"parts": {
			[]string{"container", "docker", "batchTimeout", "10"},
			0,
			[]in{{0, dockerLine("stdout", "a ") + dockerLine("stderr", "x\n")}, {1e9, dockerLine("stdout", "b\n")}},
			[]string{`10ms "x" stderr`, `1s "a b" stdout`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &arrivals{begun: time.Now(), slow: c.slow}
				s := new(script)
				for _, i := range c.in {
					s.steps = append(s.steps, step{out.begun.Add(i.at), i.text})
				}
				if err := pipe(t, c.keys...).Read(context.Background(), s, out); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(out.got, c.want) {
					t.Errorf("\ngot  %q\nwant %q", out.got, c.want)
				}
			})
		})
	}
}

// What was read when the input is stopped is put, and nothing more is read.
func TestPipeStopped(t *testing.T) {
	out := sourcetest.NewOutlet()
	s := &script{steps: []step{{time.Now(), "a\n b\nc"}}}
	p := pipe(t, "multiline.startPattern", `^\S`)
	r := p.reader(context.Background(), s, out)
	defer r.close()
	n, err := s.Read(r.block.Buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.took(n); err != nil {
		t.Fatal(err)
	}
	s.stop, s.steps = true, []step{{time.Now(), "not read"}}
	if err := r.run(); err != nil {
		t.Fatal(err)
	}
	if got := out.Bodies(); !slices.Equal(got, []string{"a\n b", "c"}) {
		t.Errorf("got %q", got)
	}
}

func TestPipeOutletCloses(t *testing.T) {
	out := sourcetest.NewOutlet()
	out.Close(core.ErrClosed)
	s := &script{steps: []step{{time.Now(), "a\n"}}}
	if err := pipe(t).Read(context.Background(), s, out); !errors.Is(err, core.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// A long line is one line of its event, however it was read.
func TestPipeLongLines(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, c := range []struct {
		keys   []string
		want   []string
		counts string
	}{
		{[]string{"maxEventBytes", "200000"}, []string{"a", long[:200000], long[200000:], " b"}, "lines_split_total"},
		{[]string{"maxEventBytes", "200000", "multiline.continuePattern", "^[x ]"}, []string{"a\n" + long + "\n b"}, "lines_split_total"},
		{[]string{"maxEventBytes", "200000", "multiline.continuePattern", "^[x ]", "longLines", "drop"}, []string{"a\n b"}, "lines_dropped_total"},
	} {
		out := sourcetest.NewOutlet()
		p := pipe(t, c.keys...)
		if err := p.Read(context.Background(), &script{steps: []step{{time.Now(), "a\n" + long + "\r\n b\r\n"}}}, out); err != nil {
			t.Fatal(err)
		}
		if got := out.Bodies(); !slices.Equal(got, c.want) {
			t.Errorf("%v: %d events, want %d", c.keys, len(got), len(c.want))
		}
		if n := p.env.Metrics.Counter(c.counts, "").Value(); n != 1 {
			t.Errorf("%v: %s %d", c.keys, c.counts, n)
		}
	}
}

// FuzzPipe cuts any bytes, in reads of any size, as a slower reading does.
func FuzzPipe(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nccccccccccccc\nd"), uint8(4), uint8(3), false)
	f.Add([]byte("aaaaaaaaaaaa\r\n"), uint8(11), uint8(1), true)
	f.Fuzz(func(t *testing.T, data []byte, most, chunk uint8, dropLong bool) {
		how := split
		if dropLong {
			how = drop
		}
		longest := max(1, int(most))
		p := pipe(t, "maxEventBytes", fmt.Sprint(longest), "batchSize", "3", "longLines", how)
		out := sourcetest.NewOutlet()
		r := p.reader(context.Background(), new(script), out)
		defer r.close()
		for rest := data; len(rest) > 0; {
			n := copy(r.block.Buf[r.to:], rest[:min(len(rest), int(chunk)+1)])
			rest = rest[n:]
			if err := r.took(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		got, all := out.Bodies(), strings.Split(string(data), "\n")
		for _, b := range got {
			if len(b) > longest+1 || strings.Contains(b, "\n") {
				t.Fatalf("%q is longer than %d", b, longest)
			}
		}
		for i, line := range all {
			all[i] = strings.TrimSuffix(line, "\r")
		}
		if dropLong {
			all = slices.DeleteFunc(all, func(line string) bool { return len(line) > longest })
		}
		if a, b := strings.Join(got, ""), strings.Join(all, ""); a != b {
			t.Fatalf("got %q, want %q", a, b)
		}
	})
}
