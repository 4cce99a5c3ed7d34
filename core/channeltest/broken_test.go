package channeltest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/file"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/channel/spillable"
	"github.com/millrace/millrace/core/suite"
)

// broken is the memory channel with one fault.
type broken struct {
	core.Channel
	fault string
}

func (b *broken) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	l, err := b.Channel.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	return &brokenLease{l, b}, nil
}

// TryClaim claims nothing yet: what is broken shows in what is put.
func (b *broken) TryClaim(core.Size) (core.PutTx, error) { return &brokenPut{b}, nil }

type brokenPut struct{ b *broken }

func (p *brokenPut) Rollback() {}

func (p *brokenPut) Commit(b *core.Batch, pick []int32, stored func(error)) {
	if p.b.fault == "ignores pick" {
		pick = nil
	}
	if p.b.fault == "loses the last event" && pick == nil && len(b.Events) > 1 {
		for i := range len(b.Events) - 1 {
			pick = append(pick, int32(i))
		}
	}
	tx, err := p.b.Channel.TryClaim(b.SizeOf(pick))
	if err != nil {
		stored(nil) // a lie: "full" turned into a loss
		return
	}
	tx.Commit(b, pick, stored)
}

type brokenLease struct {
	core.Lease
	b *broken
}

func (l *brokenLease) Rollback(cause error) {
	switch l.b.fault {
	case "rollback acks":
		l.Lease.Ack(nil)
	case "rollback to the end":
		some := bodies(l)
		l.Lease.Ack(nil)
		_ = Put(l.b.Channel, some...)
	default:
		l.Lease.Rollback(cause)
	}
}

// Every fault must be found by the check that is named for it: a suite that
// cannot fail proves nothing.
func TestBrokenChannelsFail(t *testing.T) {
	for fault, check := range map[string]string{
		"lies when full":       "capacity in events",
		"ignores pick":         "picks",
		"loses the last event": "order",
		"rollback acks":        "rollback comes again first",
		"rollback to the end":  "rollback comes again first",
	} {
		t.Run(fault, func(t *testing.T) {
			s := Subject{New: func() core.Channel { return &broken{memory.Channel.New(), fault} }}
			few := slices.DeleteFunc(slices.Clone(Checks), func(c suite.Check[Subject]) bool { return c.Name != check })
			if failed := suite.Failures(t, s, few); len(failed) == 0 {
				t.Errorf("no check failed for a channel that %s", fault)
			}
		})
	}
}

// hasty answers a put when it is committed, whatever its promise.
type hasty struct{ core.Channel }

func (h hasty) TryClaim(room core.Size) (core.PutTx, error) {
	tx, err := h.Channel.TryClaim(room)
	if err != nil {
		return nil, err
	}
	return hastyPut{tx}, nil
}

type hastyPut struct{ core.PutTx }

func (p hastyPut) Commit(b *core.Batch, pick []int32, stored func(error)) {
	p.PutTx.Commit(b, pick, func(error) {})
	stored(nil)
}

// acking loses what is rolled back, and only a crash or the end tells.
type acking struct{ core.Channel }

func (a acking) Take(ctx context.Context, want core.Take) (core.Lease, error) {
	l, err := a.Channel.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	return ackingLease{l}, nil
}

type ackingLease struct{ core.Lease }

func (l ackingLease) Rollback(error) { l.Ack(nil) }

func TestBrokenChannelsFailTheCrashSuite(t *testing.T) {
	keys := map[string]string{"maxFileSize": "16384", "memoryBytes": "65536", "transactionCapacity": "1000"}
	spill := maps.Clone(keys)
	spill["memoryCapacity"], spill["overflowTimeout"] = "12", "0"
	keys["keep-alive"] = "0"
	for name, s := range map[string]CrashSubject{
		"file, answers before the sync":       {New: func() core.Channel { return hasty{file.Channel.New()} }, Keys: keys},
		"file, acks what is rolled back":      {New: func() core.Channel { return acking{file.Channel.New()} }, Keys: keys},
		"spillable, answers marked in memory": {New: func() core.Channel { return hasty{spillable.Channel.New()} }, Keys: spill, Spills: true},
		"spillable, acks what is rolled back": {New: func() core.Channel { return acking{spillable.Channel.New()} }, Keys: spill, Spills: true},
		"spillable, held to all of file's":    {New: spillable.Channel.New, Keys: spill},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(8) {
				if faults := (crashes{}).seed(t, s, 2*seed, 1); len(faults) > 0 {
					return
				}
			}
			t.Error("no crash showed it")
		})
	}
}
