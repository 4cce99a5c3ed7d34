package s3

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
	"github.com/millrace/millrace/core/vfs"
)

// kill ends a sink as SIGKILL does: nothing is ended, nothing is published.
func kill(r *rig, in *sinktest.Instance) *rig {
	r.disk.Crash()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = in.Sink.Close(ctx) // it cannot do anything
	return r.crashed()
}

// begun is an object of which some parts are in the store, acked and not ended.
func begun(t *testing.T, kv string) (*rig, []core.Mark) {
	r := newRig()
	in := r.open(t, kv)
	tx := in.Deliver(suite.Bodies(0, 50))
	flush(t, in)
	synctest.Wait()
	if r.count("part") == 0 {
		t.Fatal("no part is uploaded")
	}
	return kill(r, in), tx.Marks()
}

// An upload that was broken off goes on where it was: no part is sent twice, and
// no second upload is begun. So does one whose id was not recorded.
func TestUploadGoesOn(t *testing.T) {
	for _, kv := range []string{"", "serializer=json", "serializer=avro_event", "serializer=avro", "fileType=SequenceFile", "fileType=CompressedStream codeC=gzip"} {
		for _, keeps := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				r, marks := begun(t, kv)
				if !keeps {
					marks = nil
				}
				in := r.open(t, kv, marks...)
				in.Deliver(suite.Bodies(50, 50))
				in.Close()
				keys := r.keys()
				if len(keys) != 1 {
					t.Fatalf("%s: objects %q", kv, keys)
				}
				size := len(r.content(keys[0]))
				if want := (size + 63) / 64; r.count("part") != want || r.count("create") != 1 {
					t.Errorf("%s: %d parts sent of %d, %d uploads begun", kv, r.count("part"), want, r.count("create"))
				}
				if kv == "serializer=avro" {
					if f, err := formattest.DecodeBodies(r.content(keys[0])); err != nil || !slices.Equal(f.Bodies, suite.Bodies(0, 100)) {
						t.Errorf("%d events, %v", len(f.Bodies), err)
					}
				}
				if kv == "" && !slices.Equal(r.lines(), suite.Bodies(0, 100)) {
					t.Errorf("%d events", len(r.lines()))
				}
				r.idle(t)
			})
		}
	}
}

// Of a crash between the beginning of an upload and its recording nothing stays.
func TestUploadIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		in := r.open(t, "")
		r.before = func(op, _ string) verdict {
			if op == "create" {
				r.disk.Crash()
			}
			return serve
		}
		tx := in.Deliver(suite.Bodies(0, 50))
		synctest.Wait()
		r.breakAll(serve)
		r.set(func() { // another one for the same key, and one of somebody else
			key := r.uploads["upload1"].key
			r.uploads["upload8"] = &fakeUpload{key, map[int][]byte{}}
			r.uploads["upload9"] = &fakeUpload{key + "x", map[int][]byte{}}
		})
		r = kill(r, in)
		r.open(t, "", tx.Marks()...).Close()
		if !slices.Equal(r.lines(), suite.Bodies(0, 50)) || r.count("create") != 1 {
			t.Errorf("%d events, %d uploads begun", len(r.lines()), r.count("create"))
		}
		r.set(func() {
			if len(r.uploads) != 1 || r.uploads["upload9"] == nil {
				t.Errorf("uploads that are left: %v", r.uploads)
			}
		})
	})
}

// With another configuration an object is finished as it is.
func TestConfigurationChanged(t *testing.T) {
	for _, kv := range []string{"serializer=avro_event", "rollCount=20", "path=other"} {
		synctest.Test(t, func(t *testing.T) {
			r, marks := begun(t, "")
			in := r.open(t, kv, marks...)
			if kv == "path=other" { // its place may still get events: it ends with the sink
				in.Deliver(suite.Bodies(50, 1))
			} else {
				synctest.Wait()
			}
			if kv != "path=other" && len(r.keys()) != 1 {
				t.Errorf("%s: not finished: %q", kv, r.keys())
			}
			in.Close()
			if got := r.lines(); !slices.Equal(got[:50], suite.Bodies(0, 50)) {
				t.Errorf("%s: %q", kv, got)
			}
			r.idle(t)
		})
	}
}

// Without its spool what the store has of an object is completed.
func TestSpoolIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		in := r.open(t, "")
		first := in.Deliver(suite.Bodies(0, 50))
		synctest.Wait()
		second := in.Deliver(suite.Bodies(50, 50)) // whose marks know the upload
		synctest.Wait()
		r = kill(r, in)
		r.mem = vfs.NewMem()
		r.disk = vfs.NewFault(r.mem)
		marks := append(first.Marks(), second.Marks()...)
		in = r.open(t, "", marks...)
		in.Deliver(suite.Bodies(100, 1))
		in.Close()
		got := r.lines()
		if n := len(got); n < 50 || !slices.Equal(got[:50], suite.Bodies(0, 50)) || got[n-1] != suite.Bodies(100, 1)[0] {
			t.Errorf("%q", got)
		}
		r.idle(t)
	})
}

// A published object is not published again, whatever mark is left of it.
func TestMarkOfPublished(t *testing.T) {
	r := newRig()
	in := r.open(t, "rollCount=50")
	tx := in.Deliver(suite.Bodies(0, 50))
	in.Close()
	r.open(t, "rollCount=50", tx.Marks()...).Close()
	if !slices.Equal(r.lines(), suite.Bodies(0, 50)) || r.count("complete") != 1 {
		t.Errorf("%d events, completed %d times", len(r.lines()), r.count("complete"))
	}
}

// One sink has the spool alone.
func TestSpoolIsLocked(t *testing.T) {
	r := newRig()
	in := r.open(t, "")
	defer in.Close()
	s := r.newSink()
	if _, faults := conf.Bind(s, in.Backend.Keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := s.Open(context.Background(), in.Env); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), "s3.spoolDirectory") {
		t.Errorf("second sink: %v", err)
	}
}

func FuzzState(f *testing.F) {
	st := state{length: 100, events: 3, bodies: 90, opened: start, seq: 7, part: 64, final: true, spool: "0011", key: "k", target: "t\x00p", format: "TEXT", upload: "u"}
	f.Add(st.encode())
	f.Add([]byte{1, 0})
	st.lost = 1
	f.Add(st.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := decodeState(s.encode())
		if err != nil || again != s {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}

// What a power failure leaves of a state that was not synced is not taken for one: it named another upload,
// and the parts of the right one were lost.
func TestTornState(t *testing.T) {
	whole := sealed(&state{seq: 1, part: 64, length: 140, spool: "s", key: "k", upload: "upload2"})
	if st, err := unseal(whole); err != nil || st.upload != "upload2" {
		t.Fatalf("%+v, %v", st, err)
	}
	for n := range whole {
		if _, err := unseal(whole[:n]); err == nil {
			t.Errorf("its first %d bytes are taken for it", n)
		}
		zeros := append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)
		if _, err := unseal(zeros); err == nil && !bytes.Equal(zeros, whole) {
			t.Errorf("with zeros from byte %d on it is taken", n)
		}
	}
}
