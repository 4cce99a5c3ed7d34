package channeltest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// after opens the channel on what the disk could hold now, perhaps with more
// crashes while it recovers, and judges it.
func (w *world) after(rng *rand.Rand) {
	mode := vfs.CrashMode(rng.IntN(vfs.CrashModes))
	w.crash.note(w.fault.Struck(), mode)
	disk := w.mem.CrashClone(rng, mode)
	for range rng.IntN(3) { // the power fails again during recovery
		fault := vfs.NewFault(disk, vfs.Rule{At: 1 + rng.IntN(12), Crash: true})
		if ch, err := openOn(fault, w.s); err == nil {
			_ = ch.Close() // it crashes here, if not before
		}
		disk = disk.CrashClone(rng, vfs.CrashMode(rng.IntN(vfs.CrashModes)))
	}
	ch, err := openOn(disk, w.s)
	if err != nil {
		w.errorf("open after the crash: %v", err)
		return
	}
	w.judge(ch)
	// Life goes on: what is put now is delivered, and all of it is gone then.
	w.ch, w.fault, w.marked = ch, vfs.NewFault(disk), nil
	first := len(w.events)
	w.put(3)
	var ids []int
	for _, l := range w.drain() {
		ids = append(ids, l...)
	}
	for i, id := range ids {
		if id != first+i {
			w.errorf("after recovery event %d came where %d was put", id, first+i)
		}
	}
	if first+len(ids) != len(w.events) {
		w.errorf("after recovery %d events came of %d", len(ids), len(w.events)-first)
	}
	if err := ch.Close(); err != nil {
		w.errorf("close: %v", err)
	}
	if ch, err = openOn(disk, w.s); err != nil {
		w.errorf("open at last: %v", err)
		return
	}
	w.ch = ch
	if size := ch.Len(); size != (core.Size{}) {
		w.errorf("%v is left after all was acked", size)
	}
	_ = ch.Close()
}

// drain takes and acks everything, and waits until the acks are stored.
func (w *world) drain() (leases [][]int) {
	var last <-chan struct{}
	for {
		l, err := w.ch.Take(context.Background(), core.Take{Events: 1 + w.rng.IntN(100), NoWait: true})
		if err != nil {
			if !errors.Is(err, core.ErrEmpty) {
				w.errorf("take: %v", err)
			}
			break
		}
		leases = append(leases, w.ids(l.Batch()))
		last = l.Ack(nil)
	}
	if last != nil {
		time.Sleep(time.Second)
		synctest.Wait()
		if !closed(last) {
			w.errorf("an ack is not answered")
		}
	}
	return leases
}

// judge compares what the channel delivers with the model.
func (w *world) judge(ch core.Channel) {
	w.ch = ch
	mark := int64(0)
	if m, ok := ch.Marks()["sink"]; ok {
		if mark = m.Pos; string(m.State) != strconv.FormatInt(mark, 10) {
			w.errorf("mark %d has state %q", mark, m.State)
		}
	}
	if mark > w.mark || w.marked != nil && closed(w.marked) && mark != w.mark {
		w.errorf("the sink's mark is %d, the last one stored %d", mark, w.mark)
	}
	if w.s.Spills && len(ch.Marks()) > 0 {
		w.errorf("a channel that spills holds marks: %v", ch.Marks())
	}
	held := map[string]int64{}
	for _, s := range []string{"s", "t"} {
		if pos, ok := ch.Position(s); ok {
			if w.s.Spills {
				w.errorf("a channel that spills holds position %d of %s", pos, s)
			}
			held[s] = pos
		}
	}
	size := ch.Len()
	there := make([]bool, len(w.events))
	last, count := -1, 0
	for _, ids := range w.drain() {
		for _, id := range ids {
			if there[id] || last >= 0 && !w.follows(last, id) {
				w.errorf("event %d comes after %d", id, last)
			}
			there[id] = true
			last = id
			count++
		}
	}
	if size.Events != count {
		w.errorf("Len said %d events, %d came", size.Events, count)
	}
	for id := range w.events {
		w.judgeEvent(id, there[id], mark, held)
	}
	for _, p := range w.puts {
		if p.stored.Load() || w.s.Spills && w.begun(p) {
			continue
		}
		for id := p.from + 1; id < p.to; id++ {
			if there[id] != there[p.from] {
				w.errorf("of put %d..%d only a part is there", p.from, p.to)
				break
			}
		}
	}
}

// begun says whether a part of p may be there: a Close found it in memory, and
// may have written it in parts, or some of it was delivered.
func (w *world) begun(p *modelPut) bool {
	return p.from < w.fresh || slices.ContainsFunc(w.events[p.from:p.to], func(e modelEvent) bool { return e.acked })
}

func (w *world) judgeEvent(id int, there bool, mark int64, held map[string]int64) {
	e := &w.events[id]
	p := w.puts[e.put]
	stored := p.stored.Load() && !(p.atOnce && !p.marked && w.s.Spills)
	switch {
	case stored && !e.acked && !there:
		w.errorf("event %d was answered and is lost", id)
	case there && e.acked && closed(e.stored):
		w.errorf("event %d is there, but its ack was stored", id)
	case there && e.acked && e.mark > 0 && e.mark <= mark:
		w.errorf("event %d is there, but mark %d says that it was delivered (it went with mark %d)", id, mark, e.mark)
	case !there && stored && e.acked && e.mark > mark:
		w.errorf("event %d is gone, but mark %d does not say so (it went with mark %d)", id, mark, e.mark)
	}
	if e.stream == "" || w.s.Spills {
		return
	}
	pos := held[e.stream]
	switch {
	case there && e.pos > pos:
		w.errorf("event %d is there, but position %d of its stream is before it (%d): it would be sent again", id, pos, e.pos)
	case !there && !e.acked && e.pos <= pos:
		w.errorf("event %d is not there, but position %d of its stream is behind it (%d): it would never be sent again", id, pos, e.pos)
	}
}
