// Package lanetest runs a sink as an agent does, with a channel of numbered
// events, and tells whether they arrive in their order.
package lanetest

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/channel/memory"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// Order tells whether numbered events arrive in their order. Some may come again.
type Order struct {
	Next  int    // the event that was never stored
	Again int    // events that came more than once
	Wrong string // the first that overtook
}

// See is told of events that are stored.
func (o *Order) See(events []core.Event) {
	for _, e := range events {
		switch n, _ := strconv.Atoi(string(e.Body)); {
		case n == o.Next:
			o.Next++
		case n < o.Next:
			o.Again++
		case o.Wrong == "":
			o.Wrong = fmt.Sprintf("event %d when %d was to come", n, o.Next)
		}
	}
}

// Run has the real runner deliver numbered events, so many at a time, from a
// channel in memory into sink until none is left. The caller closes the channel,
// after the sink.
func Run(t *testing.T, sink core.Sink, events, batch int) core.Channel {
	t.Helper()
	ch := memory.Channel.New()
	if _, faults := conf.Bind(ch, map[string]string{"capacity": "5000", "transactionCapacity": "5000"}); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := ch.Open(context.Background(), sourcetest.NewEnv(t, "ch")); err != nil {
		t.Fatal(err)
	}
	b := core.NewBatch()
	defer b.Release()
	for i := range events {
		b.Copy(core.Headers{}, []byte(strconv.Itoa(i)))
	}
	tx, err := ch.TryClaim(b.Size())
	if err != nil {
		t.Fatal(err)
	}
	tx.Commit(b, nil, func(error) {})
	r := &core.SinkRunner{
		Name: "k", Log: slog.New(slog.DiscardHandler), Sink: sink, Take: core.Take{Events: batch},
		Channel: &core.ChannelNode{Channel: ch, Name: "ch", Cells: new(metric.Group)},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*suite.Deadline)
	defer cancel()
	stopped, stop := context.WithCancel(ctx)
	stop() // it drains at once
	r.Run(stopped, ctx)
	return ch
}
