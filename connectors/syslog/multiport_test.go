package syslog

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/connectors/internal/charset"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/metric"
	"github.com/millrace/millrace/core/sourcetest"
	"github.com/millrace/millrace/core/suite"
)

func TestSuiteMultiport(t *testing.T) {
	sourcetest.Run(t, subject(Multiport, false, func(testing.TB) map[string]string {
		return map[string]string{"host": "127.0.0.1", "ports": "0 0", "batchSize": "7"}
	}))
}

// portParser returns a parser as of a port with that charset, at noon UTC of
// 22 November 2026.
func portParser(t testing.TB, keep, name string) *parser {
	t.Helper()
	c, err := charset.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	fields, _ := parseKeep(keep)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := &port{charset: c, odd: oddBytes(c), cells: new(metric.Group)}
	return newPortParser(&rules{keep: fields, now: func() time.Time { return now }, loc: time.Local}, at, nil)
}

const (
	noon    = "timestamp=1795348800000"
	invalid = "flume.syslog.status=Invalid"
)

// What Flume makes of these lines, but for the rows that say "ours".
//
// flume: TestMultiportSyslogTCPSource testFragmented
func TestMultiportConformance(t *testing.T) {
	const h = "Facility=1 Priority=13 Severity=5 "
	for _, tt := range []struct {
		name, in string
		out      []string
	}{
		{"rfc 5424", "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - BOM'su root' failed\n", []string{
			`"su - ID47 - BOM'su root' failed" Facility=4 Priority=34 Severity=2 Version=1 host=mymachine.example.com timestamp=1065910455003`,
		}},
		{"no version", "<13>2003-08-24T05:14:15Z localhost snarf?\n", []string{`"snarf?" ` + h + `host=localhost timestamp=1061702055000`}},
		{"micro", "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %%\n", []string{
			`"myproc 8710 - - %%" Facility=20 Priority=165 Severity=5 Version=1 host=192.0.2.1 timestamp=1061727255000`,
		}},
		{"dashes", "<1>- - blah blam foo\n", []string{`"blah blam foo" Facility=0 Priority=1 Severity=1 host=- ` + noon}},
		{"version and dashes", "<13>1 - - blah blam\n", []string{`"blah blam" Facility=1 Priority=13 Severity=5 Version=1 host=- ` + noon}},
		{"no text", "<13>1 - host \n", []string{`"<13>1 - host " Facility=1 Priority=13 Severity=5 Version=1 host=host ` + noon}},
		{"no blank behind the host", "<13>1 - host\n", []string{`"<13>1 - host" ` + invalid}},
		{"large priority", "<999>1 - h b\n", []string{`"b" Facility=124 Priority=999 Severity=7 Version=1 host=h ` + noon}},
		{"negative priority", "<-1>1 - h b\n", []string{`"b" Facility=0 Priority=-1 Severity=-1 Version=1 host=h ` + noon}},
		{"no priority", "<>1 - h b\n", []string{`"<>1 - h b" ` + invalid}},
		{"long priority", "<123456>1 - h b\n", []string{`"<123456>1 - h b" ` + invalid}},
		{"longest priority", "<12345>1 - h b\n", []string{`"b" Facility=1543 Priority=12345 Severity=1 Version=1 host=h ` + noon}},
		{"garbage", "garbage\n", []string{`"garbage" ` + invalid}},
		{"no zone", "<13>2012-04-13T11:11:11 h b\n", []string{`"<13>2012-04-13T11:11:11 h b" ` + invalid}},
		{"half a second", "<13>2012-04-13T11:11:11.5Z h b\n", []string{`"b" ` + h + `host=h timestamp=1334315471500`}},
		{"many digits", "<13>2012-04-13T11:11:11.1234567Z h b\n", []string{`"b" ` + h + `host=h timestamp=1334315471123`}},
		{"odd zone", "<13>2012-04-13T11:11:11x h b\n", []string{`"b" ` + h + `host=h timestamp=1334315471000`}},
		{"zone", "<13>2012-04-13T11:11:11+08:00 h b\n", []string{`"b" ` + h + `host=h timestamp=1334286671000`}},
		{"zone without colon", "<13>2012-04-13T11:11:11+0800 h b\n", []string{`"<13>2012-04-13T11:11:11+0800 h b" ` + invalid}},
		{"version 2", "<13>2 2012-04-13T11:11:11Z h b\n", []string{`"<13>2 2012-04-13T11:11:11Z h b" ` + invalid}},
		{"empty host", "<13>2012-04-13T11:11:11Z  b\n", []string{`"b" ` + h + `host= timestamp=1334315471000`}},
		{"a stamp that is none", "<13>Foo 12 11:11:11 h b\n", []string{`"b" ` + h + `host=h timestamp=0`}},
		{"ours: the year", "<165>Aug 24 05:34:00 CST 1987 mymachine myproc[10]: x\n", []string{
			`"1987 mymachine myproc[10]: x" Facility=20 Priority=165 Severity=5 host=CST timestamp=1787549640000`,
		}},
		{"a month in capitals", "<13>NOV  9 12:00:00 h b\n", []string{`"b" ` + h + `host=h timestamp=1794225600000`}},
		{"no such day, no such time", "<13>Feb 30 12:00:00 h b\n<13>May 13 25:61:61 h b\n", []string{`"b" ` + h + `host=h timestamp=0`, `"b" ` + h + `host=h timestamp=0`}},
		{"25 days ago", "<13>Oct 28 12:00:00 h b\n", []string{`"b" ` + h + `host=h timestamp=1793188800000`}},
		{"ours: 35 days ahead is last year", "<13>Dec 27 15:07:03 h b\n", []string{`"b" ` + h + `host=h timestamp=1766848023000`}},
		{"ours: a day of one digit without a second blank", "<13>Nov 9 12:00:00 h b\n", []string{`"b" ` + h + `host=h timestamp=1794225600000`}},
		{"carriage return", "<13>2012-04-13T11:11:11Z h b\r\n", []string{"\"b\\r\" " + h + `host=h timestamp=1334315471000`}},
		{"malformed", "<13>1 - h \xfe\xff\n", []string{"\"<13>1 - h \\xfe\\xff\" " + invalid}},
		{"ours: an empty line, which costs Flume all the buffer", "<13>- h one\n\n<13>- h three\n", []string{
			`"one" ` + h + `host=h ` + noon, `"three" ` + h + `host=h ` + noon,
		}},
		{"ours: a fraction without zone", "<13>- h one\n<13>2012-04-13T11:11:11.123 h b\n", []string{
			`"one" ` + h + `host=h ` + noon, `"<13>2012-04-13T11:11:11.123 h b" ` + invalid,
		}},
		{"ours: a long token for a stamp", "<13>this-is-a-long-token-without-spaces h b\n", []string{`"<13>this-is-a-long-token-without-spaces h b" ` + invalid}},
		{"ours: no such day", "<13>2012-02-30T11:11:11Z h b\n", []string{`"<13>2012-02-30T11:11:11Z h b" ` + invalid}},
		{"ours: no newline at the end", "<13>- h one", []string{`"one" ` + h + `host=h ` + noon}},
		{"ours: counted", "11 <13>- h one<13>- h two\n", []string{`"one" ` + h + `host=h ` + noon, `"two" ` + h + `host=h ` + noon}},
		{"a newline in the priority", "<1\n<13>- h b\n", []string{`"<1" ` + invalid, `"b" ` + h + `host=h ` + noon}},
	} {
		for _, n := range []int{len(tt.in), 1, 3} {
			got := parseAll(portParser(t, "none", "utf-8"), framer{size: 2500, counted: true, plain: true}, tt.in, n)
			if !slices.Equal(got, tt.out) {
				t.Errorf("%s, in pieces of %d:\ngot  %s\nwant %s", tt.name, n, strings.Join(got, "\n     "), strings.Join(tt.out, "\n     "))
			}
		}
	}
}

func TestMultiportKeepFields(t *testing.T) {
	for keep, want := range map[string]string{
		"none": "body", "priority timestamp": "<13>2012-04-13T11:11:11Z body", "version hostname": "1 h body", "foo": "body",
		"all": "<13>1 2012-04-13T11:11:11Z h body",
	} {
		p, b := portParser(t, keep, "utf-8"), core.NewBatch()
		for range 3 { // parsed, and then known
			p.event(b, []byte("<13>1 2012-04-13T11:11:11Z h body"), false)
		}
		for _, e := range b.Events {
			if string(e.Body) != want {
				t.Errorf("%s: got %q, want %q", keep, e.Body, want)
			}
		}
		b.Release()
	}
}

func TestMultiportEventSize(t *testing.T) {
	const h = "Facility=1 Priority=13 Severity=5 Version=1 host=h " + noon
	x := strings.Repeat("x", 40)
	for in, want := range map[string][]string{
		"<13>1 - h " + x + "\n": {
			`"` + x[:20] + `" Facility=1 Priority=13 Severity=5 Version=1 flume.syslog.status=Incomplete host=h ` + noon, `"` + x[:20] + `" ` + invalid,
		},
		"<13>1 - h " + x[:19] + "\n<13>1 - h y\n": {`"` + x[:19] + `" ` + h, `"y" ` + h},
		"<13>1 - h " + x[:20] + "\n<13>1 - h y\n": {`"` + x[:20] + `" ` + h, `"y" ` + h}, // ours: Flume delivers nothing
	} {
		for _, n := range []int{len(in), 1, 7} {
			if got := parseAll(portParser(t, "none", "utf-8"), framer{size: 30, plain: true}, in, n); !slices.Equal(got, want) {
				t.Errorf("%q in pieces of %d:\ngot  %q\nwant %q", in, n, got, want)
			}
		}
	}
}

// flume: TestMultiportSyslogTCPSource testCharsetParsing
func TestMultiportCharsets(t *testing.T) {
	for _, tt := range []struct{ charset, in, want string }{
		{"ISO-8859-1", "<13>- \xe9 \xe9\n", `"\xe9" Facility=1 Priority=13 Severity=5 host=é ` + noon},
		{"windows-1252", "<13>- h \x80\n", `"\x80" Facility=1 Priority=13 Severity=5 host=h ` + noon},
		{"windows-1252", "<13>- h \x81\n", `"<13>- h \x81" ` + invalid},
		{"us-ascii", "<13>- h \x80\n", `"<13>- h \x80" ` + invalid},
		{"utf-8", "<13>- é é\n", `"é" Facility=1 Priority=13 Severity=5 host=é ` + noon},
	} {
		got := parseAll(portParser(t, "none", tt.charset), framer{size: 2500, plain: true}, tt.in, 100)
		if !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: got %s, want %s", tt.charset, got, tt.want)
		}
	}
}

// Two ports, each with its charset and its number in a header.
//
// flume: TestMultiportSyslogTCPSource testPortCharsetHandling testClientHeaders
func TestPorts(t *testing.T) {
	one, two := freePort(t), freePort(t)
	in := sourcetest.Start(t, sourcetest.Subject{New: Multiport.New}, map[string]string{
		"host": "127.0.0.1", "ports": one + "  " + two, "portHeader": "port", "clientIPHeader": "ip",
		"charset.port." + two: "latin1",
	}, sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	for i, at := range []string{one, two} {
		c, err := net.Dial("tcp", "127.0.0.1:"+at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		write(t, c, "<13>2012-04-13T11:11:11Z h \xe9\n")
		events(t, in, i+1)
	}
	compare(t, events(t, in, 2),
		`"<13>2012-04-13T11:11:11Z h \xe9" flume.syslog.status=Invalid ip=127.0.0.1 port=`+one,
		`"\xe9" Facility=1 Priority=13 Severity=5 host=h ip=127.0.0.1 port=`+two+` timestamp=1334315471000`)
	if n := in.Env.Metrics.EventReadFail.Load(); n != 1 {
		t.Errorf("%d read failures, want 1", n)
	}
}

// Each of many ports serves, and says which it is.
//
// flume: TestMultiportSyslogTCPSource testMultiplePorts
func TestManyPorts(t *testing.T) {
	const n = 200
	src, out, env := Multiport.New(), sourcetest.NewOutlet(), sourcetest.NewEnv(t, "src")
	if _, faults := conf.Bind(src, map[string]string{"host": "127.0.0.1", "ports": strings.Repeat("0 ", n), "portHeader": "port"}); faults.HasErrors() {
		t.Fatal(faults)
	}
	var ports []string
	env.Listen = func(network, at string) (net.Listener, error) {
		l, err := net.Listen(network, at)
		if err == nil {
			_, number, _ := net.SplitHostPort(l.Addr().String())
			ports = append(ports, number)
		}
		return l, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := src.Open(ctx, env); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, out) }()
	for _, number := range ports {
		c, err := net.Dial("tcp", "127.0.0.1:"+number)
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, "<10>1 2012-04-13T11:11:11Z h "+number+"\n")
		c.Close()
	}
	suite.Eventually(t, "one event a port", func() bool { return out.Len() == n })
	cancel()
	if err := errors.Join(<-ended, src.Close()); err != nil {
		t.Error(err)
	}
	for _, e := range out.Events() {
		if h := e.Headers; h.Value("port") != string(e.Body) || h.Value("host") != "h" || h.Value("timestamp") != "1334315471000" {
			t.Errorf("%s: %v", e.Body, h)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, number, _ := net.SplitHostPort(l.Addr().String())
	return number
}

// The limit is that of the source, not of a port.
func TestMultiportConnections(t *testing.T) {
	one, two := freePort(t), freePort(t)
	in := sourcetest.Start(t, sourcetest.Subject{New: Multiport.New}, map[string]string{
		"host": "127.0.0.1", "ports": one + " " + two, "maxConnections": "1",
	}, sourcetest.NewOutlet())
	t.Cleanup(in.Close)
	first, err := net.Dial("tcp", "127.0.0.1:"+one)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	suite.Eventually(t, "it is open", func() bool { return in.Env.Metrics.OpenConnection.Load() == 1 })
	second, err := net.Dial("tcp", "127.0.0.1:"+two)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many is served")
	}
}

// A port in use fails the start, and no other stays taken.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, number, _ := net.SplitHostPort(taken.Addr().String())
	free := freePort(t)
	s := Multiport.New()
	if _, faults := conf.Bind(s, map[string]string{"host": "127.0.0.1", "ports": free + " " + number}); faults.HasErrors() {
		t.Fatal(faults)
	}
	if err := s.Open(t.Context(), sourcetest.NewEnv(t, "src")); err == nil || !strings.Contains(err.Error(), number) {
		t.Errorf("open: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+free)
	if err != nil {
		t.Fatalf("the other port stays taken: %v", err)
	}
	l.Close()
}

func TestMultiportKeys(t *testing.T) {
	for _, tt := range []struct {
		keys  map[string]string
		fault string // key of the first; empty: none
		fatal bool
	}{
		{map[string]string{"ports": "1 2"}, "", false},
		{map[string]string{"ports": "1 2", "charset.port.2": "latin1", "numProcessors": "2", "readBufferSize": "1", "readBufferBytes": "1"}, "", false},
		{nil, "ports", true},
		{map[string]string{"port": "1"}, "ports", true},
		{map[string]string{"ports": "1,2"}, "ports", true},
		{map[string]string{"ports": "1 70000"}, "ports", true},
		{map[string]string{"ports": "7 7"}, "ports", false},
		{map[string]string{"ports": "1", "charset.default": "EBCDIC-XX"}, "charset.default", true},
		{map[string]string{"ports": "1", "charset.default": "UTF-16"}, "charset.default", true},
		{map[string]string{"ports": "1", "charset.port.1": "EBCDIC-XX"}, "charset.port.1", true},
		{map[string]string{"ports": "1", "charset.port.1": "UTF-16LE"}, "charset.port.1", true},
		{map[string]string{"ports": "1", "charset.port.2": "latin1"}, "charset.port.2", false},
		{map[string]string{"ports": "1", "keepFields": "hosts"}, "keepFields", false},
		{map[string]string{"ports": "1", "batchSize": "0"}, "batchSize", true},
	} {
		_, faults := conf.Bind(Multiport.New(), tt.keys)
		found := slices.ContainsFunc(faults, func(f conf.Fault) bool { return f.Key == tt.fault })
		if found != (tt.fault != "") || faults.HasErrors() != tt.fatal || tt.fault == "" && len(faults) > 0 {
			t.Errorf("%v: %v", tt.keys, faults)
		}
	}
}

// FuzzMultiport: nothing is lost or made up, pieces do not matter, and a head
// that is known gives what parsing gives.
func FuzzMultiport(f *testing.F) {
	f.Add([]byte("<34>1 2003-10-11T22:14:15.003Z m su - ID47\n<1>- - b\n\r\n<13>Nov  9 12:00:00 h b\n"), uint16(2500), uint8(1), true)
	f.Add([]byte("<13>1 - h xxxxxxxxxxxxxxxxxxxxxxxx\n\xff\n"), uint16(10), uint8(3), false)
	f.Add([]byte("17 <13>Feb 30 1 h b\n<13>2012-04-13T11:11:11.+99:99 h "), uint16(30), uint8(7), true)
	f.Fuzz(func(t *testing.T, in []byte, size uint16, piece uint8, utf bool) {
		name := "windows-1252"
		if utf {
			name = "utf-8"
		}
		frames := framer{size: int(size) + 1, plain: true}
		p := portParser(t, "timestamp", name)
		whole := parseAll(p, frames, string(in), len(in))
		if got := parseAll(p, frames, string(in), int(piece)+1); !slices.Equal(got, whole) {
			t.Fatalf("in pieces: %q, whole: %q", got, whole)
		}
		if fresh := parseAll(portParser(t, "timestamp", name), frames, string(in), len(in)); !slices.Equal(fresh, whole) {
			t.Fatalf("fresh: %q, known: %q", fresh, whole)
		}
		b := core.NewBatch()
		defer b.Release()
		for line := range bytes.SplitSeq(in, []byte("\n")) {
			if len(line) > 0 {
				portParser(t, "all", name).event(b, line, false)
				if e := b.Events[len(b.Events)-1]; !bytes.Equal(e.Body, line) {
					t.Fatalf("the body is %q of %q", e.Body, line)
				} else if utf && utf8.Valid(line) && !validHeaders(e.Headers) {
					t.Fatalf("headers of %q: %s", line, show(e))
				}
			}
		}
	})
}

func validHeaders(h core.Headers) bool {
	for _, v := range h.All() {
		if !utf8.ValidString(v) {
			return false
		}
	}
	return true
}

func BenchmarkMultiportParse(b *testing.B) {
	for _, name := range []string{"utf-8", "latin1", "windows-1252"} {
		b.Run(name, func(b *testing.B) {
			p := portParser(b, "none", name)
			line := []byte("<13>1 2026-11-22T15:43:52Z host1 app[123]: " + strings.Repeat("x", 140))
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			batch := core.NewBatch()
			for b.Loop() {
				p.event(batch, line, false)
				if len(batch.Events) == 1000 {
					batch.Release()
					batch = core.NewBatch()
				}
			}
			batch.Release()
		})
	}
}
