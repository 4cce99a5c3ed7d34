package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/vfs"
)

func options(fsys vfs.FS) Options {
	return Options{
		FS: fsys, Dirs: []string{"/d"}, SegmentBytes: 64 << 10, AckDelay: time.Millisecond, Retry: time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
}

func disk(t testing.TB) *vfs.Mem {
	m := vfs.NewMem()
	if err := vfs.MakeDir(m, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t testing.TB, fsys vfs.FS) *Log {
	t.Helper()
	l, err := Open(options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// put stores one transaction and returns it.
func put(t testing.TB, l *Log, bodies ...string) *Put {
	t.Helper()
	b := core.NewBatch()
	for i, s := range bodies {
		b.Copy(core.NewHeaders(core.Header{Key: "n", Value: fmt.Sprint(i / 2)}), []byte(s))
	}
	done := make(chan error, 1)
	p := &Put{Batch: b, Time: 5, Done: func(_ *Put, err error) { done <- err }}
	if !l.Put(p) {
		t.Fatal("closed")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return p
}

// all reads the whole backlog; lost are undelivered events that are not to be found.
func all(t testing.TB, l *Log) (bodies []string, lost uint64) {
	t.Helper()
	for _, b := range l.Backlog() {
		for e := b.Extent; e.Seqs.Len() > 0; {
			c, err := l.Read(e, b.Acked)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, p := range c.Pieces {
				if p.At != n {
					t.Fatalf("piece at %d, not %d", p.At, n)
				}
				n += int(p.Seqs.Len())
			}
			if n != len(c.Batch.Events) {
				t.Fatalf("pieces of %d events, batch of %d", n, len(c.Batch.Events))
			}
			for _, ev := range c.Batch.Events {
				bodies = append(bodies, string(ev.Body))
			}
			for _, r := range c.Lost {
				lost += b.Acked.Without(r).Len()
			}
			e = c.Rest
			c.Batch.Release()
		}
	}
	return bodies, lost
}

func exists(m vfs.FS, suffix string) bool {
	list, _ := m.ReadDir("/d")
	return slices.ContainsFunc(list, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), suffix) })
}

// flume: TestFileChannel testChannelDiesOnCorruptEventNoFsync
// flume: TestFileChannelErrorMetrics testCorruptEventTaken
// flume: TestLogFile testPutGetCorruptEvent
func TestFlippedBit(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		m := disk(t)
		l := open(t, m)
		var places []Extent
		for i := range 6 {
			places = append(places, put(t, l, fmt.Sprint("a", i, strings.Repeat("z", 300)), fmt.Sprint("b", i)).At)
		}
		<-l.Ack([]Range{{1, 3}}, nil)
		last := put(t, l, "a6", "b6").At
		places = append(places, last)
		if sealed {
			_ = l.Close()
		}
		saved := m.CrashClone(nil, vfs.KeepAll)
		_ = l.Close()
		list, _ := saved.ReadDir("/d")
		name := "/d/" + list[0].Name()
		info, _ := saved.Stat(name)
		for off := int64(0); off < min(info.Size(), last.End+200); off++ {
			c := saved.CrashClone(nil, vfs.KeepAll)
			f, _ := c.OpenFile(name, os.O_RDWR, 0)
			b := []byte{0}
			_, _ = f.ReadAt(b, off)
			b[0] ^= 1 << (off % 8)
			_, _ = f.WriteAt(b, off)
			f.Close()
			l := open(t, c)
			got, lost := all(t, l)
			s := l.Stats()
			hit := slices.IndexFunc(places, func(e Extent) bool { return off >= e.Off && off < e.End })
			for i := 1; i < 7; i++ {
				if has := slices.Contains(got, fmt.Sprint("b", i)); !has && hit != i {
					t.Fatalf("sealed %v, bit at %d (put %d): put %d is gone", sealed, off, hit, i)
				} else if !has && !(s.Torn == 1 && i == 6 && !sealed && exists(c, ".torn")) && !(lost == 2 && l.Stats().Damaged > 0) {
					t.Fatalf("sealed %v, bit at %d: put %d is gone without a word: %+v, %d lost", sealed, off, i, s, lost)
				}
			}
			if len(got) > 14 || len(got) > 12 && s.Damaged == 0 {
				t.Fatalf("bit at %d: %d events", off, len(got))
			}
			// What is left is delivered; a damaged segment is kept.
			if b := l.Backlog(); len(b) > 0 && l.Stats().Damaged > 0 {
				l.Ack([]Range{{1, 15}}, nil)
				put(t, l, "more")
				put(t, l, "more")
				for deadline := time.Now().Add(5 * time.Second); !exists(c, ".damaged"); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("bit at %d: the damaged segment was not kept", off)
					}
				}
				_ = l.Close()
				if got, _ := all(t, open(t, c)); !slices.Equal(got, []string{"more", "more"}) {
					t.Fatalf("bit at %d: %q after recovery", off, got)
				}
			}
			_ = l.Close()
		}
	}
}

func TestTornTail(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := disk(t)
		fault := vfs.NewFault(m)
		l := open(t, fault)
		put(t, l, "one")
		put(t, l, "two")
		fault.Add(vfs.Rule{Kind: vfs.OpSync, At: 1, Crash: true})
		b := core.NewBatch()
		for range 5 {
			b.Copy(core.Headers{}, []byte(strings.Repeat("torn", 300)))
		}
		l.Put(&Put{Batch: b, Done: func(*Put, error) {}})
		_ = l.Close()
		c := m.CrashClone(rng, vfs.CrashMode(seed%uint64(vfs.CrashModes)))
		l = open(t, c)
		got, lost := all(t, l)
		if n := len(got); n != 2 && n != 7 || got[0] != "one" || got[1] != "two" || lost != 0 {
			t.Fatal(seed, n, lost)
		}
		if s := l.Stats(); s.Torn > 0 != exists(c, ".torn") || s.Damaged > 0 {
			t.Fatalf("%+v", s)
		}
		put(t, l, "three")
		_ = l.Close()
		l = open(t, c)
		if got, _ := all(t, l); got[len(got)-1] != "three" {
			t.Fatal(got)
		}
		_ = l.Close()
	}
}

// TestTornTransaction: of a transaction of several frames none counts if the last one is torn.
func TestTornTransaction(t *testing.T) {
	for seed := range uint64(12) {
		m := disk(t)
		fault := vfs.NewFault(m)
		l := open(t, fault)
		put(t, l, "one")
		fault.Add(vfs.Rule{Kind: vfs.OpSync, At: 1, Crash: true})
		b := core.NewBatch()
		for range 3 {
			b.Copy(core.Headers{}, []byte(strings.Repeat("t", 3<<20)))
		}
		l.Put(&Put{Batch: b, Done: func(*Put, error) {}})
		_ = l.Close()
		c := m.CrashClone(rand.New(rand.NewPCG(seed, 0)), vfs.TearLast)
		if got, lost := all(t, open(t, c)); len(got) != 1 && len(got) != 4 || lost != 0 {
			t.Fatal(seed, len(got), lost)
		}
	}
}

func TestFailedSyncBeginsANewSegment(t *testing.T) {
	m := disk(t)
	fault := vfs.NewFault(m)
	l := open(t, fault)
	put(t, l, "one")
	fault.Add(vfs.Rule{Kind: vfs.OpSync, At: 1, Times: 2})
	two := put(t, l, "two")
	if two.First != 2 || two.At.Segment == 1 {
		t.Fatalf("%+v", two.At)
	}
	<-l.Ack(nil, []core.Mark{{Stream: "s", Pos: 1}})
	for mode := range vfs.CrashMode(vfs.CrashModes) {
		c := open(t, m.CrashClone(rand.New(rand.NewPCG(1, 1)), mode))
		if got, lost := all(t, c); !slices.Equal(got, []string{"one", "two"}) || lost != 0 || len(c.Marks()) != 1 {
			t.Fatal(mode, got, lost)
		}
	}
}

func TestNoSpace(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	first := put(t, l, "one")
	info, _ := m.Stat("/d/" + name(1, 1))
	m.SetVolume(info.Size() + 10)
	big := core.NewBatch()
	big.Copy(core.Headers{}, make([]byte, 2<<20))
	done := make(chan error, 1)
	l.Put(&Put{Batch: big, Done: func(_ *Put, err error) { done <- err }})
	for l.Stats().Failures == 0 {
		time.Sleep(time.Millisecond)
	}
	<-l.Ack([]Range{first.At.Seqs}, nil) // acks are stored even so: they are what makes room
	m.SetVolume(1 << 30)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, _ := all(t, open(t, m.CrashClone(nil, vfs.DropAll))); len(got) != 1 || len(got[0]) != 2<<20 {
		t.Fatal(len(got))
	}
	// A log that closes while the disk refuses says so.
	m.SetVolume(1)
	l.Put(&Put{Batch: big.Hold(), Done: func(_ *Put, err error) { done <- err }})
	_ = l.Close()
	if err := <-done; !errors.Is(err, core.ErrClosed) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	put(t, l, "one")
	_ = l.Close()
	path := "/d/" + name(1, 1)
	before, _ := vfs.ReadFile(m, path)
	b := slices.Clone(before)
	le.PutUint32(b[8:], version+1)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], table))
	if err := vfs.WriteFile(m, path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(m)); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
	if after, _ := vfs.ReadFile(m, path); !slices.Equal(after, b) {
		t.Fatal("the file was changed")
	}
}

// TestStartReadsOneSegment: opening reads the newest segment only, however many there are.
func TestStartReadsOneSegment(t *testing.T) {
	m := disk(t)
	opt := options(m)
	opt.SegmentBytes = 64 << 10
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		put(t, l, strings.Repeat("x", 60<<10))
	}
	_ = l.Close()
	fault := vfs.NewFault(m)
	reads := func(fsys *vfs.Fault) int {
		l := open(t, fsys)
		if n := len(l.Backlog()); n < 30 {
			t.Fatal(n)
		}
		return fsys.Count(vfs.OpRead)
	}
	if n := reads(fault); n > 3*60 {
		t.Fatalf("%d reads to start", n)
	}
	got, lost := all(t, open(t, m))
	if len(got) != 60 || lost != 0 {
		t.Fatal(len(got), lost)
	}
}

func TestFramesOfOneTransaction(t *testing.T) {
	m := disk(t)
	l := open(t, m)
	put(t, l, strings.Repeat("a", 3<<20), strings.Repeat("b", 3<<20), "c", strings.Repeat("d", 5<<20), "e")
	_ = l.Close()
	got, _ := all(t, open(t, m))
	if len(got) != 5 || got[2] != "c" || len(got[3]) != 5<<20 || got[4] != "e" {
		t.Fatal(len(got))
	}
}

func TestRanges(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var s Ranges
		var model [60]bool
		for range rng.IntN(15) {
			from := rng.Uint64N(50)
			r := Range{from, from + rng.Uint64N(10)}
			s.Add(r)
			for i := r.From; i < r.To; i++ {
				model[i] = true
			}
		}
		for i, r := range s {
			if r.From >= r.To || i > 0 && s[i-1].To >= r.From {
				t.Fatal(s)
			}
		}
		w := Range{rng.Uint64N(20), 20 + rng.Uint64N(40)}
		in, out := s.Within(w), s.Without(w)
		for i, want := range model {
			n := uint64(i)
			inside := n >= w.From && n < w.To
			if s.Has(n) != want || in.Has(n) != (want && inside) || out.Has(n) != (!want && inside) {
				t.Fatal(s, w, in, out, i)
			}
		}
	}
}

// FuzzSegment opens a log on arbitrary bytes: nothing may panic, or allocate
// beyond a small multiple of the input.
func FuzzSegment(f *testing.F) {
	m := disk(f)
	l := open(f, m)
	put(f, l, "one", "two")
	<-l.Ack([]Range{{1, 2}}, []core.Mark{{Stream: "s", Pos: 3, State: []byte("x")}})
	_ = l.Close()
	seed, err := vfs.ReadFile(m, "/d/"+name(1, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, false)
	f.Add(seed[headerSize:], true)
	f.Fuzz(func(t *testing.T, data []byte, reseal bool) {
		if reseal { // make it a frame with good checksums, so that the payload decoders are reached
			b := startFrame(header{salt: 7, number: 1, first: 1}.append(nil))
			b = append(b, data...)
			k := kindPut
			if len(data) > 0 {
				k = kind(data[0]%4 + 1)
			}
			data = endFrame(b, headerSize, frame{kind: k, flags: flagLast, count: uint32(len(data) / 3), first: 1, salt: 7})
		}
		m := disk(t)
		if err := vfs.WriteFile(m, "/d/"+name(1, 1), data, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := Open(options(m))
		if err != nil {
			return
		}
		for _, b := range l.Backlog() {
			for e := b.Extent; e.Seqs.Len() > 0; {
				c, err := l.Read(e, b.Acked)
				if err != nil {
					break
				}
				e = c.Rest
				c.Batch.Release()
			}
		}
		_ = l.Close()
	})
}

// A put that is given up at Close takes those behind it with it: else the
// position of a later one would say that it was stored.
func TestNothingIsStoredAfterAPutThatFailed(t *testing.T) {
	m := disk(t)
	f := vfs.NewFault(m)
	opt := options(f)
	opt.Retry = time.Hour
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	f.Add(vfs.Rule{Kind: vfs.OpWrite, Path: "*.wal", At: 1, Times: 2, Err: syscall.EIO})
	answers := make(chan error, 2)
	send := func(pos int64) {
		b := core.NewBatch()
		b.Copy(core.Headers{}, []byte("x"))
		l.Put(&Put{Batch: b, Marked: true, Stream: "s", Pos: pos, Done: func(_ *Put, err error) { answers <- err }})
	}
	send(10)
	for deadline := time.Now().Add(10 * time.Second); l.Stats().Failures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing failed")
		}
	}
	send(20) // of the next group
	_ = l.Close()
	for range 2 {
		if err := <-answers; !errors.Is(err, core.ErrClosed) {
			t.Error(err)
		}
	}
	l = open(t, m)
	if pos, ok := l.Position("s"); ok || len(l.Backlog()) > 0 {
		t.Error(pos, l.Backlog())
	}
}

// What a failed sync has left in the page cache is accepted by the next process,
// positions and all: it must be on disk by then.
func TestRecoveredFramesAreDurable(t *testing.T) {
	m := disk(t)
	f := vfs.NewFault(m)
	opt := options(f)
	opt.Retry = time.Hour
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, "a")
	f.Add(vfs.Rule{Kind: vfs.OpSync, Path: "*.wal", At: 1, Times: 2, Err: syscall.EIO})
	b := core.NewBatch()
	long := strings.Repeat("b", 20000) // of several pages
	b.Copy(core.Headers{}, []byte(long))
	answer := make(chan error, 1)
	l.Put(&Put{Batch: b, Marked: true, Stream: "s", Pos: 10, Done: func(_ *Put, err error) { answer <- err }})
	for deadline := time.Now().Add(10 * time.Second); l.Stats().Failures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing failed")
		}
	}
	_ = l.Close()
	if err := <-answer; !errors.Is(err, core.ErrClosed) {
		t.Fatal(err)
	}
	l = open(t, m)
	pos, ok := l.Position("s")
	if !ok || pos != 10 {
		t.Fatal("the frame was not found: this test tests nothing")
	}
	l = open(t, clone(m)) // the power fails
	if pos, _ := l.Position("s"); pos != 10 {
		t.Error("a position was told and is gone:", pos)
	}
	if bodies, lost := all(t, l); lost > 0 || !slices.Equal(bodies, []string{"a", long}) {
		t.Error(len(bodies), lost)
	}
}

// Settings change from the next group on.
func TestAdjust(t *testing.T) {
	m := disk(t)
	f := vfs.NewFault(m)
	opt := options(f)
	opt.SyncEvery = time.Hour
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	put(t, l, "makes the segment") // synced
	put(t, l, "a")
	syncs := f.Count(vfs.OpSync)
	l.Adjust(4096, 0)
	put(t, l, strings.Repeat("b", 5000))
	if n := f.Count(vfs.OpSync) - syncs; n != 2 {
		t.Errorf("%d syncs, want one for what was there and one for the put", n)
	}
	put(t, l, "c") // beyond the new size
	if n := l.Stats().Segments; n != 2 {
		t.Errorf("%d segments", n)
	}
	l.Adjust(1<<20, 5*time.Millisecond)
	put(t, l, "d")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if bodies, _ := all(t, open(t, clone(m))); len(bodies) == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never synced")
		}
	}
}

// clone is what a crash leaves of m, at worst.
func clone(m *vfs.Mem) *vfs.Mem { return m.CrashClone(nil, vfs.DropAll) }

func FuzzFrame(f *testing.F) {
	b := startFrame(nil)
	b = append(b, "payload"...)
	f.Add(endFrame(b, 0, frame{kind: kindPut, salt: 3}), uint32(3))
	f.Fuzz(func(t *testing.T, b []byte, salt uint32) {
		fr, size, err := parseFrame(b, salt)
		if err == nil && (size > int64(len(b)) || len(fr.payload) > len(b)) {
			t.Fatal(size, len(b))
		}
		_, _ = parsePut(&fr)
		_, _ = parseHead(b)
		d := decoder{b: b}
		d.ranges()
		d.sinkMarks()
	})
}

// BenchmarkPut stores batches of 4 KiB from 16 goroutines on a real disk.
func BenchmarkPut(b *testing.B) {
	for _, putters := range []int{1, 16} {
		b.Run(fmt.Sprintf("putters=%d", putters), func(b *testing.B) {
			opt := options(vfs.OS())
			opt.Dirs, opt.SegmentBytes = []string{b.TempDir()}, 128<<20
			l, err := Open(opt)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			batch := core.NewBatch()
			for range 16 {
				batch.Copy(core.Headers{}, make([]byte, 256))
			}
			b.SetBytes(4096)
			b.SetParallelism((putters + 1) / 2)
			if putters == 1 {
				for b.Loop() {
					store(b, l, batch)
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						store(b, l, batch)
					}
				})
			}
			b.ReportMetric(float64(b.N)/float64(max(1, l.Stats().Syncs)), "puts/sync")
		})
	}
}

func store(b *testing.B, l *Log, batch *core.Batch) {
	done := make(chan error, 1)
	l.Put(&Put{Batch: batch, Done: func(_ *Put, err error) { done <- err }})
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendSync is the plain loop beside it: write 4 KiB, fdatasync.
func BenchmarkAppendSync(b *testing.B) {
	f, err := vfs.OS().OpenFile(b.TempDir()+"/f", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4096)
	b.SetBytes(4096)
	for b.Loop() {
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a backlog of 64 MiB back.
func BenchmarkRead(b *testing.B) {
	opt := options(vfs.OS())
	opt.Dirs, opt.SegmentBytes = []string{b.TempDir()}, 128<<20
	l, err := Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	batch := core.NewBatch()
	for range 4096 {
		batch.Copy(core.Headers{}, make([]byte, 256))
	}
	for range 64 {
		store(b, l, batch)
	}
	_ = l.Close()
	if l, err = Open(opt); err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetBytes(64 << 20)
	for b.Loop() {
		for _, bl := range l.Backlog() {
			for e := bl.Extent; e.Seqs.Len() > 0; {
				c, err := l.Read(e, bl.Acked)
				if err != nil {
					b.Fatal(err)
				}
				e = c.Rest
				c.Batch.Release()
			}
		}
	}
}
