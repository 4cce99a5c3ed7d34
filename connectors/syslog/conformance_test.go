package syslog

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// conformance is a case of testdata/conformance.txt.
type conformance struct {
	name, keep string
	udp        bool
	size       int
	in         string
	out        []string
}

func readConformance(t testing.TB) []conformance {
	t.Helper()
	data, err := os.ReadFile("testdata/conformance.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []conformance
	for line := range strings.Lines(string(data)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "case":
			c := conformance{name: rest, size: 2500, keep: "none"}
			for _, w := range strings.Fields(rest) {
				if v, ok := strings.CutPrefix(w, "eventSize="); ok {
					c.size, _ = strconv.Atoi(v)
				}
				if v, ok := strings.CutPrefix(w, "keepFields="); ok {
					c.keep = v
				}
				c.udp = c.udp || w == "udp"
			}
			all = append(all, c)
		case "in":
			if all[len(all)-1].in, err = strconv.Unquote(rest); err != nil {
				t.Fatalf("%s: %v", rest, err)
			}
		case "out":
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				t.Fatalf("%s: %v", rest, err)
			}
			headers := strings.Fields(rest[len(quoted):])
			slices.Sort(headers)
			c := &all[len(all)-1]
			c.out = append(c.out, quoted+" "+strings.Join(headers, " "))
		}
	}
	return all
}

// show writes an event as the file does.
func show(e core.Event) string {
	var headers []string
	for k, v := range e.Headers.All() {
		headers = append(headers, k+"="+v)
	}
	slices.Sort(headers)
	return fmt.Sprintf("%s %s", strconv.Quote(string(e.Body)), strings.Join(headers, " "))
}

func newYork(t testing.TB) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Skip(err)
	}
	return loc
}

// parseAll frames and parses in as one connection, given in pieces of n bytes.
func parseAll(p *parser, f framer, in string, n int) []string {
	b := core.NewBatch()
	defer b.Release()
	var got []string
	rest, left := []byte(nil), []byte(in)
	for end := false; !end; {
		k := min(n, len(left))
		rest, left = append(rest, left[:k]...), left[k:]
		end = len(left) == 0
		for {
			line, used, cut, ok := f.next(rest, end)
			if ok && len(line) > 0 {
				p.event(b, line, cut)
				got = append(got, show(b.Events[len(b.Events)-1]))
			}
			rest = rest[used:]
			if !ok {
				break
			}
		}
	}
	return got
}

// flume: TestSyslogParser testRfc5424DateParsing testMessageParsing
// flume: TestSyslogUtils TestHeader0 TestHeader1 TestHeader2 TestHeader3 TestHeader4 TestHeader5 TestHeader6
// flume: TestSyslogUtils TestHeader7 TestHeader8 TestHeader9 TestHeader10 TestHeader11
// flume: TestSyslogUtils TestRfc3164HeaderApacheLogWithNulls testExtractBadEvent1 testExtractBadEvent2
// flume: TestSyslogUtils testExtractBadEvent3 testExtractBadEvent4 testExtractGoodEvent testBadEventGoodEvent
// flume: TestSyslogUtils testGoodEventBadEvent testBadEventBadEvent testGoodEventGoodEvent testExtractBadEventLarge
// flume: TestSyslogUtils testKeepFields
// flume: TestSyslogTcpSource testKeepFields testRemoveFields testKeepHostname testKeepTimestamp
// flume: TestSyslogUdpSource testKeepFields testRemoveFields testKeepHostname testKeepTimestamp
// flume: TestSyslogSource testKeepFields testRemoveFields testKeepTimestampAndHostname
func TestConformance(t *testing.T) {
	loc := newYork(t)
	now := time.Date(2012, 6, 15, 0, 0, 0, 0, time.UTC)
	for _, c := range readConformance(t) {
		keep, _ := parseKeep(c.keep)
		r := &rules{keep: keep, now: func() time.Time { return now }, loc: loc}
		f := framer{size: c.size, counted: !c.udp}
		for _, n := range []int{len(c.in), 1, 3} {
			got := parseAll(newParser(r, nil), f, c.in, n)
			if !slices.Equal(got, c.out) {
				t.Errorf("%s, in pieces of %d:\ngot  %s\nwant %s", c.name, n, strings.Join(got, "\n     "), strings.Join(c.out, "\n     "))
			}
		}
	}
}
