package hdfs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/connectors/internal/format/formattest"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sinktest"
	"github.com/millrace/millrace/core/suite"
)

const start = 1382534100000

func newSink(f *fake) func() core.Sink {
	return func() core.Sink {
		return &sink{connect: func() (fileSystem, error) { return f, nil }}
	}
}

// flume: TestHDFSEventSink testLifecycle
func TestSuite(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"defaults":       {},
		"one file":       {"hdfs.rollCount": "0", "hdfs.rollSize": "0"},
		"rolls":          {"hdfs.rollCount": "7", "hdfs.rollSize": "0", "hdfs.threadsPoolSize": "1"},
		"no append":      {"hdfs.rollCount": "0", "hdfs.rollSize": "0"},
		"half a write":   {"hdfs.rollCount": "1000", "hdfs.rollSize": "0", "hdfs.emptyInUseSuffix": "true"},
		"no commits":     {"hdfs.commitInterval": "0", "hdfs.callTimeout": "0"},
		"a locked file":  {"hdfs.rollCount": "0", "hdfs.rollSize": "0", "hdfs.inUsePrefix": "_"},
		"one open file":  {"hdfs.maxOpenFiles": "1"},
		"by local time":  {"hdfs.path": "/events/%Y/%H", "hdfs.useLocalTimeStamp": "true"},
		"no header":      {"hdfs.path": "/events/%Y/%H"},
		"a header's dir": {"hdfs.path": "/events/%{none}"},
	} {
		t.Run(name, func(t *testing.T) {
			var f *fake
			sinktest.Run(t, sinktest.Subject{
				New: func() core.Sink {
					f = newFake()
					f.noAppend, f.short = name == "no append", name == "half a write"
					return newSink(f)()
				},
				Backend: func(testing.TB) sinktest.Backend {
					mine := f
					all := map[string]string{"hdfs.path": "/events", "hdfs.fileType": "DataStream"}
					for k, v := range keys {
						all[k] = v
					}
					return sinktest.Backend{
						Keys:  all,
						Seen:  mine.seen,
						Break: func() { mine.set(func() { mine.broken = errFake }) },
						Heal:  func() { mine.set(func() { mine.broken = nil }) },
					}
				},
			})
		})
	}
}

// open opens a sink on f, at a fixed time, in UTC.
func open(t testing.TB, f *fake, keys map[string]string, marks ...core.Mark) *sinktest.Instance {
	t.Helper()
	all := map[string]string{
		"hdfs.path": "/e", "hdfs.fileType": "DataStream", "hdfs.timeZone": "UTC",
		"hdfs.rollCount": "0", "hdfs.rollSize": "0", "hdfs.rollInterval": "0", "hdfs.commitInterval": "0",
	}
	for k, v := range keys {
		all[k] = v
	}
	return sinktest.Open(t, sinktest.Subject{New: newSink(f), Backend: func(testing.TB) sinktest.Backend {
		return sinktest.Backend{Keys: all, Prepare: func(env *core.Env) {
			env.Now = func() time.Time { return time.UnixMilli(start) }
			env.Marks = map[string]core.Mark{}
			for _, m := range marks {
				if m.Pos < 0 {
					delete(env.Marks, m.Stream)
				} else {
					env.Marks[m.Stream] = m
				}
			}
		}}
	}})
}

func flush(t testing.TB, in *sinktest.Instance) {
	t.Helper()
	if err := in.Sink.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, f *fake, want ...string) {
	t.Helper()
	if got := f.names(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// flume: TestBucketWriter testFileSuffixNotGiven testFileSuffixGiven testFileSuffixCompressed testInUsePrefix testInUseSuffix
// flume: TestHDFSEventSink testEmptyInUseSuffix
func TestNames(t *testing.T) {
	for _, c := range []struct{ settings, inUse, final string }{
		{"", "/e/FlumeData.1382534100001.tmp", "/e/FlumeData.1382534100001"},
		{"fileSuffix=.avro", "/e/FlumeData.1382534100001.avro.tmp", "/e/FlumeData.1382534100001.avro"},
		{"fileSuffix=.foo fileType=CompressedStream codeC=gzip", "/e/FlumeData.1382534100001.foo.tmp", "/e/FlumeData.1382534100001.foo"},
		{"fileType=CompressedStream codeC=gzip", "/e/FlumeData.1382534100001.gz.tmp", "/e/FlumeData.1382534100001.gz"},
		{"fileType=SequenceFile codeC=org.apache.hadoop.io.compress.BZip2Codec", "/e/FlumeData.1382534100001.bz2.tmp", "/e/FlumeData.1382534100001.bz2"},
		{"inUsePrefix=_ filePrefix=x-%{n}", "/e/_x-a.1382534100001.tmp", "/e/x-a.1382534100001"},
		{"inUseSuffix=.w", "/e/FlumeData.1382534100001.w", "/e/FlumeData.1382534100001"},
		{"emptyInUseSuffix=true", "/e/FlumeData.1382534100001", "/e/FlumeData.1382534100001"},
		{"emptyInUseSuffix=true inUseSuffix=.w inUsePrefix=.", "/e/.FlumeData.1382534100001", "/e/FlumeData.1382534100001"},
		{"path=hdfs://h/a//%{n}/../b:c/ filePrefix=p/%{none}q", "/a/a/__/b_c/p/q.1382534100001.tmp", "/a/a/__/b_c/p/q.1382534100001"},
	} {
		keys := map[string]string{}
		for _, s := range strings.Fields(c.settings) {
			k, v, _ := strings.Cut(s, "=")
			keys["hdfs."+k] = v
		}
		f := newFake()
		in := open(t, f, keys)
		in.Deliver([]string{"x"})
		if got := f.paths(); !slices.Equal(got, []string{c.inUse}) {
			t.Errorf("%s: in use %q, want %q", c.settings, got, c.inUse)
		}
		in.Close()
		if got := f.paths(); !slices.Equal(got, []string{c.final}) {
			t.Errorf("%s: final %q, want %q", c.settings, got, c.final)
		}
	}
}

// flume: TestHDFSEventSink testTextBatchAppend testTextAppend testSimpleAppend
// flume: TestBucketWriter testEventCountingRoller testSizeRoller
func TestRolls(t *testing.T) {
	for _, c := range []struct {
		settings      string
		events, files int
	}{
		{"rollCount=10", 100, 10},
		{"rollCount=3", 6, 2},
		{"rollCount=5 fileType=SequenceFile", 6, 2},
		{"rollCount=100", 1000, 10},
		{"rollSize=900", 1000, 10}, // nine bytes each
	} {
		keys := map[string]string{}
		for _, s := range strings.Fields(c.settings) {
			k, v, _ := strings.Cut(s, "=")
			keys["hdfs."+k] = v
		}
		f := newFake()
		in := open(t, f, keys)
		var bodies []string
		for i := range c.events {
			bodies = append(bodies, fmt.Sprintf("event%04d", i))
		}
		for b := range slices.Chunk(bodies, 100) {
			in.Deliver(b)
		}
		in.Close()
		if got := len(f.paths()); got != c.files || len(f.unfinished()) > 0 {
			t.Errorf("%s: %d files, want %d; in use %q", c.settings, got, c.files, f.unfinished())
		}
		if !strings.Contains(c.settings, "Seq") && !slices.Equal(f.seen(), bodies) {
			t.Errorf("%s: content differs", c.settings)
		}
	}
}

// flume: TestHDFSEventSink testAvroAppend
func TestAvro(t *testing.T) {
	f := newFake()
	in := open(t, f, map[string]string{"serializer": "avro_event", "hdfs.rollCount": "3"})
	in.Deliver(suite.Bodies(0, 4))
	flush(t, in) // and appended to, after this
	in.Deliver(suite.Bodies(4, 2))
	in.Close()
	var got []string
	for _, p := range f.paths() {
		file, err := formattest.Decode(f.content(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range file.Events {
			got = append(got, string(e.Body))
		}
	}
	if len(f.paths()) != 2 || !slices.Equal(got, suite.Bodies(0, 6)) {
		t.Errorf("%q in %q", got, f.paths())
	}
}

// deliver hands over events with headers.
func deliver(in *sinktest.Instance, headers ...string) *core.Batch {
	b := core.NewBatch()
	for i, h := range headers {
		var list []core.Header
		for _, kv := range strings.Fields(h) {
			k, v, _ := strings.Cut(kv, "=")
			list = append(list, core.Header{Key: k, Value: v})
		}
		b.Copy(core.NewHeaders(list...), fmt.Appendf(nil, "%d", i))
	}
	in.Sink.Deliver(context.Background(), &sinktest.Loose{Events: b})
	return b
}

// flume: TestHDFSEventSink testAppend testSimpleAppendLocalTime
func TestPaths(t *testing.T) {
	f := newFake()
	in := open(t, f, map[string]string{"hdfs.path": "/e/%Y-%m-%d/%H", "hdfs.filePrefix": "%{app}"})
	deliver(in, "timestamp=1338212793234 app=a", "timestamp=1338212793999 app=b", "timestamp=1338216393234 app=a", "timestamp=1338212793235 app=a", "app=a")
	in.Close()
	expect(t, f,
		"/e/2012-05-28/13/a.1382534100001 0 3",
		"/e/2012-05-28/13/b.1382534100001 1",
		"/e/2012-05-28/14/a.1382534100001 2",
		"/e/2013-10-23/13/a.1382534100001 4") // by the time of delivery
	if n := in.Env.Metrics.Counter("events_without_time_total", "").Load(); n != 1 {
		t.Errorf("%d events without time", n)
	}

	f = newFake()
	in = open(t, f, map[string]string{"hdfs.path": "/e/%s", "hdfs.useLocalTimeStamp": "true"})
	deliver(in, "timestamp=1", "timestamp=2", "")
	in.Close()
	expect(t, f, "/e/1382534100/FlumeData.1382534100001 0 1 2")
}

// flume: TestHDFSEventSink testEmptyChannelResultsInStatusBackoff
func TestEmptyBatch(t *testing.T) {
	f := newFake()
	in := open(t, f, nil)
	in.Deliver(nil)
	in.Close()
	expect(t, f)
}

// What fails is tried again by the runner, with nothing lost and nothing twice,
// though other files of the same transactions were well.
//
// flume: TestHDFSEventSink testBadSimpleAppend testCloseReopen testFlushedIfAppendFailedWithBucketClosedException
// flume: TestBucketWriter testRotateBucketOnIOException
// flume: TestHDFSEventSinkOnMiniCluster testLeaseRecoveredIfCloseThrowsIOException
func TestFailures(t *testing.T) {
	for _, call := range []string{"create", "write", "close", "append"} {
		for times := 1; times <= 3; times++ {
			t.Run(fmt.Sprintf("%s %d", call, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					f.short, f.locks = times == 2, times
					in := open(t, f, map[string]string{"hdfs.path": "/e/%{n}", "hdfs.rollCount": "5"})
					first := in.Deliver(suite.Bodies(0, 30))
					flush(t, in)
					f.set(func() { f.fails[call] = times })
					acked, _, _ := first.Acked()
					if len(acked) != 30 {
						t.Fatalf("%d acked", len(acked))
					}
					want := 60
					todo := suite.Bodies(30, 30)
					for try := 0; len(todo) > 0; try++ {
						if try > 10 {
							t.Fatal("it does not go on")
						}
						tx := in.Deliver(todo)
						_ = in.Sink.Flush(context.Background())
						done, _, ended := tx.Acked()
						if !ended {
							t.Fatal("not ended by Flush")
						}
						todo = slices.DeleteFunc(todo, func(b string) bool { return slices.Contains(done, b) })
					}
					time.Sleep(10 * time.Minute) // of the bubble: what is left over is seen to
					in.Close()
					got := slices.Sorted(slices.Values(f.seen()))
					if !slices.Equal(got, suite.Bodies(0, want)) || len(f.unfinished()) > 0 {
						t.Errorf("%d events of %d, in use %q", len(got), want, f.unfinished())
					}
				})
			})
		}
	}
}

// A data node that dies while it cuts a file leaves it as it is, and the next one
// may die too; the file is finished all the same.
func TestCutThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.short, f.stall = true, 2
		in := open(t, f, nil)
		in.Deliver(suite.Bodies(0, 5))
		flush(t, in)
		f.set(func() { f.fails["write"] = 1 })
		in.Deliver(suite.Bodies(5, 5))
		if in.Sink.Flush(context.Background()) == nil {
			t.Fatal("nothing has failed")
		}
		in.Deliver(suite.Bodies(5, 5))
		flush(t, in)
		time.Sleep(10 * time.Minute) // of the bubble
		if got := f.unfinished(); len(got) != 1 || f.stall > 0 {
			t.Errorf("in use %q, %d stalls to come", got, f.stall)
		}
		in.Close()
		if got := f.seen(); !slices.Equal(got, suite.Bodies(0, 10)) || len(f.unfinished()) > 0 {
			t.Errorf("%d events of 10, in use %q", len(got), f.unfinished())
		}
	})
}

// flume: TestHDFSEventSink testSlowAppendFailure
func TestCallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		in := open(t, f, map[string]string{"hdfs.callTimeout": "1000"})
		f.hang = make(chan struct{})
		began := time.Now()
		tx := in.Deliver(suite.Bodies(0, 5))
		err := in.Sink.Flush(context.Background())
		if _, rolled, ended := tx.Acked(); !ended || rolled == nil || err == nil || time.Since(began) != time.Second {
			t.Errorf("after %v: %v, %v", time.Since(began), rolled, err)
		}
		close(f.hang)
		f.set(func() { f.hang = nil })
		in.Deliver(suite.Bodies(0, 5))
		in.Close()
		if !slices.Equal(f.seen(), suite.Bodies(0, 5)) {
			t.Errorf("%q", f.names())
		}
	})
}

// A panic in the library fails the call, and nothing else.
func TestPanicInACall(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Minute} {
		var nodes []string
		_, err := call(timeout, func() (string, error) { return nodes[0], nil }, nil)
		if err == nil || !strings.Contains(err.Error(), "index out of range") || !strings.Contains(err.Error(), "sink_test.go") {
			t.Errorf("timeout %v: %v", timeout, err)
		}
	}
}

// flume: TestHDFSEventSink testSlowAppendWithLongTimeout testSlowAppendWithoutTimeout
func TestSlowCall(t *testing.T) {
	for _, timeout := range []string{"40000", "0"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			in := open(t, f, map[string]string{"hdfs.callTimeout": timeout})
			f.hang = make(chan struct{})
			time.AfterFunc(35*time.Second, func() { close(f.hang) })
			in.Deliver(suite.Bodies(0, 5))
			flush(t, in)
			in.Close()
			if !slices.Equal(f.seen(), suite.Bodies(0, 5)) {
				t.Errorf("%q", f.names())
			}
		})
	}
}

// flume: TestBucketWriter testIntervalRoller testIntervalRollerBug testCallbackOnClose
// flume: TestHDFSEventSink testCloseReopenOnRollTime testCloseRemovesFromSFWriters testCloseOnIdle
func TestClock(t *testing.T) {
	for name, keys := range map[string]map[string]string{
		"interval": {"hdfs.rollInterval": "10"},
		"idle":     {"hdfs.idleTimeout": "10"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				in := open(t, f, keys)
				in.Deliver([]string{"a"})
				time.Sleep(6 * time.Second)
				in.Deliver([]string{"b"})
				time.Sleep(5 * time.Second)
				if rolled := len(f.unfinished()) == 0; rolled != (name == "interval") {
					t.Errorf("after 11 s: %q", f.names())
				}
				flush(t, in)
				time.Sleep(6 * time.Second)
				in.Deliver([]string{"c"})
				in.Close()
				// The same time gives the same number: the next free one is taken.
				expect(t, f, "/e/FlumeData.1382534100001 a b", "/e/FlumeData.1382534100002 c")
			})
		})
	}
}

// Events do not wait for the end of their file: it is closed and gone on with.
func TestCommitInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		in := open(t, f, map[string]string{"hdfs.commitInterval": "5000"})
		tx := in.Deliver([]string{"a", "b"})
		time.Sleep(4 * time.Second)
		if _, _, ended := tx.Acked(); ended {
			t.Error("acked before the commit point")
		}
		time.Sleep(2 * time.Second)
		if _, rolled, ended := tx.Acked(); !ended || rolled != nil {
			t.Error("not acked at the commit point")
		}
		expect(t, f, "/e/FlumeData.1382534100001.tmp a b")
		in.Deliver([]string{"c"})
		time.Sleep(6 * time.Second)
		in.Close()
		expect(t, f, "/e/FlumeData.1382534100001 a b c")
	})
}

func TestMaxOpenFiles(t *testing.T) {
	f := newFake()
	in := open(t, f, map[string]string{"hdfs.path": "/e/%{a}", "hdfs.maxOpenFiles": "2"})
	deliver(in, "a=1", "a=2", "a=1", "a=3", "a=1", "a=2")
	flush(t, in)
	open := f.unfinished()
	in.Close()
	if len(open) != 2 {
		t.Errorf("open at a time: %q", open)
	}
	got := f.seen()
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) {
		t.Errorf("%q", f.names())
	}
}

// flume: TestBucketWriter testSequenceFileRenameRetries testSequenceFileCloseRetries
// flume: TestHDFSEventSink testRetryRename
func TestRenameTries(t *testing.T) {
	for _, tries := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.fails["rename"] = 1000
			in := open(t, f, map[string]string{"hdfs.closeTries": fmt.Sprint(tries), "hdfs.rollCount": "1", "hdfs.retryInterval": "20"})
			in.Deliver([]string{"a"})
			time.Sleep(time.Hour)
			in.Close()
			if got := f.count("rename"); got != tries {
				t.Errorf("closeTries %d: %d tries", tries, got)
			}
			expect(t, f, "/e/FlumeData.1382534100001.tmp a")
		})
	}
}

// flume: TestHDFSEventSink testBadConfigurationForRetryIntervalZero testBadConfigurationForRetryIntervalNegative
// flume: TestHDFSEventSink testBadConfigurationForRetryCountZero testBadConfigurationForRetryCountNegative
func TestTriesKeys(t *testing.T) {
	for _, c := range []struct {
		key, value string
		tries      int
	}{
		{"hdfs.retryInterval", "0", 1},
		{"hdfs.retryInterval", "-1", 1},
		{"hdfs.closeTries", "0", int(^uint(0) >> 1)},
		{"hdfs.closeTries", "-4", int(^uint(0) >> 1)},
		{"hdfs.closeTries", "7", 7},
	} {
		s := new(sink)
		if _, faults := conf.Bind(s, map[string]string{"hdfs.path": "/e", c.key: c.value}); faults.HasErrors() || s.tries != c.tries {
			t.Errorf("%s = %s: %d tries, %v", c.key, c.value, s.tries, faults)
		}
	}
}
