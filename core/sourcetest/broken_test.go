package sourcetest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

// place is what a tape source reads: lines that stay, and a position on "disk".
type place struct {
	mu       sync.Mutex
	lines    []string
	position int
	more     chan struct{}
}

func (p *place) from(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines[n:])
}

// tape is a right source, but for its fault.
type tape struct {
	name  string
	place *place
	fault string
}

var (
	placesMu sync.Mutex
	places   = map[string]*place{}
)

func (s *tape) Keys(k *conf.Keys) { k.String(&s.name, "place", "", "Place to read from.") }
func (s *tape) Open(context.Context, core.Env) error {
	placesMu.Lock()
	defer placesMu.Unlock()
	s.place = places[s.name]
	return nil
}
func (s *tape) Close() error { return nil }

func (s *tape) Run(ctx context.Context, out core.Outlet) error {
	p := s.place
	p.mu.Lock()
	at := p.position
	p.mu.Unlock()
	if pos, ok := out.Position(s.name); ok && s.fault != "checkpoint before data" {
		at = int(pos)
	}
	if s.fault == "reads from the start" {
		at = 0
	}
	for {
		for lines := p.from(at); len(lines) > 0; {
			n := min(7, len(lines))
			b := core.NewBatch()
			for i, line := range lines[:n] {
				if s.fault == "loses a line" && (at+i)%50 == 49 {
					continue
				}
				b.Copy(core.Headers{}, []byte(line))
				b.Events[len(b.Events)-1].Pos = int64(at + i + 1)
			}
			if s.fault == "swaps lines" && len(b.Events) > 1 {
				b.Events[0], b.Events[1] = b.Events[1], b.Events[0]
			}
			lines, at = lines[n:], at+n
			end := at
			if s.fault != "reads from the start" {
				b.Mark(s.name, int64(end))
			}
			if s.fault == "checkpoint before data" {
				s.save(end)
			}
			err := out.Send(ctx, b, func(err error) {
				if err == nil {
					s.save(end)
				}
			})
			if err != nil {
				<-ctx.Done()
				return err
			}
		}
		if s.fault == "ignores the order to stop" {
			ctx = context.Background()
		}
		select {
		case <-p.more:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *tape) save(n int) {
	s.place.mu.Lock()
	s.place.position = n
	s.place.mu.Unlock()
}

func subject(fault string) Subject {
	return Subject{
		New: func() core.Source { return &tape{fault: fault} },
		Keys: func(t testing.TB) map[string]string {
			placesMu.Lock()
			defer placesMu.Unlock()
			name := t.Name() + fault + time.Now().String()
			places[name] = &place{more: make(chan struct{}, 1)}
			return map[string]string{"place": name}
		},
		Feed: func(_ testing.TB, in *Instance, bodies []string) []string {
			placesMu.Lock()
			p := places[in.Keys["place"]]
			placesMu.Unlock()
			p.mu.Lock()
			p.lines = append(p.lines, bodies...)
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
			return bodies
		},
		Replay: true,
	}
}

func TestRightSourcePasses(t *testing.T) { Run(t, subject("")) }

// Every fault must be found by the check named for it.
func TestBrokenSourcesFail(t *testing.T) {
	for fault, check := range map[string]string{
		"loses a line":              "arrives once and in order",
		"swaps lines":               "arrives once and in order",
		"reads from the start":      "opens again",
		"checkpoint before data":    "crash loses nothing",
		"ignores the order to stop": "arrives once and in order",
	} {
		t.Run(fault, func(t *testing.T) {
			s := subject(fault)
			few := slices.DeleteFunc(slices.Clone(Checks), func(c suite.Check[Subject]) bool { return c.Name != check })
			if failed := suite.Failures(t, s, few); len(failed) == 0 {
				t.Errorf("no check failed for a source that %s", fault)
			}
		})
	}
}
