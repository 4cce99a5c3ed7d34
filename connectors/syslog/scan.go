package syslog

// message is a line taken apart. Its slices point into the line; nil stands for
// what is not there, or is "-".
type message struct {
	pri     []byte // digits between < and >
	version []byte
	stamp   []byte
	host    []byte
	text    []byte
	bsd     bool // RFC 3164
}

// priority reads <n> as Flume's state machine does. A line that ends before >
// is not bad.
func priority(line []byte) (pri int, bad bool) {
	if len(line) == 0 || line[0] != '<' {
		return 0, true
	}
	for i, c := range line[1:] {
		switch {
		case c == '>':
			return pri, i == 0
		case c < '0' || c > '9' || i == 3:
			return 0, true
		}
		pri = pri*10 + int(c-'0')
	}
	return pri, len(line) == 1
}

// scan takes apart what one of Flume's two patterns matches, RFC 5424 first,
// then RFC 3164. Both are written out in the test, which holds scan against
// them; each is deterministic, so one pass without going back is enough.
// Beyond the patterns the text may hold any bytes. With local, a message of
// RFC 3164 may lack the host, as all from syslog(3) do.
func scan(line []byte, local bool) (m message, ok bool) {
	i := 1
	for i < len(line) && i <= 4 && digit(line[i]) {
		i++
	}
	if i < 2 || i > 4 || i >= len(line) || line[0] != '<' || line[i] != '>' {
		return m, false
	}
	m.pri = line[1:i]
	rest := line[i+1:]
	if len(rest) == 0 {
		return m, false
	}
	// A digit is the version, unless it is the first of the year.
	if digit(rest[0]) && stamp5424(rest) == 0 {
		m.version, rest = rest[:1], rest[1:]
	}
	if len(rest) > 0 && blank(rest[0]) {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return m, false
	}
	if n := stamp5424(rest); n > 0 {
		m.stamp, rest = rest[:n], rest[n:]
	} else if rest[0] == '-' {
		rest = rest[1:]
	} else {
		return scanBSD(m, rest, local)
	}
	if len(rest) == 0 || !blank(rest[0]) {
		return m, false
	}
	rest = rest[1:]
	if n := hostname(rest); n > 0 {
		m.host, rest = rest[:n], rest[n:]
	} else if len(rest) > 0 && rest[0] == '-' {
		rest = rest[1:]
	} else {
		return m, false
	}
	if len(rest) == 0 || !blank(rest[0]) {
		return m, false
	}
	m.text = rest[1:]
	return m, true
}

func scanBSD(m message, rest []byte, local bool) (message, bool) {
	n := stamp3164(rest)
	if n == 0 || n >= len(rest) || !blank(rest[n]) {
		return m, false
	}
	m.stamp, rest, m.bsd = rest[:n], rest[n+1:], true
	if n = hostname(rest); n > 0 && n < len(rest) && blank(rest[n]) {
		m.host, m.text = rest[:n], rest[n+1:]
		return m, true
	}
	m.text = rest
	return m, local
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// blank is Java's \s.
func blank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// word is Java's \w.
func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digit(c) || c == '_'
}

// hostname returns the length of [\w][\w.@-]* at the beginning of s.
func hostname(s []byte) int {
	if len(s) == 0 || !word(s[0]) {
		return 0
	}
	n := 1
	for n < len(s) && (word(s[n]) || s[n] == '.' || s[n] == '@' || s[n] == '-') {
		n++
	}
	return n
}

// like returns whether s begins as shape does, in which 0 stands for a digit.
func like(s []byte, shape string) bool {
	if len(s) < len(shape) {
		return false
	}
	for i := range len(shape) {
		if shape[i] == '0' {
			if !digit(s[i]) {
				return false
			}
		} else if s[i] != shape[i] {
			return false
		}
	}
	return true
}

const dateTime = "0000-00-00T00:00:00"

// stamp5424 returns the length of the time stamp at the beginning of s, 0 for none.
func stamp5424(s []byte) int {
	if !like(s, dateTime) {
		return 0
	}
	n := len(dateTime)
	if n+1 < len(s) && s[n] == '.' && digit(s[n+1]) {
		n += 2
		for k := 1; k < 6 && n < len(s) && digit(s[n]); k++ {
			n++
		}
	}
	if n >= len(s) {
		return n
	}
	switch {
	case s[n] == 'Z':
		n++
	case (s[n] == '+' || s[n] == '-') && like(s[n+1:], "00:00"):
		n += 6
	}
	return n
}

// stamp3164 returns the length of "Mmm d hh:mm:ss" at the beginning of s, 0 for none.
func stamp3164(s []byte) int {
	if len(s) < 14 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'a' || s[1] > 'z' || s[2] < 'a' || s[2] > 'z' || !blank(s[3]) {
		return 0
	}
	n := 4
	if blank(s[n]) {
		n++
	}
	if !digit(s[n]) {
		return 0
	}
	n++
	if digit(s[n]) {
		n++
	}
	if !blank(s[n]) || !like(s[n+1:], "00:00:00") {
		return 0
	}
	return n + 9
}
