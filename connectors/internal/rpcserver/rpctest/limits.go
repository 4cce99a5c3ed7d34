package rpctest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

// SourceChecks are properties of a source.
var SourceChecks = []suite.Check[Wire]{
	{Name: "limits", Run: limits},
	{Name: "bytes of headers", Run: headerBytes},
	{Name: "a slow request", Run: slowRequest},
}

// stored makes a call whose events are stored as soon as they are put.
func (b *Blocked) stored(t testing.TB, what string, c lane.Conn, events []core.Event) {
	t.Helper()
	var asked sync.WaitGroup
	asked.Go(func() { (<-b.Puts).Answer <- nil })
	if err := Call(c, events); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	asked.Wait()
}

// whileHeld makes a call whose events are held until then has returned, and stores them then.
func (b *Blocked) whileHeld(t testing.TB, c lane.Conn, events []core.Event, then func()) {
	t.Helper()
	got := make(chan error, 1)
	c.Send(events, func(err error) { got <- err })
	p := <-b.Puts
	then()
	p.Answer <- nil
	if err := <-got; err != nil {
		t.Errorf("the first: %v", err)
	}
}

// limits: events in a batch, and bytes of all requests together.
func limits(t testing.TB, w Wire) {
	out := NewBlocked(0)
	addr, _ := Serve(t, w, out, "maxRequestEvents", "2", "maxPendingBytes", "300000")
	c, other := Client(t, w, addr, false), Client(t, w, addr, false)
	if err := Call(c, Events("1", "2", "3")); err == nil || !strings.Contains(err.Error(), "more than 2 events (maxRequestEvents)") {
		t.Errorf("too many events: %v", err)
	}
	big := strings.Repeat("x", 200_000)
	out.whileHeld(t, c, Events(big), func() {
		if err := Call(other, Events(big)); !errors.Is(err, w.Failed) {
			t.Errorf("more than maxPendingBytes: %v", err)
		}
	})
	out.stored(t, "afterwards", other, Events(big))
	out.stored(t, "one alone, larger than all together", other, Events(big+big))
	out.stored(t, "the first client again", c, Events("small"))
}

// headerBytes limits the memory of headers, which a frame can hold in very few bytes.
func headerBytes(t testing.TB, w Wire) {
	var many []core.Event
	for i := range 100 { // 400 bytes each on the wire, some 3.5 KiB in memory
		var kv []core.Header
		for j := range 100 {
			kv = append(kv, core.Header{Key: string(rune('a'+i%26)) + string(rune(' '+j)), Value: ""})
		}
		many = append(many, core.Event{Headers: core.NewHeaders(kv...)})
	}
	in := Start(t, w, "maxRequestBytes", "64k")
	c := Client(t, w, in.Addr().String(), false)
	if err := Call(c, many); err == nil || !strings.Contains(err.Error(), "headers of the batch are too large (maxRequestBytes)") {
		t.Errorf("too large for one request: %v", err)
	}
	if err := Call(c, many[:20]); err != nil {
		t.Errorf("fewer: %v", err)
	}

	out := NewBlocked(0)
	addr, _ := Serve(t, w, out, "maxPendingBytes", "200000")
	c, other := Client(t, w, addr, false), Client(t, w, addr, false)
	out.whileHeld(t, c, many[:1], func() {
		if err := Call(other, many); !errors.Is(err, w.Failed) {
			t.Errorf("more than maxPendingBytes: %v", err)
		}
	})
	out.stored(t, "afterwards", other, many) // also proves that what the others had was given back
}

// slowRequest: a request that stops in its midst ends after requestTimeout; a
// connection that is idle does not.
func slowRequest(t testing.TB, w Wire) {
	in := Start(t, w, "requestTimeout", "50")
	idle := Client(t, w, in.Addr().String(), false)
	c := Connect(t, in.Addr().String())
	if _, err := c.Write(w.Begun); err != nil {
		t.Fatal(err)
	}
	Ended(t, c)
	if err := Call(idle, Events("y")); err != nil {
		t.Errorf("the idle connection: %v", err)
	}
}

// Malformed proves that text, which is no frame or no request, ends its
// connection after events with those bodies, and that another one goes on.
func Malformed(t *testing.T, w Wire, text []byte, maxRequestBytes string, before ...string) {
	in := Start(t, w, "maxRequestBytes", maxRequestBytes)
	other := Client(t, w, in.Addr().String(), false)
	if err := Call(other, Events("first")); err != nil {
		t.Fatal(err)
	}
	c := Connect(t, in.Addr().String())
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	Ended(t, c)
	if n := in.Env.Metrics.EventReadFail.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
	if err := Call(other, Events("second")); err != nil {
		t.Fatalf("the other connection: %v", err)
	}
	if got, want := in.Out.Bodies(), slices.Concat([]string{"first"}, before, []string{"second"}); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}
