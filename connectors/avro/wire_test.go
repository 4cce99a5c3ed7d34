package avro

import (
	"context"
	"net"

	"github.com/millrace/millrace/connectors/avro/rpc"
	"github.com/millrace/millrace/connectors/internal/lane"
	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/suite"
)

var wire = rpctest.Wire{
	Source: Source.New, Sink: Sink.New, InFlight: defaultInFlight,
	Lane:   func(s core.Sink) *lane.Lane { return s.(*sink).lanes[0] },
	Greets: true,
	Dial:   dialWith(rpc.Dialer{}),
	Failed: rpc.Failed,
	Begun:  frame(1, hello(rpc.Own), batch("x"))[:40],
	Far: func(p *rpctest.Peer, c net.Conn) rpctest.Far {
		return &far{p: p, c: c, in: rpc.NewReader(c, lane.RequestBytes+1<<20), dec: rpc.Decoder{MaxEvents: 1 << 20}}
	},
}

// dialWith makes connections of clients as d says.
func dialWith(d rpc.Dialer) func(addr string, ordered bool) (lane.Conn, error) {
	d.Connect, d.Request = suite.Deadline, suite.Deadline
	return func(addr string, ordered bool) (lane.Conn, error) {
		d := d
		d.Ordered = ordered
		c, err := d.Dial(context.Background(), addr)
		return batches{c}, err
	}
}

// far is a far end on one connection.
type far struct {
	p       *rpctest.Peer
	c       net.Conn
	in      *rpc.Reader
	dec     rpc.Decoder
	serial  uint32
	greeted bool
	ordered bool
}

func (f *far) Release() { f.in.Release() }

func (f *far) Read() (b *core.Batch, ordered bool, err error) {
	for {
		if f.serial, err = f.in.Head(); err != nil {
			return nil, false, err
		}
		text, err := f.in.Body()
		if err != nil {
			return nil, false, err
		}
		if !f.greeted {
			if err := f.greet(text); err != nil {
				return nil, false, err
			}
			continue
		}
		_, parameters, err := rpc.ReadCall(text)
		if err != nil {
			f.p.T.Error(err)
			return nil, false, err
		}
		b := core.NewBatch()
		if _, err := f.dec.Events(b, parameters); err != nil {
			f.p.T.Error(err)
		}
		return b, f.ordered, nil
	}
}

func (f *far) greet(text []byte) error {
	rest, answer, done, order, err := rpc.NewKnown().Greet(text)
	if err != nil || !done {
		f.p.T.Errorf("greet: %v, %v", done, err)
		return net.ErrClosed
	}
	if f.greeted, f.ordered = true, order && !f.p.Plain; order && f.p.Plain {
		answer = make([]byte, 4) // BOTH, no metadata
	}
	if method, _, _ := rpc.ReadCall(rest); method != rpc.Ping {
		f.p.T.Errorf("the first message is %d", method)
	}
	if f.p.Mode() == rpctest.Hangs {
		return nil
	}
	_, err = f.c.Write(rpc.AppendGreeting(nil, f.serial, answer))
	return err
}

func (f *far) Answer(m rpctest.Mode) []byte {
	switch m {
	case rpctest.Rejects:
		return rpc.AppendStatus(nil, f.serial, nil, rpc.Failed)
	case rpctest.Unknown:
		return rpc.AppendStatus(nil, f.serial, nil, rpc.Unknown)
	case rpctest.Words:
		return rpc.AppendError(nil, f.serial, nil, "java.lang.RuntimeException: boom")
	default:
		return rpc.AppendStatus(nil, f.serial, nil, rpc.OK)
	}
}
