package flumelog

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

// samples are records as Flume's own classes wrote them.
var samples = map[kind]string{
	put:      "7f000000311 70d0100000011e803000000000000 19d007000000000000 170a0c0a060a016b120176120268 6911ac2a93d80000000000",
	take:     "7f00000024 170d0200000011e90300000000000019d207000000000000 0a0d010000001500000000 00",
	commit:   "7f0000001f 170d0400000011e80300000000000019d107000000000000 050d01000000 00",
	rollback: "7f0000001a 170d0300000011e80300000000000019d307000000000000 00 00",
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// flume: TestEventUtils testPutEvent testInvalidEvent
// flume: TestTransactionEventRecordV3 testTypes testPutSerialization testTakeSerialization testRollbackSerialization
// flume: TestTransactionEventRecordV3 testCommitSerialization testBadType
// flume: TestLogFile testWriteDelimitedTo
func TestSamples(t *testing.T) {
	for k, text := range samples {
		b := unhex(t, text)
		if n := binary.BigEndian.Uint32(b[1:]); int(n) != len(b)-framing {
			t.Fatalf("%d: length %d of %d", k, n, len(b)-framing)
		}
		r, err := parse(b[framing:])
		if err != nil || r.kind != k {
			t.Fatalf("%d: kind %d, %v", k, r.kind, err)
		}
		want := map[kind]record{
			put:      {kind: put, transaction: 1000, order: 2000},
			take:     {kind: take, transaction: 1001, order: 2002, taken: pointer{1, 0}},
			commit:   {kind: commit, transaction: 1000, order: 2001, puts: true},
			rollback: {kind: rollback, transaction: 1000, order: 2003},
		}[k]
		body := r.body
		r.body = nil
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("%d: %+v, want %+v", k, r, want)
		}
		if k == put {
			r.body = body
			e, err := r.event()
			if err != nil || string(e.Body) != "hi" || e.Headers.Value("k") != "v" || e.Headers.Len() != 1 {
				t.Errorf("event %q %v, %v", e.Body, e.Headers, err)
			}
		}
		for cut := range len(b) - framing {
			if _, err := parse(b[framing : framing+cut]); err == nil && cut < len(b)-framing {
				t.Errorf("%d: cut at %d is taken for whole", k, cut)
			}
		}
	}
	unknown := unhex(t, samples[rollback])[framing:]
	unknown[2] = 9 // where the kind is
	if r, err := parse(unknown); err == nil {
		t.Errorf("a record of an unknown kind: %+v", r)
	}
}

// writer makes data files.
type writer struct {
	t     testing.TB
	m     *vfs.Mem
	files map[string][]byte
	order int64
}

func newWriter(t testing.TB) *writer {
	m := vfs.NewMem()
	for _, dir := range []string{"/a", "/b", "/c"} {
		if err := vfs.MakeDir(m, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &writer{t: t, m: m, files: map[string][]byte{}}
}

func fixed(number int, v uint64, size int) []byte {
	wire := wireFixed64
	if size == 4 {
		wire = wireFixed32
	}
	return append([]byte{byte(number<<3 | wire)}, binary.LittleEndian.AppendUint64(nil, v)[:size]...)
}

func block(number int, b []byte) []byte {
	out := []byte{}
	if number > 0 {
		out = append(out, byte(number<<3|wireBytes))
	}
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

// write appends a record to a file and returns its offset.
func (w *writer) write(file string, k kind, tx int64, body []byte) uint32 {
	w.order++
	head := slices.Concat(fixed(1, uint64(k), 4), fixed(2, uint64(tx), 8), fixed(3, uint64(w.order), 8))
	payload := slices.Concat(block(0, head), block(0, body), []byte{0})
	at := len(w.files[file])
	w.files[file] = slices.Concat(w.files[file], []byte{opRecord}, binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload)
	return uint32(at)
}

func (w *writer) put(file string, tx int64, body string) uint32 {
	event := slices.Concat(block(1, slices.Concat(block(1, []byte("n")), block(2, []byte(body)))), block(2, []byte(body)))
	sum := fixed(2, uint64(crc32.ChecksumIEEE([]byte(body))), 8)
	return w.write(file, put, tx, slices.Concat(block(1, event), sum))
}

func (w *writer) take(file string, tx int64, of, off uint32) {
	w.write(file, take, tx, slices.Concat(fixed(1, uint64(of), 4), fixed(2, uint64(off), 4)))
}

func (w *writer) commit(file string, tx int64, what kind) {
	w.write(file, commit, tx, fixed(1, uint64(what), 4))
}

// save writes the files, each with its metadata and some padding.
func (w *writer) save() {
	for name, b := range w.files {
		var n uint64
		if _, err := fmt.Sscanf(name[strings.LastIndex(name, "-"):], "-%d", &n); err != nil {
			w.t.Fatal(err)
		}
		w.file(name, append(slices.Clone(b), opEnd, opEnd))
		w.file(name+".meta", block(0, slices.Concat(fixed(1, 3, 4), fixed(2, n, 4))))
	}
}

func (w *writer) file(name string, b []byte) {
	if err := vfs.WriteFile(w.m, name, b, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) bodies(checkpoint string) (bodies []string, b *Backlog) {
	w.t.Helper()
	w.save()
	b, err := Open(w.m, checkpoint, []string{"/a", "/b"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer b.Close()
	if err := b.Events(0, func(i int, e core.Event) error {
		if i != len(bodies) {
			w.t.Errorf("index %d, want %d", i, len(bodies))
		}
		bodies = append(bodies, string(e.Body))
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return bodies, b
}

// flow is two put transactions over two directories, a take that was committed,
// one that was not, a put that was rolled back and one that was not committed.
func flow(t testing.TB) *writer {
	w := newWriter(t)
	p1 := w.put("/a/log-1", 10, "one")
	p2 := w.put("/a/log-1", 10, "two")
	w.commit("/a/log-1", 10, put)
	w.put("/b/log-2", 11, "three")
	w.take("/b/log-2", 12, 1, p1)
	w.commit("/b/log-2", 11, put)
	w.commit("/b/log-2", 12, take)
	w.take("/a/log-1", 13, 1, p2)
	w.put("/b/log-2", 14, "undone")
	w.write("/b/log-2", rollback, 14, nil)
	w.put("/a/log-1", 15, "not committed")
	return w
}

func TestReplay(t *testing.T) {
	w := flow(t)
	got, b := w.bodies("")
	if want := []string{"two", "three"}; !slices.Equal(got, want) || len(b.Problems) > 0 {
		t.Fatalf("%q, %+v", got, b.Report)
	}
}

// ring writes a checkpoint of capacity 4 whose queue is q from place head on.
func (w *writer) ring(order int64, head uint64, state uint64, q []pointer, takes []inflight) {
	words := make([]uint64, ringStart+4)
	words[0], words[wordOrder], words[wordState] = 3, uint64(order), state
	for i, p := range q {
		words[ringStart+(head+uint64(i))%4] = uint64(p.file)<<32 | uint64(p.offset)
	}
	var b []byte
	for _, x := range words {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	w.file("/c/checkpoint", b)
	w.file("/c/checkpoint.meta", block(0, slices.Concat(fixed(1, 3, 4), fixed(2, uint64(order), 8), fixed(3, uint64(len(q)), 4), fixed(4, head, 4))))
	w.file("/c/inflighttakes", inflightFile(takes))
	w.file("/c/inflightputs", inflightFile(nil))
}

// A put transaction that was open at the checkpoint is there as a set: its events come in the order of the puts.
func TestPutsInFlight(t *testing.T) {
	w := newWriter(t)
	p1 := w.put("/a/log-1", 10, "one")
	p2 := w.put("/a/log-1", 10, "two")
	p3 := w.put("/a/log-1", 10, "three")
	order := w.order
	w.put("/a/log-1", 10, "four")
	w.commit("/a/log-1", 10, put)
	w.ring(order, 0, 0, nil, nil)
	w.file("/c/inflightputs", inflightFile([]inflight{{10, []pointer{{1, p2}, {1, p3}, {1, p1}}}}))
	got, b := w.bodies("/c")
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(got, want) || b.Checkpoint != "used" {
		t.Fatalf("%q, %+v", got, b.Report)
	}
}

// flume: TestFlumeEventPointer testPack
func TestCheckpoint(t *testing.T) {
	w := newWriter(t)
	p1 := w.put("/a/log-1", 10, "one")
	p2 := w.put("/a/log-1", 10, "two")
	p3 := w.put("/a/log-1", 10, "three")
	w.commit("/a/log-1", 10, put)
	w.take("/a/log-1", 11, 1, p1)
	w.take("/a/log-1", 12, 1, p2)
	order := w.order
	ring := func(state uint64) {
		w.ring(order, 3, state, []pointer{{1, p3}}, []inflight{{11, []pointer{{1, p1}}}, {12, []pointer{{1, p2}}}})
	}
	w.put("/a/log-1", 13, "four")
	w.commit("/a/log-1", 13, put)
	w.commit("/a/log-1", 11, take) // 12 was in flight when Flume was killed
	ring(0)
	got, b := w.bodies("/c")
	if want := []string{"two", "three", "four"}; !slices.Equal(got, want) || b.Checkpoint != "used" {
		t.Fatalf("%q, %+v", got, b.Report)
	}
	ring(1)
	got, b = w.bodies("/c")
	if want := []string{"two", "three", "four"}; !slices.Equal(got, want) || !strings.Contains(b.Checkpoint, "being written") {
		t.Fatalf("%q, %+v", got, b.Report)
	}
}

// flume: TestLogFile testPutGetNoopEvent
func TestDamage(t *testing.T) {
	w := flow(t)
	w.files["/a/log-1"][framing+42] ^= 1 // in the first put: its body or checksum
	if got, b := w.bodies(""); !slices.Equal(got, []string{"two", "three"}) || len(b.Problems) > 1 {
		t.Errorf("a damaged event that was delivered: %q, %+v", got, b.Report)
	}
	w = flow(t)
	w.files["/b/log-2"][framing+40] ^= 1
	if got, b := w.bodies(""); !slices.Equal(got, []string{"two"}) || len(b.Problems) != 1 {
		t.Errorf("a damaged event that was not delivered: %q, %+v", got, b.Report)
	}
	w = flow(t)
	w.files["/b/log-2"][0] = opNoop
	if got, b := w.bodies(""); !slices.Equal(got, []string{"two"}) || b.Disabled != 1 {
		t.Errorf("a disabled record: %q, %+v", got, b.Report)
	}
	w = flow(t)
	w.save()
	w.files = nil
	for _, c := range []struct{ meta, want string }{
		{string(block(0, slices.Concat(fixed(1, 3, 4), fixed(2, 1, 4), block(5, []byte("x"))))), "encrypted"},
		{string(block(0, slices.Concat(fixed(1, 2, 4), fixed(2, 1, 4)))), "format 2"},
		{string(block(0, slices.Concat(fixed(1, 3, 4), fixed(2, 7, 4)))), "log-7"},
		{"\x05", "cannot be read"},
	} {
		w.file("/a/log-1.meta", []byte(c.meta))
		if _, err := Open(w.m, "", []string{"/a", "/b"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.want, err)
		}
	}
	if err := w.m.Remove("/a/log-1.meta"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(w.m, "", []string{"/a"}); err == nil || !strings.Contains(err.Error(), ".meta") {
		t.Error(err)
	}
	if _, err := Open(w.m, "", []string{"/c"}); err == nil || !strings.Contains(err.Error(), "no data files") {
		t.Error(err)
	}
}

func FuzzDataFile(f *testing.F) {
	w := flow(f)
	f.Add(w.files["/a/log-1"])
	f.Add(w.files["/b/log-2"])
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWriter(t)
		w.files["/a/log-1"] = data
		w.save()
		b, err := Open(w.m, "", []string{"/a"})
		if err != nil {
			return
		}
		defer b.Close()
		n := 0
		if err := b.Events(0, func(_ int, e core.Event) error {
			n += len(e.Body)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n > len(data)*len(data) {
			t.Fatalf("%d bytes of bodies from %d", n, len(data))
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	w := newWriter(f)
	w.ring(5, 3, 0, []pointer{{1, 0}}, nil)
	meta, err := vfs.ReadFile(w.m, "/c/checkpoint.meta")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(meta, inflightFile([]inflight{{11, []pointer{{1, 2}}}}))
	f.Fuzz(func(t *testing.T, meta, flight []byte) {
		w := newWriter(t)
		w.ring(5, 3, 0, []pointer{{1, 0}}, nil)
		w.file("/c/checkpoint.meta", meta)
		w.file("/c/inflightputs", flight)
		if c, err := readCheckpoint(w.m, "/c"); err == nil && len(c.queue) > 4 {
			t.Fatalf("%d pointers in a ring of 4", len(c.queue))
		}
	})
}

// inflightFile is the form of inflighttakes and inflightputs.
func inflightFile(list []inflight) []byte {
	var b []byte
	for _, x := range list {
		b = binary.BigEndian.AppendUint64(b, uint64(x.transaction))
		b = binary.BigEndian.AppendUint64(b, uint64(len(x.pointers)))
		for _, p := range x.pointers {
			b = binary.BigEndian.AppendUint64(b, uint64(p.file)<<32|uint64(p.offset))
		}
	}
	sum := md5.Sum(b)
	return append(sum[:], b...)
}
