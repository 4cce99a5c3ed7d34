package conf

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxFile is how many bytes a configuration file may have.
const MaxFile = 16 << 20

// Property is one key and its value.
type Property struct {
	Key, Value string
	Pos        Pos
	filtered   bool   // the value comes from a config filter: it is a secret
	written    string // the value before its references were replaced; "" if it had none
}

// ParseProperties reads text as java.util.Properties does, to the letter: the properties in the order of the file, with
// blanks at the end of values, and with repeated keys (the last is the one that counts). file is for messages only; a
// text of more than limit bytes is refused (limit 0 is [MaxFile]).
//
// Unlike Java the text is UTF-8, and a byte order mark is skipped; a line that is not UTF-8 is taken as ISO-8859-1, with
// a warning. A malformed \u is an error, and stays in the value as written; the rest is read.
//
// Other warnings: one key with two values, and a backslash that Java drops, as in .*\.log.
func ParseProperties(file string, text []byte, limit int) ([]Property, Faults) {
	props, found := parseProperties(file, text, limit)
	faults := make(Faults, 0, len(found))
	for _, f := range found {
		faults = append(faults, f.Fault)
	}
	if len(faults) == 0 {
		return props, nil
	}
	return props, faults
}

// early is a fault found before anything is known about the key. Should the key turn out to be a secret, then veiled
// replaces the text, and the hint is left out.
type early struct {
	Fault
	veiled string
}

func parseProperties(file string, text []byte, limit int) ([]Property, []early) {
	if limit <= 0 {
		limit = MaxFile
	}
	if len(text) > limit {
		return nil, []early{{Fault: Fault{
			Pos: Pos{File: file}, Severity: Error,
			Text: fmt.Sprintf("a configuration of %d bytes is larger than the limit of %d", len(text), limit),
		}}}
	}
	text = trimMark(text)
	p := parser{lines: lineReader{text: text, line: 1}, file: file, last: map[string]int{}}
	for p.lines.next() {
		p.property()
	}
	return p.props, p.found
}

func trimMark(text []byte) []byte {
	if len(text) >= 3 && text[0] == 0xEF && text[1] == 0xBB && text[2] == 0xBF {
		return text[3:]
	}
	return text
}

type parser struct {
	lines lineReader
	file  string
	props []Property
	found []early
	last  map[string]int // trimmed key: index in props
}

func (p *parser) property() {
	line := p.lines.logical
	pos := Pos{p.file, p.lines.start}
	rawKey, rawValue := split(line)
	key, keyOK, _ := unescape(rawKey)
	value, valueOK, dropped := unescape(rawValue)
	name := javaTrim(key)
	report := func(s Severity, text, hint, veiled string) {
		p.found = append(p.found, early{Fault{pos, s, name, text, hint}, veiled})
	}
	if !keyOK || !valueOK {
		report(Error, `malformed \u: four hexadecimal digits must follow`, `write \\u for a backslash and a u`, "")
	}
	if p.lines.latin {
		report(Warning, "is not UTF-8, taken as ISO-8859-1", "save the file as UTF-8", "")
	}
	if dropped != "" {
		report(Warning, fmt.Sprintf(`"\%s" is read as %q: the format drops a single backslash`, dropped, dropped),
			fmt.Sprintf(`write \\%s to keep it`, dropped), "a single backslash is dropped by the format")
	}
	if i, again := p.last[name]; again && javaTrim(p.props[i].Value) != javaTrim(value) {
		report(Warning, fmt.Sprintf("has another value at line %d: this one, the last, counts", p.props[i].Pos.Line),
			"remove one of them", "")
	}
	p.last[name] = len(p.props)
	p.props = append(p.props, Property{Key: key, Value: value, Pos: pos})
}

// lineReader joins natural lines to logical ones: it is Properties.LineReader of the JDK, state for state.
type lineReader struct {
	text    []byte
	off     int
	line    int    // of text[off]
	logical string // the last line read, without the backslashes that continued it
	start   int    // where it begins
	latin   bool   // a natural line of it was not UTF-8
}

// next reads a logical line, and is false at the end of the text.
func (r *lineReader) next() bool {
	var buf []byte
	skipBlanks, continued, backslash := true, false, false
	natural := 0 // where the present natural line begins in buf
	r.latin = false
	for r.off < len(r.text) {
		c := r.text[r.off]
		r.off++
		atEOF := r.off == len(r.text) // of CR LF as the JDK sees it: before the LF
		isEnd := c == '\n' || c == '\r'
		if isEnd {
			r.endLine(c)
		}
		if skipBlanks {
			if c == ' ' || c == '\t' || c == '\f' || isEnd && !continued {
				continue
			}
			skipBlanks, continued = false, false
		}
		if len(buf) == 0 && !isEnd {
			if c == '#' || c == '!' {
				r.skipComment()
				skipBlanks = true
				continue
			}
			r.start = r.line
		}
		switch {
		case !isEnd:
			buf = append(buf, c)
			backslash = c == '\\' && !backslash
		case len(buf) == 0:
			skipBlanks = true
		case backslash && !atEOF:
			buf = r.decode(buf[:len(buf)-1], natural)
			natural = len(buf)
			skipBlanks, continued, backslash = true, true, false
		default:
			return r.finish(buf, natural, backslash)
		}
	}
	if len(buf) == 0 {
		return false
	}
	return r.finish(buf, natural, backslash)
}

// endLine counts a line; CR LF is one end.
func (r *lineReader) endLine(c byte) {
	if c == '\r' && r.off < len(r.text) && r.text[r.off] == '\n' {
		r.off++
	}
	r.line++
}

func (r *lineReader) skipComment() {
	for r.off < len(r.text) {
		c := r.text[r.off]
		r.off++
		if c == '\n' || c == '\r' {
			r.endLine(c)
			return
		}
	}
}

func (r *lineReader) finish(buf []byte, natural int, backslash bool) bool {
	if backslash {
		buf = buf[:len(buf)-1] // at the end of the text
	}
	r.logical = string(r.decode(buf, natural))
	return true
}

// decode makes UTF-8 of the natural line that begins at from.
func (r *lineReader) decode(buf []byte, from int) []byte {
	line := buf[from:]
	if utf8.Valid(line) {
		return buf
	}
	r.latin = true
	runes := make([]byte, 0, 2*len(line))
	for _, c := range line {
		runes = utf8.AppendRune(runes, rune(c))
	}
	return append(buf[:from:from], runes...)
}

// split cuts a logical line in key and value, both still escaped.
func split(line string) (key, value string) {
	isBlank := func(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }
	end, separated, backslash := 0, false, false
	for end < len(line) {
		c := line[end]
		if !backslash && (c == '=' || c == ':' || isBlank(c)) {
			break
		}
		backslash = c == '\\' && !backslash
		end++
	}
	rest := end
	for rest < len(line) {
		c := line[rest]
		if !isBlank(c) {
			if separated || c != '=' && c != ':' {
				break
			}
			separated = true
		}
		rest++
	}
	return line[:end], line[rest:]
}

// unescape resolves backslashes. dropped is the first character that lost its backslash without need.
func unescape(s string) (text string, ok bool, dropped string) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true, ""
	}
	ok = true
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		i++
		if i == len(s) {
			break
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		c := s[i : i+size]
		switch c {
		case "t":
			b.WriteByte('\t')
		case "n":
			b.WriteByte('\n')
		case "r":
			b.WriteByte('\r')
		case "f":
			b.WriteByte('\f')
		case "u":
			r, n := unicodeEscape(s[i-1:])
			if n == 0 {
				ok = false
				b.WriteString(`\u`)
				break
			}
			b.WriteRune(r)
			i += n - 1
			continue
		default:
			b.WriteString(c)
			if dropped == "" && !strings.Contains(`\=:#! `, c) {
				dropped = c
			}
		}
		i += size
	}
	return b.String(), ok, dropped
}

// unicodeEscape reads \uXXXX, or two of them that are the halves of one rune, and tells their length: 0 if malformed.
func unicodeEscape(s string) (r rune, size int) {
	hi, ok := codeUnit(s)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(hi) {
		if lo, ok := codeUnit(s[6:]); ok {
			if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return hi, 6
}

func codeUnit(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[2:6]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// javaTrim is String.trim: it takes off every character up to U+0020, and no other.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// words splits at white space as the Java expression \s+ does.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' })
}
