package syslog

import (
	"regexp"
	"strings"
	"time"
)

// format is the configuration's own message format, which is tried before the
// built-in ones. Its groups mean what theirs do: priority, version, time stamp,
// host, text; a group that is not there has no value.
type format struct {
	regex   *regexp.Regexp // matches the whole line
	search  *regexp.Regexp // in the time stamp; nil: nothing is replaced
	replace []byte
	date    *datePattern // nil: the stamp is not read
}

// wholly makes of a pattern one that must match all of a text, as Java's
// matches() does.
func wholly(re *regexp.Regexp) *regexp.Regexp {
	return regexp.MustCompile(`\A(?:` + re.String() + `)\z`)
}

// goReplacement translates a replacement: in Java $1 is one digit and as many
// more as there are groups for, ${name} a named group, and a backslash takes
// the meaning away.
func goReplacement(java string, groups int) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(java); i++ {
		c := java[i]
		switch {
		case c == '\\':
			if i++; i == len(java) {
				return "", false
			}
			if c = java[i]; c == '$' {
				b.WriteByte('$')
			}
			b.WriteByte(c)
		case c == '$' && i+1 < len(java) && digit(java[i+1]):
			n, j := int(java[i+1]-'0'), i+2
			for j < len(java) && digit(java[j]) && n*10+int(java[j]-'0') <= groups {
				n = n*10 + int(java[j]-'0')
				j++
			}
			if n > groups {
				return "", false
			}
			b.WriteString("${" + java[i+1:j] + "}")
			i = j - 1
		case c == '$' && i+1 < len(java) && java[i+1] == '{':
			b.WriteByte('$')
		case c == '$':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// match takes line apart and reads its stamp.
func (f *format) match(line []byte, loc *time.Location, now time.Time) (m message, ms int64, stamped, ok bool) {
	at := f.regex.FindSubmatchIndex(line)
	if at == nil {
		return m, 0, false, false
	}
	for group, p := range []*[]byte{&m.pri, &m.version, &m.stamp, &m.host, &m.text} {
		if i := 2 * (group + 1); i < len(at) && at[i] >= 0 {
			*p = line[at[i]:at[i+1]]
		}
	}
	if m.stamp == nil || f.date == nil {
		return m, 0, false, true
	}
	stamp := m.stamp
	if f.search != nil {
		stamp = f.search.ReplaceAll(stamp, f.replace)
	}
	t, stamped := f.date.parse(stamp, loc, now)
	return m, t.UnixMilli(), stamped, true
}
