package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"

	"github.com/millrace/millrace/core"
)

// progress numbers the transactions of a sink whose channel keeps marks. The
// number is in the transaction, as an offset of a group that only the sink has,
// and in the channel, as the mark of the ack: after a crash between the two, what
// the transaction is ahead of the mark says which events the channel gives again
// although they are written. With the number goes how many events it was and their
// checksum, of the last transactions, as acks may be stored some milliseconds late.
type progress struct {
	x      *transactor
	stream string
	group  string
	full   int           // events of a full take
	n      int64         // the newest transaction of which the events are acked
	next   int64         // number of the next one
	recent []carried     // acked; whether the channel has stored that is not known
	owed   []carried     // written and not acked: the events come again
	held   []core.TakeTx // events of the first of owed, until all have come
	begun  carried       // what is being written
}

// carried is one transaction.
type carried struct {
	n      int64
	events int
	sum    uint32
	stored <-chan struct{}
}

// mostRecent is how many transactions may wait for their acks to be stored.
const mostRecent = 16

func newProgress(x *transactor, marks map[string]core.Mark, full int) *progress {
	p := &progress{x: x, stream: "kafka-transactions/" + x.id, group: "millrace-transactions-" + x.id, full: full}
	p.n = marks[p.stream].Pos
	return p
}

// resume asks which transactions were committed. None is under way.
func (p *progress) resume(ctx context.Context) error {
	found, err := p.x.p.c.offsets(ctx, &offsetfetch.Request{GroupID: p.group}, p.x.p.s.backoff)
	if err != nil && !errors.Is(err, kafkago.GroupIdNotFound) { // it is made by the first commit
		return err
	}
	var newest []carried
	p.next = p.n
	for _, at := range found {
		if all := readProgress(at.offset, at.metadata); len(all) > 0 && at.offset >= p.next {
			newest, p.next = all, at.offset
		}
	}
	p.next++
	p.owed = slices.DeleteFunc(newest, func(c carried) bool { return c.n <= p.n })
	switch log := p.x.p.s.env.Log; {
	case len(newest) == 0 && p.n > 0:
		log.Warn("how far transactions were committed is no longer known (brokers forget it after offsets.retention.minutes): if the agent crashed then, its last take comes twice",
			"group", p.group)
	case len(p.owed) > 0 && p.owed[0].n != p.n+1:
		log.Warn("more transactions were committed than the channel knows of: it is another channel, or an older copy, or transactional.id was used elsewhere; nothing is left out",
			"transactional.id", p.x.id, "committed", p.next-1, "known", p.n)
		p.owed = nil
	case len(p.owed) > 0:
		log.Info("transactions were committed before the channel knew: their events are not sent again", "transactions", len(p.owed), "newest", p.next-1)
	}
	return nil
}

// deliver carries tx, without what is written already.
func (p *progress) deliver(ctx context.Context, tx core.TakeTx) {
	at, events := 0, tx.Batch().Events
	for len(p.owed) > 0 && at < len(events) {
		missing, sum := p.owed[0].events, uint32(0)
		for _, h := range p.held {
			sum = checksum(sum, h.Batch().Events)
			missing -= len(h.Batch().Events)
		}
		rest := events[at:]
		if missing > len(rest) {
			switch {
			case at > 0: // the next take begins with it
				tx.Rollback(&core.RetryNow{Cause: errors.New("events that were written already are looked for")})
				return
			case len(rest) >= p.full:
				p.held = append(p.held, tx)
				return
			}
		}
		if missing > len(rest) || missing < 0 || checksum(sum, rest[:missing]) != p.owed[0].sum {
			p.x.p.s.env.Log.Warn("the channel's events are not those of the last transaction: they are sent, and may be there twice. Another sink takes from the channel, or it was changed",
				"transactional.id", p.x.id, "events", p.owed[0].events)
			p.owed = nil
			p.release(ctx)
			break // what is held stood before tx
		}
		done := make([]int32, missing)
		for i := range done {
			done[i] = int32(at + i)
		}
		for _, h := range p.held {
			h.Ack(nil)
		}
		p.held = nil
		p.begun = p.owed[0]
		p.acked(tx.Ack(done, p.mark()))
		p.owed = p.owed[1:]
		at += missing
	}
	if at == len(events) {
		return
	}
	if err := p.adopt(ctx, tx); err != nil || !p.x.ready {
		tx.Rollback(errors.Join(err, errors.New("the transaction before it has failed")))
		return
	}
	done := make([]int32, at)
	for i := range done {
		done[i] = int32(i)
	}
	p.x.carry(ctx, tx, nil, done)
}

// adopt goes on from the number in Kafka where that is not the channel's, so that the next ones are one after the other in both.
func (p *progress) adopt(ctx context.Context, tx core.TakeTx) error {
	if p.n == p.next-1 {
		return nil
	}
	if err := wait(ctx, tx.Ack([]int32{}, core.Mark{Stream: p.stream, Pos: p.next - 1})); err != nil {
		return err
	}
	p.n, p.recent = p.next-1, nil
	return nil
}

// release carries what was held in vain.
func (p *progress) release(ctx context.Context) {
	held := p.held
	p.held = nil
	for _, tx := range held {
		if ctx.Err() != nil || !p.x.ready {
			tx.Rollback(&core.RetryNow{Cause: errors.New("events that were written already were looked for in vain")})
			continue
		}
		p.x.carry(ctx, tx, nil, nil)
	}
}

func (p *progress) mark() core.Mark { return core.Mark{Stream: p.stream, Pos: p.begun.n} }

// write makes what t has written the next transaction's. Refused events are
// settled by then, and stored as settled, so that none of them comes between.
func (p *progress) write(ctx context.Context, tx core.TakeTx, t *transaction) ([]core.Mark, error) {
	if len(t.refused) > 0 {
		if err := wait(ctx, tx.Ack([]int32{}, core.Mark{Stream: p.stream, Pos: p.n})); err != nil {
			return nil, err
		}
	}
	for len(p.recent) > 0 {
		if len(p.recent) < mostRecent && !isClosed(p.recent[0].stored) {
			break
		}
		if err := wait(ctx, p.recent[0].stored); err != nil {
			return nil, err
		}
		p.recent = p.recent[1:]
	}
	p.begun = carried{n: p.next, events: len(t.acked)}
	slices.Sort(t.acked)
	for _, i := range t.acked {
		p.begun.sum = checksum(p.begun.sum, t.events[i:i+1])
	}
	at := t.first
	metadata := appendProgress(append(slices.Clone(p.recent), p.begun))
	if err := p.x.addOffsets(ctx, p.group, nil, []placed{{at, p.begun.n, metadata}}); err != nil {
		return nil, err
	}
	return []core.Mark{p.mark()}, nil
}

// acked notes that the events of begun are.
func (p *progress) acked(stored <-chan struct{}) {
	p.begun.stored = stored
	p.n, p.next = p.begun.n, max(p.next, p.begun.n+1)
	p.recent = append(p.recent, p.begun)
}

func wait(ctx context.Context, stored <-chan struct{}) error {
	select {
	case <-stored:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the channel does not store what is acked: %w", ctx.Err())
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// checksum goes on with sum. The order of headers does not matter.
func checksum(sum uint32, events []core.Event) uint32 {
	var b []byte
	for i := range events {
		headers := uint32(0)
		for k, v := range events[i].Headers.All() {
			b = append(append(append(b[:0], k...), 0), v...)
			headers += crc32.Checksum(b, castagnoli)
		}
		b = appendInt64(b[:0], int64(len(events[i].Body))<<32|int64(headers))
		sum = crc32.Update(crc32.Update(sum, castagnoli, b), castagnoli, events[i].Body)
	}
	return sum
}

// progressMarker begins the metadata of the group's offsets: after it, for each
// transaction, how many events and their checksum; the last one's number is the offset.
const progressMarker = "millrace-transactions"

func appendProgress(all []carried) string {
	b := []byte(progressMarker)
	for _, c := range all {
		b = strconv.AppendInt(append(b, ' '), int64(c.events), 10)
		b = strconv.AppendUint(append(b, ':'), uint64(c.sum), 16)
	}
	return string(b)
}

// readProgress reads it; nil: it is none.
func readProgress(offset int64, metadata string) []carried {
	fields := strings.Fields(metadata)
	if len(fields) < 2 || fields[0] != progressMarker {
		return nil
	}
	all := make([]carried, len(fields)-1)
	for i, f := range fields[1:] {
		count, sum, _ := strings.Cut(f, ":")
		n, err := strconv.ParseInt(count, 10, 32)
		s, err2 := strconv.ParseUint(sum, 16, 32)
		if err != nil || err2 != nil || n < 1 {
			return nil
		}
		all[i] = carried{n: offset - int64(len(all)-1-i), events: int(n), sum: uint32(s)}
	}
	return all
}
