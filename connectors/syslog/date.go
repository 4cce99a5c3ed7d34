package syslog

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/core/conf"
)

// datePattern is a pattern of java.text.SimpleDateFormat, for reading, with
// English names. Like Java it takes any text that begins as it should, and
// fields out of range roll over. Unlike Java it reads S as a fraction of a
// second however many digits there are, not as a number of milliseconds.
type datePattern []dateToken

// dateToken is a field (letter and count) or a literal text.
type dateToken struct {
	letter byte
	count  int
	text   string
}

// dateLetters are those that have a meaning here.
const dateLetters = "yMLdHkKhmsSaEzZX"

// parseDatePattern refuses what it would not read as Java does.
func parseDatePattern(pattern string) (datePattern, error) {
	var p datePattern
	literal := func(s string) {
		if n := len(p); n > 0 && p[n-1].letter == 0 {
			p[n-1].text += s
			return
		}
		p = append(p, dateToken{text: s})
	}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			text, size, ok := conf.DateLiteral(pattern[i:])
			if !ok {
				return nil, fmt.Errorf("has a quote that is not closed")
			}
			literal(text)
			i += size
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			if strings.IndexByte(dateLetters, c) < 0 {
				return nil, fmt.Errorf("has the letter %c, which is not supported: %s are", c, dateLetters)
			}
			n := i
			for i < len(pattern) && pattern[i] == c {
				i++
			}
			p = append(p, dateToken{letter: c, count: i - n})
		default:
			literal(pattern[i : i+1])
			i++
		}
	}
	return p, nil
}

// dateValues are the fields while a text is read.
type dateValues struct {
	year, month, day, hour, minute, second, nanos int
	half, pm                                      bool // the hour is of half a day
	loc                                           *time.Location
}

// parse reads s; what its pattern does not name is that of 1970-01-01 00:00.
func (p datePattern) parse(s []byte, loc *time.Location, now time.Time) (time.Time, bool) {
	v := dateValues{year: 1970, month: 1, day: 1, loc: loc}
	for i, t := range p {
		if t.letter == 0 {
			rest, ok := bytes.CutPrefix(s, []byte(t.text))
			if !ok {
				return time.Time{}, false
			}
			s = rest
			continue
		}
		s = bytes.TrimLeft(s, " \t")
		n := t.read(s, &v, now, i+1 < len(p) && p[i+1].numeric())
		if n <= 0 {
			return time.Time{}, false
		}
		s = s[n:]
	}
	if v.half {
		v.hour %= 12
		if v.pm {
			v.hour += 12
		}
	}
	return time.Date(v.year, time.Month(v.month), v.day, v.hour, v.minute, v.second, v.nanos, v.loc), true
}

func (t dateToken) numeric() bool {
	return strings.IndexByte("ydHkKhmsS", t.letter) >= 0 || t.letter != 0 && t.named() && t.count < 3
}

func (t dateToken) named() bool { return t.letter == 'M' || t.letter == 'L' }

// read reads the field at the beginning of s and returns its length, 0 if it is
// not there. fixed: digits of the next field follow at once.
func (t dateToken) read(s []byte, v *dateValues, now time.Time, fixed bool) int {
	switch {
	case t.letter == 'a':
		return v.readHalf(s)
	case t.letter == 'E':
		_, n := name(s, weekdays)
		return n
	case strings.IndexByte("zZX", t.letter) >= 0:
		return v.readZone(s, t.letter)
	case t.named() && t.count >= 3:
		month, n := name(s, months)
		v.month = month + 1
		return n
	}
	most := 9
	if fixed {
		most = t.count
	}
	number, n := 0, 0
	for n < len(s) && n < most && digit(s[n]) {
		number = number*10 + int(s[n]-'0')
		n++
	}
	if n == 0 || fixed && n < most {
		return 0
	}
	v.set(t, number, n, now)
	return n
}

func (v *dateValues) set(t dateToken, number, digits int, now time.Time) {
	switch t.letter {
	case 'y':
		if v.year = number; t.count == 2 && digits == 2 {
			v.year = century(number, now.Year())
		}
	case 'M', 'L':
		v.month = number
	case 'd':
		v.day = number
	case 'H':
		v.hour = number
	case 'k':
		v.hour = number % 24
	case 'K', 'h':
		v.hour, v.half = number, true
	case 'm':
		v.minute = number
	case 's':
		v.second = number
	case 'S':
		for ; digits < 9; digits++ {
			number *= 10
		}
		v.nanos = number
	}
}

// century is the year that ends with the two digits, at most 20 years ahead.
func century(digits, now int) int {
	year := now - now%100 + digits
	for year > now+20 {
		year -= 100
	}
	for year <= now-80 {
		year += 100
	}
	return year
}

var (
	months   = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	weekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
)

// name finds one of the names, or its first three letters, in any case.
func name(s []byte, names []string) (index, size int) {
	for i, n := range names {
		for _, n := range []string{n, n[:3]} {
			if len(s) >= len(n) && strings.EqualFold(string(s[:len(n)]), n) {
				return i, len(n)
			}
		}
	}
	return 0, 0
}

func (v *dateValues) readHalf(s []byte) int {
	if len(s) < 2 || s[1]|0x20 != 'm' {
		return 0
	}
	switch s[0] | 0x20 {
	case 'a':
	case 'p':
		v.pm = true
	default:
		return 0
	}
	return 2
}

// readZone reads Z, +hh, +hhmm, +hh:mm, behind GMT or UTC or alone, as far as
// the letter takes them. Other names mean different zones to different people.
func (v *dateValues) readZone(s []byte, letter byte) int {
	n := 0
	if letter == 'X' {
		if len(s) > 0 && s[0] == 'Z' {
			v.loc = time.UTC
			return 1
		}
	} else if len(s) >= 3 && (string(s[:3]) == "GMT" || string(s[:3]) == "UTC") {
		v.loc, n = time.UTC, 3
	}
	rest := s[n:]
	if len(rest) < 3 || rest[0] != '+' && rest[0] != '-' || !like(rest[1:], "00") {
		return n
	}
	seconds, size := two(rest[1:])*3600, 3
	minutes := rest[3:]
	if len(minutes) > 0 && minutes[0] == ':' {
		minutes = minutes[1:]
	}
	if like(minutes, "00") {
		seconds += two(minutes) * 60
		size = len(rest) - len(minutes) + 2
	}
	if rest[0] == '-' {
		seconds = -seconds
	}
	v.loc = time.FixedZone("", seconds)
	return n + size
}
