package thrift

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

var protocols = map[string]encoder{"compact": {true}, "binary": {false}}

// Modes of a far end.
const (
	silent  = rpctest.OwnModes + iota // answers without a status
	crossed                           // answers with another number
)

var wire = wireOf(encoder{true})

// wireOf is the RPC, whose clients speak that protocol. A far end as Flume speaks
// the binary one, so that both protocols have their turn.
func wireOf(e encoder) rpctest.Wire {
	return rpctest.Wire{
		Source: Source.New, Sink: Sink.New, InFlight: defaultInFlight,
		Lane: func(s core.Sink) *lane.Lane { return s.(*sink).lane },
		Dial: func(addr string, ordered bool) (lane.Conn, error) {
			d := dialer{connect: suite.Deadline, request: suite.Deadline, compact: e.compact, ordered: ordered}
			return d.dial(context.Background(), addr)
		},
		Failed: statusFailed,
		Begun:  e.batch(nil, 1, rpctest.Events("x"), false)[:20],
		Far: func(p *rpctest.Peer, c net.Conn) rpctest.Far {
			return &far{p: p, e: encoder{!p.Plain}, in: reader{src: c, max: lane.RequestBytes + 1<<20}, dec: decoder{maxEvents: 1 << 20}}
		},
		PlainKeys: []string{"protocol", "binary"},
		Modes:     map[string]rpctest.Mode{"no status": silent, "another number": crossed},
	}
}

// far is a far end on one connection.
type far struct {
	p       *rpctest.Peer
	e       encoder
	in      reader
	dec     decoder
	x       call
	asked   bool // in this request
	ordered bool
	note    func(frame []byte) // is told of requests, if it is not nil
}

func (f *far) Release() { f.in.release() }

func (f *far) Read() (b *core.Batch, ordered bool, err error) {
	if err := f.in.head(); err != nil {
		return nil, false, err
	}
	frame, err := f.in.body()
	if err != nil {
		return nil, false, err
	}
	if f.note != nil {
		f.note(frame)
	}
	if f.x, err = readCall(frame, f.e.compact); err != nil {
		f.p.T.Error(err)
		return nil, false, err
	}
	b = core.NewBatch()
	if f.asked, err = f.dec.args(&f.x, b); err != nil {
		f.p.T.Error(err)
	}
	f.ordered = f.ordered || f.asked && !f.p.Plain
	return b, f.ordered, nil
}

func (f *far) Answer(m rpctest.Mode) []byte {
	x, granted := &f.x, f.ordered && f.asked
	switch m {
	case rpctest.Rejects:
		return f.e.status(nil, x.name, x.seq, statusFailed, granted)
	case rpctest.Unknown:
		return f.e.status(nil, x.name, x.seq, statusUnknown, granted)
	case rpctest.Words:
		return f.e.exception(nil, x.name, x.seq, &exception{internalError, "Internal error processing appendBatch"})
	case silent:
		return putLength(append(f.e.message(nil, kindReply, x.name, x.seq), 0))
	case crossed:
		return f.e.status(nil, x.name, x.seq+1, statusOK, false)
	default:
		return f.e.status(nil, x.name, x.seq, statusOK, granted)
	}
}

// exchange sends what is a request and reads one answer.
func exchange(t testing.TB, c net.Conn, e encoder, request []byte) answer {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	return receive(t, c, e)
}

func receive(t testing.TB, c net.Conn, e encoder) answer {
	t.Helper()
	head := make([]byte, lengthBytes)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, frame); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(frame, e.compact)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
