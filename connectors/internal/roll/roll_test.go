package roll

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

type keys struct{ Clock }

func (c *keys) Keys(k *conf.Keys) { c.Clock.Keys(k, "hdfs.") }

func clock(t testing.TB, settings map[string]string) *Clock {
	t.Helper()
	c := new(keys)
	if _, faults := conf.Bind(c, settings); faults.HasErrors() {
		t.Fatal(faults)
	}
	return &c.Clock
}

func expand(t testing.TB, c *Clock, text string, h core.Headers) string {
	t.Helper()
	tm, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.Of(h, time.UnixMilli(1382534100000))
	if err != nil {
		t.Fatal(err)
	}
	return string(tm.Append(nil, h, at))
}

// flume: TestBucketPath testNoRounding testDateFormatHours testDateFormatHoursTimeZone testDateFormatMinutes testDateFormatMinutesTimeZone
// flume: TestBucketPath testDateFormatSeconds testDateFormatSecondsTimeZone testDateFormatTimeZone testDateFormatCache testNoPadding
// flume: TestTimestampRoundDownUtil testRoundDownTimeStampSeconds testRoundDownTimeStampMinutes testRoundDownTimeStampHours
// flume: TestTimestampRoundDownUtil testRoundDownTimeStampSecondsWithTimeZone testRoundDownTimeStampMinutesWithTimeZone testRoundDownTimeStampHoursWithTimeZone
func TestEscapes(t *testing.T) {
	const monday = "1338212793234" // Mon 28 May 2012 13:46:33.234 UTC
	for _, c := range []struct{ text, at, settings, want string }{
		{"%Y/%m/%d/%H%M%S", monday, "", "2012/05/28/134633"},
		{"%t %s", monday, "", "1338212793234 1338212793"},
		{"%H%M%S %t %s", monday, "round=true roundValue=10 roundUnit=minute", "134000 1338212793234 1338212400"},
		{"%H%M%S", monday, "round=true roundValue=6 roundUnit=hour", "120000"},
		{"%H%M%S", monday, "round=true roundValue=24 roundUnit=HOUR", "000000"},
		{"%H%M%S", monday, "round=true roundValue=60", "134600"},
		{"%H%M%S", monday, "round=true roundValue=30 roundUnit=second timeZone=Asia/Kolkata", "191630"},
		{"%H%M%S", monday, "round=true roundValue=12 roundUnit=hour", "120000"},
		{"%H%M%S", monday, "round=true roundValue=12 roundUnit=hour timeZone=America/New_York", "000000"},
		{"%H%M%S %s", monday, "round=true roundValue=5 roundUnit=minute timeZone=Asia/Tokyo", "224500 1338212700"},
		{"%H%M%S", monday, "round=true roundValue=2 roundUnit=hour timeZone=GMT+3", "160000"},
		{"%H%M%S", monday, "round=true roundValue=2 roundUnit=fortnight", "134633"},
		{"%H%M%S", monday, "round=false roundValue=99", "134633"},
		{"%H %z", monday, "timeZone=PST", "06 -0700"},
		{"%H %z", monday, "timeZone=GMT-03:30", "10 -0330"},
		{"%H %z", monday, "timeZone=Nowhere/City", "13 +0000"},
		{"%a %A %b %B", monday, "", "Mon Monday May May"},
		{"%c|%D|%j|%p|%y|%z", monday, "", "Mon May 28 13:46:33 2012|05/28/12|149|PM|12|+0000"},
		{"%d %e %H %k %I %l %m %n", monday, "", "28 28 13 13 01 1 05 5"},
		{"%n-%e %k %l %c", "1336028645000", "", "5-3 7 7 Thu May 3 07:04:05 2012"},
		{"%n-%e", "1352764800000", "", "11-13"},
		{"%{missing}!", monday, "", "!"},
		{"%{a.b-c_1}/x", monday, "", "v/x"},
		{"%{a b}%{}%{a", monday, "", "%{a b}%{}%{a"},
		{"%q.", monday, "", "."},
		{"100%", monday, "", "100%"},
		{"%-%=%%", monday, "", "%-%=%"},
		{"%yyyy%MM", monday, "", "12yyy46M"},
		{"%s %H", "1351386000000", "round=true roundValue=1 roundUnit=hour timeZone=Europe/Berlin", "1351386000 02"}, // the hour that comes twice, second time
		{"%s", "1351384200000", "round=true roundValue=1 roundUnit=hour timeZone=Europe/Berlin", "1351382400"},       // first time
		{"%s", "1351387800000", "round=true roundValue=1 roundUnit=hour timeZone=Europe/Berlin", "1351386000"},
	} {
		settings := map[string]string{"hdfs.timeZone": "UTC"}
		for _, s := range strings.Fields(c.settings) {
			k, v, _ := strings.Cut(s, "=")
			settings["hdfs."+k] = v
		}
		h := core.NewHeaders(core.Header{Key: "timestamp", Value: c.at}, core.Header{Key: "a.b-c_1", Value: "v"})
		if got := expand(t, clock(t, settings), c.text, h); got != c.want {
			t.Errorf("%s with %s: %q, want %q", c.text, c.settings, got, c.want)
		}
	}
}

// flume: TestBucketPath testDateRace
func TestLocalTime(t *testing.T) {
	c := clock(t, map[string]string{"hdfs.useLocalTimeStamp": "true", "hdfs.timeZone": "UTC", "hdfs.round": "true", "hdfs.roundUnit": "minute", "hdfs.roundValue": "10"})
	tm, err := Parse("%H:%M:%S %t")
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.Of(core.NewHeaders(core.Header{Key: "timestamp", Value: "1"}), time.Date(2020, 1, 1, 2, 59, 59, 999e6, time.UTC))
	if got := string(tm.Append(nil, core.Headers{}, at)); err != nil || got != "02:50:00 1577847599999" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNoTime(t *testing.T) {
	c, now := clock(t, map[string]string{"hdfs.timeZone": "UTC"}), time.UnixMilli(1382534100000)
	for _, text := range []string{"", "soon", "0", "-5", "1e12", "99999999999999999"} {
		at, err := c.Of(core.NewHeaders(core.Header{Key: "timestamp", Value: text}), now)
		if err == nil || string(at.append(nil, 't')) != "1382534100000" {
			t.Errorf("timestamp %q: %v, %v", text, at, err)
		}
	}
}

// flume: TestBucketPath testStaticEscapeStrings testStaticEscapeStringsNoKey
func TestHost(t *testing.T) {
	c := clock(t, map[string]string{"hdfs.useLocalTimeStamp": "true"})
	name, _ := os.Hostname()
	if got := expand(t, c, "/%[localhost]/%[LOCALHOST]", core.Headers{}); got != "/"+name+"/"+name {
		t.Errorf("%q", got)
	}
	if got := expand(t, c, "%[ip]", core.Headers{}); !regexp.MustCompile(`^[0-9a-f.:]+$`).MatchString(got) {
		t.Errorf("ip %q", got)
	}
	if got := expand(t, c, "%[FQDN]", core.Headers{}); got == "" {
		t.Error("no name")
	}
	if _, err := Parse("%[kernel]"); err == nil || !strings.Contains(err.Error(), "%[kernel]") {
		t.Errorf("unknown word: %v", err)
	}
	if got := expand(t, c, "%[a b]%[]", core.Headers{}); got != "%[a b]%[]" {
		t.Errorf("%q", got)
	}
}

func TestKeys(t *testing.T) {
	for settings, want := range map[string]string{
		"round=true roundValue=61":                "hdfs.roundValue: 61 must be between 1 and 60",
		"round=true roundValue=0":                 "hdfs.roundValue: 0 must be between 1 and 60",
		"round=true roundValue=25 roundUnit=hour": "hdfs.roundValue: 25 must be between 1 and 24",
		"round=true roundUnit=day":                `hdfs.roundUnit: "day" is not second, minute or hour`,
		"roundValue=10":                           "hdfs.roundValue: has no effect without hdfs.round = true",
		"timeZone=Mars/Olympus":                   `hdfs.timeZone: "Mars/Olympus" is not a zone: it means GMT`,
	} {
		given := map[string]string{}
		for _, s := range strings.Fields(settings) {
			k, v, _ := strings.Cut(s, "=")
			given["hdfs."+k] = v
		}
		if _, faults := conf.Bind(new(keys), given); !strings.Contains(fmt.Sprint(faults), want) {
			t.Errorf("%s: %v, want %s", settings, faults, want)
		}
	}
}

func TestLimits(t *testing.T) {
	at := time.UnixMilli(0)
	l := Limits{Interval: 10 * time.Second, Idle: 3 * time.Second, Count: 5, Size: 100}
	for _, c := range []struct {
		events, bytes int64
		full          bool
	}{{4, 99, false}, {5, 0, true}, {1, 100, true}} {
		if got := l.Full(c.events, c.bytes); got != c.full {
			t.Errorf("%+v", c)
		}
	}
	if in, ok := l.Due(at, at.Add(9*time.Second), at.Add(9*time.Second)); !ok || in != time.Second {
		t.Errorf("by age: %v", in)
	}
	if in, ok := l.Due(at, at.Add(time.Second), at.Add(2*time.Second)); !ok || in != 2*time.Second {
		t.Errorf("idle: %v", in)
	}
	if _, ok := new(Limits).Due(at, at, at); ok || new(Limits).Full(1e9, 1e9) {
		t.Error("no limit is one")
	}
}

// Whatever the text, parsing and expanding do not fail in any other way than
// with an error, and a text without a % stays what it is.
func FuzzEscapes(f *testing.F) {
	for _, text := range []string{"/a/%Y-%m-%d/%{host}", "%", "%%", "%{", "%{}", "%[", "%[IP]", "%q", "%\xff", "%{a}%t%z"} {
		f.Add(text, "1338212793234", "value")
	}
	c := clock(f, map[string]string{"hdfs.timeZone": "Europe/Berlin", "hdfs.round": "true", "hdfs.roundUnit": "hour", "hdfs.roundValue": "5"})
	f.Fuzz(func(t *testing.T, text, at, value string) {
		tm, err := Parse(text)
		if err != nil {
			return
		}
		h := core.NewHeaders(core.Header{Key: "timestamp", Value: at}, core.Header{Key: "a", Value: value})
		m, _ := c.Of(h, time.UnixMilli(1))
		got := string(tm.Append(nil, h, m))
		if !strings.Contains(text, "%") && got != text || tm.String() != text {
			t.Errorf("%q became %q", text, got)
		}
		if tm.Fixed() && tm.Timed() {
			t.Error("fixed and timed")
		}
	})
}
