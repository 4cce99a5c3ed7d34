package kafka

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
)

// template is a topic with Flume's escapes: %{header}, %[localhost], %[IP],
// %[FQDN], and those of the time in the header timestamp, such as %Y.
type template struct {
	text  string // of a topic without escapes
	parts []func(b []byte, h core.Headers) ([]byte, error)
}

// dates are the escapes of Flume's BucketPath that Go's layouts have.
var dates = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan 2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "2",
	'H': "15", 'I': "03", 'j': "002", 'm': "01", 'n': "1", 'M': "04", 'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'z': "-0700",
}

func parseTemplate(text string) (*template, error) {
	t := new(template)
	var plain strings.Builder
	flush := func() {
		if s := plain.String(); s != "" {
			t.parts = append(t.parts, func(b []byte, _ core.Headers) ([]byte, error) { return append(b, s...), nil })
			plain.Reset()
		}
	}
	escaped := false
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			plain.WriteByte(text[i])
			continue
		}
		i++
		switch c := text[i]; {
		case c == '{' || c == '[':
			end := map[byte]string{'{': "}", '[': "]"}[c]
			name, _, closed := strings.Cut(text[i+1:], end)
			if !closed || name == "" {
				return nil, fmt.Errorf("has an escape that begins with %%%c and does not end", c)
			}
			i += len(name) + 1
			if c == '[' {
				s, err := hostEscape(name)
				if err != nil {
					return nil, err
				}
				plain.WriteString(s)
				continue
			}
			flush()
			escaped = true
			t.parts = append(t.parts, func(b []byte, h core.Headers) ([]byte, error) { return append(b, h.Value(name)...), nil })
		case c == '%':
			plain.WriteByte('%')
		case dates[c] != "" || strings.IndexByte("klst", c) >= 0:
			flush()
			escaped = true
			t.parts = append(t.parts, func(b []byte, h core.Headers) ([]byte, error) { return appendDate(b, c, h) })
		default: // as Flume: what is no escape stays
			plain.WriteByte('%')
			plain.WriteByte(c)
		}
	}
	if t.text = plain.String(); escaped {
		flush()
	}
	return t, nil
}

func appendDate(b []byte, c byte, h core.Headers) ([]byte, error) {
	ms, err := strconv.ParseInt(h.Value("timestamp"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("header timestamp, which %%%c of the topic needs, is %q", c, h.Value("timestamp"))
	}
	at := time.UnixMilli(ms)
	switch c {
	case 't':
		return strconv.AppendInt(b, ms, 10), nil
	case 's':
		return strconv.AppendInt(b, ms/1000, 10), nil
	case 'k':
		return fmt.Appendf(b, "%2d", at.Hour()), nil
	case 'l':
		return fmt.Appendf(b, "%2d", (at.Hour()+11)%12+1), nil
	}
	return at.AppendFormat(b, dates[c]), nil
}

func hostEscape(name string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	switch strings.ToLower(name) {
	case "localhost":
		return host, nil
	case "fqdn":
		if names, err := net.LookupAddr(hostIP(host)); err == nil && len(names) > 0 {
			return strings.TrimSuffix(names[0], "."), nil
		}
		return host, nil
	case "ip":
		return hostIP(host), nil
	}
	return "", fmt.Errorf("has the escape %%[%s], which is none: localhost, IP and FQDN are", name)
}

func hostIP(host string) string {
	if ips, err := net.LookupHost(host); err == nil && len(ips) > 0 {
		return ips[0]
	}
	return "127.0.0.1"
}

// of returns the topic of an event.
func (t *template) of(h core.Headers) (string, error) {
	if t.parts == nil {
		return t.text, nil
	}
	var space [64]byte
	b := space[:0]
	for _, part := range t.parts {
		var err error
		if b, err = part(b, h); err != nil {
			return "", err
		}
	}
	return string(b), nil
}
