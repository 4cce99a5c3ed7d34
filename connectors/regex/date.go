package regex

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// datePattern reads dates as Joda-Time's DateTimeFormat.forPattern(p).parseMillis does, in an English locale. Its
// letters are Joda's, which for the common ones are those of SimpleDateFormat:
//
//	y Y year (yy: of the hundred years around 30 years ago)   M month   d day of month   D day of year
//	H 0-23   k 1-24   h 1-12   K 0-11   a AM or PM   m minute   s second   S fraction of a second
//	E day of week   Z offset, or (ZZZ) name of a zone   z UTC, GMT, and the American names
//
// Others are refused: eras, weeks, long names of zones.
type datePattern struct{ fields []dateField }

// dateField is a run of one letter, or a text.
type dateField struct {
	letter byte // 0: text
	n      int  // how often the letter stands
	most   int  // digits, of numbers
	text   string
	exact  bool // yy: exactly two digits
}

// numeric tells the letters of numbers: one that stands before another takes no more digits than it has letters.
func (f dateField) numeric() bool {
	return strings.IndexByte("yYdDhHkKmsS", f.letter) >= 0 && f.letter != 0 || f.letter == 'M' && f.n <= 2
}

// parseDatePattern reads a pattern; its error is a predicate.
func parseDatePattern(p string) (*datePattern, error) {
	d := new(datePattern)
	for i := 0; i < len(p); {
		f := dateField{letter: p[i]}
		if !isLetter(p[i]) {
			f.letter = 0
			f.text, i = literal(p, i)
			d.fields = append(d.fields, f)
			continue
		}
		for i < len(p) && p[i] == f.letter {
			f.n++
			i++
		}
		if !f.known() {
			return nil, fmt.Errorf("is a date pattern with %s, which this version cannot read", strings.Repeat(string(f.letter), f.n))
		}
		d.fields = append(d.fields, f)
	}
	if len(d.fields) == 0 {
		return nil, errors.New("is no date pattern")
	}
	for i := range d.fields {
		f := &d.fields[i]
		next := i+1 < len(d.fields) && d.fields[i+1].numeric()
		switch f.letter {
		case 'y', 'Y':
			f.most = 9
			f.exact = next && f.n == 2
			if next {
				f.most = f.n
			}
		case 'D':
			f.most = max(3, f.n)
		case 'S':
			f.most = f.n
		default:
			f.most = max(2, f.n)
		}
	}
	return d, nil
}

func (f dateField) known() bool {
	return strings.IndexByte("yYMdDHkhKamsSEZ", f.letter) >= 0 || f.letter == 'z' && f.n < 4
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// literal reads text up to the next letter outside of quotes; two quotes are one.
func literal(p string, i int) (string, int) {
	var b strings.Builder
	quoted := false
	for ; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\'' && i+1 < len(p) && p[i+1] == '\'':
			b.WriteByte('\'')
			i++
		case c == '\'':
			quoted = !quoted
		case !quoted && isLetter(c):
			return b.String(), i
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), i
}

// date is what has been read; -1 where nothing was.
type date struct {
	year, month, day, yearDay, weekday int
	hour, hour12, minute, second       int
	nanos                              int
	pm, hasYear                        bool
	zone                               *time.Location
}

var errDate = errors.New("is no date of this pattern")

// parse reads text, all of it, in zone loc unless it names one, as milliseconds since 1970.
func (d *datePattern) parse(text string, loc *time.Location, now time.Time) (int64, error) {
	at := date{month: -1, day: -1, yearDay: -1, weekday: -1, hour: -1, hour12: -1, zone: loc}
	for i := range d.fields {
		n := d.fields[i].read(&at, text, now)
		if n < 0 {
			return 0, errDate
		}
		text = text[n:]
	}
	if text != "" {
		return 0, errDate
	}
	return at.millis()
}

// read reads the field at the front of text and returns its length; below 0: it is not there.
func (f *dateField) read(at *date, text string, now time.Time) int {
	switch f.letter {
	case 0:
		if len(text) >= len(f.text) && strings.EqualFold(text[:len(f.text)], f.text) {
			return len(f.text)
		}
		return -1
	case 'y', 'Y':
		at.hasYear = true
		return f.readYear(at, text, now)
	case 'M':
		if f.n >= 3 {
			return word(text, months, &at.month, 1)
		}
	case 'E':
		return word(text, weekdays, &at.weekday, 0)
	case 'a':
		half := 0
		n := word(text, halves, &half, 0)
		at.pm = half == 1
		if at.hour12 < 0 {
			at.hour12 = 0
		}
		return n
	case 'S':
		return f.readFraction(at, text)
	case 'Z', 'z':
		return f.readZone(at, text)
	}
	v, n := number(text, f.most)
	if n == 0 {
		return -1
	}
	return f.set(at, v, n)
}

// set stores a number within its limits.
func (f *dateField) set(at *date, v, n int) int {
	in := func(p *int, low, high int) int {
		if v < low || v > high {
			return -1
		}
		*p = v
		return n
	}
	switch f.letter {
	case 'M':
		return in(&at.month, 1, 12)
	case 'd':
		return in(&at.day, 1, 31)
	case 'D':
		return in(&at.yearDay, 1, 366)
	case 'H':
		return in(&at.hour, 0, 23)
	case 'k':
		n = in(&at.hour, 1, 24)
		at.hour %= 24
		return n
	case 'h':
		n = in(&at.hour12, 1, 12)
		at.hour12 %= 12
		return n
	case 'K':
		return in(&at.hour12, 0, 11)
	case 'm':
		return in(&at.minute, 0, 59)
	}
	return in(&at.second, 0, 59)
}

// number reads up to most digits.
func number(text string, most int) (v, n int) {
	for n < len(text) && n < most && text[n] >= '0' && text[n] <= '9' {
		v = v*10 + int(text[n]-'0')
		n++
	}
	return v, n
}

// readYear reads a year, with a sign where it has one. Of yy two digits are a year near now.
func (f *dateField) readYear(at *date, text string, now time.Time) int {
	if f.exact {
		v, n := number(text, 2)
		if n < 2 {
			return -1
		}
		at.year = near(v, now)
		return n
	}
	sign, rest := 1, text
	if text != "" && (text[0] == '-' || text[0] == '+') {
		rest = text[1:]
		if text[0] == '-' {
			sign = -1
		}
	}
	v, n := number(rest, f.most)
	if n == 0 {
		return -1
	}
	at.year = sign * v
	if f.n == 2 && n == 2 && len(rest) == len(text) {
		at.year = near(v, now)
	}
	return n + len(text) - len(rest)
}

// near is the year of two digits in the hundred years from 80 years ago.
func near(v int, now time.Time) int {
	low := now.Year() - 80
	year := low - low%100 + v
	if year < low {
		year += 100
	}
	return year
}

// readFraction reads what may be longer than it matters.
func (f *dateField) readFraction(at *date, text string) int {
	n, unit := 0, 100*time.Millisecond
	for ; n < len(text) && n < f.most && text[n] >= '0' && text[n] <= '9'; n++ {
		at.nanos += int(text[n]-'0') * int(unit)
		unit /= 10
	}
	if n == 0 {
		return -1
	}
	return n
}

var (
	months = []string{
		"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
	}
	weekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	halves   = []string{"AM", "PM"}
)

// word finds one of list, or its first three letters, and stores its place, counted from base.
func word(text string, list []string, p *int, base int) int {
	for _, short := range []bool{false, true} {
		for i, w := range list {
			if short && len(w) > 3 {
				w = w[:3]
			}
			if len(text) >= len(w) && strings.EqualFold(text[:len(w)], w) {
				*p = i + base
				return len(w)
			}
		}
	}
	return -1
}

// zoneNames are what Joda reads for z.
var zoneNames = map[string]string{
	"UT": "UTC", "UTC": "UTC", "GMT": "UTC",
	"EST": "America/New_York", "EDT": "America/New_York", "CST": "America/Chicago", "CDT": "America/Chicago",
	"MST": "America/Denver", "MDT": "America/Denver", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles",
}

func (f *dateField) readZone(at *date, text string) int {
	if f.letter == 'Z' && f.n < 3 {
		return readOffset(at, text)
	}
	n := 0
	for n < len(text) && (isLetter(text[n]) || f.letter == 'Z' && strings.IndexByte("/_+-0123456789", text[n]) >= 0) {
		n++
	}
	name := text[:n]
	if f.letter == 'z' {
		name = zoneNames[name]
	}
	loc, ok := zone(name)
	if !ok {
		return -1
	}
	at.zone = loc
	return n
}

// readOffset reads Z, or +02, +0200, +02:00.
func readOffset(at *date, text string) int {
	if text == "" {
		return -1
	}
	sign := 1
	switch text[0] {
	case 'Z', 'z':
		at.zone = time.UTC
		return 1
	case '-':
		sign = -1
	case '+':
	default:
		return -1
	}
	hours, n := number(text[1:], 2)
	if n != 2 || hours > 23 {
		return -1
	}
	pos := 3
	rest := strings.TrimPrefix(text[pos:], ":")
	minutes, n := number(rest, 2)
	switch colon := len(text) - pos - len(rest); {
	case n == 2 && minutes < 60:
		pos += colon + 2
	case n > 0 || colon > 0:
		return -1
	}
	at.zone = time.FixedZone("", sign*(hours*3600+minutes*60))
	return pos
}

// millis puts the parts together. Where there is no year, and a month or a day, it is 2000; without those it is 1970.
func (d *date) millis() (int64, error) {
	switch {
	case d.hasYear:
	case d.month >= 0 || d.day >= 0 || d.yearDay >= 0 || d.weekday >= 0:
		d.year = 2000
	default:
		d.year = 1970
	}
	hour := max(0, d.hour)
	if d.hour12 >= 0 {
		hour = d.hour12
		if d.pm {
			hour += 12
		}
	}
	month, day := time.Month(1), 1
	if d.yearDay >= 0 {
		t := time.Date(d.year, 1, d.yearDay, 0, 0, 0, 0, time.UTC)
		if t.Year() != d.year {
			return 0, errDate
		}
		month, day = t.Month(), t.Day()
	}
	if d.month >= 0 {
		month = time.Month(d.month)
	}
	if d.day >= 0 {
		day = d.day
	}
	t := time.Date(d.year, month, day, hour, d.minute, d.second, d.nanos, time.UTC)
	if t.Day() != day {
		return 0, errDate // the month is shorter
	}
	if d.weekday >= 0 {
		// Joda goes to that day of the same week, Monday to Sunday.
		t = t.AddDate(0, 0, (d.weekday+6)%7-(int(t.Weekday())+6)%7)
	}
	y, m, dd := t.Date()
	return time.Date(y, m, dd, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), d.zone).UnixMilli(), nil
}
