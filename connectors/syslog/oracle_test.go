package syslog

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/millrace/millrace/core"
)

// Flume's patterns, with Java's \s written out and a text of any bytes.
var (
	java5424 = regexp.MustCompile(`(?s)\A(?:<(\d{1,3})>)(?:(\d?)[ \t\n\v\f\r]?)(?:(\d{4}[-]\d{2}[-]\d{2}[T]\d{2}[:]\d{2}[:]\d{2}(?:\.\d{1,6})?(?:[+-]\d{2}[:]\d{2}|Z)?)|-)[ \t\n\v\f\r](?:([\w][\w\d\.@\-]*)|-)[ \t\n\v\f\r](.*)\z`)
	java3164 = regexp.MustCompile(`(?s)\A(?:<(\d{1,3})>)(?:(\d)?[ \t\n\v\f\r]?)([A-Z][a-z][a-z][ \t\n\v\f\r]{1,2}\d{1,2}[ \t\n\v\f\r]\d{2}[:]\d{2}[:]\d{2})[ \t\n\v\f\r]([\w][\w\d\.@-]*)[ \t\n\v\f\r](.*)\z`)
)

// seeds are lines that match, nearly match, and do not.
func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for _, c := range readConformance(t) {
		all = append(all, bytes.Split([]byte(c.in), []byte("\n"))...)
	}
	files, err := filepath.Glob("testdata/recorded/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatal("no recorded messages", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	for _, s := range []string{
		"<1>\t2012-04-13T11:11:11.1234567 h m", "<1>1 2012-04-13T11:11:11.123456+01:00 h m", "<1>1 2012-04-13T11:11:11.Z h m",
		"<1>1 2012-04-13T11:11:11+1:00 h m", "<1>1- - ", "<1>- - -", "<1>1  - h m", "<1>1 - h", "<1>1 - h\v", "<1>1\nJan\t\t1\f00:00:00\rh m",
		"<1>Jan 123 00:00:00 h m", "<1>Jan 1 00:00:00 -h m", "<1>3Jan 12 00:00:00 h@x.y-z m", "<1>JAN 1 00:00:00 h m", "<1>2 - -x m", "<0>", "<1>1", "<0>-  ", "<1>1 -  m",
	} {
		all = append(all, []byte(s))
	}
	return all
}

// FuzzScan holds the scanner against Flume's patterns.
func FuzzScan(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		want := java5424.FindSubmatch(line)
		if want == nil {
			want = java3164.FindSubmatch(line)
		}
		m, ok := scan(line, false)
		if ok != (want != nil) {
			t.Fatalf("%q: matches %v, want %v", line, ok, want != nil)
		}
		if !ok {
			return
		}
		for i, got := range [][]byte{m.pri, m.version, m.stamp, m.host, m.text} {
			if !bytes.Equal(got, want[i+1]) {
				t.Errorf("%q: group %d is %q, want %q", line, i+1, got, want[i+1])
			}
		}
	})
}

// FuzzEvent parses what it is given twice in a row, the second time from what
// it remembers, and with the headers of another message between: both must
// come out the same, and as a new parser makes it.
func FuzzEvent(f *testing.F) {
	for _, s := range seeds(f) {
		for _, keep := range []string{"none", "hostname", "priority timestamp", "all"} {
			f.Add(s, keep)
		}
	}
	now := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte, keep string) {
		if len(line) == 0 {
			return
		}
		k, _ := parseKeep(keep)
		r := &rules{keep: k, now: func() time.Time { return now }, loc: time.UTC}
		b := core.NewBatch()
		defer b.Release()
		p := newParser(r, nil)
		p.event(b, line, false)
		p.event(b, line, false)
		p.event(b, []byte("<13>1 2012-04-13T11:11:11Z other text"), false)
		p.event(b, append(bytes.Clone(line), 'x'), false)
		p.event(b, line, false)
		newParser(r, nil).event(b, append(bytes.Clone(line), 'x'), false)
		same := func(i, j int) {
			if got, want := show(b.Events[i]), show(b.Events[j]); got != want {
				t.Errorf("%q: event %d is %s, event %d is %s", line, i, got, j, want)
			}
		}
		same(0, 1)
		same(0, 4)
		same(3, 5)
	})
}

// FuzzRFC5424 takes another parser's word for what is a message of RFC 5424.
func FuzzRFC5424(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	parser := rfc5424.NewParser()
	f.Fuzz(func(t *testing.T, line []byte) {
		parsed, err := parser.Parse(line)
		if err != nil || parsed == nil || !parsed.Valid() {
			return
		}
		theirs := parsed.(*rfc5424.SyslogMessage)
		// What Flume's pattern does not take: versions above 9, and hosts such as ::1.
		if theirs.Version > 9 || theirs.Hostname != nil && hostname([]byte(*theirs.Hostname)) != len(*theirs.Hostname) {
			return
		}
		m, ok := scan(line, false)
		if !ok {
			t.Fatalf("%q is a message", line)
		}
		pri, bad := priority(line)
		if bad || pri != int(*theirs.Priority) {
			t.Errorf("%q: priority %d, want %d", line, pri, *theirs.Priority)
		}
		if host := string(m.host); theirs.Hostname != nil && host != *theirs.Hostname || theirs.Hostname == nil && host != "" {
			t.Errorf("%q: host %q", line, host)
		}
		if (m.stamp == nil) != (theirs.Timestamp == nil) {
			t.Fatalf("%q: stamp %q", line, m.stamp)
		}
		if m.stamp != nil {
			if ms := time5424(m.stamp, time.UTC); ms != theirs.Timestamp.UnixMilli() {
				t.Errorf("%q: time %d, want %d", line, ms, theirs.Timestamp.UnixMilli())
			}
		}
	})
}

// FuzzFrames cuts a stream at any place: what comes out must not depend on it,
// no message may be longer than it may, and no byte may be lost.
func FuzzFrames(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint8(3), uint8(20), false)
		f.Add(append(s, '\n'), uint8(1), uint8(6), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece, size uint8, nul bool) {
		all := framer{size: int(size) + 1, counted: true, nul: nul}
		whole := frames(t, all, in, len(in)+1)
		parts := frames(t, all, in, int(piece)%7+1)
		if len(whole) != len(parts) {
			t.Fatalf("%q: %q, in pieces %q", in, whole, parts)
		}
		for i := range whole {
			if whole[i] != parts[i] {
				t.Errorf("%q: %q, in pieces %q", in, whole[i], parts[i])
			}
			if len(whole[i]) > max(all.size, 5)+1 {
				t.Errorf("%q: a message of %d bytes", in, len(whole[i])-1)
			}
		}
		// Whatever is not in a message is the head of a frame, or ends one.
		text := strings.Trim(string(in), "0123456789 \r\n\x00")
		for _, s := range whole {
			core := strings.Trim(s[1:], "0123456789 \r\n\x00")
			i := strings.Index(text, core)
			if i < 0 || strings.Trim(text[:i], "0123456789 \r\n\x00") != "" {
				t.Fatalf("%q: %q is missing before %q", in, text[:max(i, 0)], s)
			}
			text = text[i+len(core):]
		}
		if strings.Trim(text, "0123456789 \r\n\x00") != "" {
			t.Errorf("%q: %q is missing at the end", in, text)
		}
	})
}

// frames returns the messages of in, each behind a + or, if it was cut, a -.
func frames(t *testing.T, f framer, in []byte, piece int) (out []string) {
	rest := []byte(nil)
	for end := false; !end; {
		n := min(piece, len(in))
		rest, in = append(rest, in[:n]...), in[n:]
		end = n < piece
		for {
			line, used, cut, ok := f.next(rest, end)
			if used > len(rest) || used < 0 || ok && used == 0 {
				t.Fatalf("used %d of %d bytes", used, len(rest))
			}
			rest = rest[used:]
			if !ok {
				break
			}
			mark := "+"
			if cut {
				mark = "-"
			}
			if len(line) > 0 {
				out = append(out, mark+string(line))
			}
		}
		if len(rest) > max(f.size, 5)+maxCount+2 {
			t.Fatalf("keeps %d bytes", len(rest))
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%q is left", rest)
	}
	return out
}

// FuzzDatePattern must not panic, whatever the pattern and the text.
func FuzzDatePattern(f *testing.F) {
	f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2012-04-13T11:11:11.500+0200")
	f.Add("EEE, d MMM yy hh:mm a z", "Fri, 13 Apr 12 11:11 PM GMT+02:00")
	f.Add("yyyyMMddHHmmssX", "20120413111111Z")
	f.Fuzz(func(_ *testing.T, pattern, text string) {
		if p, err := parseDatePattern(pattern); err == nil {
			p.parse([]byte(text), time.UTC, time.Now())
		}
	})
}
