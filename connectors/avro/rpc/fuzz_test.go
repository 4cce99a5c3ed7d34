package rpc

import (
	"bytes"
	"crypto/md5"
	"errors"
	"io"
	"testing"

	"github.com/millrace/millrace/core"
)

func hashOf(text []byte) Hash { return md5.Sum(text) }

// FuzzFrames: whatever comes, frames end, keep their limit, and what is read
// is what is there.
func FuzzFrames(f *testing.F) {
	for _, name := range []string{"avro-plain.c2s.bin", "avro-handshake-none.s2c.bin", "log4j2-flume.c2s.bin"} {
		f.Add(recorded(f, name), uint16(8192))
	}
	f.Add(appendFrame(nil, 1, nil, []byte("x"), nil), uint16(3))
	f.Fuzz(func(t *testing.T, text []byte, limit uint16) {
		in := NewReader(bytes.NewReader(text), int(limit))
		defer in.Release()
		total := 0
		for {
			if _, err := in.Head(); err != nil {
				return
			}
			frame, err := in.Body()
			if err != nil {
				if !errors.Is(err, ErrMalformed) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if total += len(frame); len(frame) > int(limit) || total > len(text) {
				t.Fatalf("%d bytes in a frame, %d of %d in all", len(frame), total, len(text))
			}
		}
	})
}

// FuzzRequest: a request is refused or taken; what is taken encodes to what
// decodes to the same again.
func FuzzRequest(f *testing.F) {
	f.Add(append(AppendCall(appendHello(nil, hello{client: Own, server: Own, ordered: true}), AppendBatch), 2, 2, 2, 'k', 2, 'v', 0, 2, 'x', 0))
	f.Add(append(AppendCall(appendHello(nil, hello{text: []byte(protocolText)}), Append), 0, 0))
	f.Fuzz(func(t *testing.T, text []byte) {
		rest, answer, done, _, err := NewKnown().Greet(text)
		if err != nil || !done {
			return
		}
		if w, left, err := readWelcome(answer); err != nil || len(left) != 0 || w.match == matchNone {
			t.Fatalf("our own welcome: %+v, %v", w, err)
		}
		m, parameters, err := ReadCall(rest)
		if err != nil || m != AppendBatch {
			return
		}
		events(t, parameters)
	})
}

// FuzzEvents is FuzzRequest for what follows the method.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{4, 2, 2, 'k', 2, 'v', 0, 2, 'x', 2, 2, 'k', 2, 'v', 0, 0, 0})
	f.Add([]byte{3, 12, 0, 2, 'a', 0, 2, 'b', 0})
	f.Fuzz(events)
}

func events(t *testing.T, text []byte) {
	const most = 100
	d := Decoder{MaxEvents: most}
	b := core.NewBatch()
	defer b.Release()
	if _, err := d.Events(b, text); err != nil {
		if errors.Is(err, ErrMalformed) == errors.As(err, new(*TooManyError)) {
			t.Fatalf("error %v", err)
		}
		return
	}
	if len(b.Events) > most {
		t.Fatalf("%d events", len(b.Events))
	}
	again := core.NewBatch()
	defer again.Release()
	if rest, err := d.Events(again, AppendEvents(nil, b.Events)); err != nil || len(rest) != 0 || len(again.Events) != len(b.Events) {
		t.Fatalf("our own encoding: %v, %d events of %d", err, len(again.Events), len(b.Events))
	}
	for i := range b.Events {
		if !b.Events[i].Headers.Equal(again.Events[i].Headers) || !bytes.Equal(b.Events[i].Body, again.Events[i].Body) {
			t.Fatalf("event %d: %v, then %v", i, b.Events[i], again.Events[i])
		}
	}
}

// FuzzAnswer: an answer is OK, a refusal, or malformed.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0, 1, 0, 8, 'b', 'o', 'o', 'm'})
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := readAnswer(text); err != nil && Refused(err) == errors.Is(err, ErrMalformed) {
			t.Fatalf("error %v", err)
		}
		_, _, _ = readWelcome(text)
	})
}
