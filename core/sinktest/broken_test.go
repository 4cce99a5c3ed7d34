package sinktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/suite"
)

// shelf is a far end in memory.
type shelf struct {
	mu     sync.Mutex
	bodies []string
	down   bool
}

// lateSink holds transactions until Flush and writes them to the shelf.
type lateSink struct {
	shelf *shelf
	fault string
	mu    sync.Mutex
	held  []core.TakeTx
}

func (s *lateSink) Keys(*conf.Keys)                      {}
func (s *lateSink) Open(context.Context, core.Env) error { return nil }

func (s *lateSink) Deliver(ctx context.Context, tx core.TakeTx) {
	s.mu.Lock()
	s.held = append(s.held, tx)
	n := len(s.held)
	s.mu.Unlock()
	if n >= 2 {
		_ = s.Flush(ctx)
	}
}

func (s *lateSink) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == "flushes nothing" {
		return nil
	}
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	var err error
	for _, tx := range s.held {
		if s.shelf.down && s.fault != "acks what failed" {
			err = errors.New("shelf is down")
			tx.Rollback(err)
			continue
		}
		for i, e := range tx.Batch().Events {
			if s.shelf.down || s.fault == "loses an event" && i == 2 {
				continue
			}
			s.shelf.bodies = append(s.shelf.bodies, string(e.Body))
		}
		tx.Ack(nil)
		if s.fault == "ends twice" {
			tx.Rollback(errors.New("twice"))
		}
	}
	s.held = nil
	return err
}

func (s *lateSink) Close(ctx context.Context) error {
	if s.fault == "forgets what it holds" {
		return nil
	}
	return s.Flush(ctx)
}

func subject(fault string) Subject {
	var sh *shelf
	return Subject{
		New: func() core.Sink {
			sh = new(shelf)
			return &lateSink{shelf: sh, fault: fault}
		},
		Backend: func(testing.TB) Backend {
			mine := sh
			set := func(down bool) func() {
				return func() {
					mine.mu.Lock()
					mine.down = down
					mine.mu.Unlock()
				}
			}
			return Backend{
				Seen: func() []string {
					mine.mu.Lock()
					defer mine.mu.Unlock()
					return slices.Clone(mine.bodies)
				},
				Break: set(true), Heal: set(false),
			}
		},
	}
}

func TestRightSinkPasses(t *testing.T) { Run(t, subject("")) }

// Every fault must be found by the check named for it.
func TestBrokenSinksFail(t *testing.T) {
	for fault, check := range map[string]string{
		"loses an event":        "acked is visible",
		"flushes nothing":       "flush ends what is held",
		"acks what failed":      "failure rolls back, success follows",
		"forgets what it holds": "close ends what is held",
		"ends twice":            "flush ends what is held",
	} {
		t.Run(fault, func(t *testing.T) {
			few := slices.DeleteFunc(slices.Clone(Checks), func(c suite.Check[Subject]) bool { return c.Name != check })
			if failed := suite.Failures(t, subject(fault), few); len(failed) == 0 {
				t.Errorf("no check failed for a sink that %s", fault)
			}
		})
	}
}
