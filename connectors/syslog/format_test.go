package syslog

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
	"github.com/millrace/millrace/core/sourcetest"
)

// open binds and opens a syslogtcp source with those keys.
func open(t *testing.T, keys map[string]string) (core.Source, error) {
	t.Helper()
	s := TCP.New()
	if _, faults := conf.Bind(s, keys); faults.HasErrors() {
		t.Fatal(faults)
	}
	err := s.Open(context.Background(), sourcetest.NewEnv(t, "src"))
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		keys map[string]string
		want string // the faults; "" for none
	}{
		{map[string]string{"port": "514"}, ""},
		{map[string]string{"path": "/dev/log"}, ""},
		{nil, "error port: is required, or path"},
		{map[string]string{"port": "514", "host": "0.0.0.0", "eventSize": "4096", "keepFields": "timestamp hostname", "clientIPHeader": "a", "clientHostnameHeader": "b"}, ""},
		{map[string]string{"port": "65536"}, `error port: "65536" must be between 0 and 65535`},
		{map[string]string{"port": "514", "eventSize": "0"}, `error eventSize: "0" must be between 1 and`},
		{map[string]string{"port": "514", "keepFields": "yes"}, `warning keepFields: "yes" names none`},
		{map[string]string{"port": "514", "format.search": "x"}, `warning format.search: has no effect without format.regex`},
		{map[string]string{"port": "514", "format.regex": "(?=x)"}, "error format.regex: "},
		{map[string]string{"port": "514", "format.regex": "(x)", "format.search": "(x)", "format.replace": "$2"}, `error format.replace: "$2" is not a replacement`},
		{map[string]string{"port": "514", "format.regex": "(x)", "format.dateFormat": "YYYY"}, `error format.dateFormat: "YYYY" has the letter Y, which is not supported`},
		{map[string]string{"port": "514", "format.regex": "(x)", "format.dateFormat": "yyyy'T"}, `error format.dateFormat: "yyyy'T" has a quote`},
	} {
		_, faults := conf.Bind(TCP.New(), tt.keys)
		got := ""
		for _, f := range faults {
			got += f.Severity.String() + " " + f.String()
		}
		if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.keys, got, tt.want)
		}
	}
}

func TestFormat(t *testing.T) {
	keys := map[string]string{
		"port": "0", "keepFields": "hostname",
		"format.regex":      `<(\d+)>(\d?)(\w+ +\d+ \d{4} [\d:]+) (\S+): (.*)`,
		"format.search":     `(\d{4}) (\d\d):`,
		"format.replace":    `$1 at $2:`,
		"format.dateFormat": "MMM d yyyy 'at' HH:mm:ss",
	}
	s, err := open(t, keys)
	if err != nil {
		t.Fatal(err)
	}
	r := *s.(*tcp).rules
	r.loc = time.UTC
	in := "<189>Oct  3 2014 17:20:01 fe80::1: up\n<13>1 2012-04-13T11:11:11Z h m\n<13>x\nbad\n"
	compare(t, parseAll(newParser(&r, nil), framer{size: 2500}, in, 1000),
		`"fe80::1 up" Facility=23 Severity=5 host=fe80::1 priority=189 timestamp=1412356801000`,
		`"h m" Facility=1 Severity=5 host=h priority=13 timestamp=1334315471000 version=1`,
		`"<13>x" Facility=1 Severity=5`,
		`"bad" Facility=0 Severity=0 flume.syslog.status=Invalid`)
}

func TestReplacement(t *testing.T) {
	for _, tt := range []struct {
		java   string
		groups int
		want   string
		ok     bool
	}{
		{"a$1b", 1, "a${1}b", true},
		{"$12", 1, "${1}2", true},
		{"$12", 12, "${12}", true},
		{"$0", 0, "${0}", true},
		{`\$1`, 1, "$$1", true},
		{`a\\b`, 0, `a\b`, true},
		{"${x}", 1, "${x}", true},
		{"$2", 1, "", false},
		{"$", 1, "", false},
		{`\`, 1, "", false},
		{"$x", 1, "", false},
	} {
		if got, ok := goReplacement(tt.java, tt.groups); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %s, %v", tt.java, got, ok)
		}
	}
}

// The wanted times are those that Java gives (S aside).
func TestDatePattern(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ pattern, text, want string }{
		{"yyyy-MM-dd'T'HH:mm:ssZ", "2012-04-13T11:11:11+0200", "2012-04-13T09:11:11Z"},
		{"yyyy-MM-dd HH:mm:ss.SSS", "2012-04-13 11:11:11.5", "2012-04-13T11:11:11.5Z"},
		{"yyyy-MM-dd HH:mm:ss", "2012-04-13 11:11:11 and more", "2012-04-13T11:11:11Z"},
		{"yyyyMMddHHmmss", "20120413111111", "2012-04-13T11:11:11Z"},
		{"MMM d HH:mm:ss", "Apr  3 11:11:11", "1970-04-03T11:11:11Z"},
		{"EEE, d MMMM yy hh:mm a", "Fri, 13 april 12 12:05 pm", "2012-04-13T12:05:00Z"},
		{"d/M/yy h:mm a", "1/2/99 12:00 AM", "1999-02-01T00:00:00Z"},
		{"HH:mm z", "11:11 GMT+02:00", "1970-01-01T09:11:00Z"},
		{"HH:mm X", "11:11 Z", "1970-01-01T11:11:00Z"},
		{"HH:mmX", "11:11-05", "1970-01-01T16:11:00Z"},
		{"yyyy-MM-dd", "2011-02-29", "2011-03-01T00:00:00Z"},
		{"kk 'o''clock'", "24 o'clock", "1970-01-01T00:00:00Z"},
		{"yyyy-MM-dd", "2012/04/13", ""},
		{"MMM", "xyz", ""},
		{"HH:mm z", "11:11 PST", ""},
		{"HH", "", ""},
	} {
		p, err := parseDatePattern(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		got := ""
		if at, ok := p.parse([]byte(tt.text), time.UTC, now); ok {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.pattern, tt.text, got, tt.want)
		}
	}
}

// A message of RFC 3164 is at most eleven months old, or one month ahead.
//
// flume: TestSyslogUtils TestRfc3164Dates
func TestYear(t *testing.T) {
	for _, tt := range []struct{ stamp, now, want string }{
		{"Dec 31 23:59:59", "2026-01-01T00:00:05Z", "2025-12-31T23:59:59Z"},
		{"Jan  1 00:00:01", "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"},
		{"Jun 15 12:00:00", "2026-06-15T12:00:00Z", "2026-06-15T12:00:00Z"},
		{"Jul 15 12:00:00", "2026-06-15T12:00:00Z", "2026-07-15T12:00:00Z"},
		{"Jul 15 12:00:01", "2026-06-15T12:00:00Z", "2025-07-15T12:00:01Z"},
		{"Feb 29 12:00:00", "2025-01-05T00:00:00Z", "2024-02-29T12:00:00Z"},
		{"Feb 29 12:00:00", "2025-03-05T00:00:00Z", "2025-03-01T12:00:00Z"},
		{"Mar 31 12:00:00", "2025-02-28T11:00:00Z", "2024-03-31T12:00:00Z"},
		{"Mar 31 12:00:00", "2025-02-28T13:00:00Z", "2025-03-31T12:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		ms, _ := time3164([]byte(tt.stamp), now, time.UTC)
		if got := time.UnixMilli(ms).UTC().Format(time.RFC3339); got != tt.want {
			t.Errorf("%s at %s: %s, want %s", tt.stamp, tt.now, got, tt.want)
		}
	}
}
