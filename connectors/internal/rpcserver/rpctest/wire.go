// Package rpctest tests a source and a sink of an RPC, each alone and with one
// another. What differs from one RPC to another is a [Wire].
package rpctest

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Wire is what the tests know of an RPC.
type Wire struct {
	Source   func() core.Source
	Sink     func() core.Sink
	InFlight int                        // the default of max-in-flight
	Lane     func(core.Sink) *lane.Lane // of a sink, its first

	// Greets: a connection begins with a handshake, in which the far end says
	// whether it keeps order. Else that is in its first answer.
	Greets bool
	// Dial connects a client whose requests may take their time. With ordered it asks for order.
	Dial   func(addr string, ordered bool) (lane.Conn, error)
	Failed error  // what a client makes of the answer FAILED
	Begun  []byte // a request that is not all there

	// Far speaks on a connection to a Peer.
	Far func(p *Peer, c net.Conn) Far
	// PlainKeys are keys of a sink for a Peer that is as Flume; others have none.
	PlainKeys []string
	// Modes are those of the wire's own, from OwnModes, by what the Peer does then.
	Modes map[string]Mode
}

// Keys are the keys of a source or sink: base with names and values after it.
func Keys(base map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		base[more[i]] = more[i+1]
	}
	return base
}

// SourceKeys are the keys of a source on the loopback, with more.
func SourceKeys(more ...string) map[string]string {
	return Keys(map[string]string{"bind": "127.0.0.1", "port": "0"}, more...)
}

// SinkKeys are the keys of a sink that sends to addr, with more.
func SinkKeys(addr string, more ...string) map[string]string {
	host, port, _ := net.SplitHostPort(addr)
	return Keys(map[string]string{"hostname": host, "port": port}, more...)
}

// Faults are the faults that a component finds in its keys.
func Faults(c conf.Binder, keys map[string]string) (text string) {
	_, faults := conf.Bind(c, keys)
	for _, f := range faults {
		text += f.String() + "\n"
	}
	return text
}

// Events are events with those bodies and a header.
func Events(bodies ...string) (list []core.Event) {
	h := core.NewHeaders(core.Header{Key: "k", Value: "v"})
	for _, x := range bodies {
		list = append(list, core.Event{Headers: h, Body: []byte(x)})
	}
	return list
}

// Shown are events as text, with headers in order of their names.
func Shown(events []core.Event) (lines []string) {
	for _, e := range events {
		var h []string
		for k, v := range e.Headers.All() {
			h = append(h, k+"="+v)
		}
		slices.Sort(h)
		lines = append(lines, strings.Join(h, " ")+" | "+string(e.Body))
	}
	return lines
}

// Recorded is what is in a file of the test's.
func Recorded(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
