package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/connectors/internal/lane/lanetest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
)

// farEnd stores what its connections bring, in order, and none of a connection after a failure.
type farEnd struct {
	mu    sync.Mutex
	rng   *rand.Rand
	order lanetest.Order
	fails int
}

func (f *farEnd) store(events []core.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rng.IntN(20) == 0 {
		f.fails++
		return errors.New("full")
	}
	f.order.See(events)
	if f.rng.IntN(20) == 0 {
		f.fails++
		return errors.New("stored, but the answer is lost")
	}
	return nil
}

// fakeConn answers from a goroutine of its own.
type fakeConn struct {
	far   *farEnd
	since time.Time
	ended chan struct{}

	mu    sync.Mutex
	queue []func(error)
	sent  [][]core.Event
	wake  chan struct{}
	err   error
}

func dial(f *farEnd) *fakeConn {
	c := &fakeConn{far: f, since: time.Now(), ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go c.run()
	return c
}

func (c *fakeConn) Ordered() bool          { return true }
func (c *fakeConn) Since() time.Time       { return c.since }
func (c *fakeConn) Ended() <-chan struct{} { return c.ended }
func (c *fakeConn) Err() error             { c.mu.Lock(); defer c.mu.Unlock(); return c.err }
func (c *fakeConn) Close()                 { c.end(errors.New("closed")) }

func (c *fakeConn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *fakeConn) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.poke()
}

func (c *fakeConn) Send(events []core.Event, done func(error)) {
	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		done(err)
		return
	}
	c.queue, c.sent = append(c.queue, done), append(c.sent, events)
	c.mu.Unlock()
	c.poke()
}

func (c *fakeConn) run() {
	defer close(c.ended)
	for range c.wake {
		for {
			c.mu.Lock()
			if c.err != nil {
				left, err := c.queue, c.err
				c.queue = nil
				c.mu.Unlock()
				for _, done := range slices.Backward(left) {
					done(err)
				}
				return
			}
			if len(c.queue) == 0 {
				c.mu.Unlock()
				break
			}
			done, events := c.queue[0], c.sent[0]
			c.queue, c.sent = c.queue[1:], c.sent[1:]
			c.mu.Unlock()
			if err := c.far.store(events); err != nil {
				c.end(err)
				done(err)
				continue
			}
			done(nil)
		}
	}
}

// laneSink is a sink of one lane.
type laneSink struct{ *Lane }

func (s laneSink) Keys(*conf.Keys)                      {}
func (s laneSink) Open(context.Context, core.Env) error { return nil }
func (s laneSink) Close(context.Context) error          { s.Lane.Close(); return nil }
func (s laneSink) Deliver(ctx context.Context, tx core.TakeTx) {
	if err := s.Lane.Deliver(ctx, tx); err != nil {
		tx.Rollback(err)
	}
}

// With the real runner and channel, and a far end where one request in ten
// fails, nothing is lost and nothing overtakes, however the goroutines run.
func TestOrder(t *testing.T) {
	const events = 3000
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			far := &farEnd{rng: rand.New(rand.NewPCG(seed, 1))}
			l := &Lane{
				Options: &Options{InFlight: 4, Metrics: new(metric.Group)}, Notice: new(Notice),
				Dial: func(context.Context) (Conn, error) { return dial(far), nil },
				// The runner does not pause: it takes while others go back.
				Failed: func(cause error) error { return &core.RetryNow{Cause: cause} },
			}
			sink := laneSink{l}
			ch := lanetest.Run(t, sink, events, 3)
			_ = sink.Close(t.Context())
			if err := ch.Close(); err != nil {
				t.Error(err)
			}
			if far.order.Next != events || far.order.Wrong != "" || far.fails < 10 || far.order.Again == 0 {
				t.Errorf("%d of %d events in order, %d again, %d requests failed: %s", far.order.Next, events, far.order.Again, far.fails, far.order.Wrong)
			}
		})
	}
}

// A batch goes out in parts of about [RequestBytes]; headers count.
func TestSplit(t *testing.T) {
	h := core.NewHeaders(core.Header{Key: "k", Value: strings.Repeat("v", 1000)})
	if parts := split(slices.Repeat([]core.Event{{Headers: h}}, 10_000), 8); len(parts) != 2 {
		t.Errorf("large headers go out in %d parts", len(parts))
	}
	large := core.Event{Body: make([]byte, RequestBytes+1)}
	if parts := split([]core.Event{{}, large, large, {}}, 8); len(parts) != 4 {
		t.Errorf("events larger than a part go out in %d parts", len(parts))
	}
}
