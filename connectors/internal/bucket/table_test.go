package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/internal/filetype"
	"github.com/millrace/millrace/connectors/internal/format"
	"github.com/millrace/millrace/connectors/internal/resume"
	"github.com/millrace/millrace/connectors/internal/roll"
	"github.com/millrace/millrace/connectors/internal/turn"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sinktest"
)

// output is a file in memory.
type output struct {
	File
	bucket *Bucket[*output]
}

// enc begins with '<' and ends what can be cut with '|'.
type enc struct{ filetype.Encoder }

func (enc) Begin(dst []byte) []byte { return append(dst, '<') }
func (enc) Flush(dst []byte) []byte { return append(dst, '|') }
func (enc) Append(dst []byte, events []core.Event) []byte {
	for _, e := range events {
		dst = append(dst, e.Body...)
	}
	return dst
}

// rig has a file for each value of the header a, of at most four events.
type rig struct {
	Table[*output]
	chunks []string // how events came
	ended  []string
	broken error // of Ready
}

func newRig(t *testing.T) *rig {
	path, err := roll.Parse("/%{a}")
	if err != nil {
		t.Fatal(err)
	}
	r := new(rig)
	r.Table = Table[*output]{
		Target: &roll.Target{Path: path}, Limits: &roll.Limits{Count: 4}, Wake: turn.NewWake(), Most: 2,
		Buckets: map[string]*Bucket[*output]{}, Live: map[*output]struct{}{},
	}
	r.Target.Open(core.Env{Metrics: new(metric.Group)}, "")
	r.Name = func(b *Bucket[*output], dir, prefix string) error {
		if b.Base = dir + prefix; strings.Contains(dir, "bad") {
			return errors.New("no such name")
		}
		return nil
	}
	r.Ready = func(_ context.Context, b *Bucket[*output], _ *Lease) error {
		if b.Out == nil && r.broken == nil {
			r.Begin(b, &output{bucket: b, File: File{Enc: enc{}, Begun: time.Now()}})
		}
		return r.broken
	}
	r.Grown = func(o *output) error {
		r.chunks = append(r.chunks, string(o.Buf))
		if r.Limits.Full(o.Total, o.InBodies) {
			r.EndPart(&o.File)
			r.ended = append(r.ended, string(o.Buf))
			o.Ended, o.bucket.Out = true, nil
		}
		return nil
	}
	return r
}

// put puts one event, its letter, for each "header:letter".
func (r *rig) put(events ...string) (*sinktest.Loose, []*output, error) {
	x := &sinktest.Loose{Events: core.NewBatch(), Taken: make(chan struct{})}
	for _, e := range events {
		a, body, _ := strings.Cut(e, ":")
		x.Events.Copy(core.NewHeaders(core.Header{Key: "a", Value: a}), []byte(body))
	}
	open, err := r.Put(context.Background(), r.Lease(x), new(format.Prepared), time.Now())
	return x, open, err
}

func mark(o *output) func(*Part) core.Mark {
	return func(p *Part) core.Mark { return core.Mark{Stream: o.bucket.Base, Pos: p.Length} }
}

func TestPut(t *testing.T) {
	r := newRig(t)
	x, open, err := r.put("x:a", "y:b", "x:c", "bad:d", "x:e")
	if err != nil || len(open) != 2 || string(open[0].Buf) != "<ace|" || string(open[1].Buf) != "<b|" || r.Buffered != 8 {
		t.Fatalf("%v, %d bytes, %v", open, r.Buffered, err)
	}
	if !slices.Equal(x.Refused, []int{3}) {
		t.Errorf("refused %v", x.Refused)
	}
	of := open[0]
	second, open, err := r.put("x:f", "x:g") // the fourth ends the first file, the fifth begins another
	if err != nil || len(open) != 1 || string(open[0].Buf) != "<g|" || !slices.Equal(r.ended, []string{"<ace|f|"}) {
		t.Fatalf("%v ended, %v are open, %v", r.ended, open, err)
	}
	r.Forget("old")
	r.Ack(&of.File, mark(of))
	if got := fmt.Sprint(x.Acked, x.Marks, second.Acked, second.Marks); got != "[0 2 4] [{/x 5 []} {old -1 []}] [0] [{/x 7 []}]" || of.Stored == nil {
		t.Errorf("acked %s", got)
	}
	r.Ack(&open[0].File, mark(open[0])) // all of the second is acked now, and not the first one's event in y
	cause := errors.New("cause")
	r.RollBack(cause)
	if !errors.Is(x.Cause, cause) || second.Cause != nil {
		t.Errorf("rolled back for %v and %v", x.Cause, second.Cause)
	}
}

// A lease that ends by its refusals is none, and so is one of nothing.
func TestNothingLeft(t *testing.T) {
	r := newRig(t)
	refused, _, err := r.put("bad:a", "bad:b")
	empty, _, err2 := r.put()
	if err != nil || err2 != nil || len(refused.Refused) != 2 || empty.Acks != 1 {
		t.Errorf("%v, %v; refused %v, acked %d times", err, err2, refused.Refused, empty.Acks)
	}
	r.RollBack(errors.New("cause"))
	if refused.Cause != nil || empty.Cause != nil {
		t.Errorf("rolled back for %v and %v", refused.Cause, empty.Cause)
	}
}

// What fails stays among the leases, for who rolls back.
func TestFailure(t *testing.T) {
	r := newRig(t)
	r.broken = errors.New("no file")
	x, _, err := r.put("x:a")
	r.RollBack(err)
	if !errors.Is(x.Cause, r.broken) {
		t.Errorf("rolled back for %v", x.Cause)
	}
}

func TestLost(t *testing.T) {
	r := newRig(t)
	x, open, _ := r.put("x:a")
	if err := open[0].Lost(); err != nil {
		t.Errorf("not lost: %v", err)
	}
	close(x.Taken)
	if err := open[0].Lost(); !errors.Is(err, resume.ErrLost) {
		t.Errorf("lost: %v", err)
	}
}

func TestChunk(t *testing.T) {
	r := newRig(t)
	r.Limits, r.Chunk = new(roll.Limits), 2
	b := core.NewBatch()
	for _, body := range []string{"a", "b", "c", "def", "g"} {
		b.Copy(core.Headers{}, []byte(body))
	}
	if _, err := r.Put(context.Background(), r.Lease(&sinktest.Loose{Events: b}), new(format.Prepared), time.Now()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"<ab", "<abcdef", "<abcdefg"}; !slices.Equal(r.chunks, want) {
		t.Errorf("encoded as %q, want %q", r.chunks, want)
	}
}

// The bucket that goes has no file, and of those it is the one that got nothing for the longest time.
func TestMostBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for _, e := range []string{"x:a", "y:b", "z:c"} {
			if _, open, err := r.put(e); err != nil {
				t.Fatal(err)
			} else if e != "x:a" {
				open[0].Ended, open[0].bucket.Out = true, nil
			}
			time.Sleep(time.Second)
		}
		if len(r.Buckets) != 2 || r.Buckets["/x\x00"] == nil || r.Buckets["/z\x00"] == nil {
			t.Errorf("%v", r.Buckets)
		}
	})
}

func TestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Limits = &roll.Limits{Interval: 10 * time.Second}
		if due, wait := r.Due(time.Now(), time.Second); len(due) > 0 || wait != turn.Idle {
			t.Errorf("of nothing: %v, %v", due, wait)
		}
		_, first, _ := r.put("x:a")
		time.Sleep(3 * time.Second)
		_, second, _ := r.put("y:b")
		if oldest, ok := r.Oldest(); !ok || oldest != first[0] {
			t.Errorf("oldest: %v, %v", oldest, ok)
		}
		if due, wait := r.Due(time.Now(), 0); len(due) > 0 || wait != 7*time.Second {
			t.Errorf("by their limits: %v, %v", due, wait)
		}
		if due, wait := r.Due(time.Now(), 5*time.Second); len(due) > 0 || wait != 2*time.Second {
			t.Errorf("by the commit of the first: %v, %v", due, wait)
		}
		if held := r.Holding(time.Now(), 2*time.Second); !slices.Equal(held, first) {
			t.Errorf("held for two seconds: %v", held)
		}
		time.Sleep(7 * time.Second)
		if due, wait := r.Due(time.Now(), 0); !slices.Equal(due, first) || wait != 3*time.Second {
			t.Errorf("after ten seconds: %v, %v", due, wait)
		}
		first[0].Ended = true
		if oldest, ok := r.Oldest(); !ok || oldest != second[0] {
			t.Errorf("oldest: %v, %v", oldest, ok)
		}
		if held := r.Holding(time.Now(), 0); !slices.Equal(held, second) {
			t.Errorf("held: %v", held)
		}
		if due, wait := r.Due(time.Now(), 0); len(due) > 0 || wait != 3*time.Second {
			t.Errorf("when one has ended: %v, %v", due, wait)
		}
	})
}
