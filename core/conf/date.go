package conf

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// formatDate writes t as java.text.SimpleDateFormat does in an English locale. An empty pattern is the short form of
// that locale.
func formatDate(pattern string, t time.Time) (string, error) {
	if pattern == "" {
		pattern = "M/d/yy, h:mm a"
	}
	var b strings.Builder
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			text, size, ok := DateLiteral(pattern[i:])
			if !ok {
				return "", fmt.Errorf("a quote in %q is not closed", pattern)
			}
			b.WriteString(text)
			i += size
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			text, ok := dateField(c, n, t)
			if !ok {
				return "", fmt.Errorf("%q has no meaning in the date pattern %q", c, pattern)
			}
			b.WriteString(text)
			i += n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// DateLiteral reads the 'text' that a pattern of java.text.SimpleDateFormat has at the beginning of s, in which two quotes
// stand for one; an empty pair is a quote itself. size is what it takes of s. Not ok: the quote is not closed.
func DateLiteral(s string) (text string, size int, ok bool) {
	if strings.HasPrefix(s, "''") {
		return "'", 2, true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '\'':
			b.WriteByte(s[i])
		case strings.HasPrefix(s[i:], "''"):
			b.WriteByte('\'')
			i++
		default:
			return b.String(), i + 1, true
		}
	}
	return "", 0, false
}

// dateField is the field of a letter written n times.
func dateField(c byte, n int, t time.Time) (string, bool) {
	number := func(v int) (string, bool) {
		return pad(v, n), true
	}
	switch c {
	case 'G':
		return "AD", true
	case 'y':
		if n == 2 {
			return pad(t.Year()%100, 2), true
		}
		return number(t.Year())
	case 'Y', 'w':
		year, week := t.ISOWeek()
		if c == 'Y' {
			return number(year)
		}
		return number(week)
	case 'M', 'L':
		switch {
		case n >= 4:
			return t.Month().String(), true
		case n == 3:
			return t.Month().String()[:3], true
		}
		return number(int(t.Month()))
	case 'd':
		return number(t.Day())
	case 'D':
		return number(t.YearDay())
	case 'u':
		return number(int(t.Weekday()+6)%7 + 1)
	case 'E':
		if n >= 4 {
			return t.Weekday().String(), true
		}
		return t.Weekday().String()[:3], true
	case 'H':
		return number(t.Hour())
	case 'k':
		return number((t.Hour()+23)%24 + 1)
	case 'K':
		return number(t.Hour() % 12)
	case 'h':
		return number((t.Hour()+11)%12 + 1)
	case 'm':
		return number(t.Minute())
	case 's':
		return number(t.Second())
	case 'S':
		return number(t.Nanosecond() / int(time.Millisecond))
	case 'a':
		return t.Format("PM"), true
	case 'z':
		return t.Format("MST"), true
	case 'Z':
		return t.Format("-0700"), true
	case 'X':
		return t.Format([]string{"Z07", "Z0700", "Z07:00"}[min(n, 3)-1]), true
	}
	return "", false
}

func pad(v, n int) string {
	s := strconv.Itoa(v)
	if len(s) < n {
		return strings.Repeat("0", n-len(s)) + s
	}
	return s
}
