package thrift

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/millrace/millrace/connectors/internal/rpcserver/rpctest"
	"github.com/millrace/millrace/core"
)

// FuzzFrames: whatever comes, frames end, keep their limit, and what is read is what is there.
func FuzzFrames(f *testing.F) {
	for _, name := range []string{"thrift-compact.c2s.bin", "thrift-binary.c2s.bin"} {
		f.Add(rpctest.Recorded(f, "testdata/"+name), uint16(8192), uint16(0))
	}
	f.Add(bytes.Repeat([]byte{0, 0, 0, 1, 'x'}, 3), uint16(3), uint16(2))
	f.Fuzz(func(t *testing.T, text []byte, limit, grants uint16) {
		in := reader{src: bytes.NewReader(text), max: int(limit), grant: func(int) bool { grants--; return grants != 1 }}
		defer in.release()
		at := 0
		for {
			if err := in.head(); err != nil {
				return
			}
			frame, err := in.body()
			if err != nil && !errors.Is(err, errBusy) {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if n := in.n; len(frame) > n || n > int(limit) || err == nil && len(frame) < n || !bytes.HasPrefix(text[at+4:at+4+n], frame) {
				t.Fatalf("frame of %d bytes: % x, %v", n, frame, err)
			}
			at += 4 + in.n
		}
	})
}

// FuzzRequest: a request is answered with an exception, malformed, or taken; what is taken
// the library reads as the same, and it encodes to what decodes to the same again.
func FuzzRequest(f *testing.F) {
	for _, name := range []string{"thrift-compact.c2s.bin", "thrift-binary.c2s.bin", "thrift-sink.c2s.bin"} {
		in := reader{src: bytes.NewReader(rpctest.Recorded(f, "testdata/"+name)), max: 1 << 20}
		for in.head() == nil {
			frame, err := in.body()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(bytes.Clone(frame), name != "thrift-binary.c2s.bin")
		}
		in.release()
	}
	for _, e := range protocols {
		f.Add(e.batch(nil, 1, rpctest.Events("x", "y"), true)[4:], e.compact)
	}
	f.Fuzz(func(t *testing.T, frame []byte, compact bool) {
		x, err := readCall(frame, compact)
		if err != nil || x.name != methodAppend && x.name != methodBatch {
			if err != nil && !errors.Is(err, errMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		const most = 100
		d := decoder{maxEvents: most}
		b := core.NewBatch()
		defer b.Release()
		if _, err := d.args(&x, b); err != nil {
			if errors.Is(err, errMalformed) == errors.As(err, new(*exception)) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(b.Events) > most {
			t.Fatalf("%d events", len(b.Events))
		}
		e := encoder{compact}
		if name, list, err := libRequest(frame, e); err != nil {
			t.Fatalf("the library refuses what we take: %v", err)
		} else {
			same(t, "the library reads", b.Events, list)
			if name != x.name {
				t.Fatalf("method %q, the library's %q", x.name, name)
			}
		}
		y, err := readCall(e.batch(nil, 1, b.Events, true)[4:], compact)
		if err != nil {
			t.Fatal(err)
		}
		again := core.NewBatch()
		defer again.Release()
		if ordered, err := d.args(&y, again); err != nil || !ordered {
			t.Fatalf("our own encoding: %v, %v", ordered, err)
		}
		same(t, "again", b.Events, again.Events)
	})
}

func same(t *testing.T, what string, a, b []core.Event) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: %d events of %d", what, len(b), len(a))
	}
	for i := range a {
		if !a[i].Headers.Equal(b[i].Headers) || !bytes.Equal(a[i].Body, b[i].Body) {
			t.Fatalf("%s: event %d: %v, then %v", what, i, a[i], b[i])
		}
	}
}

// FuzzAnswer: an answer is OK, a refusal, or malformed.
func FuzzAnswer(f *testing.F) {
	for _, e := range protocols {
		f.Add(e.status(nil, methodBatch, 1, statusFailed, true)[4:], e.compact)
		f.Add(e.exception(nil, methodBatch, 1, &exception{internalError, "boom"})[4:], e.compact)
	}
	f.Fuzz(func(t *testing.T, frame []byte, compact bool) {
		a, err := readAnswer(frame, compact)
		if err != nil && !errors.Is(err, errMalformed) || a.err != nil && !refused(a.err) {
			t.Fatalf("%+v, %v", a, err)
		}
	})
}
