package thrift

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	lib "github.com/apache/thrift/lib/go/thrift"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

// The second opinion: the library of Apache Thrift, with code that it would
// generate from flume.thrift written by hand.

var libConf = &lib.TConfiguration{MaxMessageSize: 16 << 20, MaxFrameSize: 16 << 20, ConnectTimeout: suite.Deadline, SocketTimeout: suite.Deadline}

func libProtocol(tr lib.TTransport, e encoder) lib.TProtocol {
	if e.compact {
		return lib.NewTCompactProtocolConf(tr, libConf)
	}
	return lib.NewTBinaryProtocolConf(tr, libConf)
}

func libWriteEvent(ctx context.Context, p lib.TProtocol, e *core.Event) error {
	err := errors.Join(
		p.WriteStructBegin(ctx, "ThriftFlumeEvent"),
		p.WriteFieldBegin(ctx, "headers", lib.MAP, 1),
		p.WriteMapBegin(ctx, lib.STRING, lib.STRING, e.Headers.Len()))
	for k, v := range e.Headers.All() {
		err = errors.Join(err, p.WriteString(ctx, k), p.WriteString(ctx, v))
	}
	return errors.Join(err, p.WriteMapEnd(ctx), p.WriteFieldEnd(ctx),
		p.WriteFieldBegin(ctx, "body", lib.STRING, 2), p.WriteBinary(ctx, e.Body), p.WriteFieldEnd(ctx),
		p.WriteFieldStop(ctx), p.WriteStructEnd(ctx))
}

// libCall writes a request: append of one event, appendBatch of any other number.
func libCall(ctx context.Context, p lib.TProtocol, seq int32, list []core.Event) error {
	name := methodBatch
	if len(list) == 1 {
		name = methodAppend
	}
	err := errors.Join(p.WriteMessageBegin(ctx, name, lib.CALL, seq), p.WriteStructBegin(ctx, name+"_args"))
	if len(list) == 1 {
		err = errors.Join(err, p.WriteFieldBegin(ctx, "event", lib.STRUCT, 1), libWriteEvent(ctx, p, &list[0]))
	} else {
		err = errors.Join(err, p.WriteFieldBegin(ctx, "events", lib.LIST, 1), p.WriteListBegin(ctx, lib.STRUCT, len(list)))
		for i := range list {
			err = errors.Join(err, libWriteEvent(ctx, p, &list[i]))
		}
		err = errors.Join(err, p.WriteListEnd(ctx))
	}
	return errors.Join(err, p.WriteFieldEnd(ctx), p.WriteFieldStop(ctx), p.WriteStructEnd(ctx), p.WriteMessageEnd(ctx), p.Flush(ctx))
}

// libAnswer reads an answer.
func libAnswer(ctx context.Context, p lib.TProtocol) (seq int32, s status, err error) {
	s = -1
	_, kind, seq, err := p.ReadMessageBegin(ctx)
	if err != nil {
		return seq, s, err
	}
	if kind == lib.EXCEPTION {
		x := lib.NewTApplicationException(lib.UNKNOWN_APPLICATION_EXCEPTION, "")
		err = x.Read(ctx, p)
		return seq, s, errors.Join(err, x)
	}
	err = libStruct(ctx, p, func(id int16, typ lib.TType) (bool, error) {
		if id != 0 || typ != lib.I32 {
			return false, nil
		}
		n, err := p.ReadI32(ctx)
		s = status(n)
		return true, err
	})
	return seq, s, errors.Join(err, p.ReadMessageEnd(ctx))
}

// libStruct reads a struct; field reads those that it knows.
func libStruct(ctx context.Context, p lib.TProtocol, field func(id int16, typ lib.TType) (bool, error)) error {
	if _, err := p.ReadStructBegin(ctx); err != nil {
		return err
	}
	for {
		_, typ, id, err := p.ReadFieldBegin(ctx)
		if err != nil {
			return err
		}
		if typ == lib.STOP {
			return p.ReadStructEnd(ctx)
		}
		known, err := field(id, typ)
		if err == nil && !known {
			err = p.Skip(ctx, typ)
		}
		if err = errors.Join(err, p.ReadFieldEnd(ctx)); err != nil {
			return err
		}
	}
}

func libReadEvent(ctx context.Context, p lib.TProtocol) (e core.Event, err error) {
	headers := false
	err = libStruct(ctx, p, func(id int16, typ lib.TType) (bool, error) {
		switch {
		case id == 1 && typ == lib.MAP:
			_, _, n, err := p.ReadMapBegin(ctx)
			var kv []core.Header
			for range n {
				k, err1 := p.ReadString(ctx)
				v, err2 := p.ReadString(ctx)
				if err = errors.Join(err, err1, err2); err != nil {
					return true, err
				}
				kv = append(kv, core.Header{Key: valid(k), Value: valid(v)})
			}
			e.Headers, headers = core.NewHeaders(kv...), true
			return true, errors.Join(err, p.ReadMapEnd(ctx))
		case id == 2 && typ == lib.STRING:
			e.Body, err = p.ReadBinary(ctx)
			if e.Body == nil {
				e.Body = []byte{}
			}
			return true, err
		}
		return false, nil
	})
	if err == nil && (!headers || e.Body == nil) {
		err = errors.New("a required field is missing")
	}
	return e, err
}

// libArgs reads the arguments of append and appendBatch.
func libArgs(ctx context.Context, p lib.TProtocol, name string) (list []core.Event, err error) {
	err = libStruct(ctx, p, func(id int16, typ lib.TType) (bool, error) {
		switch {
		case id == 1 && name == methodAppend && typ == lib.STRUCT:
			e, err := libReadEvent(ctx, p)
			list = []core.Event{e}
			return true, err
		case id == 1 && name == methodBatch && typ == lib.LIST:
			_, n, err := p.ReadListBegin(ctx)
			list = nil
			for range n {
				if err != nil {
					return true, err
				}
				var e core.Event
				e, err = libReadEvent(ctx, p)
				list = append(list, e)
			}
			return true, errors.Join(err, p.ReadListEnd(ctx))
		}
		return false, nil
	})
	return list, errors.Join(err, p.ReadMessageEnd(ctx))
}

// The library's client against our source.
func TestLibraryClient(t *testing.T) {
	for name, e := range protocols {
		t.Run(name, func(t *testing.T) {
			s := rpctest.Subject(wire, false, "protocol", name)
			s.Feed = func(t testing.TB, in *sourcetest.Instance, bodies []string) (handed []string) {
				tr := lib.NewTFramedTransportConf(lib.NewTSocketConf(in.Addr().String(), libConf), libConf)
				if tr.Open() != nil {
					return nil // the source has stopped
				}
				defer tr.Close()
				p, ctx, seq := libProtocol(tr, e), context.Background(), int32(0)
				for len(bodies) > 0 {
					n := min(int(seq)%5+1, len(bodies)) // also single ones
					seq++
					if libCall(ctx, p, seq, rpctest.Events(bodies[:n]...)) != nil {
						return handed
					}
					got, st, err := libAnswer(ctx, p)
					if err != nil || st != statusOK {
						return handed
					}
					if got != seq {
						t.Errorf("answer to %d has number %d", seq, got)
					}
					handed, bodies = append(handed, bodies[:n]...), bodies[n:]
				}
				return handed
			}
			sourcetest.Run(t, s)
			in := sourcetest.Start(t, s, s.Keys(t), sourcetest.NewOutlet())
			defer in.Close()
			tr := lib.NewTFramedTransportConf(lib.NewTSocketConf(in.Addr().String(), libConf), libConf)
			if err := tr.Open(); err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			p, ctx := libProtocol(tr, e), context.Background()
			if err := errors.Join(p.WriteMessageBegin(ctx, "getName", lib.CALL, 3), p.WriteStructBegin(ctx, "x"), p.WriteFieldStop(ctx),
				p.WriteStructEnd(ctx), p.WriteMessageEnd(ctx), p.Flush(ctx)); err != nil {
				t.Fatal(err)
			}
			_, _, err := libAnswer(ctx, p)
			var x lib.TApplicationException
			if !errors.As(err, &x) || x.TypeId() != lib.UNKNOWN_METHOD {
				t.Errorf("an unknown method: %v", err)
			}
			// Everything else that may stand in the arguments is read over.
			if err := errors.Join(p.WriteMessageBegin(ctx, methodBatch, lib.CALL, 4), p.WriteStructBegin(ctx, "x")); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(libOther(ctx, p), p.WriteFieldBegin(ctx, "events", lib.LIST, 1), p.WriteListBegin(ctx, lib.STRUCT, 1),
				p.WriteStructBegin(ctx, "event"), libOther(ctx, p), p.WriteFieldBegin(ctx, "body", lib.STRING, 2), p.WriteString(ctx, "body"),
				p.WriteFieldBegin(ctx, "headers", lib.MAP, 1), p.WriteMapBegin(ctx, lib.STRING, lib.STRING, 0), p.WriteMapEnd(ctx),
				libOther(ctx, p), p.WriteFieldStop(ctx), p.WriteStructEnd(ctx), p.WriteListEnd(ctx),
				libOther(ctx, p), p.WriteFieldStop(ctx), p.WriteStructEnd(ctx), p.WriteMessageEnd(ctx), p.Flush(ctx)); err != nil {
				t.Fatal(err)
			}
			if _, st, err := libAnswer(ctx, p); st != statusOK || err != nil {
				t.Errorf("fields that are not known: %v, %v", st, err)
			}
			if got := in.Out.Bodies(); !slices.Equal(got, []string{"body"}) {
				t.Errorf("events %q", got)
			}
		})
	}
}

// libOther writes a field of every type that Thrift has.
func libOther(ctx context.Context, p lib.TProtocol) (err error) {
	id := int16(100)
	field := func(typ lib.TType, value ...error) {
		id += 7
		err = errors.Join(err, p.WriteFieldBegin(ctx, "x", typ, id))
		for _, v := range value {
			err = errors.Join(err, v)
		}
	}
	begin := func(typ lib.TType, write func() error) {
		field(typ)
		err = errors.Join(err, write(), p.WriteFieldEnd(ctx))
	}
	begin(lib.BOOL, func() error { return p.WriteBool(ctx, true) })
	begin(lib.BOOL, func() error { return p.WriteBool(ctx, false) })
	begin(lib.BYTE, func() error { return p.WriteByte(ctx, -1) })
	begin(lib.I16, func() error { return p.WriteI16(ctx, -300) })
	begin(lib.I32, func() error { return p.WriteI32(ctx, -70000) })
	begin(lib.I64, func() error { return p.WriteI64(ctx, -1<<62) })
	begin(lib.DOUBLE, func() error { return p.WriteDouble(ctx, 1.5) })
	begin(lib.STRING, func() error { return p.WriteString(ctx, "text") })
	begin(lib.UUID, func() error { return p.WriteUUID(ctx, lib.Tuuid{1}) })
	begin(lib.SET, func() error {
		return errors.Join(p.WriteSetBegin(ctx, lib.BOOL, 2), p.WriteBool(ctx, true), p.WriteBool(ctx, false), p.WriteSetEnd(ctx))
	})
	begin(lib.LIST, func() error {
		e := p.WriteListBegin(ctx, lib.I64, 20)
		for i := range int64(20) {
			e = errors.Join(e, p.WriteI64(ctx, i<<40))
		}
		return errors.Join(e, p.WriteListEnd(ctx))
	})
	begin(lib.MAP, func() error {
		return errors.Join(p.WriteMapBegin(ctx, lib.I32, lib.STRUCT, 1), p.WriteI32(ctx, 1),
			p.WriteStructBegin(ctx, "y"), p.WriteFieldBegin(ctx, "z", lib.BOOL, 1), p.WriteBool(ctx, true), p.WriteFieldEnd(ctx),
			p.WriteFieldStop(ctx), p.WriteStructEnd(ctx), p.WriteMapEnd(ctx))
	})
	return err
}

// libServer is the library's server, as Flume's source would be.
type libServer struct {
	mu   sync.Mutex
	seen []core.Event
	fail int // every so many-th request fails
	n    int
}

func (s *libServer) ProcessorMap() map[string]lib.TProcessorFunction      { return nil }
func (s *libServer) AddToProcessorMap(_ string, _ lib.TProcessorFunction) {}
func (s *libServer) Process(ctx context.Context, in, out lib.TProtocol) (bool, lib.TException) {
	name, _, seq, err := in.ReadMessageBegin(ctx)
	if err != nil {
		return false, lib.WrapTException(err)
	}
	list, err := libArgs(ctx, in, name)
	if err != nil {
		return false, lib.WrapTException(err)
	}
	s.mu.Lock()
	s.n++
	st := statusOK
	if s.fail > 0 && s.n%s.fail == 0 {
		st = statusFailed
	} else {
		s.seen = append(s.seen, list...)
	}
	s.mu.Unlock()
	err = errors.Join(out.WriteMessageBegin(ctx, name, lib.REPLY, seq), out.WriteStructBegin(ctx, "x"),
		out.WriteFieldBegin(ctx, "success", lib.I32, 0), out.WriteI32(ctx, int32(st)), out.WriteFieldEnd(ctx), out.WriteFieldStop(ctx),
		out.WriteStructEnd(ctx), out.WriteMessageEnd(ctx), out.Flush(ctx))
	return err == nil, lib.WrapTException(err)
}

// Our sink against the library's server: it skips what it does not know, and gets one request at a time.
func TestLibraryServer(t *testing.T) {
	for name, e := range protocols {
		for _, inFlight := range []string{"", "4"} {
			t.Run(fmt.Sprintf("%s, in flight %q", name, inFlight), func(t *testing.T) {
				s := &libServer{fail: 7}
				ln, err := lib.NewTServerSocket("127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				if err := ln.Listen(); err != nil {
					t.Fatal(err)
				}
				var factory lib.TProtocolFactory = lib.NewTCompactProtocolFactoryConf(libConf)
				if !e.compact {
					factory = lib.NewTBinaryProtocolFactoryConf(libConf)
				}
				server := lib.NewTSimpleServer4(s, ln, lib.NewTFramedTransportFactoryConf(lib.NewTTransportFactory(), libConf), factory)
				var served sync.WaitGroup
				served.Go(func() {
					if err := server.Serve(); err != nil {
						t.Error(err)
					}
				})
				host, port, _ := net.SplitHostPort(ln.Addr().String())
				keys := map[string]string{"hostname": host, "port": port, "protocol": name}
				if inFlight != "" {
					keys["max-in-flight"] = inFlight
				}
				in := rpctest.OpenSink(t, wire, keys)
				rpctest.DeliverAll(t, in, 40)
				in.Close()
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
				served.Wait()
				var got []string
				for _, x := range s.seen {
					got = append(got, string(x.Body))
				}
				for i := range 40 {
					if !slices.Contains(got, strconv.Itoa(i)) {
						t.Errorf("event %d did not arrive", i)
					}
				}
				if len(got) != 40 {
					t.Errorf("%d events: %q", len(got), got)
				}
			})
		}
	}
}

// Events one at a time, in small batches and in large ones arrive in order, with their headers.
//
// flume: TestThriftSource testAppend testAppendBatch testAppendBigBatch
func TestLibraryBatches(t *testing.T) {
	for _, x := range []struct{ calls, size int }{{30, 1}, {30, 10}, {5, 500}} {
		in := rpctest.Start(t, wire)
		tr := lib.NewTFramedTransportConf(lib.NewTSocketConf(in.Addr().String(), libConf), libConf)
		if err := tr.Open(); err != nil {
			t.Fatal(err)
		}
		p, ctx := libProtocol(tr, encoder{true}), context.Background()
		var want []string
		for i := range x.calls {
			list := rpctest.Events(suite.Bodies(i*x.size, x.size)...)
			want = append(want, rpctest.Shown(list)...)
			if err := libCall(ctx, p, int32(i), list); err != nil {
				t.Fatal(err)
			}
			if _, st, err := libAnswer(ctx, p); err != nil || st != statusOK {
				t.Fatalf("%v, %v", st, err)
			}
		}
		tr.Close()
		if got := rpctest.Shown(in.Out.Events()); !slices.Equal(got, want) {
			t.Errorf("%d calls of %d: %d events", x.calls, x.size, len(got))
		}
		m := in.Env.Metrics
		if one, many := m.AppendAccepted.Load(), m.AppendBatchAccepted.Load(); one+many != int64(x.calls) || (one > 0) != (x.size == 1) {
			t.Errorf("%d calls of %d: %d append, %d appendBatch", x.calls, x.size, one, many)
		}
	}
}

// libMessage is what the library writes.
func libMessage(t testing.TB, e encoder, write func(lib.TProtocol) error) []byte {
	t.Helper()
	m := lib.NewTMemoryBuffer()
	if err := write(libProtocol(lib.NewTFramedTransportConf(m, libConf), e)); err != nil {
		t.Fatal(err)
	}
	return m.Bytes()
}

// libRequest reads a frame as the library does.
func libRequest(frame []byte, e encoder) (name string, list []core.Event, err error) {
	m := lib.NewTMemoryBuffer()
	if _, err := m.Write(frame); err != nil {
		return "", nil, err
	}
	ctx := context.Background()
	p := libProtocol(m, e)
	name, kind, _, err := p.ReadMessageBegin(ctx)
	if err != nil {
		return "", nil, err
	}
	if kind != lib.CALL {
		return name, nil, errors.New("no call")
	}
	list, err = libArgs(ctx, p, name)
	if err == nil && m.Len() > 0 {
		err = errors.New("bytes after a request")
	}
	return name, list, err
}

// What we write is what the library writes, byte for byte.
func TestLibraryBytes(t *testing.T) {
	for name, e := range protocols {
		for _, n := range []int{0, 2, 14, 15, 16, 300} {
			var list []core.Event
			for i := range n {
				h := core.NewHeaders(core.Header{Key: "host", Value: "web-1"}, core.Header{Key: "n", Value: strconv.Itoa(i / 3)})
				if i%5 == 0 {
					h = core.Headers{}
				}
				list = append(list, core.Event{Headers: h, Body: bytes.Repeat([]byte("x"), i*3)})
			}
			want := libMessage(t, e, func(p lib.TProtocol) error { return libCall(context.Background(), p, int32(n*100), list) })
			if got := e.batch(nil, int32(n*100), list, false); !bytes.Equal(got, want) {
				t.Errorf("%s, %d events:\n% x, the library\n% x", name, n, got, want)
			}
		}
	}
}

// The old form of the binary protocol, without a version, is taken as Java takes it.
func TestLibraryOldForm(t *testing.T) {
	old := *libConf
	no := false
	old.TBinaryStrictWrite = &no
	m := lib.NewTMemoryBuffer()
	if err := libCall(t.Context(), lib.NewTBinaryProtocolConf(m, &old), 5, rpctest.Events("a", "b")); err != nil {
		t.Fatal(err)
	}
	x, err := readCall(m.Bytes(), false)
	if err != nil || x.name != methodBatch || x.seq != 5 {
		t.Fatalf("%+v, %v", x, err)
	}
	b := core.NewBatch()
	defer b.Release()
	d := decoder{maxEvents: 2}
	if _, err := d.args(&x, b); err != nil {
		t.Fatal(err)
	}
	same(t, "the old form", rpctest.Events("a", "b"), b.Events)
}
