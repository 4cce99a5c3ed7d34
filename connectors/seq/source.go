package seq

import (
	"context"
	"math"
	"strconv"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Source is the catalogue entry.
var Source = core.Type[core.Source]{
	Name: "seq", Doc: "Counts from zero, an event for each number.",
	Aliases: []string{"org.apache.flume.source.SequenceGeneratorSource"},
	New:     func() core.Source { return new(source) },
}

// blockBytes is memory that the numbers of several batches share.
const blockBytes = 64 << 10

type source struct {
	total int64
	batch int

	env   core.Env
	next  int64 // number to go on with where no channel knows better
	block *core.Block
	room  []byte // unused rest of block
}

// Keys implements core.Component.
func (s *source) Keys(k *conf.Keys) {
	k.Int64(&s.total, "totalEvents", math.MaxInt64, "Numbers to count before stopping.")
	k.Batch(&s.batch, "batchSize", 1, "Events put in one transaction.")
	k.Inert("backoffSleepIncrement", "the source is not polled: it waits for room in its channels")
	k.Inert("maxBackoffSleep", "the source is not polled: it waits for room in its channels")
}

// Open implements core.Component.
func (s *source) Open(_ context.Context, env core.Env) error {
	s.env = env
	return nil
}

// Run implements core.Source. The numbers are positions: after a failure it
// goes on with the first one that was not sent.
func (s *source) Run(ctx context.Context, out core.Outlet) error {
	stream := s.env.Name + ":seq"
	if held, ok := out.Position(stream); ok {
		s.next = held
	}
	size := int64(s.batch)
	if limit := int64(s.env.MaxEvents); limit > 0 {
		size = min(size, limit)
	}
	done := func(err error) {
		if err == nil && size > 1 {
			s.env.Metrics.AppendBatchAccepted.Add(1)
		}
	}
	for s.next < s.total {
		b := core.NewBatch()
		end := s.next + min(size, s.total-s.next)
		for n := s.next; n < end; n++ {
			s.add(b, n)
		}
		b.Mark(stream, end)
		if err := out.Send(ctx, b, done); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.next = end
	}
	return nil
}

// add appends the event of number n to b.
func (s *source) add(b *core.Batch, n int64) {
	const longest = 20
	if len(s.room) < longest {
		s.drop()
		s.block = core.NewBlock(blockBytes)
		s.room = s.block.Buf
		b.Use(s.block)
	} else if len(b.Events) == 0 {
		b.Use(s.block)
	}
	body := strconv.AppendInt(s.room[:0], n, 10)
	s.room = s.room[len(body):]
	b.Events = append(b.Events, core.Event{Body: body[:len(body):len(body)], Pos: n + 1})
	b.Resize()
}

func (s *source) drop() {
	if s.block != nil {
		s.block.Release()
		s.block, s.room = nil, nil
	}
}

// Close implements core.Source.
func (s *source) Close() error {
	s.drop()
	return nil
}
