package syslog

import "time"

func two(s []byte) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

// time5424 reads what stamp5424 has found, in milliseconds. Fields out of
// range roll over, as in Java: the second 60 is the next minute. A stamp without a
// zone, or with one that can not be, is of zone loc.
func time5424(s []byte, loc *time.Location) int64 {
	rest := s[len(dateTime):]
	ms := 0
	if len(rest) > 0 && rest[0] == '.' {
		scale := 100
		for rest = rest[1:]; len(rest) > 0 && digit(rest[0]); rest = rest[1:] {
			ms += int(rest[0]-'0') * scale
			scale /= 10
		}
	}
	offset, zoned := zoneOffset(rest)
	if zoned {
		loc = time.UTC
	}
	t := time.Date(two(s)*100+two(s[2:]), time.Month(two(s[5:])), two(s[8:]), two(s[11:]), two(s[14:]), two(s[17:]), 0, loc)
	return t.UnixMilli() + int64(ms) - int64(offset)*1000
}

// zoneOffset reads Z or +hh:mm, in seconds.
func zoneOffset(s []byte) (seconds int, ok bool) {
	switch {
	case len(s) == 1:
		return 0, true
	case len(s) != 6 || two(s[1:]) > 23 || two(s[4:]) > 59:
		return 0, false
	}
	seconds = two(s[1:])*3600 + two(s[4:])*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

const monthNames = "JanFebMarAprMayJunJulAugSepOctNovDec"

// time3164 reads what stamp3164 has found. The year, which is not in it, is the
// one that puts the time between eleven months ago and one month ahead.
func time3164(s []byte, now time.Time, loc *time.Location) (ms int64, ok bool) {
	month := 0
	for i := 0; i < len(monthNames); i += 3 {
		if string(s[:3]) == monthNames[i:i+3] {
			month = i/3 + 1
		}
	}
	if month == 0 {
		return 0, false
	}
	day, clock := 0, s[len(s)-8:]
	for _, c := range s[3 : len(s)-8] {
		if digit(c) {
			day = day*10 + int(c-'0')
		}
	}
	of := func(year int) time.Time {
		return time.Date(year, time.Month(month), day, two(clock), two(clock[3:]), two(clock[6:]), 0, loc)
	}
	year := now.UTC().Year()
	t := of(year)
	switch {
	case t.After(now) && addMonths(t, -1).After(now):
		t = of(year - 1)
	case t.Before(now) && addMonths(t, 11).Before(now):
		t = of(year + 1)
	}
	return t.UnixMilli(), true
}

// addMonths keeps to the month's end where AddDate would go beyond it.
func addMonths(t time.Time, n int) time.Time {
	to := t.AddDate(0, n, 0)
	if to.Day() < t.Day() {
		to = to.AddDate(0, 0, -to.Day())
	}
	return to
}
