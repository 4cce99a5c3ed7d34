package roll

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// Template is a text with escapes. The zero value is the empty text.
type Template struct {
	text   string
	pieces []piece
}

// piece is a literal text and the escape that follows it.
type piece struct {
	literal string
	header  string // of %{header}
	escape  byte   // the letter; '{' for a header, 0 for none
}

// maxTemplate is the longest text that is taken for a template.
const maxTemplate = 64 << 10

// Parse reads a text with escapes.
func Parse(text string) (Template, error) {
	t := Template{text: text}
	if len(text) > maxTemplate {
		return Template{}, fmt.Errorf("is longer than %d bytes", maxTemplate)
	}
	var literal []byte
	end := func(p piece) {
		p.literal = string(literal)
		literal = literal[:0]
		t.pieces = append(t.pieces, p)
	}
	for i := 0; i < len(text); {
		rest := text[i:]
		switch name, n := bracketed(rest); {
		case rest[0] != '%' || len(rest) == 1:
			literal = append(literal, rest[0])
			i++
		case n > 0 && rest[1] == '{':
			end(piece{header: name, escape: '{'})
			i += n
		case n > 0:
			value, err := host(name)
			if err != nil {
				return Template{}, err
			}
			literal = append(literal, value...)
			i += n
		case rest[1] == '%':
			literal = append(literal, '%')
			i += 2
		case word(rest[1]):
			if strings.IndexByte(letters, rest[1]) >= 0 { // the others are replaced by nothing
				end(piece{escape: rest[1]})
			}
			i += 2
		default:
			literal = append(literal, '%')
			i++
		}
	}
	if len(literal) > 0 {
		end(piece{})
	}
	return t, nil
}

// letters are the escapes that show the time.
const letters = "tsaAbBcdeDHkIljmnMpSyYz"

// bracketed returns the name in %{name} or %[name], with which text begins, and
// how long that is; 0: text begins with something else.
func bracketed(text string) (name string, n int) {
	if len(text) < 4 || text[1] != '{' && text[1] != '[' {
		return "", 0
	}
	closing, more := byte('}'), ".-"
	if text[1] == '[' {
		closing, more = ']', ""
	}
	for i := 2; i < len(text); i++ {
		switch c := text[i]; {
		case c == closing && i > 2:
			return text[2:i], i + 1
		case !word(c) && strings.IndexByte(more, c) < 0:
			return "", 0
		}
	}
	return "", 0
}

// word is \w of Java's regular expressions.
func word(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Key binds t to a key whose value may have escapes.
func (t *Template) Key(k *conf.Keys, name, def, doc string) *conf.Key {
	*t = Template{}
	if def != "" { // without escapes
		*t = Template{text: def, pieces: []piece{{literal: def}}}
	}
	return k.Func(name, "text with escapes", def, doc, func(text string) (err error) {
		*t, err = Parse(text)
		return err
	})
}

// String returns the text that was parsed.
func (t *Template) String() string { return t.text }

// Timed reports whether t shows the time.
func (t *Template) Timed() bool {
	for _, p := range t.pieces {
		if p.escape != 0 && p.escape != '{' {
			return true
		}
	}
	return false
}

// Fixed reports whether t is the same for all events.
func (t *Template) Fixed() bool {
	return len(t.pieces) == 0 || len(t.pieces) == 1 && t.pieces[0].escape == 0
}

// Append appends what t is for an event with these headers at that moment. All
// escapes show the same moment.
func (t *Template) Append(dst []byte, h core.Headers, at Moment) []byte {
	for i := range t.pieces {
		p := &t.pieces[i]
		dst = append(dst, p.literal...)
		switch p.escape {
		case 0:
		case '{':
			dst = append(dst, h.Value(p.header)...)
		default:
			dst = at.append(dst, p.escape)
		}
	}
	return dst
}

// Moment is the time that escapes show.
type Moment struct {
	text    string    // %t: as the header has it
	rounded time.Time // in the zone
}

// formats are the escapes that a layout of package time can say.
var formats = [...]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan 2 15:04:05 2006", 'd': "02", 'e': "2", 'D': "01/02/06",
	'H': "15", 'I': "03", 'l': "3", 'j': "002", 'm': "01", 'n': "1", 'M': "04", 'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'z': "-0700",
}

func (m Moment) append(dst []byte, escape byte) []byte {
	switch escape {
	case 't':
		return append(dst, m.text...)
	case 's':
		return strconv.AppendInt(dst, m.rounded.Unix(), 10)
	case 'k':
		return strconv.AppendInt(dst, int64(m.rounded.Hour()), 10)
	}
	return m.rounded.AppendFormat(dst, formats[escape])
}

// host returns what %[name] stands for. It is looked up once in a process.
func host(name string) (string, error) {
	switch strings.ToLower(name) {
	case "localhost":
		return hostName(), nil
	case "ip":
		return hostIP(), nil
	case "fqdn":
		return hostFull(), nil
	}
	return "", fmt.Errorf("has %%[%s]: there are %%[localhost], %%[IP] and %%[FQDN]", name)
}

var hostName = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
})

var hostIP = sync.OnceValue(func() string {
	if list, err := net.LookupHost(hostName()); err == nil && len(list) > 0 {
		return list[0]
	}
	return "127.0.0.1"
})

var hostFull = sync.OnceValue(func() string {
	if list, err := net.LookupAddr(hostIP()); err == nil && len(list) > 0 {
		return strings.TrimSuffix(list[0], ".")
	}
	return hostName()
})
